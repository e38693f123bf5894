"""/api/scaling: the signal that autoscalers poll, or wait for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated, Final

import anyio
from litestar import get
from litestar.params import QueryParameter

from tinytown.http.auth import PROBE
from tinytown.http.live import Streams, TheStreams
from tinytown.http.parts import Id, TheTown
from tinytown.http.problems import refusals
from tinytown.models.scaling import Signal
from tinytown.town import Town
from tinytown.town.hub import FellBehind

LONGEST_SECONDS: Final = 60
"""Proxies cut requests that are silent much longer."""

Wait = Annotated[
    float,
    QueryParameter(ge=0, le=LONGEST_SECONDS, description="Wait so many seconds for a change."),
]
Seq = Annotated[
    int | None,
    QueryParameter(ge=0, description="The `seq` you have seen: another one is a change."),
]


async def changed(
    town: Town,
    streams: Streams,
    read: Callable[[], Awaitable[Signal]],
    wait: float,
    seq: int | None,
) -> Signal:
    """Read a signal; with `wait` and `seq`, only once it differs or the time is over."""
    if not wait or seq is None:
        return await read()
    # Listened before it is read: what happens in between is not missed.
    with town.hub.listen(lambda _: True) as listener:
        signal = await read()
        if signal.seq != seq:
            return signal
        with streams.patient(), anyio.move_on_after(wait), suppress(FellBehind):
            await listener.next()
    return await read()


@get(
    "/api/scaling",
    opt={"scope": PROBE},
    operation_id="read_scaling",
    summary="How many workers are wanted?",
    tags=["scaling"],
    responses=refusals(400, 401, 403, 503),
)
async def town_signal(
    town: TheTown, streams: TheStreams, wait: Wait = 0, seq: Seq = None
) -> Signal:
    """Say how many workers the town wants, and why; 503 when that cannot be known, never zeros."""
    return await changed(town, streams, town.scaling.signal, wait, seq)


@get(
    "/api/scaling/{pool:str}",
    opt={"scope": PROBE},
    operation_id="read_pool_scaling",
    summary="How many workers does a pool want?",
    tags=["scaling"],
    responses=refusals(400, 401, 403, 404, 503),
)
async def pool_signal(
    pool: Id, town: TheTown, streams: TheStreams, wait: Wait = 0, seq: Seq = None
) -> Signal:
    """Say how many workers one pool wants, in the same shape: none, if nobody named it yet."""
    return await changed(town, streams, lambda: town.scaling.pool(pool), wait, seq)
