"""ntfy's buttons, parsed as server/actions.go of binwiederhier/ntfy parses them."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field
from typing import Any

ACTIONS_MAX = 3
_KEY = re.compile(r"^([-.\w]+)\s*=\s*", re.ASCII)


@dataclass(frozen=True)
class Action:
    """A button as ntfy stores it."""

    action: str
    label: str
    url: str = ""
    method: str = ""
    clear: bool = False
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)


class NtfyError(Exception):
    """One of ntfy's errors: HTTP status, ntfy's code, words."""

    def __init__(self, status: int, code: int, words: str) -> None:
        super().__init__(words)
        self.status, self.code, self.words = status, code, words


def parse_actions(text: str) -> list[Action]:
    """Parse the buttons as server/actions.go does: JSON, or the simple format."""
    text = text.strip()
    if not text:
        return []
    try:
        raw = _actions_from_json(text) if text.startswith("[") else _Simple(text).parse()
        return [_checked(one) for one in _few(raw)]
    except ValueError as error:
        raise NtfyError(400, 40018, f"invalid request: actions invalid; {error}") from None


def _few(raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(raw) > ACTIONS_MAX:
        raise ValueError(f"only {ACTIONS_MAX} actions allowed")
    return raw


def _actions_from_json(text: str) -> list[dict[str, Any]]:
    found = json.loads(text)
    for action in found:
        if not isinstance(action, dict) or not isinstance(action.get("clear", False), bool):
            raise ValueError("JSON error")  # noqa: TRY004 - all of these are one kind here
    return list(found)


def _checked(raw: dict[str, Any]) -> Action:
    action = Action(
        action=str(raw.get("action", "")).lower(),
        label=raw.get("label", ""),
        url=raw.get("url", ""),
        method=str(raw.get("method", "")).upper(),
        clear=raw.get("clear", False),
        body=raw.get("body", ""),
        headers=raw.get("headers") or {},
    )
    if action.action not in {"view", "broadcast", "http"}:
        raise ValueError(f"parameter 'action' cannot be '{action.action}'")
    if not action.label:
        raise ValueError("parameter 'label' is required")
    if action.action in {"view", "http"} and not action.url:
        raise ValueError(f"parameter 'url' is required for action '{action.action}'")
    if action.action == "http" and action.method in {"GET", "HEAD"} and action.body:
        raise ValueError("parameter 'body' cannot be set")
    return action


class _Simple:
    """The simple format: `http, "Label, with comma", url=…, clear=true; view, …`."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def parse(self) -> list[dict[str, Any]]:
        actions = []
        while self.at < len(self.text):
            actions.append(self._action())
        return actions

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _blanks(self) -> None:
        while self._peek() and self._peek() in " \t\r\n":
            self.at += 1

    def _action(self) -> dict[str, Any]:
        action: dict[str, Any] = {"headers": {}}
        for section in itertools.count():
            key, value, last = self._section()
            self._populate(action, section, key, value)
            self._blanks()
            if last:
                break
        return action

    def _section(self) -> tuple[str, str, bool]:
        self._blanks()
        key = ""
        if found := _KEY.match(self.text[self.at :]):
            key = found.group(1)
            self.at += found.end()
        sign = self._peek()
        if sign in {"", ",", ";"}:
            self.at += 1
            return key, "", sign != ","
        if sign in {'"', "'"}:
            return (key, *self._quoted(sign))
        start = self.at
        while self._peek() not in {"", ",", ";"}:
            self.at += 1
        value, last = self.text[start : self.at].strip(), self._peek() != ","
        self.at += 1
        return key, value, last

    def _quoted(self, quote: str) -> tuple[str, bool]:
        self.at += 1
        start, before = self.at, ""
        while True:
            sign = self._peek()
            if not sign:
                raise ValueError(f"unexpected end of input, quote started at position {start}")
            if sign == quote and before != "\\":
                break
            before = sign
            self.at += 1
        value = self.text[start : self.at].replace(f"\\{quote}", quote)
        self.at += 1
        self._blanks()
        sign = self._peek()
        if sign not in {"", ",", ";"}:
            raise ValueError(f"unexpected character '{sign}' at position {self.at}")
        self.at += 1
        return value, sign != ","

    def _populate(self, action: dict[str, Any], section: int, key: str, value: str) -> None:
        if not key:
            places = {0: "action", 1: "label"}
            if action.get("action") in {"view", "http"}:
                places[2] = "url"
            if section not in places:
                raise ValueError(f"term '{value}' unknown")
            key = places[section]
        if key.startswith("headers."):
            action["headers"][key.removeprefix("headers.")] = value
        elif key.lower() == "clear":
            if value.lower() not in {"true", "yes", "1", "false", "no", "0"}:
                raise ValueError(f"parameter 'clear' cannot be '{value}'")
            action["clear"] = value.lower() in {"true", "yes", "1"}
        elif key.lower() in {"action", "label", "url", "method", "body", "intent"}:
            action[key.lower()] = value
        else:
            raise ValueError(f"key '{key}' unknown")
