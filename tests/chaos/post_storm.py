"""A storm over the post: events go in, notifiers and Redis are killed, receivers are moody.

What was promised is measured where it counts: at the receiver, and by the town's own books.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import msgspec
from redis import Redis

from books import Books
from fakes.receiver import Answer, Got, Receiver
from posts import webhook
from servers import RedisServer
from tinytown import ids
from tinytown.models.endpoint import SigningSecret
from tinytown.standard_webhooks import new_secret
from tinytown.store import Store
from towns import start

NOTIFIER = Path(__file__).with_name("doomed_notifier.py")
TESTS = NOTIFIER.parents[1]
EVENTS = ("mission.created", "mission.canceled")
TREATED: tuple[dict[str, Any], ...] = (
    {"fifo": True},
    {"fifo": True},
    {"max_in_flight": 1},
    {"max_in_flight": 2},
    {"max_in_flight": 4},
    {"max_in_flight": 4, "rate_per_second": 200.0},
    {"max_in_flight": 8},
    {"max_in_flight": 16},
)
"""How each endpoint wants to be treated: caps, rates, order."""
PATIENT = (0.02, 0.05) + (0.2,) * 18
"""Waits between attempts: nothing dies of fifteen per cent."""


class PostStorm(msgspec.Struct, frozen=True, kw_only=True):
    """How bad it gets."""

    deliveries: int = 300
    notifiers: int = 3
    notifier_kills: int = 6
    redis_kills: int = 1
    refused: float = 0.15
    lease_seconds: float = 2.5
    calm_seconds: tuple[float, float] = (0.3, 0.9)
    """Pauses between two kills."""
    seed: int = 0

    @property
    def missions(self) -> int:
        """How many missions make so many deliveries."""
        return -(-self.deliveries // (len(TREATED) * len(EVENTS)))


class Found(msgspec.Struct, kw_only=True):
    """What the storm left behind."""

    wanted: int
    """Deliveries that should have arrived."""
    lost: int
    """How many never did."""
    repeated: int
    """How many came once more than they had to."""
    on_their_way: int
    """Deliveries in flight at the kills, all kills together."""
    refused: int
    crowded: dict[str, int]
    """Endpoints that had more open requests than they allow, and how many."""
    out_of_order: int
    """Requests to an endpoint in order that came after one of a later event."""
    strangers: int
    """Requests under a `webhook-id` that is not their event's."""
    wrong: list[str]
    """What the books found."""
    seconds: float
    kills: Counter[str]


class PostWeather:
    """One storm, from the first event to the last delivery."""

    def __init__(
        self, storm: PostStorm, redis: RedisServer, store: Store, receiver: Receiver
    ) -> None:
        self.storm, self.redis, self.store, self.receiver = storm, redis, store, receiver
        self.dice = random.Random(storm.seed)
        self.books: Any = Redis.from_url(redis.url, decode_responses=True, protocol=2)
        self.notifiers: list[subprocess.Popen[bytes]] = []
        self.missions = [ids.new("mission") for _ in range(storm.missions)]
        self.caps: dict[str, int] = {}
        self.on_their_way = 0
        self.kills: Counter[str] = Counter()
        receiver.rule = self._moody

    def _moody(self, _: Got) -> Answer:
        status = 503 if self.dice.random() < self.storm.refused else 200
        return Answer(status=status, after_seconds=self.dice.uniform(0, 0.02))

    async def blow(self) -> Found:
        """Let it rage until everything has arrived."""
        began = anyio.current_time()
        await self._subscribe()
        self.notifiers = [self._notifier() for _ in range(self.storm.notifiers)]
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._strike)
                group.start_soon(self._let_things_happen)
            with anyio.move_on_after(60):
                while self._left():  # noqa: ASYNC110 - nobody rings when all is over
                    await anyio.sleep(0.05)
        finally:
            for notifier in self.notifiers:
                notifier.kill()
                notifier.wait()
        return self._count(anyio.current_time() - began)

    async def _subscribe(self) -> None:
        for number, treated in enumerate(TREATED):
            path = f"{number}"
            secret = SigningSecret(
                id="sec_1", kind="v1", secret=new_secret("v1"), created_at="2025-11-22T21:00:00Z"
            )
            record = webhook(
                url=self.receiver.url(path),
                events=EVENTS,
                schedule_seconds=PATIENT,
                secrets=(secret,),
                **treated,
            )
            await self.store.endpoints.put(record)
            self.caps[path] = 1 if treated.get("fifo") else treated["max_in_flight"]

    # -- what happens --------------------------------------------------------------------------

    async def _let_things_happen(self) -> None:
        """Missions begin and end all through the storm."""
        kills = self.storm.notifier_kills + self.storm.redis_kills
        pause = sum(self.storm.calm_seconds) / 2 * kills / len(self.missions)
        keep = self.store.patience.keep_trying
        for mission_id in self.missions:
            await keep("start", lambda id_=mission_id: start(self.store, mission_id=id_))  # type: ignore[misc]
            await keep("cancel", lambda id_=mission_id: self._cancel(id_))  # type: ignore[misc]
            await anyio.sleep(pause * self.dice.uniform(0.2, 1.8))

    async def _cancel(self, mission_id: str) -> None:
        mission = await self.store.missions.read(mission_id)
        if mission.state != "canceled":
            await self.store.missions.cancel(mission_id, by="ada")

    async def _strike(self) -> None:
        kills = self.storm.notifier_kills + self.storm.redis_kills
        every = kills // (self.storm.redis_kills + 1)
        falls = {every * (number + 1) for number in range(self.storm.redis_kills)}
        for number in range(kills):
            await anyio.sleep(self.dice.uniform(*self.storm.calm_seconds))
            await (self._hit_redis() if number in falls else self._hit_notifier())

    def _notifier(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(NOTIFIER), self.redis.url, str(self.storm.lease_seconds)]
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL
        )

    async def _hit_notifier(self) -> None:
        self.kills["notifier killed"] += 1
        which = self.dice.randrange(len(self.notifiers))
        self.notifiers[which].kill()
        self.notifiers[which].wait()
        self.on_their_way += self._in_flight()  # those of the others too: nobody says whose
        self.notifiers[which] = self._notifier()

    async def _hit_redis(self) -> None:
        self.kills["Redis killed"] += 1
        self.on_their_way += self._in_flight()
        self.redis.stop(signal.SIGKILL)
        await anyio.sleep(0.3)
        self.redis.start()

    # -- what is left --------------------------------------------------------------------------

    def _keys(self, name: str) -> list[str]:
        return list(self.books.scan_iter(self.store.keys(name, "*"), count=1000))

    def _in_flight(self) -> int:
        """Count what is leased now: what a lost notifier had is not any more."""
        now_ms = int(self.books.time()[0]) * 1000
        keys = self._keys("endpoint_flight")
        return sum(int(self.books.zcount(key, now_ms, "+inf")) for key in keys)

    def _left(self) -> int:
        """Count what is still to be filed or to arrive."""
        groups = self.books.xinfo_groups(self.store.keys("events"))
        unread = sum(int(group["pending"]) + int(group["lag"] or 0) for group in groups)
        moment = self.books.pipeline(transaction=True)  # what moves meanwhile must not hide
        for key in [*self._keys("endpoint_due"), *self._keys("endpoint_flight")]:
            moment.zcard(key)
        return int(unread + sum(moment.execute()))

    def _count(self, seconds: float) -> Found:
        rows = self.books.xrange(self.store.keys("events"))
        happened = {
            f"evt_{id_}"
            for id_, fields in rows
            if fields["type"] in EVENTS and fields["mission"] in self.missions
        }
        assert len(happened) == len(EVENTS) * len(self.missions), "everything has happened, once"
        lost = repeated = disorder = 0
        for path in self.caps:
            taken = Counter(got.id for got in self.receiver.accepted(path))
            lost += len(happened - set(taken))
            repeated += taken.total() - len(taken)
            if self.caps[path] == 1 and TREATED[int(path)].get("fifo"):
                orders = [got.order for got in self.receiver.on(path)]
                disorder += sum(one > other for one, other in itertools.pairwise(orders))
        got = self.receiver.got
        found = Found(
            wanted=len(happened) * len(self.caps),
            lost=lost,
            repeated=repeated,
            on_their_way=self.on_their_way,
            refused=sum(each.answered == 503 for each in got),
            crowded={
                path: most
                for path, most in self.receiver.most_open.items()
                if most > self.caps[path]
            },
            out_of_order=disorder,
            strangers=sum(f'"id":"{each.id}"'.encode() not in each.body for each in got),
            wrong=Books(self.books).check(),
            seconds=round(seconds, 1),
            kills=self.kills,
        )
        self.books.close()
        return found
