"""A stdio MCP server with a scripted person behind it, for tests of the adapters alone.

`PERSON_ANSWER` is what the person says to every question, `PERSON_SECONDS` how long it takes,
`PERSON_APPROVES` (yes/no) decides permission prompts, `PERSON_LOG` gets one JSON line per call.
With `PERSON_BROKEN` the server does not start.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

_TEXT = {"type": "string"}
TOOLS = [
    {
        "name": "ask_human",
        "description": "Ask the person in charge and wait for the answer.",
        "inputSchema": {
            "type": "object",
            "properties": {"question": _TEXT, "options": {"type": "array", "items": _TEXT}},
            "required": ["question"],
        },
        "annotations": {"readOnlyHint": True, "destructiveHint": False, "openWorldHint": False},
    },
    {
        "name": "approve",
        "description": "Decide a permission prompt.",
        "inputSchema": {
            "type": "object",
            "properties": {"tool_name": _TEXT, "input": {"type": "object"}, "tool_use_id": _TEXT},
        },
    },
]


def call(name: str, given: dict[str, Any]) -> str:
    """Do what the person would."""
    with Path(os.environ["PERSON_LOG"]).open("a", encoding="utf-8") as log:
        log.write(json.dumps({"tool": name, "given": given}) + "\n")
    time.sleep(float(os.environ.get("PERSON_SECONDS", "0")))
    if name == "ask_human":
        return os.environ.get("PERSON_ANSWER", "yes")
    if os.environ.get("PERSON_APPROVES") == "yes":
        return json.dumps({"behavior": "allow", "updatedInput": given.get("input")})
    return json.dumps({"behavior": "deny", "message": "the person said no"})


def reply(request: dict[str, Any]) -> dict[str, Any]:
    """Answer one JSON-RPC request."""
    params = request.get("params") or {}
    match request["method"]:
        case "initialize":
            result: dict[str, Any] = {
                "protocolVersion": params.get("protocolVersion", "2025-06-18"),
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "town", "version": "1"},
            }
        case "tools/list":
            result = {"tools": TOOLS}
        case "tools/call":
            text = call(params["name"], params.get("arguments") or {})
            result = {"content": [{"type": "text", "text": text}]}
        case "ping":
            result = {}
        case other:
            return {"error": {"code": -32601, "message": f"no method {other}"}}
    return {"result": result}


def main() -> None:
    """Serve until the input closes."""
    if "PERSON_BROKEN" in os.environ:
        sys.exit("the person's line is broken")
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request or "method" not in request:
            continue
        answer = {"jsonrpc": "2.0", "id": request["id"], **reply(request)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
