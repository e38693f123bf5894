"""The tables of moves: complete, ended where they end, and the same in Redis as in Python."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytown.models import delivery, endpoint, hook, mission, question, task, worker
from tinytown.models.moves import Moves, reachable
from tinytown.store.scripts import TABLES

NOUNS: dict[str, tuple[type[StrEnum], type[StrEnum], frozenset[Any], frozenset[str]]] = {
    "mission": (mission.MissionState, mission.MissionMove, mission.ENDED, frozenset({"retry"})),
    "task": (task.TaskState, task.TaskMove, task.ENDED, frozenset({"retry"})),
    "question": (question.QuestionState, question.QuestionMove, question.ENDED, frozenset()),
    "worker": (worker.WorkerState, worker.WorkerMove, worker.ENDED, frozenset()),
    "endpoint": (endpoint.EndpointState, endpoint.EndpointMove, frozenset(), frozenset()),
    "delivery": (
        delivery.DeliveryState,
        delivery.DeliveryMove,
        delivery.ENDED,
        frozenset({"replay"}),
    ),
    "hook": (hook.HookState, hook.HookMove, hook.ENDED, frozenset({"replay"})),
}
"""Per noun: its states, its moves, the states where it has ended, the moves by which a person may
leave those."""

CONTRACT = {
    "mission": "queued running blocked paused completed failed canceled",
    "task": "pending queued running blocked completed failed canceled dead",
    "question": "open answered expired withdrawn",
    "worker": "starting idle busy draining stopped lost",
    "endpoint": "active failing disabled",
    "delivery": "due delivered dead obsolete",
    "hook": "stored routed ignored dead",
}

each_noun = pytest.mark.parametrize("noun", sorted(NOUNS))


def test_every_noun_with_states_has_its_table() -> None:
    assert set(TABLES) == set(NOUNS) == set(CONTRACT)


@each_noun
def test_the_states_are_those_of_the_contract_in_its_order(noun: str) -> None:
    assert " ".join(NOUNS[noun][0]) == CONTRACT[noun]


@each_noun
def test_every_move_leaves_and_reaches_declared_states(noun: str) -> None:
    states, moves, _, _ = NOUNS[noun]
    table = TABLES[noun]
    assert set(table) == set(moves), "no move without a row, no row without a move"
    for sources, targets in table.values():
        assert sources
        assert targets
        assert sources | targets <= set(states)


@each_noun
def test_every_state_but_the_first_is_reached(noun: str) -> None:
    states, _, _, _ = NOUNS[noun]
    reached = set().union(*(targets for _, targets in TABLES[noun].values()))
    first = next(iter(states))
    assert set(states) - reached <= {first}


@each_noun
def test_only_a_person_leaves_an_ended_state(noun: str) -> None:
    _, _, ended, by_a_person = NOUNS[noun]
    for move, (sources, _) in TABLES[noun].items():
        assert bool(sources & ended) == (move in by_a_person)


@each_noun
def test_every_state_that_has_not_ended_can_end(noun: str) -> None:
    states, moves, ended, by_a_person = NOUNS[noun]
    if not ended:
        return
    ending = set(ended)
    while True:
        more = {
            state
            for state in states
            for move in moves
            if move not in by_a_person and reachable(TABLES[noun], state, move) & ending
        }
        if more <= ending:
            break
        ending |= more
    assert ending == set(states)


@each_noun
@given(data=st.data())
def test_a_walk_stops_only_where_the_noun_has_ended(noun: str, data: st.DataObject) -> None:
    states, moves, ended, by_a_person = NOUNS[noun]
    table: Moves[Any, Any] = TABLES[noun]
    state: Any = next(iter(states))
    for _ in range(20):
        open_moves = [
            (move, target)
            for move in moves
            if move not in by_a_person
            for target in sorted(reachable(table, state, move))
        ]
        if not open_moves:
            assert state in ended
            return
        assert state not in ended
        _, state = data.draw(st.sampled_from(open_moves))
        assert state in set(states)


def test_an_illegal_move_reaches_nothing() -> None:
    done, claim = task.TaskState.COMPLETED, task.TaskMove.CLAIM
    assert reachable(task.MOVES, done, claim) == frozenset()
