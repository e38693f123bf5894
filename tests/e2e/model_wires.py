"""How four makers' APIs carry a conversation: read the request, write the streamed reply.

Only what Claude Code, Codex, opencode and Gemini CLI need. Every wire turns a request into the
same neutral `Conversation`, and a `Reply` into its maker's server-sent events.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

INPUT_TOKENS = 100
OUTPUT_TOKENS = 10
MODEL = "scripted"


@dataclass(frozen=True)
class Tool:
    """One tool the CLI offers: its short name, its arguments, and how to call it."""

    name: str
    arguments: tuple[str, ...] = ()
    namespace: str | None = None


@dataclass
class Conversation:
    """What was said so far, oldest first: ("user", text) or ("result", text)."""

    tools: list[Tool] = field(default_factory=list)
    turns: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Reply:
    """What the model says next: a text that ends its turn, or one tool call."""

    text: str = ""
    tool: Tool | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    call_id: str = "call_1"


def plain(content: Any) -> str:
    """Flatten any maker's content into text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(filter(None, map(plain, content)))
    if isinstance(content, dict):
        for name in ("text", "content", "output", "response", "error"):
            if name in content:
                return plain(content[name])
    return ""


def _names(schema: Any) -> tuple[str, ...]:
    return tuple((schema or {}).get("properties") or ())


# --- Anthropic Messages: Claude Code, opencode ------------------------------------------------


def read_messages(body: dict[str, Any]) -> Conversation:
    """Read POST /v1/messages."""
    talk = Conversation(
        [Tool(t["name"], _names(t.get("input_schema"))) for t in body.get("tools") or ()]
    )
    for message in body.get("messages", ()):
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks:
            if block.get("type") == "tool_result":
                talk.turns.append(("result", plain(block.get("content"))))
            elif block.get("type") == "text" and message["role"] == "user":
                talk.turns.append(("user", block["text"]))
    return talk


def write_messages(reply: Reply) -> Iterator[tuple[str, Any]]:
    """Stream one assistant message."""
    usage = {"input_tokens": INPUT_TOKENS, "output_tokens": 1}
    message: dict[str, Any] = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    yield "message_start", {"message": message}
    if reply.tool:
        block = {"type": "tool_use", "id": reply.call_id, "name": reply.tool.name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(reply.arguments)}
    else:
        block = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": reply.text}
    yield "content_block_start", {"index": 0, "content_block": block}
    yield "content_block_delta", {"index": 0, "delta": delta}
    yield "content_block_stop", {"index": 0}
    why = {"stop_reason": "tool_use" if reply.tool else "end_turn", "stop_sequence": None}
    yield "message_delta", {"delta": why, "usage": {"output_tokens": OUTPUT_TOKENS}}
    yield "message_stop", {}


# --- OpenAI Responses: Codex ------------------------------------------------------------------


def read_responses(body: dict[str, Any]) -> Conversation:
    """Read POST /v1/responses; MCP tools come inside a namespace that must be echoed."""
    talk = Conversation()
    for tool in body.get("tools") or ():
        inner = tool.get("tools") if tool.get("type") == "namespace" else None
        for one in inner or (tool,):
            if one.get("type") == "function":
                space = tool["name"] if inner else None
                talk.tools.append(Tool(one["name"], _names(one.get("parameters")), space))
    items = body.get("input") or ()
    for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
        if item.get("type", "").endswith("_output"):
            talk.turns.append(("result", plain(item.get("output"))))
        elif item.get("role") == "user":
            talk.turns.append(("user", plain(item.get("content"))))
    return talk


def write_responses(reply: Reply) -> Iterator[tuple[str, Any]]:
    """Stream one response with one item in it."""
    item: dict[str, Any]
    if reply.tool:
        item = {
            "type": "function_call", "id": f"fc_{reply.call_id}", "call_id": reply.call_id,
            "name": reply.tool.name, "arguments": json.dumps(reply.arguments),
        }  # fmt: skip
        if reply.tool.namespace:
            item["namespace"] = reply.tool.namespace
    else:
        content = [{"type": "output_text", "text": reply.text, "annotations": []}]
        item = {"type": "message", "id": "msg_1", "role": "assistant", "content": content}
    usage = {
        "input_tokens": INPUT_TOKENS, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": OUTPUT_TOKENS, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }  # fmt: skip
    response = {"id": "resp_1", "object": "response", "model": MODEL, "output": []}
    yield "response.created", {"response": {**response, "status": "in_progress"}}
    yield "response.output_item.added", {"output_index": 0, "item": item}
    yield "response.output_item.done", {"output_index": 0, "item": item}
    done = {**response, "status": "completed", "output": [item], "usage": usage}
    yield "response.completed", {"response": done}


# --- OpenAI Chat Completions: opencode with an OpenAI-compatible provider ---------------------


def read_chat(body: dict[str, Any]) -> Conversation:
    """Read POST /v1/chat/completions."""
    talk = Conversation(
        [
            Tool(t["function"]["name"], _names(t["function"].get("parameters")))
            for t in body.get("tools") or ()
        ]
    )
    for message in body.get("messages", ()):
        if message["role"] == "tool":
            talk.turns.append(("result", plain(message.get("content"))))
        elif message["role"] == "user":
            talk.turns.append(("user", plain(message.get("content"))))
    return talk


def write_chat(reply: Reply) -> Iterator[tuple[str, Any]]:
    """Stream one chat completion."""
    delta: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.tool:
        function = {"name": reply.tool.name, "arguments": json.dumps(reply.arguments)}
        call = {"index": 0, "id": reply.call_id, "type": "function", "function": function}
        delta = {"role": "assistant", "content": None, "tool_calls": [call]}
    base = {"id": "chat_1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    yield "", {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    why = "tool_calls" if reply.tool else "stop"
    usage = {
        "prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }  # fmt: skip
    end = {"index": 0, "delta": {}, "finish_reason": why}
    yield "", {**base, "choices": [end], "usage": usage}


# --- Gemini -----------------------------------------------------------------------------------


def read_gemini(body: dict[str, Any]) -> Conversation:
    """Read POST …:streamGenerateContent."""
    talk = Conversation()
    for group in body.get("tools") or ():
        for tool in group.get("functionDeclarations") or ():
            schema = tool.get("parametersJsonSchema") or tool.get("parameters")
            talk.tools.append(Tool(tool["name"], _names(schema)))
    for content in body.get("contents", ()):
        for part in content.get("parts", ()):
            if "functionResponse" in part:
                talk.turns.append(("result", plain(part["functionResponse"].get("response"))))
            elif "text" in part and content.get("role") == "user":
                talk.turns.append(("user", part["text"]))
    return talk


def write_gemini(reply: Reply) -> Iterator[tuple[str, Any]]:
    """Stream one candidate."""
    part: dict[str, Any] = {"text": reply.text}
    if reply.tool:
        part = {"functionCall": {"name": reply.tool.name, "args": reply.arguments}}
    content = {"role": "model", "parts": [part]}
    usage = {
        "promptTokenCount": INPUT_TOKENS, "candidatesTokenCount": OUTPUT_TOKENS,
        "totalTokenCount": INPUT_TOKENS + OUTPUT_TOKENS,
    }  # fmt: skip
    candidate = {"index": 0, "content": content, "finishReason": "STOP"}
    yield "", {"candidates": [candidate], "usageMetadata": usage, "modelVersion": MODEL}


@dataclass(frozen=True)
class Wire:
    """One maker's way: how to read a request, how to write a reply, whether events are named."""

    read: Callable[[dict[str, Any]], Conversation]
    write: Callable[[Reply], Iterator[tuple[str, Any]]]
    named: bool = False
    closing: str = ""


MESSAGES = Wire(read_messages, write_messages, named=True)
RESPONSES = Wire(read_responses, write_responses, named=True)
CHAT = Wire(read_chat, write_chat, closing="data: [DONE]\n\n")
GEMINI = Wire(read_gemini, write_gemini)


def wire_for(path: str) -> Wire | None:
    """Choose the wire by the end of the request's path."""
    for end, wire in (
        ("/messages", MESSAGES),
        ("/responses", RESPONSES),
        ("/chat/completions", CHAT),
        (":streamGenerateContent", GEMINI),
        (":generateContent", GEMINI),
    ):
        if path.endswith(end):
            return wire
    return None
