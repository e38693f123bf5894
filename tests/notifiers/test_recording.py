"""What ends together is written down together, and what cannot be written harms no other."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import msgspec
import pytest

from posts import add, file, lease
from tinytown.models.delivery import Attempt, DeliveryState, DueDelivery
from tinytown.store import Store
from tinytown.store.deliveries import Ended
from tinytown_notifiers.recording import Recorder


def ended(leased: DueDelivery, reason: str = "") -> Ended:
    attempt = Attempt(number=leased.attempt, at="now", outcome="delivered", duration_seconds=0.1)
    return Ended(delivery=leased.id, tried=attempt, outcome="delivered", reason=reason)


async def test_what_ends_together_is_written_in_one_breath_and_each_hears_its_own_answer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await file(store, await add(store, max_in_flight=32), times=9)
    leased = await lease(store)
    together: list[int] = []
    record_all = store.deliveries.record_all

    async def counted(lines: Sequence[Ended]) -> list[bool | None]:
        together.append(len(lines))
        return await record_all(lines)

    monkeypatch.setattr(store.deliveries, "record_all", counted)
    ours: dict[str, bool] = {}
    recorder = Recorder(store)

    async def record(each: DueDelivery, attempt: int) -> None:
        mine = ended(msgspec.structs.replace(each, attempt=attempt))
        ours[each.id] = await recorder.record(mine)

    async with anyio.create_task_group() as group:
        for number, each in enumerate(leased):
            group.start_soon(record, each, 7 if number == 4 else 1)
    assert sum(together) == 9
    assert len(together) <= 3
    assert [ours[each.id] for each in leased] == [number != 4 for number in range(9)]


async def test_a_line_that_cannot_be_written_harms_no_other(store: Store) -> None:
    await file(store, await add(store, max_in_flight=32), times=5)
    leased = await lease(store)
    recorder = Recorder(store)
    failed = []

    async def record(each: DueDelivery, reason: str) -> None:
        try:
            await recorder.record(ended(each, reason))
        except ValueError:  # half a character is none
            failed.append(each.id)

    async with anyio.create_task_group() as group:
        for number, each in enumerate(leased):
            group.start_soon(record, each, "\udcff" if number == 2 else "")
    assert failed == [leased[2].id]
    states = [(await store.deliveries.read(each.id)).state for each in leased]
    assert states.count(DeliveryState.DELIVERED) == 4
