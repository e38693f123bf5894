"""Codex, in its exec mode with JSON lines.

Facts this relies on, seen with 0.169.0: `exec` never asks for approval, so an MCP tool that is not
approved beforehand dies; the prompt comes on standard input after `-`; without the switch below a
dead network is retried for ever; `bash -lc` runs its commands; workspace-write keeps `.git`
read-only, which suits us, as the worker commits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from tinytown_workers.agents.text import count_at, dig, list_at, text_at
from tinytown_workers.process import Launch

_VENDOR: Final = ("OPENAI_*", "CODEX_API_KEY")
_LOGIN: Final = ".codex/auth.json"
_PROVIDER: Final = "inherited"
_TOOL_SECONDS: Final = 604_800  # a week: how long a question may stay open is not codex's business
_START_SECONDS: Final = 60

_ARGUMENTS: Final = (
    "--json",
    "--skip-git-repo-check",  # the workspace is always a repository; codex need not refuse others
    "--disable", "unbounded_connection_retries",
    "--disable", "plugins",  # they are looked up on the network
)  # fmt: skip


class Codex:
    """Codex as an agent."""

    name = "codex"
    lists_tools = False

    def launch(self, turn: Turn) -> Launch:
        """Write config.toml and say how to start it."""
        keys = home.vendor_keys(turn, _VENDOR)
        switches = {"CODEX_HOME": str(turn.home / ".codex")}
        if "CODEX_API_KEY" not in keys and "OPENAI_API_KEY" in keys:
            switches["CODEX_API_KEY"] = keys["OPENAI_API_KEY"]  # exec reads only this one
        if not keys:
            home.borrow_login(turn, _LOGIN)
        env = home.environment(turn, _VENDOR, switches)
        home.write(turn.home / ".codex" / "config.toml", _toml(_config(turn)))
        session = ("resume", turn.resume) if turn.resume else ()
        return Launch(
            argv=(
                home.program(self.name, env),
                "exec",
                *session[:1],
                *_ARGUMENTS,
                *session[1:],
                "-",
            ),
            env=env,
            cwd=turn.workspace,
            stdin=turn.prompt.encode(),
            secrets=home.secrets_of(keys),
        )

    def reader(self, turn: Turn) -> CodexReader:
        """Begin to read one turn."""
        return CodexReader(self.name, turn.spent)

    def session_files(self, turn: Turn, session_id: str) -> Sequence[Path]:
        """Find the rollout, kept by date with the session's id at the end of its name."""
        sessions = turn.home / ".codex" / "sessions"
        return tuple(sorted(sessions.rglob(f"rollout-*-{session_id}.jsonl")))


def _config(turn: Turn) -> dict[str, Any]:
    config: dict[str, Any] = {
        "approval_policy": "never",
        "sandbox_mode": "danger-full-access" if turn.permissions == "bypass" else "workspace-write",
        # /tmp is everybody's on this machine; the agent has a TMPDIR of its own.
        "sandbox_workspace_write": {"exclude_slash_tmp": True},
        "check_for_update_on_startup": False,
        "analytics": {"enabled": False},
    }
    if turn.model:
        config["model"] = turn.model
    if turn.rules:
        config["developer_instructions"] = turn.rules
    if base_url := turn.inherited.get("OPENAI_BASE_URL"):
        config["model_provider"] = _PROVIDER
        provider = {"name": "OPENAI_BASE_URL", "base_url": base_url, "wire_api": "responses"}
        config["model_providers"] = {_PROVIDER: {**provider, "env_key": "OPENAI_API_KEY"}}
    if turn.mcp is not None:
        config["mcp_servers"] = {
            turn.mcp.name: {
                "command": turn.mcp.command[0],
                "args": list(turn.mcp.command[1:]),
                "required": True,  # an agent that cannot ask must not start
                "startup_timeout_sec": _START_SECONDS,
                "tool_timeout_sec": _TOOL_SECONDS,
                "default_tools_approval_mode": "approve",
                "env": dict(turn.mcp.env),
            }
        }
    return config


def _toml(table: Mapping[str, Any], *path: str) -> str:
    """Write nested tables as TOML; keys and texts are quoted as JSON does, which TOML accepts."""
    lines = [f"[{'.'.join(path)}]"] if path else []
    inner = ""
    for key, value in table.items():
        quoted = _quoted(key)
        if isinstance(value, Mapping):
            inner += _toml(value, *path, quoted)
        else:
            lines.append(f"{quoted} = {_quoted(value)}")
    return "\n".join(lines) + "\n" + inner


def _quoted(value: Any) -> str:
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")


class CodexReader(JsonReader):
    """Reads the JSON lines of `codex exec --json`."""

    def __init__(self, name: str, spent: Usage) -> None:
        """Begin with no tool running; some items are only ever reported as completed."""
        super().__init__(name, spent)
        self._open: set[str] = set()

    def translate(self, entry: dict[str, Any]) -> Iterator[AgentEvent]:
        """Turn one object of the stream into events."""
        match text_at(entry, "type"):
            case "thread.started":
                yield session_started(text_at(entry, "thread_id"))
            case "item.started":
                yield from self._item(dig(entry, "item"), done=False)
            case "item.completed":
                yield from self._item(dig(entry, "item"), done=True)
            case "turn.completed":
                # It tells the whole session's tokens, also after a resume.
                read, written = (count_at(entry, "usage", name) for name in _TOKENS)
                yield Usage(
                    input_tokens=max(0, read - self.spent.input_tokens),
                    output_tokens=max(0, written - self.spent.output_tokens),
                )
                yield turn_ended(ok=True, summary=self.last_message)
            case "turn.failed":
                reason = text_at(entry, "error", "message") or "codex reported a failure"
                yield turn_ended(ok=False, reason=reason)
            case "error":
                yield from notice(text_at(entry, "message"))
            case _:
                pass

    def _item(self, item: Any, *, done: bool) -> Iterator[AgentEvent]:
        kind, item_id = text_at(item, "type"), text_at(item, "id")
        if kind == "agent_message" and done:
            yield from message(text_at(item, "text"))
        elif kind == "error" and done:
            yield from notice(text_at(item, "message"))
        elif kind in _TOOLS:
            name, given, result = _TOOLS[kind](item)
            if item_id not in self._open:
                self._open.add(item_id)
                yield tool_started(item_id, name, given)
            if done:
                self._open.discard(item_id)
                yield tool_ended(item_id, result, ok=_worked(item))


_TOKENS: Final = ("input_tokens", "output_tokens")


def _worked(item: Any) -> bool:
    return text_at(item, "status") not in {"failed", "declined"} and not dig(item, "error")


def _command(item: Any) -> tuple[str, Any, Any]:
    return "shell", text_at(item, "command"), text_at(item, "aggregated_output")


def _mcp(item: Any) -> tuple[str, Any, Any]:
    name = f"{text_at(item, 'server')}.{text_at(item, 'tool')}"
    result = text_at(item, "error", "message") or list_at(item, "result", "content")
    return name, dig(item, "arguments"), result


def _files(item: Any) -> tuple[str, Any, Any]:
    paths = filter(None, (text_at(change, "path") for change in list_at(item, "changes")))
    return "edit", ", ".join(paths), ""


def _search(item: Any) -> tuple[str, Any, Any]:
    return "web_search", text_at(item, "query"), ""


_TOOLS: Final = {
    "command_execution": _command,
    "mcp_tool_call": _mcp,
    "file_change": _files,
    "web_search": _search,
}
