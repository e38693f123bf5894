"""Shapes of the API that are no models: what the laptop reads of logs and results."""

from __future__ import annotations

from typing import Any

import msgspec

from tinytown.models.mission import MissionState, Result


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a mission's log: what its agent said or did (`entry`, told apart by `kind`)."""

    id: str
    at: str
    task_id: str
    attempt: int
    entry: dict[str, Any]

    @property
    def words(self) -> str:
        """What a person reads of it; empty for what is no news (usage, sessions)."""
        entry = self.entry
        match entry.get("kind"):
            case "message" | "notice":
                return str(entry.get("text", ""))
            case "tool_started":
                return f"→ {entry.get('name', 'tool')} {entry.get('summary', '')}".rstrip()
            case "tool_ended":
                return "" if entry.get("ok", True) else f"✗ {entry.get('summary', 'failed')}"
            case "turn_ended":
                return "" if entry.get("ok", True) else f"✗ {entry.get('reason', 'failed')}"
            case _:
                return ""


class MissionResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a mission left behind, its patch included."""

    mission_id: str
    state: MissionState
    result: Result | None = None
