"""opencode, in its run mode with JSON lines.

Facts this relies on, seen with 1.18.33: a tool is shown only when it has ended, so a question is
invisible on its output; permissions that would ask are refused in run mode; `step_finish` with the
reason `stop` is its last word; it tells what each step cost.
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
    session_started,
    tool_ended,
    tool_started,
    turn_ended,
)
from tinytown_workers.agents.text import count_at, dig, number_at, text_at
from tinytown_workers.process import Launch

_VENDOR: Final = (
    "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL",
    "OPENROUTER_API_KEY", "OPENCODE_API_KEY", "GEMINI_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY",
    "GROQ_API_KEY", "MISTRAL_API_KEY", "DEEPSEEK_API_KEY", "XAI_API_KEY",
)  # fmt: skip
_LOGIN: Final = ".local/share/opencode/auth.json"
_COMPATIBLE: Final = "compatible"
_TOOL_MILLISECONDS: Final = (
    604_800_000  # a week: how long a question stays open is not its business
)
_SWITCHES: Final = {
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
}


class Opencode:
    """opencode as an agent."""

    name = "opencode"
    lists_tools = False

    def launch(self, turn: Turn) -> Launch:
        """Write opencode.json and AGENTS.md and say how to start it."""
        keys = home.vendor_keys(turn, _VENDOR)
        env = home.environment(turn, _VENDOR, _SWITCHES)
        home.borrow_login(turn, _LOGIN)
        folder = turn.home / ".config" / "opencode"
        model = _model(turn, keys)
        config = msgspec.json.encode(_config(turn, keys, model)).decode()
        home.write(folder / "opencode.json", config)
        if turn.rules:
            home.write(folder / "AGENTS.md", turn.rules)
        argv = [home.program(self.name, env), "run", "--format", "json"]
        if model:
            argv += ["--model", model]
        if turn.resume:
            argv += ["--session", turn.resume]
        return Launch(
            argv=tuple(argv),
            env=env,
            cwd=turn.workspace,
            stdin=turn.prompt.encode(),
            secrets=home.secrets_of(keys),
        )

    def reader(self, turn: Turn) -> OpencodeReader:  # noqa: ARG002 - contract
        """Begin to read one turn."""
        return OpencodeReader(self.name)

    def session_files(self, turn: Turn, session_id: str) -> Sequence[Path]:  # noqa: ARG002 - contract
        """Find the database; it holds this home's sessions only."""
        folder = turn.home / ".local" / "share" / "opencode"
        return tuple(sorted(path for path in folder.glob("opencode.db*") if path.is_file()))


def _model(turn: Turn, keys: dict[str, str]) -> str | None:
    """Name the model with its provider, as opencode wants it."""
    if turn.model is None or "/" in turn.model:
        return turn.model
    if "OPENAI_BASE_URL" in keys:
        return f"{_COMPATIBLE}/{turn.model}"
    return f"{'anthropic' if 'ANTHROPIC_API_KEY' in keys else 'openai'}/{turn.model}"


def _config(turn: Turn, keys: dict[str, str], model: str | None) -> dict[str, Any]:
    leave = "allow" if turn.permissions == "bypass" else "deny"
    providers: dict[str, Any] = {}
    if base_url := keys.get("ANTHROPIC_BASE_URL"):
        providers["anthropic"] = {"options": {"baseURL": f"{base_url.rstrip('/')}/v1"}}
    if base_url := keys.get("OPENAI_BASE_URL"):
        provider, _, name = (model or "").partition("/")
        providers[_COMPATIBLE] = {
            "name": "OPENAI_BASE_URL",
            "npm": "@ai-sdk/openai-compatible",  # comes with opencode
            "options": {"baseURL": base_url, "apiKey": "{env:OPENAI_API_KEY}"},
            "models": {name: {}} if provider == _COMPATIBLE else {},
        }
    config: dict[str, Any] = {
        "autoupdate": False,
        "share": "disabled",
        "provider": providers,
        "permission": {
            "edit": "allow",
            "bash": leave,
            "webfetch": leave,
            "external_directory": leave,
            "doom_loop": "deny",  # the same call three times over: nobody is there to be asked
        },
    }
    if turn.mcp is not None:
        config["mcp"] = {
            turn.mcp.name: {
                "type": "local",
                "command": list(turn.mcp.command),
                "environment": dict(turn.mcp.env),
                "enabled": True,
                "timeout": _TOOL_MILLISECONDS,
            }
        }
    return config


class OpencodeReader(JsonReader):
    """Reads the JSON lines of `opencode run --format json`."""

    def translate(self, entry: dict[str, Any]) -> Iterator[AgentEvent]:
        """Turn one object of the stream into events."""
        session_id = text_at(entry, "sessionID")
        if session_id and self.session_id is None:
            yield session_started(session_id)
        part = dig(entry, "part")
        match text_at(entry, "type"):
            case "text":
                yield from message(text_at(part, "text"))
            case "tool_use":
                yield from self._tool(part)
            case "step_finish":
                yield self._counted(part)
                if text_at(part, "reason") == "stop":
                    yield turn_ended(ok=True, summary=self.last_message)
                elif text_at(part, "reason") != "tool-calls":
                    reason = f"the model stopped early: {text_at(part, 'reason') or 'no reason'}"
                    yield turn_ended(ok=False, reason=reason)
            case "error":
                error = dig(entry, "error")
                reason = text_at(error, "data", "message") or text_at(error, "name")
                yield turn_ended(ok=False, reason=reason or "opencode reported an error")
            case _:
                pass

    def _tool(self, part: Any) -> Iterator[AgentEvent]:
        call_id, state = text_at(part, "callID"), dig(part, "state")
        yield tool_started(call_id, text_at(part, "tool"), dig(state, "input"))
        # A command that failed counts as completed; its exit code tells.
        failed = text_at(state, "status") == "error" or bool(count_at(state, "metadata", "exit"))
        result = text_at(state, "error") or text_at(state, "output")
        yield tool_ended(call_id, result, ok=not failed)

    def _counted(self, part: Any) -> Usage:
        tokens = dig(part, "tokens")
        cache = count_at(tokens, "cache", "read") + count_at(tokens, "cache", "write")
        spent = (self.usage.cost_usd or 0.0) + (number_at(part, "cost") or 0.0)
        return Usage(
            input_tokens=self.usage.input_tokens + count_at(tokens, "input") + cache,
            output_tokens=self.usage.output_tokens
            + count_at(tokens, "output")
            + count_at(tokens, "reasoning"),
            cost_usd=spent,
        )
