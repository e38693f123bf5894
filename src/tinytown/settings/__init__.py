"""The environment is read here, once, into one frozen struct; no other file looks at it.

Every setting carries what it means (`description`) and why its default is what it is (`why`);
`docs/settings.md` and `describe()` are made from the same two sentences. An empty variable counts
as unset, because that is how compose files and dashboards say "not set".
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Meta

from tinytown.redact import MASK, redact
from tinytown.settings.checks import contradictions, redis_url_problem, value_problem
from tinytown.settings.fields import Secret, Session, Settings

__all__ = [
    "Secret",
    "Session",
    "Setting",
    "Settings",
    "SettingsError",
    "catalogue",
    "describe",
    "load",
    "load_session",
    "redis_url_problem",
    "surroundings",
]


class SettingsError(Exception):
    """The environment does not make sense; one line that names every variable at fault."""


class Setting(msgspec.Struct, frozen=True):
    """One entry of the catalogue, as the generated page and `describe` show it."""

    field: str
    names: tuple[str, ...]
    type: Any
    default: Any
    description: str
    why: str
    secret: bool


_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "redis_url": ("REDIS_URL",),
    "port": ("TINYTOWN_PORT", "PORT"),
    "fly_api_token": ("FLY_API_TOKEN",),
    "fly_app_name": ("FLY_APP_NAME",),
}
_SESSION_NAMES: Final = {f"TINYTOWN_{field.upper()}": field for field in Session.__struct_fields__}
_SWITCH: Final = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of this process; `SettingsError` names every variable at fault."""
    source = os.environ if environ is None else environ
    problems = _misspelt(source)
    values: dict[str, Any] = {}
    for setting in catalogue():
        name = next((name for name in setting.names if source.get(name, "").strip()), None)
        if name is None:
            continue
        try:
            values[setting.field] = _read(setting, source[name].strip())
        except ValueError as error:
            shown = "" if setting.secret else f"={redact(source[name].strip()[:60])}"
            problems.append(f"{name}{shown}: {error}")
    home = values.get("home", Settings().home)
    values["home"] = _absolute(home, source)
    if values.get("work_dir"):
        values["work_dir"] = _absolute(values["work_dir"], source)
    if not problems:
        settings = Settings(**values)
        problems = contradictions(settings)
    if problems:
        raise SettingsError("; ".join(problems))
    return settings


def load_session(environ: Mapping[str, str] | None = None) -> Session:
    """Read what the worker told this agent's session; all empty outside of one."""
    source = os.environ if environ is None else environ
    return Session(**{field: source.get(name) for name, field in _SESSION_NAMES.items()})


def surroundings() -> dict[str, str]:
    """Copy this process's environment, for those who build one for a child."""
    return dict(os.environ)


def catalogue() -> tuple[Setting, ...]:
    """List every setting with its names, type, default and reasons, in the struct's order."""
    listed: list[Setting] = []
    for field in msgspec.structs.fields(Settings):
        meta = next(
            item for item in field.type.__metadata__ if isinstance(item, Meta) and item.description
        )
        listed.append(
            Setting(
                field=field.name,
                names=_NAMES.get(field.name, (f"TINYTOWN_{field.name.upper()}",)),
                type=field.type,
                default=field.default,
                description=str(meta.description),
                why=str((meta.extra or {})["why"]),
                secret="Secret" in str(field.type),
            )
        )
    return tuple(listed)


def describe(settings: Settings) -> list[tuple[str, str]]:
    """List every variable with its present value, secrets masked: what `tt doctor` prints."""
    return [
        (setting.names[0], _shown(getattr(settings, setting.field), secret=setting.secret))
        for setting in catalogue()
    ]


def _misspelt(source: Mapping[str, str]) -> list[str]:
    """Name the TINYTOWN_* variables nobody reads, with the nearest right name."""
    known = {name for setting in catalogue() for name in setting.names} | _SESSION_NAMES.keys()
    ends = {name.removeprefix("TINYTOWN_"): name for name in sorted(known)}
    problems = []
    for name in sorted(source):
        if name.upper().startswith("TINYTOWN_") and name not in known:
            import difflib  # 5 ms that a start without a mistake need not pay

            near = difflib.get_close_matches(name.upper().removeprefix("TINYTOWN_"), ends, n=1)
            hint = f"; did you mean {ends[near[0]]}?" if near else ""
            problems.append(f"{name} is not a setting{hint}")
    return problems


def _read(setting: Setting, text: str) -> Any:
    """Turn the text of one variable into its value; ValueError says what was expected."""
    raw: Any = text
    default = setting.default
    if isinstance(default, bool):
        if text.lower() not in _SWITCH:
            raise ValueError("expected on or off")
        return _SWITCH[text.lower()]
    if setting.field == "pool":
        raw = [part.strip() for part in text.split(",") if part.strip()]
    elif setting.field == "egress_allow":
        raw = text.replace(",", " ").split()
    elif isinstance(default, tuple):
        raw = text.split()
    try:
        value = msgspec.convert(raw, setting.type, strict=False, dec_hook=lambda kind, v: kind(v))
    except msgspec.ValidationError as error:
        raise ValueError(_plain(str(error), setting.type)) from None
    problem = value_problem(setting.field, value)
    if problem:
        raise ValueError(problem)
    return value.rstrip("/") if setting.field in {"public_url", "url", "fly_api_url"} else value


def _plain(message: str, kind: Any) -> str:
    """Rewrite msgspec's message for somebody who knows variables, not JSON paths."""
    if message.startswith("Invalid enum value"):
        words = re.findall(r"'([a-z]+)'", str(kind).partition("]")[0])
        return f"expected one of {', '.join(words)}"
    message = re.sub(r" - at `\$.*`$", "", message)
    message = message.replace("`int | null`", "`int`").replace("`float | null`", "`float`")
    message = re.sub(r", got `\w+`$", "", message)
    message = message.replace("`int`", "a whole number").replace("`float`", "a number")
    message = message.replace("`str` matching regex '^[a-z0-9_-]{1,32}$'", "names of a-z 0-9 _ -")
    message = message.replace(
        "`str` matching regex '^[A-Za-z_][A-Za-z0-9_]*$'", "names of variables"
    )
    message = message.replace("`array` of length >= 1", "at least one")
    return message[:1].lower() + message[1:]


def _absolute(path: Path, source: Mapping[str, str]) -> Path:
    """Make a directory absolute; `~` is HOME of the same environment."""
    text = str(path)
    if text == "~" or text.startswith("~/"):
        text = (source.get("HOME") or str(Path.home())) + text[1:]
    return Path(text).absolute()


def _shown(value: Any, *, secret: bool) -> str:
    """Write a value as the environment would, or a mask."""
    if value is None or value == ():
        return ""
    if secret:
        return MASK
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return ",".join(value) if isinstance(value, tuple) else str(value)
