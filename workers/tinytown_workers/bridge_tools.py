"""The tools of the bridge: how they are described to the model, and what a call of each does."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from tinytown_workers.desk_client import Call, DeskGone, DeskRefused, messages, seconds_of, words

if TYPE_CHECKING:
    from collections.abc import Callable

TICK_SECONDS: Final = 4.0  # clients that count on progress want it every 5 s
_TEXT: Final = 8_192  # characters of context and question that fit a phone (models.question)
_PREVIEW: Final = 300  # of a call's arguments in an approval's question
_ALLOW: Final = "Allow"
_DENY: Final = "Deny"
# codex refuses tools without these; reading is right: nothing in the workspace changes.
_HARMLESS: Final = {"readOnlyHint": True, "destructiveHint": False, "openWorldHint": False}

TOOLS: Final[dict[str, dict[str, Any]]] = {
    "ask_human": {
        "name": "ask_human",
        "title": "Ask a person",
        "description": (
            "Ask a person a question and wait for the answer; it may take hours. Use it whenever "
            "a decision is not yours to make. The person sees only what you write here, on a "
            "phone: make the question complete and short. The result begins with ANSWERED, "
            "DEFAULTED, NO ANSWER, WITHDRAWN or PARKED. Only ANSWERED is a person's decision; "
            "never take anything else for consent. On PARKED end your turn at once."
        ),
        "inputSchema": {
            "type": "object",
            "properties": {
                "question": {"type": "string", "description": "The question, complete in itself."},
                "options": {
                    "type": "array",
                    "items": {"type": "string"},
                    "maxItems": 8,
                    "description": "Answers to choose from, short enough for buttons.",
                },
                "free_text": {
                    "type": "boolean",
                    "description": "Whether an answer outside the options is welcome.",
                },
                "context": {
                    "type": "string",
                    "description": "What the person needs to know to decide: facts, diff, risk.",
                },
                "default": {
                    "type": "string",
                    "description": "Applies if nobody answers before the deadline. Leave it out "
                    "unless going on without a person is fine.",
                },
                "deadline_seconds": {
                    "type": "number",
                    "description": "How long to wait at most; without it, as long as it takes.",
                },
                "risk": {
                    "type": "string",
                    "enum": ["low", "medium", "high"],
                    "description": "How bad a wrong answer would be.",
                },
            },
            "required": ["question"],
            "additionalProperties": False,
        },
        "annotations": {"title": "Ask a person", **_HARMLESS},
    },
    "report_progress": {
        "name": "report_progress",
        "title": "Report progress",
        "description": (
            "Tell the people who watch this mission how far you are, in one sentence, when "
            "something worth knowing happened. The result carries what they wrote to you."
        ),
        "inputSchema": {
            "type": "object",
            "properties": {
                "text": {"type": "string", "description": "One sentence, up to 2000 characters."},
                "percent": {"type": "number", "minimum": 0, "maximum": 100},
            },
            "required": ["text"],
            "additionalProperties": False,
        },
        "annotations": {"title": "Report progress", **_HARMLESS},
    },
    "approve": {
        "name": "approve",
        "title": "Approve a tool call",
        "description": "Used by the CLI itself to ask a person for a permission. Never call it.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "tool_name": {"type": "string"},
                "input": {"type": "object"},
                "tool_use_id": {"type": "string"},
            },
            "required": ["tool_name", "input"],
        },
        "annotations": {"title": "Approve a tool call", **_HARMLESS},
    },
}


class Ticket:
    """One running tool call, which may be cancelled from another thread."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        """Call `tell` with the seconds waited, every `TICK_SECONDS`."""
        self.cancelled = False
        self._tell = tell
        self._call: Call | None = None

    def await_reply(self, call: Call) -> dict[str, Any]:
        """Wait for the desk and tell progress meanwhile."""
        self._call = call
        if self.cancelled:
            call.close()
        began = time.monotonic()
        while (reply := call.wait(TICK_SECONDS)) is None:
            self._tell(round(time.monotonic() - began, 1))
        return reply

    def cancel(self) -> None:
        """Stop waiting. A question stays open: asked again, it is the same question."""
        self.cancelled = True
        if self._call is not None:
            self._call.close()

    def finish(self) -> None:
        """Tell the desk that its reply was passed on, unless nobody wanted it any more."""
        if self._call is None:
            return
        if self.cancelled:
            self._call.close()
        else:
            self._call.confirm()


class Tools:
    """The tools of one session."""

    def __init__(self, card: str, *, approvals: bool = False) -> None:
        """Speak to the desk of `card`; `approvals` offers the tool for permission prompts."""
        self.names: Final = tuple(name for name in TOOLS if approvals or name != "approve")
        self._card = card

    def run(self, name: str, arguments: dict[str, Any], ticket: Ticket) -> dict[str, Any]:
        """Carry out one call; returns its MCP result. What goes wrong is said to the model."""
        if name == "approve":
            return self._approve(arguments, ticket)
        try:
            if name == "ask_human":
                return self._ask(arguments, ticket)
            return self._report(arguments, ticket)
        except ValueError as error:
            return _result(f"Not understood: {error}", {"error": "invalid"}, failed=True)
        except DeskRefused as error:
            return _result(f"Refused: {error.detail}", {"error": error.code}, failed=True)
        except DeskGone as error:
            said = f"No person can be reached: {error}. Do not assume consent; end your turn."
            return _result(said, {"error": "gone"}, failed=True)

    def _ask(self, arguments: dict[str, Any], ticket: Ticket) -> dict[str, Any]:
        options = _strings(arguments, "options")
        question = {
            "text": _string(arguments, "question", required=True),
            "kind": "choice" if options else "text",
            "options": options,
            "free_text": not options or arguments.get("free_text") is True,
            "default": arguments.get("default"),
            "context": _string(arguments, "context"),
            "risk": arguments.get("risk") or "low",
            "deadline_seconds": _seconds(arguments.get("deadline_seconds")),
        }
        reply = ticket.await_reply(Call(self._card, "ask", via="mcp", ask=question))
        facts = {
            "outcome": reply["outcome"],
            "answer": reply.get("answer"),
            "answered_by": reply.get("by"),
            "question_id": reply.get("question_id"),
        }
        return _result(words(reply), facts, reply)

    def _report(self, arguments: dict[str, Any], ticket: Ticket) -> dict[str, Any]:
        text, percent = _string(arguments, "text", required=True), arguments.get("percent")
        call = Call(self._card, "progress", text=text, percent=percent)
        return _result("Noted.", {}, ticket.await_reply(call))

    def _approve(self, arguments: dict[str, Any], ticket: Ticket) -> dict[str, Any]:
        """Answer claude's permission prompt: allowed by a person's word alone, once."""
        try:
            tool, given = _string(arguments, "tool_name", required=True), arguments.get("input")
            question = approval(tool, given if isinstance(given, dict) else {})
            reply = ticket.await_reply(Call(self._card, "ask", via="mcp", ask=question))
        except (ValueError, DeskRefused, DeskGone) as error:
            return _verdict({"behavior": "deny", "message": f"No permission: {error}"})
        if reply["outcome"] == "answered" and _is(reply.get("answer"), _ALLOW):
            return _verdict({"behavior": "allow", "updatedInput": given or {}})
        said = words(reply)
        if reply["outcome"] == "answered":
            said = "A person denied this." + (
                "" if _is(reply.get("answer"), _DENY) else f" They say: {reply.get('answer')}"
            )
        elif reply["outcome"] == "defaulted":
            said = "NO ANSWER: nobody allowed this in time, and silence is not consent."
        return _verdict({"behavior": "deny", "message": said})


def approval(tool: str, given: dict[str, Any]) -> dict[str, Any]:
    """Write the question for one call of a tool, bound to its name and its exact arguments."""
    import hashlib

    canonical = json.dumps(given, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    telling = next(
        (
            given[name]
            for name in ("command", "file_path", "url")
            if isinstance(given.get(name), str)
        ),
        canonical,
    )
    shown = json.dumps(given, indent=1, ensure_ascii=False)
    return {
        "text": f"Allow {tool}? {_cut(telling, _PREVIEW)}",
        "kind": "approval",
        "options": [_ALLOW, _DENY],
        "free_text": True,
        "context": _cut(shown, _TEXT),
        "risk": "high",
        "binding": f"{tool}:{digest}",
    }


def _is(answer: Any, option: str) -> bool:
    """Compare an answer that may have been typed with an option."""
    return isinstance(answer, str) and answer.strip().lower() == option.lower()


def _cut(text: str, limit: int) -> str:
    """Shorten a text and say so: nobody should approve what is hidden behind three dots."""
    if len(text) <= limit:
        return text
    tail = f" … [cut: {len(text)} characters in all]"
    return text[: limit - len(tail)] + tail


def _verdict(verdict: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": json.dumps(verdict)}], "isError": False}


def _result(
    text: str, facts: dict[str, Any], reply: dict[str, Any] | None = None, *, failed: bool = False
) -> dict[str, Any]:
    """Write a result that says the same in both forms: claude and codex show only the second."""
    written = messages(reply or {})
    text = f"{text}\n\n{written}" if written else text
    return {
        "content": [{"type": "text", "text": text}],
        "structuredContent": {"message": text, **facts},
        "isError": failed,
    }


def _string(arguments: dict[str, Any], name: str, *, required: bool = False) -> str:
    value = arguments.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value.strip()):
        raise ValueError(f"{name} must be a text")
    return value


def _strings(arguments: dict[str, Any], name: str) -> list[str]:
    value = arguments.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name} must be a list of texts")
    if len(value) > 8:
        raise ValueError(f"{name} may hold at most 8 texts")
    return value


def _seconds(value: Any) -> float | None:
    """Take a number, or a text such as 2h that models like to write."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("deadline_seconds must be a number")  # noqa: TRY004 - as its neighbours
    return seconds_of(value if isinstance(value, str) else f"{value:.3f}")
