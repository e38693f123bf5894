"""Chaos for webhooks: notifiers and Redis are killed, receivers refuse; nothing is lost.

The short form runs with every test. `just chaos` runs the long form.
"""

from __future__ import annotations

import os

import pytest

from chaos.post_storm import PostStorm, PostWeather
from fakes.receiver import receiver
from servers import RedisServer
from towns import open_town

LONG = os.environ.get("CHAOS") == "long"
SEED = int(os.environ.get("CHAOS_SEED") or int.from_bytes(os.urandom(4), "big"))
"""The blows of a seed are the same; when they fall is not."""


@pytest.mark.timeout(600 if LONG else 120)
async def test_a_storm_loses_no_delivery_and_breaks_no_bound() -> None:
    storm = PostStorm(seed=SEED)
    if LONG:
        storm = PostStorm(seed=SEED, deliveries=3_000, notifier_kills=30, redis_kills=4)
    # What Redis has answered it keeps: with `everysec` it may forget a second when it is killed.
    with RedisServer(persist=True, appendfsync="always") as redis:
        async with open_town(redis.url) as store, receiver() as mail:
            found = await PostWeather(storm, redis, store, mail).blow()
    print(f"{storm}: {found}")  # noqa: T201
    assert found.wanted >= storm.deliveries
    assert found.lost == 0, found
    assert found.repeated <= found.on_their_way, found
    assert found.crowded == {}, found
    assert found.out_of_order == 0, found
    assert found.strangers == 0, found
    assert not found.wrong, "\n".join(found.wrong)
    assert found.refused >= found.wanted * storm.refused / 2, "the receivers were moody"
    assert found.kills.total() == storm.notifier_kills + storm.redis_kills
