"""Rules: which one fits a hook, and what it asks for; the first that fits counts (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

import msgspec

from tinytown.errors import Invalid, TownError
from tinytown.models.mission import GOAL_BYTES, StartMission
from tinytown.models.source import Condition, Rule
from tinytown.town.fencing import Fence, quoted
from tinytown.town.missions import MESSAGE_BYTES, check, title_of
from tinytown.town.paths import Missing, check_path, fill, find, is_fixed, parse, plain

ActionTaken = Literal["start_mission", "answer_question", "message", "cancel", "ignore", "attach"]

# Per action: what it must be told, of which exactly one must be told, and what it may be told.
_FIELDS: Final[dict[str, tuple[frozenset[str], frozenset[str], frozenset[str]]]] = {
    "start_mission": (
        frozenset({"goal"}),
        frozenset(),
        frozenset(
            {"title", "repo", "ref", "agent", "pool", "priority", "labels", "thread", "text"}
        ),
    ),
    "answer_question": (
        frozenset({"answer"}),
        frozenset({"question_id", "token"}),
        frozenset({"by"}),
    ),
    "message": (frozenset({"text"}), frozenset({"mission_id", "thread"}), frozenset()),
    "cancel": (frozenset(), frozenset({"mission_id", "thread"}), frozenset()),
    "ignore": (frozenset(), frozenset(), frozenset({"reason"})),
}
_FENCED: Final = {"goal": GOAL_BYTES, "text": MESSAGE_BYTES}
"""Fields that agents read, with their bounds in bytes."""
_TEMPLATE_BYTES: Final = {"goal": GOAL_BYTES // 2, "text": MESSAGE_BYTES // 2}
"""What a rule says itself leaves room for what it quotes."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a hook asks for, ready to be done."""

    action: ActionTaken
    rule: str = ""
    fields: dict[str, Any] = msgspec.field(default_factory=dict)
    reason: str = ""
    """Why nothing is to be done."""


class Unfit(Exception):
    """A rule fits, but what it needs is not in the hook; one sentence."""


def check_rules(rules: Sequence[Rule], *, place: str) -> None:
    """Raise Invalid, naming the place, for a rule that could never work."""
    for number, rule in enumerate(rules):
        where = f"{place}[{number}]"
        for path, wanted in rule.when.items():
            with_place(f"{where}.when", check_path, path)
            if isinstance(wanted, Condition):
                with_place(f"{where}.when.{path}", _check_condition, wanted)
        for path in rule.untrusted or ():
            with_place(f"{where}.untrusted", check_path, path)
        with_place(f"{where}.with", _check_names, rule)
        for name, value in rule.fields.items():
            with_place(f"{where}.with.{name}", _check_field, name, value)
        with_place(f"{where}.with", _check_fixed, rule)


def with_place(place: str, test: Any, *arguments: Any) -> None:
    """Run a check; raises its Invalid with the place named."""
    try:
        test(*arguments)
    except Invalid as error:
        raise Invalid(
            f"{place}: {error.detail}", errors=[{"key": place, "message": error.detail}]
        ) from None


def decide(rules: Sequence[Rule], facts: Mapping[str, Any], fence: Fence) -> Decision:
    """Take the first rule that fits; none means there is nothing to do. Raises Unfit."""
    for number, rule in enumerate(rules):
        if all(holds(wanted, path, facts) for path, wanted in rule.when.items()):
            name = rule.name or f"rule {number + 1}"
            try:
                fields = _rendered(rule, facts, fence)
            except Missing as error:
                raise Unfit(f"{name} needs {error}, which the hook does not say") from None
            except TownError as error:
                raise Unfit(f"{name}: {error.detail}") from None
            reason = fields.pop("reason", "") if rule.action == "ignore" else ""
            return Decision(action=rule.action, rule=name, fields=fields, reason=reason)
    return Decision(action="ignore", reason="no rule fits")


def holds(wanted: Any, path: str, facts: Mapping[str, Any]) -> bool:
    """Tell whether what a path leads to is what is wanted; of many values, one is enough."""
    found = find(facts, path)
    if isinstance(wanted, Condition):
        if wanted.exists is not msgspec.UNSET:
            return bool(found) is wanted.exists
        if wanted.glob is not msgspec.UNSET:
            glob = wanted.glob
            return any(isinstance(each, str) and fnmatchcase(each, glob) for each in found)
        return any(_contains(each, wanted.contains) for each in found)
    options = wanted if isinstance(wanted, tuple) else (wanted,)
    if not found:
        return None in options
    return any(_same(each, option) for each in found for option in options)


def _contains(value: Any, wanted: Any) -> bool:
    if isinstance(value, str):
        return isinstance(wanted, str) and wanted in value
    return isinstance(value, list) and any(_same(each, wanted) for each in value)


def _same(value: Any, wanted: Any) -> bool:
    # JSON knows true from 1, and "1" from 1; Python only the latter.
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return bool(value == wanted)


def _rendered(rule: Rule, facts: Mapping[str, Any], fence: Fence) -> dict[str, Any]:
    trusted = rule.untrusted is not None
    untrusted = frozenset(rule.untrusted or ())

    def show(path: str, text: str) -> Any:
        foreign = path in untrusted if trusted else path.startswith(("payload.", "headers."))
        return quoted(path, text, fenced=foreign)

    fields: dict[str, Any] = {}
    for name, value in rule.fields.items():
        if isinstance(value, dict):
            fields[name] = {key: plain(each, facts)[:200] for key, each in value.items()}
        elif name in _FENCED:
            fields[name] = fence.write(fill(value, facts, show), limit=_FENCED[name])
        elif text := plain(value, facts):
            fields[name] = text
    goal = str(rule.fields.get("goal", ""))
    if rule.action == "start_mission":
        # The first line of what the rule says, not of what is said about its fences.
        fields.setdefault("title", title_of(plain(goal, facts)[:1_000]))
    if rule.action == "start_mission" and "text" not in fields:
        said = fill(goal, facts, show)
        # What a thread with an open mission is told instead; too long for it, it goes unsaid.
        try:
            fields["text"] = fence.write(said, limit=MESSAGE_BYTES)
        except Invalid:
            fields["text"] = "The same was asked for once more."
    return fields


def _check_condition(wanted: Condition) -> None:
    said = [wanted.exists, wanted.contains, wanted.glob]
    if sum(each is not msgspec.UNSET for each in said) != 1:
        raise Invalid("a condition is exactly one of exists, contains and glob")


def _check_names(rule: Rule) -> None:
    needed, one_of, allowed = _FIELDS[rule.action]
    names = rule.fields.keys()
    if unknown := sorted(names - needed - one_of - allowed):
        raise Invalid(f"{rule.action} takes no {', '.join(unknown)}")
    if missing := sorted(needed - names):
        raise Invalid(f"{rule.action} needs {', '.join(missing)}")
    if one_of and len(one_of & names) != 1:
        raise Invalid(f"{rule.action} needs one of {', '.join(sorted(one_of))}")


def _check_field(name: str, value: str | dict[str, str]) -> None:
    if isinstance(value, dict):
        if name != "labels":
            raise Invalid("this is one text")
        for each in value.values():
            parse(each)
        return
    if name == "labels":
        raise Invalid("labels are an object of names and texts")
    parse(value)
    if not value.strip():
        raise Invalid("this is empty")
    most = _TEMPLATE_BYTES.get(name, 2_048)
    if len(value.encode("utf-8", "surrogatepass")) > most:
        raise Invalid(f"a rule's {name} has at most {most} bytes")


def _check_fixed(rule: Rule) -> None:
    """Hold what does not depend on the hook against what a mission takes."""
    if rule.action != "start_mission":
        return
    fixed = {
        name: value
        for name, value in rule.fields.items()
        if isinstance(value, str) and is_fixed(value) and name not in {"goal", "text", "thread"}
    }
    check(spec_of({**fixed, "goal": "a goal", "labels": dict.fromkeys(_labels(rule), "")}))


def _labels(rule: Rule) -> list[str]:
    labels = rule.fields.get("labels", {})
    return list(labels) if isinstance(labels, dict) else []


def spec_of(fields: Mapping[str, Any]) -> StartMission:
    """Make what starts a mission of rendered fields; raises Invalid naming the field."""
    known = {name: fields[name] for name in StartMission.__struct_fields__ if name in fields}
    try:
        return msgspec.convert(known, StartMission)
    except msgspec.ValidationError as error:
        raise Invalid(str(error).replace("`$.", "`")) from None
