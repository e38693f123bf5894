"""What each channel can do beyond title and body (pure): priority, links, buttons, tags."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from tinytown_notifiers.sinks import MAX_BUTTONS, Message, Priority
from tinytown_notifiers.text import clip

Parameters = dict[str, Any]

NTFY_BODY_BYTES: Final = 4_000
"""ntfy's server keeps 4096 bytes; what is longer arrives as a file (server default, 2.x)."""
_NTFY_JSON_BYTES: Final = 7_400
"""Apprise sends more than 8000 bytes of JSON as a file; titles and topics need their share."""

_FIVE: Final = (Priority.MIN, Priority.LOW, Priority.DEFAULT, Priority.HIGH, Priority.MAX)


def parameters(schema: str, message: Message) -> Parameters:
    """Name what a plugin of this schema is told beside title and body."""
    make = _MAKERS.get(schema)
    return make(message) if make else {}


def body(schema: str, message: Message) -> str:
    """Fit the body to the channel; where nothing can be tapped, the link stands in the text."""
    if schema in {"ntfy", "ntfys"}:
        return _fit_json(message.body)
    if schema in _CLICKABLE or message.click is None:
        return message.body
    return f"{message.body}\n\n{message.click}"


def _ntfy(message: Message) -> Parameters:
    return {
        "click": message.click,
        "priority": message.priority.value,
        "xtags": list(message.tags),
        "actions": _ntfy_actions(message),
    }


def _ntfy_actions(message: Message) -> str | None:
    """Write the buttons as the JSON that ntfy's X-Actions header takes too.

    A header is latin-1 and Apprise puts this text into one: a "✅ Yes" in ntfy's simple format
    makes it raise. JSON escapes are ASCII, and need none of that format's quoting.
    """
    actions = []
    for button in message.buttons[:MAX_BUTTONS]:
        action = {"action": "view", "label": button.label, "url": button.url, "clear": True}
        if button.method is not None:
            # clear: a notification that stays invites a second press on another option.
            action |= {"action": "http", "method": button.method}
        actions.append(action)
    return json.dumps(actions, separators=(",", ":"), ensure_ascii=True) if actions else None


def _pover(message: Message) -> Parameters:
    # 2 (emergency) would ring until acknowledged, and acknowledging is not answering.
    level = dict(zip(_FIVE, (-2, -1, 0, 1, 1), strict=True))[message.priority]
    return {
        "priority": level,
        "supplemental_url": message.click,
        "supplemental_url_title": "Open" if message.click else None,
    }


def _gotify(message: Message) -> Parameters:
    return {"priority": dict(zip(_FIVE, (0, 3, 5, 8, 10), strict=True))[message.priority]}


def _bark(message: Message) -> Parameters:
    levels = ("passive", "passive", "active", "timeSensitive", "timeSensitive")
    return {
        "level": dict(zip(_FIVE, levels, strict=True))[message.priority],
        "click": message.click,
        "group": "tinytown",
    }


def _tgram(message: Message) -> Parameters:
    return {"silent": message.priority in {Priority.MIN, Priority.LOW}, "preview": False}


def _prowl(message: Message) -> Parameters:
    return {"priority": dict(zip(_FIVE, (-2, -1, 0, 1, 1), strict=True))[message.priority]}


_MAKERS: Final[dict[str, Callable[[Message], Parameters]]] = {
    "ntfy": _ntfy,
    "ntfys": _ntfy,
    "pover": _pover,
    "gotify": _gotify,
    "gotifys": _gotify,
    "bark": _bark,
    "barks": _bark,
    "tgram": _tgram,
    "prowl": _prowl,
}
_CLICKABLE: Final = frozenset({"ntfy", "ntfys", "pover", "bark", "barks"})


def _fit_json(text: str) -> str:
    """Cut a text so that neither its bytes nor its JSON outgrow ntfy (an emoji takes 12 there)."""
    text = clip(text, NTFY_BODY_BYTES)
    limit = len(text.encode())
    while len(json.dumps(text)) > _NTFY_JSON_BYTES:
        limit = limit * 9 // 10
        text = clip(text, limit)
    return text
