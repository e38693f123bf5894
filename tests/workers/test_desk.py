"""The desk: a question outlives its asker, and no client can hurt another."""

from __future__ import annotations

import json
import os
import socket
import stat
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.person import Person
from tinytown.errors import LeaseLost
from tinytown.models.question import Ask
from tinytown.models.task import Message
from tinytown_workers import desk as desk_room
from tinytown_workers.desk import AskReply, Desk, open_desk
from tinytown_workers.desk_client import Call, DeskGone, DeskRefused


def question(text: str = "Red or blue?", **more: Any) -> dict[str, Any]:
    return {"text": text, "kind": "choice", "options": ["red", "blue"], **more}


async def call(desk: Desk, op: str, **fields: Any) -> Call:
    return await anyio.to_thread.run_sync(partial(Call, str(desk.card), op, **fields))


async def reply_of(waiting: Call, *, confirm: bool = True) -> dict[str, Any]:
    reply = await anyio.to_thread.run_sync(waiting.wait, 10.0)
    assert reply is not None
    if confirm:
        await anyio.to_thread.run_sync(waiting.confirm)
    return reply


async def test_a_question_reaches_the_person_and_the_answer_comes_back(
    desk: Desk, person: Person
) -> None:
    waiting = await call(desk, "ask", via="mcp", ask=question(risk="high", deadline_seconds=60))
    asked = await person.asked()
    assert asked == Ask(
        text="Red or blue?",
        kind="choice",
        options=("red", "blue"),
        risk="high",
        deadline_seconds=60.0,
    )
    assert person.via == ["mcp"]
    person.answer("blue", by="maria")
    assert await reply_of(waiting) == {
        "outcome": "answered",
        "question_id": "qst_1",
        "answer": "blue",
        "by": "maria",
        "via": "push",
        "messages": [],
    }


async def test_only_the_owner_can_reach_the_desk(desk: Desk) -> None:
    folder = desk.card.parent
    assert [stat.S_IMODE(p.stat().st_mode) for p in (folder, folder / "socket", desk.card)] == [
        0o700,
        0o600,
        0o600,
    ]


async def test_the_secret_of_another_session_opens_nothing(
    desk: Desk, person: Person, tmp_path: Path
) -> None:
    card = json.loads(desk.card.read_text())
    other = tmp_path / "card"
    other.write_text(json.dumps(card | {"secret": "guessed"}))
    refused = await anyio.to_thread.run_sync(partial(Call, str(other), "ask", ask=question()))
    with pytest.raises(DeskRefused, match="another session") as caught:
        await reply_of(refused)
    assert caught.value.code == "unauthenticated"
    assert person.questions == []


async def test_the_path_of_the_socket_stays_short(tmp_path: Path, person: Person) -> None:
    deep = tmp_path / ("d" * 120)
    async with open_desk(deep, person) as desk:
        where = Path(json.loads(desk.card.read_text())["socket"])
        assert len(os.fsencode(where)) <= 103
        assert stat.S_IMODE(where.parent.stat().st_mode) == 0o700
        waiting = await call(desk, "inbox")
        assert await reply_of(waiting) == {"messages": []}
    assert not where.parent.exists()
    assert list(deep.iterdir()) == []


async def test_a_question_outlives_its_asker_and_is_attached_again(
    desk: Desk, person: Person
) -> None:
    first = await call(desk, "ask", ask=question())
    await person.asked()
    first.close()
    await person.left()  # the worker knows that nobody waits
    second = await call(desk, "ask", ask=question())
    await person.asked()
    person.answer("red")
    assert (await reply_of(second))["answer"] == "red"
    assert len(person.questions) == 2
    assert len(set(person.questions)) == 1  # the same question, so the town attaches it


async def test_an_answer_nobody_took_waits_for_the_next_asker(desk: Desk, person: Person) -> None:
    lost = await call(desk, "ask", ask=question())
    await person.asked()
    person.answer("red")
    assert (await reply_of(lost, confirm=False))["answer"] == "red"
    lost.close()  # it died before it could pass the answer on
    again = await call(desk, "ask", ask=question())
    assert (await reply_of(again))["answer"] == "red"
    assert len(person.questions) == 1
    # Passed on now: the same words again are a new question.
    third = await call(desk, "ask", ask=question())
    await person.asked()
    assert len(person.questions) == 2
    third.close()


async def test_an_answer_that_comes_while_the_asker_leaves_is_kept(
    desk: Desk, person: Person
) -> None:
    person.answer_on_leaving = "blue"
    first = await call(desk, "ask", ask=question())
    await person.asked()
    first.close()
    await person.left()
    second = await call(desk, "ask", ask=question())
    assert (await reply_of(second))["answer"] == "blue"
    assert len(person.questions) == 1


async def test_the_same_question_twice_at_once_is_one_question(desk: Desk, person: Person) -> None:
    both = [await call(desk, "ask", ask=question()) for _ in range(2)]
    await person.asked()
    other = await call(desk, "ask", ask=question("Another?"))
    await person.asked()
    assert [ask.text for ask in person.questions] == ["Red or blue?", "Another?"]
    person.answer("red", to="Red or blue?")
    assert [(await reply_of(one))["answer"] for one in both] == ["red", "red"]
    other.close()


async def test_the_same_approval_twice_at_once_is_two_questions(desk: Desk, person: Person) -> None:
    wanted = {
        "text": "Allow Bash?",
        "kind": "approval",
        "options": ["Allow", "Deny"],
        "binding": "Bash:abc",
    }
    both = [await call(desk, "ask", ask=wanted) for _ in range(2)]
    await person.asked()
    await person.asked()
    assert [ask.binding for ask in person.questions] == ["Bash:abc", "Bash:abc#2"]
    person.answer("Allow", to="Allow Bash?")
    assert (await reply_of(both[0]))["answer"] == "Allow"
    assert await anyio.to_thread.run_sync(both[1].wait, 0.05) is None  # still waits for its own
    both[1].close()


async def test_a_refusal_of_the_town_is_told_in_its_words(desk: Desk, person: Person) -> None:
    person.trouble = LeaseLost("another worker has this task")
    waiting = await call(desk, "ask", ask=question())
    with pytest.raises(DeskRefused, match="another worker has this task") as caught:
        await reply_of(waiting)
    assert caught.value.code == "lease-lost"


async def test_an_error_of_ours_stays_inside_and_the_desk_stays_open(
    desk: Desk, person: Person
) -> None:
    person.trouble = RuntimeError("redis://user:hunter2@host")
    for op in ("ask", "inbox"):
        waiting = await call(desk, op, **({"ask": question()} if op == "ask" else {}))
        with pytest.raises(DeskRefused) as caught:
            await reply_of(waiting)
        assert caught.value.code == "internal"
        assert "hunter2" not in str(caught.value)
    person.trouble = None
    assert await reply_of(await call(desk, "inbox")) == {"messages": []}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"ask": question(options=["a", "a"])}, "differ"),
        ({"ask": question(options=[])}, "needs options"),
        ({"ask": question(default="green")}, "one of the options"),
        ({"ask": question(" \n")}, "empty"),
        ({"ask": question(risk="extreme")}, "risk"),
        ({"ask": question(deadline_seconds=-1)}, "deadline_seconds"),
        ({"ask": question(wrong=1)}, "wrong"),
        ({"ask": question(), "more": 1}, "more"),
        ({}, "ask"),
        ({"ask": question(context="x" * 9_000)}, "context"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused_in_words(
    desk: Desk, person: Person, fields: dict[str, Any], reason: str
) -> None:
    waiting = await call(desk, "ask", **fields)
    with pytest.raises(DeskRefused, match=reason) as caught:
        await reply_of(waiting)
    assert caught.value.code == "invalid"
    assert person.questions == []


async def test_messages_are_kept_until_they_are_taken(desk: Desk, person: Person) -> None:
    person.messages = [Message(id="m1", text="hurry", at="2026-11-22T21:00:00.000Z", by="maria")]
    lost = await call(desk, "progress", text="half way", percent=50)
    assert [m["text"] for m in (await reply_of(lost, confirm=False))["messages"]] == ["hurry"]
    lost.close()  # never passed on
    person.messages = [Message(id="m2", text="stop", at="2026-11-22T21:00:01.000Z", by="maria")]
    taken = await call(desk, "inbox")
    assert [m["text"] for m in (await reply_of(taken))["messages"]] == ["hurry", "stop"]
    assert await reply_of(await call(desk, "inbox")) == {"messages": []}
    assert person.reports == [("half way", 50.0)]


async def test_a_closed_desk_tells_who_waits(tmp_path: Path, person: Person) -> None:
    async with open_desk(tmp_path / "desk", person) as desk:
        waiting = await call(desk, "ask", ask=question())
        await person.asked()
    with pytest.raises(DeskGone, match="ended this session"):
        await reply_of(waiting)
    with pytest.raises(DeskGone, match="cannot be reached"):
        await call(desk, "inbox")
    assert list((tmp_path / "desk").iterdir()) == []


def raw(desk: Desk) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(json.loads(desk.card.read_text())["socket"])
    return client


async def test_lines_without_end_are_refused(desk: Desk) -> None:
    def flood() -> bytes:
        with raw(desk) as client:
            try:
                client.sendall(b"x" * 2_000_000)
            except OSError:
                return b"refused"
            return client.recv(1000)

    assert await anyio.to_thread.run_sync(flood) in (
        b"refused",
        b'{"error":"too-large","detail":"the request is too long"}\n',
    )
    assert await reply_of(await call(desk, "inbox")) == {"messages": []}


async def test_an_endless_question_is_refused_before_it_is_sent(desk: Desk) -> None:
    with pytest.raises(DeskRefused, match="too long"):
        await call(desk, "ask", ask=question(context="x" * 300_000))


async def test_clients_that_say_nothing_are_let_go(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_room, "_PATIENCE_SECONDS", 0.05)
    with raw(desk) as client:
        assert await anyio.to_thread.run_sync(client.recv, 10) == b""


async def test_too_many_at_once_are_told_so(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, person: Person
) -> None:
    monkeypatch.setattr(desk_room, "_CONNECTIONS", 2)
    waiting = [await call(desk, "ask", ask=question(str(number))) for number in range(2)]
    for _ in waiting:
        await person.asked()
    with pytest.raises(DeskRefused, match="too many"):
        await reply_of(await call(desk, "inbox"))
    for one in waiting:
        one.close()


@given(garbage=st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_garbage_never_closes_the_desk(desk: Desk, person: Person, garbage: bytes) -> None:
    def throw() -> bytes:
        with raw(desk) as client:
            try:
                client.sendall(garbage.replace(b"\n", b" ") + b"\n")
                return client.recv(10_000)
            except OSError:
                return b""

    said = await anyio.to_thread.run_sync(throw)
    assert json.loads(said)["error"] in ("invalid", "unauthenticated")
    assert person.questions == []
    waiting = await call(desk, "inbox")
    assert await reply_of(waiting) == {"messages": []}


async def test_every_outcome_travels_as_it_is(desk: Desk, person: Person) -> None:
    for outcome in ("defaulted", "no_answer", "withdrawn", "parked"):
        waiting = await call(desk, "ask", ask=question(outcome))
        await person.asked()
        person.reply(AskReply(outcome=outcome, question_id="qst_9"), to=outcome)
        assert (await reply_of(waiting))["outcome"] == outcome
