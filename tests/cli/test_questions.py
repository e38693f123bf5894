"""Questions from the laptop: seen, answered once, and lost to whoever was faster."""

from __future__ import annotations

from laptop import Laptop
from tinytown.townhall import Townhall
from towns import ask, hand, start


async def test_a_question_is_listed_and_answered(tt: Laptop, hall: Townhall) -> None:
    store = hall.town.store
    await start(store)
    worker = await hand(store)
    _, question = await ask(store, await worker.take(), "Red?", options=("yes", "no"))
    listed = (await tt("questions", "--json")).json["items"]
    assert [(each["id"], each["options"]) for each in listed] == [(question, ["yes", "no"])]
    assert "yes | no" in (await tt("questions")).out
    said = await tt("answer", question[-5:], "YES")
    assert said.out == "answered: yes\n"
    assert (await store.questions.read(question)).answer == "yes"
    assert (await tt("questions")).err == "nobody asks anything\n"


async def test_the_second_answer_is_told_who_was_first(tt: Laptop, hall: Townhall) -> None:
    store = hall.town.store
    await start(store)
    worker = await hand(store)
    _, question = await ask(store, await worker.take(), "Red?")
    await hall.town.questions.answer(question, "blue", by="ada", via="push")
    assert (await tt("answer", question, "blue", "--json")).json["answered_by"] == "ada"
    said = await tt("answer", question, "green", code=4)
    assert "ada" in said.err
    assert said.err.count("\n") == 1


async def test_an_answer_that_is_not_offered_is_wrong_use(tt: Laptop, hall: Townhall) -> None:
    store = hall.town.store
    await start(store)
    worker = await hand(store)
    await ask(store, await worker.take(), "Red?", options=("yes", "no"))
    said = await tt("answer", "last", "maybe", code=2)
    assert "yes, no" in said.err


async def test_a_question_nobody_asked_is_not_found(tt: Laptop) -> None:
    await tt("answer", "qst_00000000000000000000000000", "yes", code=3)
    await tt("answer", "last", "yes", code=3)
