"""What machines ask: health, readiness, the scaling signal and the numbers."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from halls import Hall, open_hall
from servers import RedisServer
from tinytown.models.question import Ask
from tinytown.store import Store
from towns import ask, hand, open_town, settle, start

Eventually = Callable[..., Awaitable[None]]

CONTRACT = {
    "tinytown_build_info": {"version"},
    "tinytown_missions": {"state"},
    "tinytown_missions_finished_total": {"state"},
    "tinytown_tasks": {"pool", "state"},
    "tinytown_workers": {"pool", "state"},
    "tinytown_scaling_desired_workers": {"pool"},
    "tinytown_oldest_waiting_seconds": {"pool"},
    "tinytown_wake_seconds_bucket": {"path", "le"},
    "tinytown_question_to_push_seconds_bucket": {"le"},
    "tinytown_answer_seconds_bucket": {"le"},
    "tinytown_deliveries_total": {"kind", "outcome"},
    "tinytown_delivery_seconds_bucket": {"kind", "le"},
    "tinytown_outbox_oldest_seconds": set(),
    "tinytown_events_total": {"type"},
    "tinytown_redelivered_total": set(),
    "tinytown_agent_seconds_total": {"kind"},
    "tinytown_redis_latency_seconds": set(),
    "tinytown_http_request_seconds_bucket": {"method", "route", "status", "le"},
}


async def test_health_touches_nothing(hall: Hall, redis: Redis) -> None:
    async with hall.client(None) as stranger:
        await stranger.get("/ready")
        before = await calls(redis)
        found = (await stranger.get("/health")).json()
        assert await calls(redis) == before
        assert found["status"] == "ok"
        assert found["uptime_seconds"] >= 0
        assert (await stranger.head("/health")).status_code == 200
        assert (await stranger.head("/ready")).status_code == 200


async def test_ready_asks_every_part(store: Store) -> None:
    parts: dict[str, dict[str, Any]] = {
        "dispatcher": {"ok": True, "last_tick_age_seconds": 1.5},
        "notifier": {"ok": True, "lag_seconds": 0.0},
    }
    checks = {name: lambda name=name: parts[name] for name in parts}
    async with open_hall(store, checks=checks) as hall, hall.client(None) as stranger:
        reply = await stranger.get("/ready")
        found = reply.json()
        assert reply.status_code == 200
        assert found["checks"]["redis"].keys() == {"ok", "latency_seconds"}
        assert found["checks"]["dispatcher"] == parts["dispatcher"]
        parts["notifier"] = {"ok": False, "lag_seconds": 99.0}
        reply = await stranger.get("/ready")
        assert reply.status_code == 503
        assert reply.json() == {
            "status": "unavailable",
            "checks": {**reply.json()["checks"], **parts},
        }
        assert (await stranger.head("/ready")).status_code == 503


async def test_redis_away_is_503_everywhere_and_over_when_it_is_back(
    redis_server: Callable[..., RedisServer], eventually: Eventually
) -> None:
    server = redis_server(persist=True)
    async with open_town(server.url) as store, open_hall(store) as hall, hall.client() as http:
        mission = await start(store)
        server.stop()
        for path in (
            "/api/scaling",
            "/metrics",
            "/v1/missions",
            f"/v1/missions/{mission.id}",
            "/v1/events",
            "/v1/workers",
        ):
            reply = await http.get(path)
            assert reply.status_code == 503, path
            assert reply.json()["type"] == "/problems/store-unavailable"
            assert int(reply.headers["retry-after"]) >= 1
        reply = await http.post("/v1/missions", json={"goal": "x"})
        assert reply.status_code == 503
        ready = await http.get("/ready")
        assert ready.status_code == 503
        assert ready.json()["checks"]["redis"]["ok"] is False
        assert (await http.get("/health")).status_code == 200
        server.start()

        async def back() -> bool:
            return (await http.get("/ready")).status_code == 200

        await eventually(back, "ready again")
        assert (await http.get(f"/v1/missions/{mission.id}")).json()["goal"] == "do it"


async def test_the_signal_counts_what_waits_works_and_asks(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    empty = (await http.get("/api/scaling")).json()
    assert (empty["version"], empty["town"], empty["desired"], empty["pools"]) == (1, "main", 0, {})
    assert empty["recommendation"] == "scale_to_zero"
    for _ in range(3):
        await start(hall.store, pool="coder")
    worker = await hand(hall.store, "coder")
    await worker.take()
    asker = await hand(hall.store, "coder")
    await ask(hall.store, await asker.take())
    found = (await http.get("/api/scaling")).json()
    assert (found["waiting"], found["active"], found["blocked"]) == (1, 1, 1)
    assert found["desired"] == 2
    assert found["workers"]["busy"] == 2
    assert found["pools"]["coder"]["waiting"] == 1
    assert found["oldest_waiting_seconds"] >= 0
    assert found["generated_at"].endswith("Z")
    part = (await http.get("/api/scaling/coder")).json()
    assert part.keys() == found.keys()
    assert (part["waiting"], list(part["pools"])) == (1, ["coder"])


async def test_a_pool_that_nobody_named_yet_wants_nobody(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    """KEDA asks before the first mission, and would never start anything after an error."""
    early = await http.get("/api/scaling/coder")
    assert early.status_code == 200
    assert early.json()["reason"] == "no task or worker has named this pool yet"
    worker = await hand(hall.store, "coder")
    await worker.leave()
    named = await http.get("/api/scaling/coder")
    own = {"generated_at", "seq", "reason", "pools"}
    assert {k: v for k, v in early.json().items() if k not in own} == {
        k: v for k, v in named.json().items() if k not in own
    }
    assert list(early.json()["pools"]) == ["coder"]
    assert (await http.get("/api/scaling", params={"wait": 0})).json()["pools"].keys() == {"coder"}


async def test_a_poller_may_wait_for_the_next_change(hall: Hall, http: httpx.AsyncClient) -> None:
    seq = (await http.get("/api/scaling")).json()["seq"]
    begun = time.monotonic()
    assert (await http.get("/api/scaling", params={"wait": 0.2, "seq": seq})).json()["seq"] == seq
    assert 0.2 <= time.monotonic() - begun < 2
    found: list[dict[str, Any]] = []

    async def poll() -> None:
        reply = await http.get("/api/scaling", params={"wait": 30, "seq": seq})
        found.append(reply.json())

    async with anyio.create_task_group() as group:
        group.start_soon(poll)
        while not len(hall.door.streams):
            await anyio.lowlevel.checkpoint()
        begun = time.monotonic()
        await start(hall.store)
    assert time.monotonic() - begun < 2
    assert found[0]["seq"] > seq
    assert found[0]["waiting"] == 1
    at_once = await http.get("/api/scaling", params={"wait": 30, "seq": seq})
    assert at_once.json()["seq"] == found[0]["seq"], "what has changed already is not waited for"


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Read the Prometheus text with Prometheus' own parser."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


async def test_the_numbers_have_the_names_and_labels_of_the_contract(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    await start(hall.store)
    await http.get("/v1/missions")
    found = samples((await http.get("/metrics")).text)
    for name, labels in CONTRACT.items():
        if name == "tinytown_deliveries_total":
            continue  # nothing was delivered: no label values are known yet
        assert name in found, name
        assert set(found[name][0][0]) == labels, name
    assert "process_resident_memory_bytes" in found


async def test_the_numbers_are_what_happened(
    hall: Hall, http: httpx.AsyncClient, redis: Redis
) -> None:
    await start(hall.store)
    await start(hall.store)
    await start(hall.store, pool="coder")
    worker = await hand(hall.store)
    claim = await worker.take()
    question = (await ask(hall.store, claim))[1]
    await hall.town.questions.answer(question, "yes", by="test", via="api")
    await settle(hall.store, claim)
    counters = hall.store.keys("counters")
    await redis.hincrby(counters, "deliveries:push:delivered", 2)
    await redis.hincrby(counters, "histogram:delivery_push:250", 2)
    await redis.hincrby(counters, "histogram:delivery_push:sum_ms", 300)
    await redis.hincrby(counters, "agent_ms:busy", 90_000)
    found = samples((await http.get("/metrics")).text)

    def value(name: str, **labels: str) -> float:
        (number,) = [number for known, number in found[name] if known == labels]
        return number

    assert value("tinytown_missions", state="queued") == 2
    assert value("tinytown_missions", state="completed") == 1
    assert value("tinytown_missions_finished_total", state="completed") == 1
    assert value("tinytown_missions_finished_total", state="failed") == 0
    assert value("tinytown_tasks", pool="default", state="queued") == 1
    assert value("tinytown_tasks", pool="coder", state="queued") == 1
    assert value("tinytown_workers", pool="default", state="idle") == 1
    assert value("tinytown_scaling_desired_workers", pool="coder") == 1
    assert value("tinytown_events_total", type="mission.created") == 3
    assert value("tinytown_answer_seconds_count") == 1
    assert value("tinytown_answer_seconds_bucket", le="+Inf") == 1
    assert value("tinytown_wake_seconds_count", path="cold") == 1
    assert value("tinytown_deliveries_total", kind="push", outcome="delivered") == 2
    assert value("tinytown_delivery_seconds_bucket", kind="push", le="0.1") == 0
    assert value("tinytown_delivery_seconds_bucket", kind="push", le="0.25") == 2
    assert value("tinytown_delivery_seconds_sum", kind="push") == pytest.approx(0.3)
    assert value("tinytown_agent_seconds_total", kind="busy") >= 90
    assert value("tinytown_redis_latency_seconds") > 0


async def test_two_scrapes_together_cost_one_reading(
    hall: Hall, http: httpx.AsyncClient, redis: Redis
) -> None:
    await http.get("/metrics")
    before = await calls(redis)
    await http.get("/metrics")
    assert await calls(redis) == before


async def test_requests_are_counted_by_route_and_never_by_path(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    mission = await start(hall.store)
    for _ in range(3):
        await http.get(f"/v1/missions/{mission.id}")
    await http.get("/v1/secrets/of/the/path")
    await http.get("/a/" + "x" * 76)
    text = (await http.get("/metrics")).text
    assert mission.id not in text
    assert "secrets" not in text
    assert "xxxx" not in text
    counted = {
        (labels["method"], labels["route"], labels["status"]): number
        for labels, number in samples(text)["tinytown_http_request_seconds_count"]
    }
    assert counted["GET", "/v1/missions/{mission_id}", "200"] == 3
    assert counted["GET", "unmatched", "404"] == 1
    assert counted["GET", "/a/{token}", "404"] == 1


async def calls(redis: Redis) -> dict[str, int]:
    """Count the commands the server has run, except those that look after it."""
    stats = await redis.info("commandstats")
    quiet = ("cmdstat_info", "cmdstat_config", "cmdstat_xread", "cmdstat_client")
    return {name: row["calls"] for name, row in stats.items() if not name.startswith(quiet)}


async def cost(redis: Redis, http: httpx.AsyncClient, path: str) -> dict[str, int]:
    """Count what one request costs Redis."""
    before = await calls(redis)
    assert (await http.get(path)).status_code == 200
    after = await calls(redis)
    return {
        name: count - before.get(name, 0)
        for name, count in after.items()
        if count != before.get(name, 0)
    }


@pytest.mark.timeout(90)
async def test_reading_costs_the_same_however_much_is_stored(
    hall: Hall, http: httpx.AsyncClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinytown.http.metrics.FRESH_SECONDS", -1.0)
    paths = ("/api/scaling", "/ready", "/metrics", "/v1/missions?limit=20", "/v1/questions")
    for path in paths:
        await cost(redis, http, path)  # the first time a script is sent in full
    costs = []
    for stored in (100, 5_000):
        while await redis.zcard(hall.store.keys("missions")) < stored:
            await start(hall.store)
        costs.append({path: await cost(redis, http, path) for path in paths})
    assert costs[0] == costs[1]
    assert sum(costs[0]["/ready"].values()) == 1
    assert sum(costs[0]["/api/scaling"].values()) < 15


async def test_a_request_leaves_one_line_without_secrets(
    hall: Hall, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="tinytown.http")
    mission = await start(hall.store)
    claim = await (await hand(hall.store)).take()
    question = (
        await hall.store.questions.ask(
            "qst_" + "0" * 26, Ask(text="?"), task_id=claim.task_id, attempt=claim.attempt
        )
    )[1]
    await http.post(
        f"/v1/questions/{question}/answer",
        json={"answer": "the password is hunter2"},
        headers={"X-Request-Id": "mine"},
    )
    await http.get("/health")
    lines = [record for record in caplog.records if record.name == "tinytown.http"]
    assert len(lines) == 1, "probes that are fine need no line"
    facts = lines[0].facts  # type: ignore[attr-defined]
    assert facts.pop("ms") > 0
    assert facts == {
        "method": "POST",
        "route": "/v1/questions/{question_id}/answer",
        "status": 200,
        "actor": "operator",
        "request_id": "mine",
    }
    assert "hunter2" not in str(facts)
    assert mission.id not in str(facts)
