"""Gemini CLI, headless with streamed JSON.

Facts this relies on, seen with 0.61.0: it works only in a folder it trusts; it exits 0 after
SIGTERM; a server with `trust` needs no confirmation; its answers come in pieces marked `delta`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from tinytown_workers.agents import home
from tinytown_workers.agents.contract import Turn
from tinytown_workers.agents.events import AgentEvent, Usage
from tinytown_workers.agents.reading import (
    JsonReader,
    message,
    notice,
    session_started,
    tool_ended,
    tool_started,
    turn_ended,
)
from tinytown_workers.agents.text import TEXT_CHARS, count_at, dig, text_at
from tinytown_workers.process import Launch

_VENDOR: Final = (
    "GEMINI_API_KEY", "GEMINI_MODEL", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL",
    "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION",
    "GOOGLE_APPLICATION_CREDENTIALS",
)  # fmt: skip
_LOGIN: Final = ".gemini/oauth_creds.json"
_TOOL_MILLISECONDS: Final = (
    604_800_000  # a week: how long a question stays open is not its business
)
_SWITCHES: Final = {
    "GEMINI_CLI_TRUST_WORKSPACE": "true",
    "GEMINI_CLI_NO_RELAUNCH": "true",  # otherwise a second node process only adds memory
}


class Gemini:
    """Gemini CLI as an agent."""

    name = "gemini"
    lists_tools = False

    def launch(self, turn: Turn) -> Launch:
        """Write settings.json and GEMINI.md and say how to start it."""
        keys = home.vendor_keys(turn, _VENDOR)
        env = home.environment(turn, _VENDOR, _SWITCHES)
        folder = turn.home / ".gemini"
        home.write(folder / "settings.json", msgspec.json.encode(_settings(turn, keys)).decode())
        if turn.rules:
            home.write(folder / "GEMINI.md", turn.rules)
        if _login_kind(keys) == "oauth-personal":
            home.borrow_login(turn, _LOGIN)
        # Without leave for its shell it is refused there: headless, it has nobody to ask.
        mode = "yolo" if turn.permissions == "bypass" else "auto_edit"
        argv = [home.program(self.name, env), "--approval-mode", mode, "-o", "stream-json"]
        if turn.model:
            argv += ["-m", turn.model]
        if turn.resume:
            argv += ["--resume", turn.resume]
        return Launch(
            argv=tuple(argv),
            env=env,
            cwd=turn.workspace,
            stdin=turn.prompt.encode(),
            secrets=home.secrets_of(keys),
        )

    def reader(self, turn: Turn) -> GeminiReader:  # noqa: ARG002 - contract
        """Begin to read one turn."""
        return GeminiReader(self.name)

    def session_files(self, turn: Turn, session_id: str) -> Sequence[Path]:
        """Find the chat, kept under the project with the head of the session's id in its name."""
        chats = (turn.home / ".gemini" / "tmp").glob(f"*/chats/session-*{session_id[:8]}*")
        return tuple(sorted(path for path in chats if path.is_file()))


def _settings(turn: Turn, keys: dict[str, str]) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "security": {"auth": {"selectedType": _login_kind(keys)}},
    }
    if turn.mcp is not None:
        settings["mcpServers"] = {
            turn.mcp.name: {
                "command": turn.mcp.command[0],
                "args": list(turn.mcp.command[1:]),
                "env": dict(turn.mcp.env),
                "timeout": _TOOL_MILLISECONDS,
                "trust": True,
            }
        }
    return settings


def _login_kind(keys: dict[str, str]) -> str:
    if keys.get("GOOGLE_GENAI_USE_VERTEXAI") in {"true", "1"}:
        return "vertex-ai"
    return "gemini-api-key" if "GEMINI_API_KEY" in keys else "oauth-personal"


class GeminiReader(JsonReader):
    """Reads `stream-json`, and joins the pieces of an answer."""

    def __init__(self, name: str) -> None:
        """Begin with nothing half said."""
        super().__init__(name)
        self._pieces = ""

    def translate(self, entry: dict[str, Any]) -> Iterator[AgentEvent]:
        """Turn one object of the stream into events."""
        kind = text_at(entry, "type")
        if kind == "message" and text_at(entry, "role") == "assistant":
            self._pieces = (self._pieces + text_at(entry, "content"))[: 2 * TEXT_CHARS]
            if dig(entry, "delta") is True:
                return
        yield from self._whole()
        match kind:
            case "init":
                yield session_started(text_at(entry, "session_id"), (), text_at(entry, "model"))
            case "tool_use":
                yield tool_started(
                    text_at(entry, "tool_id"), text_at(entry, "tool_name"), dig(entry, "parameters")
                )
            case "tool_result":
                ok = text_at(entry, "status") != "error"
                result = text_at(entry, "output") or text_at(entry, "error", "message")
                yield tool_ended(text_at(entry, "tool_id"), result, ok=ok)
            case "error":
                yield from notice(text_at(entry, "message"))
            case "result":
                yield from self._result(entry)
            case _:
                pass

    def rest(self) -> Sequence[AgentEvent]:
        """Give out the last pieces of a turn that broke off."""
        return self.noted(self._whole())

    def _whole(self) -> Iterator[AgentEvent]:
        pieces, self._pieces = self._pieces, ""
        for event in message(pieces):
            self.last_message = pieces
            yield event

    def _result(self, entry: dict[str, Any]) -> Iterator[AgentEvent]:
        yield Usage(
            input_tokens=count_at(entry, "stats", "input_tokens"),
            output_tokens=count_at(entry, "stats", "output_tokens"),
        )
        if text_at(entry, "status") == "success":
            yield turn_ended(ok=True, summary=self.last_message)
        else:
            reason = text_at(entry, "error", "message") or "gemini reported a failure"
            yield turn_ended(ok=False, reason=reason)
