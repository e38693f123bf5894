"""The catalogue is what the scripts tell: a day in which everything happens, event by event."""

from __future__ import annotations

import re

import jsonschema
import msgspec
import pytest

from catalogued import differences
from every_event import every_event
from tinytown.models.catalogue import CATALOGUE, example
from tinytown.models.event import TYPES, Event
from tinytown.store import Store
from tinytown.store.scripts import sources
from towns import TurnedClock


@pytest.fixture
async def day(store: Store, clock: TurnedClock) -> list[Event]:
    return await every_event(store, clock)


async def test_every_event_that_happens_is_as_the_catalogue_says(day: list[Event]) -> None:
    assert [wrong for event in day if (wrong := differences(event))] == []
    happened = {event.type for event in day}
    assert happened == {kind for kind in TYPES if not CATALOGUE[kind].reserved}


async def test_an_event_names_what_it_is_about(day: list[Event]) -> None:
    for event in day:
        family = event.type.partition(".")[0]
        about = example(event.type)
        assert (event.mission_id is None) == (about.mission_id is None), event
        if family != "worker":
            assert (event.task_id is None) == (about.task_id is None), event


async def test_what_happened_is_valid_by_the_published_schema(day: list[Event]) -> None:
    for event in day:
        jsonschema.validate(event.data, CATALOGUE[event.type].schema)


def test_a_reserved_type_is_told_by_no_script() -> None:
    told = {
        kind
        for text in sources().values()
        for kind in re.findall(r"'([a-z]+\.[a-z]+)'", text)
        if kind in TYPES
    }
    families = {kind for kind in TYPES if kind.startswith(("question.", "task."))}
    assert told - families == {
        kind for kind in TYPES if kind not in families and not CATALOGUE[kind].reserved
    }
    # These two are put together: 'question.' .. to, 'task.' .. outcome.
    assert {kind for kind in families if CATALOGUE[kind].reserved} == {"question.reminded"}


def test_the_catalogue_has_each_type_of_the_closed_set_and_no_other() -> None:
    assert tuple(CATALOGUE) == TYPES


@pytest.mark.parametrize("kind", TYPES)
def test_each_example_is_what_its_schema_says_word_for_word(kind: str) -> None:
    entry = CATALOGUE[kind]
    shown = msgspec.json.decode(msgspec.json.encode(example(kind)), type=Event)
    assert shown == example(kind)
    assert differences(shown) == ""
    jsonschema.Draft202012Validator.check_schema(entry.schema)
    jsonschema.validate(shown.data, entry.schema)


@pytest.mark.parametrize("kind", TYPES)
def test_a_reader_passes_over_what_a_later_version_adds(kind: str) -> None:
    entry = CATALOGUE[kind]
    more = {**entry.example, "news": {"of": "tomorrow"}}
    assert msgspec.convert(more, entry.data) == msgspec.convert(dict(entry.example), entry.data)
    jsonschema.validate(more, entry.schema)


@pytest.mark.parametrize("kind", TYPES)
def test_a_fact_too_many_too_few_or_of_another_kind_is_found(kind: str) -> None:
    whole = example(kind)
    for data in (
        {**whole.data, "news": 1},
        {},
        {name: {"of": "another kind"} for name in whole.data},
    ):
        changed = {**msgspec.to_builtins(whole), "data": data}
        assert differences(msgspec.convert(changed, Event)).startswith(f"{kind}: ")


@pytest.mark.parametrize("kind", TYPES)
def test_each_shape_says_when_and_each_of_its_fields_what(kind: str) -> None:
    entry = CATALOGUE[kind]
    assert entry.when.endswith(".")
    assert entry.data.__name__ == "".join(part.capitalize() for part in kind.split("."))
