"""Decides what a hook asks for: the source's own rules, or what is usual for its scheme (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinytown.models.source import GithubRules, SourceRecord
from tinytown.town import github
from tinytown.town.fencing import Fence
from tinytown.town.missions import clean
from tinytown.town.paths import find
from tinytown.town.rules import Decision
from tinytown.town.rules import decide as by_rules


def facts_of(
    source: SourceRecord, *, kind: str, headers: Mapping[str, str], payload: Any
) -> dict[str, Any]:
    """Lay out what rules can see of a hook."""
    about = {"id": source.id, "name": source.name, "scheme": source.scheme}
    return {"kind": kind, "source": about, "headers": dict(headers), "payload": payload}


def decide(source: SourceRecord, facts: Mapping[str, Any], *, mark: str | None = None) -> Decision:
    """Say what a hook asks for; raises Unfit where its rule needs what it does not say."""
    fence = Fence(f"a webhook of {clean(source.name) or source.scheme}", mark)
    if source.scheme == "github":
        usual = source.github or GithubRules()
        if refused := github.refusal(usual, facts):
            return Decision(action="ignore", reason=refused)
        if not source.rules:
            return github.decide(usual, facts, fence)
        if refused := github.strangers_words(usual, facts):
            return Decision(action="ignore", reason=refused)
    if source.scheme == "slack" and not source.rules:
        return _slack(facts)
    return by_rules(source.rules, facts, fence)


def _slack(facts: Mapping[str, Any]) -> Decision:
    """Take a tap on a button of ours for the answer it carries."""
    tokens = [each for each in find(facts, "payload.actions.*.value") if isinstance(each, str)]
    if facts["kind"] != "block_actions" or not tokens:
        return Decision(action="ignore", reason="only taps on an answer's button do something")
    who = next(
        (
            name
            for path in ("payload.user.name", "payload.user.username", "payload.user.id")
            if (name := clean(github.text(facts, path)))
        ),
        "somebody",
    )
    return Decision(
        action="answer_question",
        rule="a tap in Slack",
        fields={"token": tokens[0], "by": who[:100]},
    )
