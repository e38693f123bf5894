"""A model on loopback that follows a script written in the prompt, for tests with real CLIs.

The script is JSON after the mark `MODEL-SCRIPT:`, a list of steps:

    {"shell": "echo hi > a.txt"}           use the CLI's own shell tool
    {"write": "a.txt", "text": "hi"}       use its own tool for writing files, if it has one
    {"tool": "ask_human", "with": {...}}   call the tool whose name ends in that
    {"error": 500} · {"hang": true}        fail, or never answer, at this step
    {"say": "Done: {result}"}              end the turn; {result} is the last tool's result

The server keeps no state between requests: the newest script in the conversation and the tool
results after it decide the next step, so a session may go on in another process. Told PARKED, it
ends its turn as a good agent does, unless that step is marked `"stubborn": true`; when it is spoken
to again, a question's step counts as done and any other is tried again. A base address may end in
`/err/<status>` or `/hang` to fail every request.

    with ModelServer() as model:
        env = {"ANTHROPIC_BASE_URL": model.url, "OPENAI_BASE_URL": model.url + "/v1"}

Run by hand, in `tests/`: `python -m e2e.model_server 8123`.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from e2e.model_wires import Conversation, Reply, Tool, wire_for

MARK = "MODEL-SCRIPT:"
HANG_SECONDS = 600.0

_NO_ANSWERS = ("PARKED", "Connection closed")  # the second: the CLI itself is being ended
_SHELLS = ("bash", "shell", "exec_command", "run_shell_command", "shell_command")
_WRITERS = ("write", "write_file")
_COMMANDS = ("command", "cmd")
_PATHS = ("file_path", "filePath", "path")


def script(*steps: dict[str, Any]) -> str:
    """Write a script the way a prompt carries it."""
    return MARK + json.dumps(list(steps))


@dataclass(frozen=True)
class Seen:
    """One request as it came, for tests that ask what the model was shown."""

    path: str
    talk: Conversation


class ModelServer:
    """Listens on a free port of 127.0.0.1 until the `with` block ends."""

    def __init__(self, port: int = 0) -> None:
        """Bind at once, serve from `__enter__` on."""
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        self._http = _Http(port, self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The base address, without a slash at the end."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        """Serve in a thread."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let hanging requests go and stop."""
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, model: ModelServer) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.model = model

    def handle_error(self, *_: object) -> None:
        """Say nothing: a CLI that was killed hangs up in the middle of a reply."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # every reply ends with the connection

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        path = self.path.split("?")[0]
        if "/hang/" in path:
            return self._hang()
        if match := re.search(r"/err/(\d{3})/", path):
            return self._fail(int(match[1]))
        if path.endswith(("/count_tokens", ":countTokens")):
            return self._json(200, {"input_tokens": 1, "totalTokens": 1})
        wire = wire_for(path)
        if wire is None:
            return self._json(404, {"error": {"message": f"no such path: {path}"}})
        talk = wire.read(body)
        self._model.seen.append(Seen(path, talk))
        step = next_step(talk)
        if "hang" in step:
            return self._hang()
        if "error" in step:
            return self._fail(int(step["error"]))
        try:
            reply = reply_for(step, talk)
        except LookupError as error:
            return self._json(400, {"error": {"type": "bad_script", "message": str(error)}})
        events = list(wire.write(reply))
        if not (body.get("stream") or "alt=sse" in self.path):
            return self._json(200, events[-1][1])
        self._send(200, "text/event-stream")
        for name, data in events:
            typed = {"type": name, **data} if wire.named else data
            head = f"event: {name}\n" if wire.named else ""
            self.wfile.write(f"{head}data: {json.dumps(typed)}\n\n".encode())
        self.wfile.write(wire.closing.encode())
        return None

    def do_GET(self) -> None:
        self._json(200, {"data": [], "models": []})

    def do_HEAD(self) -> None:
        self._send(200, "text/plain")

    @property
    def _model(self) -> ModelServer:
        assert isinstance(self.server, _Http)
        return self.server.model

    def _hang(self) -> None:
        self._model.closing.wait(HANG_SECONDS)

    def _fail(self, status: int) -> None:
        detail = {"type": "api_error", "message": f"scripted failure {status}", "code": status}
        self._json(status, {"type": "error", "error": detail})

    def _json(self, status: int, value: Any) -> None:
        self._send(status, "application/json")
        self.wfile.write(json.dumps(value).encode())

    def _send(self, status: int, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent: pytest shows what matters."""


def next_step(talk: Conversation) -> dict[str, Any]:
    """Find the step that is due: the newest script, and what has happened since it was given."""
    steps: list[dict[str, Any]] | None = None
    done, parked = 0, False
    for kind, text in talk.turns:
        step = steps[done] if steps is not None and done < len(steps) else {}
        if kind == "user" and MARK in text:
            at = text.rindex(MARK) + len(MARK)
            steps, _ = json.JSONDecoder().raw_decode(text[at:])
            done, parked = 0, False
        elif kind == "user" and not text.startswith("<"):  # not the CLI's own reminders
            parked = False
            # Some CLIs forget a call that was cut off; its answer is told all the same.
            done += bool(_question(step)) and f"You asked: {_question(step)}" in text
        elif kind == "result":
            told_to_end = any(word in text for word in _NO_ANSWERS)
            parked = told_to_end and not step.get("stubborn")
            done += not told_to_end or "tool" in step
    # Without tools it is a side request (a title, a summary), whatever its text quotes.
    if steps is None or not talk.tools or done >= len(steps):
        return {"say": "Done."}
    return {"say": "Parked."} if parked else steps[done]


def _question(step: dict[str, Any]) -> str:
    """Return what a step asks a person; empty if it asks nothing."""
    return str(step.get("with", {}).get("question", ""))


def reply_for(step: dict[str, Any], talk: Conversation) -> Reply:
    """Turn a step into words or into a call of a tool that the CLI really offers."""
    results = [text for kind, text in talk.turns if kind == "result"]
    call_id = f"call_{len(results) + 1}"
    if "say" in step:
        return Reply(text=step["say"].replace("{result}", results[-1] if results else ""))
    if "tool" in step:
        tool = _find(talk, (step["tool"],))
        return Reply(tool=tool, arguments=step.get("with", {}), call_id=call_id)
    if "write" in step:
        tool = _find(talk, _WRITERS)
        named = {_argument(tool, _PATHS): step["write"], "content": step["text"]}
        return Reply(tool=tool, arguments=named, call_id=call_id)
    tool = _find(talk, _SHELLS)
    arguments = {_argument(tool, _COMMANDS): step["shell"]}
    if "description" in tool.arguments:
        arguments["description"] = "follow the script"
    return Reply(tool=tool, arguments=arguments, call_id=call_id)


def _find(talk: Conversation, names: tuple[str, ...]) -> Tool:
    for tool in talk.tools:
        if tool.name.lower() in names or tool.name.endswith(tuple(f"_{n}" for n in names)):
            return tool
    offered = ", ".join(tool.name for tool in talk.tools)
    message = f"the CLI offers none of {names}, only: {offered}"
    raise LookupError(message)


def _argument(tool: Tool, names: tuple[str, ...]) -> str:
    return next(name for name in names if name in tool.arguments)


if __name__ == "__main__":
    with ModelServer(int(sys.argv[1])) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        server.closing.wait()
