"""Decodes the body of a hook once it is proved: JSON, a form or plain text, never too deep."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from tinytown.schemes.hook import Hook, Rejected
from tinytown.schemes.proof import digest

FORM: Final = "application/x-www-form-urlencoded"
MOST_DEPTH: Final = 64  # real payloads stay below 12; what walks them later walks by recursion
_MOST_FIELDS: Final = 1000
_ID: Final = re.compile(r"[!-~]{1,256}")
_KIND: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_JSON: Final = re.compile(r"application/(?:[\w.+-]+\+)?json")


def json(raw: bytes) -> Any:
    """Decode JSON; raises Rejected when it is none, or deeper than MOST_DEPTH."""
    try:
        value = msgspec.json.decode(raw)
    except RecursionError:
        raise Rejected("too_deep") from None
    except (msgspec.DecodeError, UnicodeError):
        raise Rejected("not_json") from None
    # Counting brackets settles it for nearly all, without a walk through the payload.
    if raw.count(b"[") + raw.count(b"{") > MOST_DEPTH:
        _check_depth(value)
    return value


def form(hook: Hook) -> dict[str, Any]:
    """Decode a form: each field's text, or a list of texts where a field comes several times."""
    try:
        pairs = parse_qsl(
            hook.body.decode(),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except UnicodeError:
        raise Rejected("encoding") from None
    except ValueError:
        raise Rejected("not_form") from None
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name not in fields:
            fields[name] = value
        elif isinstance(fields[name], list):
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]
    return fields


def json_or_form(hook: Hook) -> Any:
    """Decode a body that must be JSON: bare, or as the field `payload` of a form."""
    if hook.content_type != FORM:
        return json(hook.body)
    fields = form(hook)
    if not isinstance(fields.get("payload"), str):
        raise Rejected("not_form")
    return json(fields["payload"].encode())


def anything(hook: Hook) -> Any:
    """Decode a body of which only the sender knows the form; what is no JSON is {"text": …}.

    `curl -d` calls every body a form: one that begins like JSON, as no form does, is JSON if it can
    be. Raises Rejected when it calls itself JSON and is not, or is not even text.
    """
    kind = hook.content_type
    if kind == FORM and hook.body.lstrip()[:1] not in {b"{", b"["}:
        return form(hook)
    try:
        return json(hook.body)
    except Rejected as error:
        if error.reason != "not_json" or _JSON.fullmatch(kind):
            raise
    if kind == FORM:
        return form(hook)
    try:
        return {"text": hook.body.decode()}
    except UnicodeError:
        raise Rejected("encoding") from None


def field(payload: Any, path: str) -> Any:
    """Look up a dotted path in a payload (`data.items.0.id`); `None` where it leads nowhere."""
    value = payload
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and re.fullmatch(r"[0-9]{1,6}", step):
            value = value[int(step)] if int(step) < len(value) else None
        else:
            return None
    return value


def id_of(value: Any) -> str | None:
    """Read a delivery's id as the sender wrote it; one that is no plain word goes by its digest."""
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str) or not value:
        return None
    return value if _ID.fullmatch(value) else digest(value.encode("utf-8", "surrogatepass"))


def kind_of(*parts: Any) -> str:
    """Join what a sender calls the event, leaving out what it does not say; empty if unusable."""
    said = [part for part in parts if isinstance(part, str) and _KIND.fullmatch(part)]
    return ".".join(said)


def _check_depth(value: Any) -> None:
    """Walk down level by level, looking only at what holds something."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MOST_DEPTH):
        level = [
            child
            for holder in level
            for child in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(child, dict | list)
        ]
    if level:
        raise Rejected("too_deep")
