"""Rooms, desks and bridges for the tests of the worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bridge_wire import Wire, wired
from fakes.person import Person
from hands import Workers, ticking, workers
from repositories import make_origin
from tinytown.store import Store
from tinytown_workers.desk import Desk, open_desk
from tinytown_workers.room import Room, open_room
from towns import open_town


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """Make a repository to clone."""
    return make_origin(tmp_path / "origin")


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """Open the room of one task."""
    async with open_room(tmp_path / "root", "tsk_1") as opened:
        yield opened


@pytest.fixture
def person() -> Person:
    return Person()


@pytest.fixture
async def desk(tmp_path: Path, person: Person) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path / "desk", person) as opened:
        yield opened


@pytest.fixture
async def wire(desk: Desk) -> AsyncIterator[Wire]:
    async with wired(*desk.bridge_command(approvals=True)) as wire:
        yield wire


@pytest.fixture
def crew(redis_url: str, tmp_path: Path) -> Iterator[Workers]:
    """Lend real workers."""
    with workers(redis_url, tmp_path) as made:
        yield made


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """Lend the town they work in, with its clock ticking."""
    async with open_town(redis_url) as store, ticking(store):
        yield store
