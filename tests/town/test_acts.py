"""What hooks do: start, tell, cancel, answer; and what happens to the branch of a mission."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from conftest import Eventually
from halls import Outside, make_town
from hooking import issue
from inboxes import START, Inbox, inbox, routing
from tinytown import ids
from tinytown.models.hook import StoredHook
from tinytown.models.mission import StartMission
from tinytown.models.source import GithubRules, Rule
from tinytown.store import Store
from tinytown.town import Town
from tinytown.town.acts import FOLLOW_UPS
from tinytown.town.keys import OPERATOR
from towns import ask, hand, settle


@pytest.fixture
def town(town_store: Store) -> Town:
    """Lend a town."""
    return make_town(town_store, Outside())


# What rules do -----------------------------------------------------------------------------------


async def routed(
    town: Town, box: Inbox, eventually: Eventually, payload: Any, kind: str = "job"
) -> StoredHook:
    """Route one hook to its end."""
    hook = await box.put(payload, kind=kind)
    async with routing(town):
        await eventually(lambda: box.settled(hook))
    return await box.read(hook)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"goal": "x", "repo": "{{ payload.repo }}"}, "repo is not a git URL"),
        ({"goal": "x", "agent": "{{ payload.agent }}"}, "unknown agent hal"),
        ({"goal": "x", "pool": "{{ payload.pool }}"}, "pool"),
        ({"goal": "x", "priority": "{{ payload.pool }}"}, "priority"),
        ({"goal": "x", "ref": "{{ payload.ref }}"}, "ref is not a branch"),
        ({"goal": "{{ payload.empty }}", "title": "t"}, "goal is empty"),
        ({"goal": "{{ payload.nowhere }}"}, "payload.nowhere"),
    ],
)
async def test_what_a_mission_cannot_be_started_with_is_dead_with_the_reason(
    town: Town, town_store: Store, eventually: Eventually, fields: dict[str, Any], reason: str
) -> None:
    box = await inbox(town_store, Rule(action="start_mission", fields=fields, untrusted=()))
    payload = {"repo": "x y", "agent": "hal", "pool": "NO", "ref": "-x", "empty": " "}
    found = await routed(town, box, eventually, payload)
    assert found.state == "dead"
    assert reason in (found.outcome.reason or "")  # type: ignore[union-attr]


async def test_a_rule_can_message_and_cancel_a_missions_thread(
    town: Town, town_store: Store, eventually: Eventually
) -> None:
    of_thread: dict[str, str | dict[str, str]] = {"thread": "{{ payload.thread }}"}
    box = await inbox(
        town_store,
        Rule(
            action="message", when={"kind": "say"}, fields={**of_thread, "text": "now {{ kind }}"}
        ),
        Rule(action="cancel", when={"kind": "stop"}, fields=of_thread),
        START,
    )
    said = {"thread": "t", "job": "a"}
    nobody = await routed(town, box, eventually, said, "say")
    assert nobody.outcome.reason == "its thread has no open mission"  # type: ignore[union-attr]
    started = await routed(town, box, eventually, said)
    mission = started.id.replace("hok_", "mis_")
    heard = await routed(town, box, eventually, said, "say")
    assert (heard.state, heard.outcome.mission_id) == ("routed", mission)  # type: ignore[union-attr]
    [message] = await town_store.missions.messages(mission)
    assert (message.text, message.by) == ("now say", "shop")
    await routed(town, box, eventually, said, "stop")
    assert (await town.missions.read(mission)).state == "canceled"
    again = await routed(town, box, eventually, said, "stop")
    assert again.state == "ignored"


async def test_a_rule_can_answer_a_question(
    town: Town, town_store: Store, eventually: Eventually
) -> None:
    await town.missions.start(StartMission(goal="x"), OPERATOR)
    claim = await (await hand(town_store)).take()
    _, question = await ask(town_store, claim, options=("yes", "no"))
    box = await inbox(
        town_store,
        Rule(
            action="answer_question",
            fields={
                "question_id": "{{ payload.q }}",
                "answer": "{{ payload.a }}",
                "by": "{{ payload.who }}",
            },
        ),
    )
    wrong = await routed(town, box, eventually, {"q": question, "a": "maybe", "who": "ada"})
    assert (wrong.state, "one of: yes, no" in str(wrong.outcome)) == ("dead", True)
    nobody = await routed(town, box, eventually, {"q": "qst_x", "a": "yes", "who": "ada"})
    assert nobody.state == "dead"
    right = await routed(town, box, eventually, {"q": question, "a": "YES", "who": "ada"})
    assert (right.state, right.outcome.question_id) == ("routed", question)  # type: ignore[union-attr]
    found = await town.questions.read(question)
    assert (found.answer, found.answered_by, found.answered_via) == ("yes", "ada", "hmac")
    late = await routed(town, box, eventually, {"q": question, "a": "no", "who": "eve"})
    assert (late.state, "ada already answered" in str(late.outcome)) == ("ignored", True)


# Branches of missions ----------------------------------------------------------------------------


def checked(mission: str, conclusion: str, repository: str = "octo/town") -> dict[str, Any]:
    """Write that a check of a mission's branch is over."""
    run = {
        "conclusion": conclusion,
        "name": "tests",
        "html_url": "https://x",
        "check_suite": {"head_branch": f"tinytown/{mission}"},
    }
    return issue(repository=repository) | {"check_run": run}


async def test_checks_reach_their_mission_and_may_start_a_follow_up(
    town: Town, town_store: Store, eventually: Eventually
) -> None:
    box = await inbox(town_store, scheme="github", github=GithubRules(follow_up=True))
    spec = StartMission(goal="x", repo="https://github.com/octo/town.git", labels={"a": "b"})
    mission = (await town.missions.start(spec, OPERATOR)).id
    kind = "check_run.completed"
    failing = await routed(town, box, eventually, checked(mission, "failure"), kind)
    assert failing.outcome.action == "attach"  # type: ignore[union-attr]
    assert len(await town_store.missions.messages(mission)) == 1
    green = await routed(town, box, eventually, checked(mission, "success"), kind)
    assert green.state == "routed"
    assert len(await town_store.missions.messages(mission)) == 1, "green is logged, not told"
    lines = await town_store.events.log_of(mission, after="0-0", limit=10)
    assert [msgspec.json.decode(line.entry)["text"] for line in lines] == [
        "check_run tests: failure", "check_run tests: success",
    ]  # fmt: skip
    worker = await hand(town_store)
    last = mission
    for number in range(1, FOLLOW_UPS + 1):
        await settle(town_store, await worker.take())
        both = [checked(last, "failure"), checked(last, "timed_out")]
        first = await routed(town, box, eventually, both[0], kind)
        second = await routed(town, box, eventually, both[1], kind)
        outcome = first.outcome
        assert outcome is not None
        assert outcome.action == "follow_up"
        following = await town.missions.read(str(outcome.mission_id))
        assert following.ref == f"tinytown/{last}"
        assert following.repo == spec.repo
        assert following.labels["a"] == "b"
        assert following.labels["follow-up"] == str(number)
        assert second.outcome.mission_id == following.id, "one at a time"  # type: ignore[union-attr]
        last = following.id
    await settle(town_store, await worker.take())
    enough = await routed(town, box, eventually, checked(last, "failure"), kind)
    assert enough.outcome.action == "attach"  # type: ignore[union-attr]


async def test_checks_of_other_repositories_and_unknown_missions_reach_nobody(
    town: Town, town_store: Store, eventually: Eventually
) -> None:
    box = await inbox(town_store, scheme="github")
    spec = StartMission(goal="x", repo="https://github.com/octo/town.git")
    mission = (await town.missions.start(spec, OPERATOR)).id
    for payload in (
        checked(mission, "failure", "evil/town"),
        checked(ids.new("mission"), "failure"),
    ):
        found = await routed(town, box, eventually, payload, "check_run.completed")
        assert found.state == "ignored"
    assert await town_store.missions.messages(mission) == ()
    assert await town_store.events.log_of(mission, after="0-0", limit=10) == []


async def test_without_follow_up_an_ended_missions_checks_are_only_logged(
    town: Town, town_store: Store, eventually: Eventually
) -> None:
    box = await inbox(town_store, scheme="github")
    spec = StartMission(goal="x", repo="octo/town")
    mission = (await town.missions.start(spec, OPERATOR)).id
    await settle(town_store, await (await hand(town_store)).take())
    found = await routed(town, box, eventually, checked(mission, "failure"), "check_run.completed")
    assert found.outcome.action == "attach"  # type: ignore[union-attr]
    assert len(await town_store.events.log_of(mission, after="0-0", limit=10)) == 1
