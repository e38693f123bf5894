"""Four simulated days of a small team, served by the town's own arithmetic.

The trace is rebuilt from what is known of the one it stands for: four days, five workers at most, a
boot of two seconds, sessions with a median of eight minutes, 15 % of which end in a question, and
some twenty busy hours and eighty starts a day. Here the people work from eight to eight with a
little in the evening and almost nothing at night, give two missions at once now and then, and
answer after a median of ten minutes, sleepers in the morning; the answer begins another session.
Every decision is made by `share`, `signal` and `missing`; the simulation only lets time pass.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from typing import Final

import msgspec

from tinytown.models.scaling import Demand, Signal, WorkerCounts, missing, share, signal, total

DAY: Final = 86_400.0
DAYS: Final = 4
BOOT: Final = 2.0
MOST: Final = 5
MEDIAN: Final = 480.0
SPREAD: Final = 1.0
"""Sigma of the logarithm: a tenth of the tasks takes more than half an hour."""
ASKING: Final = 0.15
LATER: Final = 0.05
"""Tasks that are not to begin before some time."""

Count = Callable[[WorkerCounts], WorkerCounts]


class Task(msgspec.Struct):
    """One task of the trace: its sessions in seconds, and how long a person took before each."""

    at: float
    sessions: list[float]
    answers: list[float]
    not_before: float = 0.0


class Worker(msgspec.Struct):
    """One worker and what it cost."""

    state: str = "starting"
    since: float = 0.0
    visit: int = 0
    """Counts its states, so that an old idle timer is known to be old."""


class Outcome(msgspec.Struct):
    """What four days came to."""

    waits: list[float] = msgspec.field(default_factory=list)
    starts: int = 0
    needless_starts: int = 0
    """Starts while nothing waited: only blocked or deferred work, or none."""
    late_with_room: int = 0
    """Waits longer than a boot although there was room for another worker all the time."""
    lost: int = 0
    """Tasks that were not done at the end."""
    spent: dict[str, float] = msgspec.field(
        default_factory=lambda: {"starting": 0.0, "idle": 0.0, "busy": 0.0}
    )
    most_at_once: int = 0

    @property
    def over_provision(self) -> float:
        """Idle and boot seconds for each busy second."""
        return (self.spent["idle"] + self.spent["starting"]) / self.spent["busy"]

    def wait(self, share_of_all: float) -> float:
        """Give a percentile of the waits, in seconds."""
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share_of_all))]


def trace(seed: int) -> list[Task]:
    """Draw the four days."""
    draw = random.Random(seed)
    tasks: list[Task] = []
    for minute in range(int(DAYS * DAY / 60)):
        hour = minute / 60 % 24
        rate = 5.2 if 8 <= hour < 20 else 1.2 if 20 <= hour < 23 else 0.2
        if draw.random() < rate / 60:
            together = 1 + (draw.random() < 0.1)
            at = minute * 60 + draw.random() * 60
            tasks += [_task(draw, at + draw.random() * 5) for _ in range(together)]
    return sorted(tasks, key=lambda task: task.at)


def _task(draw: random.Random, at: float) -> Task:
    def session() -> float:
        return draw.lognormvariate(math.log(MEDIAN), SPREAD)

    task = Task(at=at, sessions=[session()], answers=[])
    while draw.random() < ASKING:
        asked = (at + sum(task.sessions) + sum(task.answers)) % DAY / 3600
        asleep = (24 - asked + 8) % 24 * 3600 if asked >= 23 or asked < 7 else 0.0
        task.answers.append(asleep + draw.lognormvariate(math.log(600), 1.0))
        task.sessions.append(session())
    if draw.random() < LATER:
        task.not_before = at + draw.uniform(600, 14_400)
    return task


class Town:
    """A town in which time passes as fast as it can."""

    def __init__(
        self,
        tasks: list[Task],
        *,
        idle_seconds: float,
        counted: Callable[[Demand], Demand] = lambda demand: demand,
    ) -> None:
        """Serve a trace; `counted` may spoil what is counted, to see that it matters."""
        self.outcome = Outcome()
        self._tasks = tasks
        self._idle_seconds = idle_seconds
        self._counted = counted
        self._now = 0.0
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._waiting: list[tuple[float, int, Task]] = []
        self._blocked = self._deferred = self._active = 0
        self._workers: list[Worker] = []
        self._full_at = float("-inf")

    def run(self) -> Outcome:
        """Live through the trace and until the last worker has gone home."""
        for task in self._tasks:
            self._at(task.at, lambda task=task: self._arrive(task))  # type: ignore[misc]
        while self._due:
            self._now, _, act = heapq.heappop(self._due)
            act()
            self._claim()
            self._reconcile()
        self.outcome.lost = len(self._waiting) + self._blocked + self._deferred + self._active
        return self.outcome

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._order), act))

    # Tasks ------------------------------------------------------------------------------------

    def _arrive(self, task: Task) -> None:
        if task.not_before > self._now:
            self._deferred += 1
            self._at(task.not_before, lambda: self._ripe(task))
        else:
            self._enqueue(task)

    def _ripe(self, task: Task) -> None:
        self._deferred -= 1
        self._enqueue(task)

    def _enqueue(self, task: Task) -> None:
        heapq.heappush(self._waiting, (self._now, next(self._order), task))

    def _claim(self) -> None:
        for worker in self._workers:
            if worker.state == "idle" and self._waiting:
                since, _, task = heapq.heappop(self._waiting)
                waited = self._now - since
                self.outcome.waits.append(waited)
                if waited > BOOT + 0.001 and self._full_at < since:
                    self.outcome.late_with_room += 1
                self._to(worker, "busy")
                self._active += 1
                self._at(self._now + task.sessions.pop(0), lambda w=worker, t=task: self._end(w, t))  # type: ignore[misc]

    def _end(self, worker: Worker, task: Task) -> None:
        """A task ends, or parks at its question; either way its worker is free."""
        self._active -= 1
        self._rest(worker)
        if task.answers:
            self._blocked += 1
            self._at(self._now + task.answers.pop(0), lambda: self._answer(task))

    def _answer(self, task: Task) -> None:
        self._blocked -= 1
        self._enqueue(task)

    # Workers ----------------------------------------------------------------------------------

    def _to(self, worker: Worker, state: str) -> None:
        self.outcome.spent[worker.state] += self._now - worker.since
        worker.state, worker.since = state, self._now
        worker.visit += 1

    def _rest(self, worker: Worker) -> None:
        self._to(worker, "idle")
        visit = worker.visit
        self._at(self._now + self._idle_seconds, lambda: self._leave(worker, visit))

    def _leave(self, worker: Worker, visit: int) -> None:
        """Go home, as the one script allows it: idle all the time, and nothing waits."""
        if worker.state == "idle" and worker.visit == visit and not self._waiting:
            self._to(worker, "idle")
            self._workers.remove(worker)

    def _reconcile(self) -> None:
        said = self.signal()
        for _ in missing(said):
            worker = Worker(since=self._now)
            self._workers.append(worker)
            self.outcome.starts += 1
            self.outcome.needless_starts += not self._waiting
            self._at(self._now + BOOT, lambda worker=worker: self._rest(worker))  # type: ignore[misc]
        if len(self._workers) >= MOST:
            self._full_at = self._now
        self.outcome.most_at_once = max(self.outcome.most_at_once, len(self._workers))

    def signal(self) -> Signal:
        """Say the signal of this moment, by the town's own arithmetic."""
        states = [worker.state for worker in self._workers]
        demand = self._counted(
            Demand(
                waiting=len(self._waiting),
                active=self._active,
                blocked=self._blocked,
                deferred=self._deferred,
                oldest_waiting_ms=round(self._waiting[0][0] * 1000) if self._waiting else None,
                workers=WorkerCounts(
                    idle=states.count("idle"),
                    busy=states.count("busy"),
                    starting=states.count("starting"),
                ),
            )
        )
        pools = {"default": demand}
        now_ms = round(self._now * 1000)
        place = share(pools, most=MOST)["default"]
        part = signal(demand, least=0, most=place, now_ms=now_ms)
        whole = signal(total(pools), least=0, most=MOST, now_ms=now_ms, start=part.start)
        return Signal(
            **{name: getattr(whole, name) for name in whole.__struct_fields__},
            version=1,
            town="main",
            generated_at="",
            seq=0,
            pools={"default": part},
        )


def without_starting(demand: Demand) -> Demand:
    """Forget the workers that are on their way, as many autoscalers do."""
    workers = msgspec.structs.replace(demand.workers, starting=0)
    return msgspec.structs.replace(demand, workers=workers)


def with_blocked(demand: Demand) -> Demand:
    """Take sleeping people's questions for work."""
    return msgspec.structs.replace(demand, waiting=demand.waiting + demand.blocked)
