"""Claude Code, in its print mode with streamed JSON.

Facts this relies on, seen with 2.1.330: the prompt may come on standard input;
`--strict-mcp-config` keeps the repository's own MCP servers out; a server with `alwaysLoad` is not
hidden behind the tool search, so the model sees `ask_human`; root may not bypass permissions
unless IS_SANDBOX is set; a result with `is_error` may come with exit code 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from tinytown_workers.agents import home
from tinytown_workers.agents.contract import McpServer, Turn
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
from tinytown_workers.agents.text import count_at, dig, list_at, number_at, text_at
from tinytown_workers.process import Launch

_VENDOR: Final = (
    "ANTHROPIC_*", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_MAX_RETRIES",
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS", "CLAUDE_CODE_EFFORT_LEVEL", "CLAUDE_CODE_SUBAGENT_MODEL",
    "MAX_THINKING_TOKENS", "API_TIMEOUT_MS",
)  # fmt: skip
# The clouds' own keys come along only where the CLI is told to use that cloud.
_CLOUDS: Final = {
    "CLAUDE_CODE_USE_BEDROCK": ("AWS_*", "CLAUDE_CODE_SKIP_BEDROCK_AUTH"),
    "CLAUDE_CODE_USE_VERTEX": (
        "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "CLOUD_ML_REGION",
        "VERTEX_REGION_*", "CLAUDE_CODE_SKIP_VERTEX_AUTH",
    ),
}  # fmt: skip

_SWITCHES: Final = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "IS_SANDBOX": "1",  # workers in containers are root, and the container is the sandbox
    "MCP_TIMEOUT": "60000",  # milliseconds for a server to start on a busy machine
    "MCP_TOOL_TIMEOUT": "604800000",  # a week: how long a question stays open is not its business
}

# Tools that leave the workspace, outlive the turn, or ask at a terminal where nobody sits.
_UNFIT: Final = (
    "AskUserQuestion", "CronCreate", "CronDelete", "CronList", "EnterPlanMode", "EnterWorktree",
    "ExitPlanMode", "ExitWorktree", "ListAgents", "ScheduleWakeup",
)  # fmt: skip

_LOGIN: Final = ".claude/.credentials.json"


class Claude:
    """Claude Code as an agent; the only one that can put a permission prompt to a person."""

    name = "claude"
    lists_tools = True

    def launch(self, turn: Turn) -> Launch:
        """Say how to start it; nothing but its login and profiles is written."""
        vendor = [*_VENDOR, *_CLOUDS]
        for switch, names in _CLOUDS.items():
            if turn.inherited.get(switch):
                vendor += names
        env = home.environment(turn, vendor, _SWITCHES)
        keys = home.vendor_keys(turn, vendor)
        if not {"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"} & set(keys):
            home.borrow_login(turn, _LOGIN)
        return Launch(
            argv=(home.program(self.name, env), *_arguments(turn)),
            env=env,
            cwd=turn.workspace,
            stdin=turn.prompt.encode(),
            secrets=home.secrets_of(keys),
        )

    def reader(self, turn: Turn) -> ClaudeReader:
        """Begin to read one turn."""
        return ClaudeReader(self.name, turn.spent)

    def session_files(self, turn: Turn, session_id: str) -> Sequence[Path]:
        """Find the transcript, kept under a name made of the working directory."""
        slug = re.sub(r"[^A-Za-z0-9]", "-", str(turn.workspace))
        found = turn.home / ".claude" / "projects" / slug / f"{session_id}.jsonl"
        return (found,) if found.is_file() else ()


def _arguments(turn: Turn) -> Iterator[str]:
    yield from ("-p", "--output-format", "stream-json", "--verbose", "--strict-mcp-config")
    asks = turn.permissions == "ask"
    yield from ("--permission-mode", "acceptEdits" if asks else "bypassPermissions")
    unfit = list(_UNFIT)
    if turn.mcp is not None:
        tools = f"mcp__{turn.mcp.name}__"
        yield from ("--mcp-config", _mcp_config(turn.mcp))
        yield from ("--allowedTools", f"{tools}ask_human,{tools}report_progress")
        if asks:
            yield from ("--permission-prompt-tool", f"{tools}approve")
        else:
            unfit.append(f"{tools}approve")  # without prompts the model would only wonder at it
    yield from ("--disallowedTools", ",".join(unfit))
    if turn.model:
        yield from ("--model", turn.model)
    if turn.budget_usd is not None:
        yield from ("--max-budget-usd", f"{turn.budget_usd:g}")
    if turn.rules:
        yield from ("--append-system-prompt", turn.rules)
    if turn.resume:
        yield from ("--resume", turn.resume)


def _mcp_config(server: McpServer) -> str:
    entry = {
        "type": "stdio",
        "command": server.command[0],
        "args": list(server.command[1:]),
        "env": dict(server.env),
        "alwaysLoad": True,
    }
    return msgspec.json.encode({"mcpServers": {server.name: entry}}).decode()


class ClaudeReader(JsonReader):
    """Reads `stream-json`."""

    def translate(self, entry: dict[str, Any]) -> Iterator[AgentEvent]:
        """Turn one object of the stream into events."""
        # A subagent's own words and tools belong to the tool call that started it.
        inner = bool(text_at(entry, "parent_tool_use_id"))
        match text_at(entry, "type"):
            case "system":
                yield from self._system(entry)
            case "assistant" if not inner:
                for block in list_at(entry, "message", "content"):
                    yield from self._said(block)
            case "user" if not inner:
                for block in list_at(entry, "message", "content"):
                    if text_at(block, "type") == "tool_result":
                        failed = dig(block, "is_error") is True
                        result = dig(block, "content")
                        yield tool_ended(text_at(block, "tool_use_id"), result, ok=not failed)
            case "result":
                yield from self._result(entry)
            case _:
                pass

    def _system(self, entry: dict[str, Any]) -> Iterator[AgentEvent]:
        if text_at(entry, "subtype") == "init":
            servers = {
                text_at(server, "name"): text_at(server, "status")
                for server in list_at(entry, "mcp_servers")
            }
            # While a server starts, the list of tools is not yet the whole list.
            tools = [] if "pending" in servers.values() else list_at(entry, "tools")
            yield session_started(text_at(entry, "session_id"), tools, text_at(entry, "model"))
            for name, status in servers.items():
                if status not in {"connected", "pending"}:
                    yield from notice(f"MCP server {name}: {status}")
        elif text_at(entry, "subtype") == "api_retry":
            attempt, most = count_at(entry, "attempt"), count_at(entry, "max_retries")
            error = f"{count_at(entry, 'error_status') or ''} {text_at(entry, 'error')}".strip()
            yield from notice(f"API retry {attempt} of {most}: {error or 'no answer'}")

    def _said(self, block: Any) -> Iterator[AgentEvent]:
        match text_at(block, "type"):
            case "text":
                yield from message(text_at(block, "text"))
            case "tool_use":
                yield tool_started(
                    text_at(block, "id"), text_at(block, "name"), dig(block, "input")
                )
            case _:
                pass

    def _result(self, entry: dict[str, Any]) -> Iterator[AgentEvent]:
        usage = dig(entry, "usage")
        read = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        cost = number_at(entry, "total_cost_usd")
        if cost is not None:  # of the whole session, unlike the tokens
            cost = max(0.0, cost - (self.spent.cost_usd or 0.0))
        yield Usage(
            input_tokens=sum(count_at(usage, name) for name in read),
            output_tokens=count_at(usage, "output_tokens"),
            cost_usd=cost,
        )
        subtype, spoken = text_at(entry, "subtype"), text_at(entry, "result")
        ok = subtype == "success" and dig(entry, "is_error") is not True
        errors = "; ".join(error for error in list_at(entry, "errors") if isinstance(error, str))
        reason = "" if ok else _REASONS.get(subtype) or spoken or errors or subtype or "an error"
        yield turn_ended(ok=ok, summary=spoken, reason=reason)


_REASONS: Final = {
    "error_max_turns": "claude reached its limit of turns",
    "error_max_budget_usd": "claude spent its budget",
}
