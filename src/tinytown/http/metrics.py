"""/metrics: counters the scripts keep in Redis, read at scrape time; they survive every restart.

Only the latency of this door is counted in the process: it is about the process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import anyio
import anyio.to_thread
import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

import tinytown
from tinytown.http.auth import PROBE
from tinytown.http.problems import refusals
from tinytown.models.event import TYPES
from tinytown.models.mission import ENDED, MissionState
from tinytown.models.scaling import Signal
from tinytown.models.task import TaskState
from tinytown.models.worker import WorkerState
from tinytown.store.scripts import BUCKETS_MS
from tinytown.town import Town

FRESH_SECONDS: Final = 1.0
"""Two scrapers that ask together cost one reading: some Redises are paid by the command."""
HTTP_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)

Counts: TypeAlias = Mapping[str, int]
_HISTOGRAM: Final = "histogram:"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What Redis said at one moment."""

    counters: Counts
    gauges: Counts
    missions: Counts
    signal: Signal
    outbox_oldest_seconds: float
    redis_latency_seconds: float


class Meter:
    """The numbers of one town and of this door."""

    def __init__(self, town: Town) -> None:
        """Use a registry of its own: nothing global, nothing shared between towns."""
        self._town = town
        self._numbers = CollectorRegistry()
        here: dict[str, Any] = {"registry": self._numbers}
        self._requests = Histogram(
            "tinytown_http_request_seconds",
            "Time to the first byte of a reply, by route",
            ("method", "route", "status"),
            buckets=HTTP_BUCKETS,
            **here,
        )
        ProcessCollector(**here)
        self._facts: Facts | None = None
        self._read_at = 0.0
        self._turn = anyio.Lock()
        self._numbers.register(_Town(self._shown))

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Write all numbers in the form asked for; raises StoreUnavailable."""
        async with self._turn:
            if self._facts is None or time.monotonic() - self._read_at > FRESH_SECONDS:
                self._facts = await self._read()
                self._read_at = time.monotonic()
            encode, media_type = choose_encoder(accept)
            # Thousands of lines take tens of milliseconds: not on the loop.
            return await anyio.to_thread.run_sync(encode, self._numbers), media_type

    def _shown(self) -> Facts | None:
        return self._facts

    async def _read(self) -> Facts:
        clockwork = self._town.store.clockwork
        begun = time.perf_counter()
        await clockwork.ping()
        latency = time.perf_counter() - begun
        due_ms = await self._town.store.deliveries.oldest_due_ms()
        snapshot_ms = (await clockwork.demand()).now_ms if due_ms is not None else 0
        return Facts(
            counters=await clockwork.counters(),
            gauges=await clockwork.gauges(),
            missions=await clockwork.missions_by_state(list(MissionState)),
            signal=await self._town.scaling.signal(),
            outbox_oldest_seconds=max(0, snapshot_ms - due_ms) / 1000 if due_ms else 0.0,
            redis_latency_seconds=latency,
        )


class _Town(Collector):
    """Writes what Redis said as metric families."""

    def __init__(self, facts: Callable[[], Facts | None]) -> None:
        self._facts = facts

    def describe(self) -> list[Metric]:
        """Promise nothing: registering must not read."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Write the families in the order of the contract."""
        yield InfoMetricFamily(
            "tinytown_build", "This program", value={"version": tinytown.__version__}
        )
        facts = self._facts()
        if facts is None:
            return
        yield from _levels(facts)
        yield from _totals(facts.counters)
        yield from _histograms(facts.counters)


def _levels(facts: Facts) -> Iterator[Metric]:
    missions = GaugeMetricFamily("tinytown_missions", "Missions stored, by state", labels=["state"])
    for state, count in facts.missions.items():
        missions.add_metric([state], count)
    yield missions
    tasks = GaugeMetricFamily("tinytown_tasks", "Tasks stored", labels=["pool", "state"])
    workers = GaugeMetricFamily("tinytown_workers", "Workers", labels=["pool", "state"])
    desired = GaugeMetricFamily(
        "tinytown_scaling_desired_workers", "Workers wanted in all", labels=["pool"]
    )
    oldest = GaugeMetricFamily(
        "tinytown_oldest_waiting_seconds", "How long the oldest task waits", labels=["pool"]
    )
    for pool, signal in facts.signal.pools.items():
        for task_state in TaskState:
            tasks.add_metric([pool, task_state], facts.gauges.get(f"tasks:{pool}:{task_state}", 0))
        for worker_state in WorkerState:
            count = facts.gauges.get(f"workers:{pool}:{worker_state}", 0)
            workers.add_metric([pool, worker_state], count)
        desired.add_metric([pool], signal.desired)
        oldest.add_metric([pool], signal.oldest_waiting_seconds or 0)
    yield from (tasks, workers, desired, oldest)
    yield GaugeMetricFamily(
        "tinytown_outbox_oldest_seconds",
        "How long the oldest undelivered message is overdue",
        value=facts.outbox_oldest_seconds,
    )
    yield GaugeMetricFamily(
        "tinytown_redis_latency_seconds",
        "One PING, just before these numbers were read",
        value=facts.redis_latency_seconds,
    )


# Family name, what it means, the counters' prefix, its labels, how much one count is.
_TOTALS: Final[tuple[tuple[str, str, str, tuple[str, ...], float], ...]] = (
    ("tinytown_missions_finished", "Missions ended", "missions_finished:", ("state",), 1),
    ("tinytown_deliveries", "Attempts to deliver", "deliveries:", ("kind", "outcome"), 1),
    ("tinytown_hooks", "Hooks by what became of them", "hooks:", ("outcome",), 1),
    ("tinytown_events", "Events told", "events:", ("type",), 1),
    ("tinytown_redelivered", "Tasks taken from a worker, back on the docket", "redelivered", (), 1),
    ("tinytown_worker_starts", "Workers started", "worker_starts:", ("launcher", "result"), 1),
    ("tinytown_agent_seconds", "What workers' time went into", "agent_ms:", ("kind",), 0.001),
)


_CERTAIN: Final[Mapping[str, tuple[str, ...]]] = {
    "tinytown_missions_finished": tuple(sorted(ENDED)),
    "tinytown_agent_seconds": ("boot", "busy", "drain", "idle"),
    "tinytown_events": TYPES,
}


def _totals(counters: Counts) -> Iterator[Metric]:
    for name, text, prefix, labels, unit in _TOTALS:
        family = CounterMetricFamily(name, text, labels=labels)
        if not labels:
            family.add_metric([], counters.get(prefix, 0) * unit)
        # What cannot be missing is 0 from the start: a rate needs a first value.
        known = dict.fromkeys((f"{prefix}{value}" for value in _CERTAIN.get(name, ())), 0)
        for counter, count in sorted({**known, **counters}.items()):
            if labels and counter.startswith(prefix):
                values = counter.removeprefix(prefix).split(":")
                family.add_metric(values, count * unit)
        yield family


# Family name, what it means, its label, and which stored histogram each label value comes from.
_HISTOGRAMS: Final[tuple[tuple[str, str, str | None, Mapping[str, str]], ...]] = (
    (
        "tinytown_wake_seconds",
        "From queued to claimed",
        "path",
        {"warm": "wake_warm", "cold": "wake_cold"},
    ),
    (
        "tinytown_question_to_push_seconds",
        "From a question to its first delivered push",
        None,
        {"": "question_to_push"},
    ),
    ("tinytown_answer_seconds", "From a question to its answer", None, {"": "answer"}),
    ("tinytown_delivery_seconds", "One attempt", "kind", {"push": "delivery_push"}),
)


def _histograms(counters: Counts) -> Iterator[Metric]:
    for name, text, label, sources in _HISTOGRAMS:
        family = HistogramMetricFamily(name, text, labels=[label] if label else [])
        for value, source in sources.items():
            buckets, total = _cumulated(counters, source)
            sum_ms = counters.get(f"{_HISTOGRAM}{source}:sum_ms", 0)
            family.add_metric([value] if label else [], [*buckets, ("+Inf", total)], sum_ms / 1000)
        yield family


def _cumulated(counters: Counts, source: str) -> tuple[list[tuple[str, float]], int]:
    """Add a stored histogram's buckets up: Prometheus counts everything up to a bound."""
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound in BUCKETS_MS:
        total += counters.get(f"{_HISTOGRAM}{source}:{bound}", 0)
        buckets.append((repr(bound / 1000), total))
    return buckets, total + counters.get(f"{_HISTOGRAM}{source}:inf", 0)


@get(
    "/metrics",
    opt={"scope": PROBE},
    operation_id="metrics",
    summary="Numbers for Prometheus",
    tags=["probes"],
    media_type="text/plain",
    responses=refusals(401, 403, 503),
)
async def metrics(
    request: Request[Any, Any, Any], meter: NamedDependency[Meter]
) -> Response[bytes]:
    """Write every number of the town; 503 when Redis cannot be read."""
    text, media_type = await meter.render(request.headers.get("accept", ""))
    return Response(text, media_type=media_type)
