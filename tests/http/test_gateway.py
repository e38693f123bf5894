"""The whole way out: a townhall with its notifier, and a program on loopback that hears of it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from standardwebhooks.webhooks import Webhook

from conftest import Eventually
from fakes.ntfy import NtfyServer
from fakes.web import Asked, Recorder
from halls import API_KEY, HallProcess
from tinytown import ids, standard_webhooks
from tinytown.models.delivery import Attempt
from tinytown.models.endpoint import EndpointRecord
from tinytown.settings import Secret, Settings
from tinytown.store import Limits, Store
from tinytown.townhall import Townhall, running_townhall
from towns import hand, open_town, settle, start

MANY = 1_000


@pytest.fixture
async def hall(redis_url: str, tmp_path: Path) -> AsyncIterator[Townhall]:
    """Run a townhall that seals its secrets and may call this machine."""
    config = Settings(
        redis_url=Secret(redis_url),
        port=0,
        api_key=Secret(API_KEY),
        secret_key=Secret("a secret key of the operator's own"),
        home=tmp_path,
        egress_allow=("127.0.0.0/8",),
    )
    async with running_townhall(config) as hall:
        yield hall


@pytest.fixture
async def http(hall: Townhall) -> AsyncIterator[httpx.AsyncClient]:
    """Lend a client with the operator's key."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with httpx.AsyncClient(
        base_url=hall.address, headers=headers, timeout=10, trust_env=False
    ) as client:
        yield client


def heard(program: Recorder) -> list[Any]:
    """List the types a program was told."""
    return [asked.json()["type"] for asked in program.requests]


def verified(asked: Asked, secret: str) -> Any:
    """Read a delivery as the official library does."""
    return Webhook(secret).verify(asked.body.decode(), asked.headers)


async def test_a_program_hears_of_a_mission_and_can_prove_by_whom(
    hall: Townhall, http: httpx.AsyncClient, eventually: Eventually
) -> None:
    with Recorder() as program:
        url = f"{program.address}/hook?token=hidden"
        asked = {"url": url, "kind": "webhook", "events": ["mission.*"], "headers": {"X-A": "b"}}
        made = (await http.post("/v1/endpoints", json=asked)).json()
        path = f"/v1/endpoints/{made['id']}"
        tried = (await http.post(f"{path}/test")).json()
        assert (tried["delivered"], tried["status"]) == (True, 200)
        assert program.requests[0].headers["webhook-id"] == tried["webhook_id"]
        await http.post("/v1/missions", json={"goal": "do it"})
        await eventually(lambda: "mission.created" in heard(program))
        told = next(each for each in program.requests if each.json()["type"] != "ping")
        assert verified(told, made["secret"])["data"]["title"] == "do it"
        assert (told.path, told.headers["x-a"]) == ("/hook?token=hidden", "b")

        # Both sign while they overlap; the new one alone is enough to verify.
        new = (await http.post(f"{path}/rotate", json={"signing": "v1a"})).json()
        await http.post(f"{path}/test")
        last = program.requests[-1]
        signatures = last.headers["webhook-signature"].split()
        assert [each.split(",")[0] for each in signatures] == ["v1a", "v1"]
        verified(last, made["secret"])
        now = int(last.headers["webhook-timestamp"])
        standard_webhooks.verify([new["public_key"]], last.headers, last.body, now=now)


async def test_a_test_message_that_does_not_arrive_says_why(http: httpx.AsyncClient) -> None:
    with Recorder(status=503) as program:
        asked = {"url": program.address, "kind": "webhook"}
        made = (await http.post("/v1/endpoints", json=asked)).json()
        tried = (await http.post(f"/v1/endpoints/{made['id']}/test")).json()
    assert (tried["delivered"], tried["status"], tried["code"]) == (False, 503, "http_5xx")
    asked = {"url": "http://127.0.0.1:9/", "kind": "webhook"}
    nobody = (await http.post("/v1/endpoints", json=asked)).json()
    tried = (await http.post(f"/v1/endpoints/{nobody['id']}/test")).json()
    assert (tried["code"], tried["status"]) == ("connect_refused", None)


async def test_a_mission_calls_back_and_nobody_else_learns_where(
    hall: Townhall, http: httpx.AsyncClient, eventually: Eventually, redis_url: str
) -> None:
    with Recorder() as program:
        url = f"{program.address}/very-hidden"
        asked = {"goal": "do it", "callback_url": url}
        key = {"Idempotency-Key": "call me back"}
        reply = await http.post("/v1/missions", json=asked, headers=key)
        mission = reply.json()
        assert reply.status_code == 201
        callback = mission.pop("callback")
        assert (await http.post("/v1/missions", json=asked, headers=key)).json() == {
            **mission,
            "callback": callback,
        }
        read = await http.get(f"/v1/missions/{mission['id']}")
        assert read.json() == {**mission, "callback": {"endpoint_id": callback["endpoint_id"]}}
        await http.post("/v1/missions", json={"goal": "another"})
        await http.post(f"/v1/missions/{mission['id']}/cancel")
        await eventually(lambda: program.requests)
        told = verified(program.requests[0], callback["secret"])
        assert (told["type"], told["mission_id"]) == ("mission.canceled", mission["id"])

        path = f"/v1/endpoints/{callback['endpoint_id']}"
        shown = (await http.get(path)).json()
        assert (shown["url"], shown["kind"]) == (f"{program.address}/•••", "webhook")

        async def recorded() -> bool:
            listed = (await http.get(f"{path}/deliveries")).json()["items"]
            return [each["state"] for each in listed] == ["delivered"]

        await eventually(recorded)
        # What happened to other missions it has not missed, and a replay says the same.
        other = (await http.post("/v1/missions", json={"goal": "a third"})).json()
        await http.post(f"/v1/missions/{other['id']}/cancel")
        wish = {"since": "2020-01-01T00:00:00Z"}
        counted = await http.post(f"{path}/recover", json={**wish, "dry_run": True})
        assert counted.json() == {"dead": 0, "missing": 0}
        assert (await http.get("/v1/endpoints")).json()["items"] == []
        assert (await http.post(f"{path}/test")).json()["delivered"] is True
        assert (await http.post(f"{path}/pause")).json()["state"] == "disabled"
        for refused in (
            await http.post(f"{path}/rotate", json={}),
            await http.patch(path, json={"name": "x"}),
            await http.delete(path),
        ):
            assert refused.status_code == 409
            assert "callback of a mission" in refused.json()["detail"]
    events = await hall.town.store.events.after("0-0", limit=100)
    with Redis.from_url(redis_url, protocol=2) as books:
        stored = b"".join(books.dump(name) or b"" for name in books.scan_iter("*"))
    for secret in ("very-hidden", callback["secret"], callback["secret"].removeprefix("whsec_")):
        assert secret not in str(events)
        assert secret not in read.text
        assert secret.encode() not in stored


async def test_a_callback_has_to_make_sense(http: httpx.AsyncClient) -> None:
    for wrong in (
        {"callback_url": "https://10.0.0.1/"},
        {"callback_url": "https://x.example/", "callback_events": ["mission.eaten"]},
        {"callback_url": "https://x.example/", "callback_secret": "not-a-secret-at-all"},
        {"callback_secret": standard_webhooks.new_secret()},
        {"callback_events": ["*"]},
    ):
        reply = await http.post("/v1/missions", json={"goal": "do it", **wrong})
        assert reply.status_code == 400, wrong
    assert (await http.get("/v1/missions")).json()["items"] == []


async def test_a_callback_may_be_verified_by_a_secret_its_caller_brought(
    http: httpx.AsyncClient, hall: Townhall, eventually: Eventually
) -> None:
    secret = standard_webhooks.new_secret()
    with Recorder() as program:
        asked = {
            "goal": "do it",
            "callback_url": program.address,
            "callback_secret": secret,
            "callback_events": ["mission.completed"],
        }
        mission = (await http.post("/v1/missions", json=asked)).json()
        assert mission["callback"]["secret"] is None
        worker = await hand(hall.town.store)
        await settle(hall.town.store, await worker.take())
        await eventually(lambda: program.requests)
        assert heard(program) == ["mission.completed"]
        verified(program.requests[0], secret)


async def test_what_a_program_missed_is_told_when_it_is_back(
    http: httpx.AsyncClient, eventually: Eventually
) -> None:
    with Recorder() as program:
        asked = {"url": program.address, "kind": "webhook", "events": ["mission.created"]}
        made = (await http.post("/v1/endpoints", json=asked)).json()
        path = f"/v1/endpoints/{made['id']}"
        await http.post(f"{path}/pause")
        for number in range(7):
            await http.post("/v1/missions", json={"goal": f"number {number}"})
        await http.post(f"{path}/resume")
        begun = await http.post(f"{path}/recover", json={"since": made["created_at"]})
        assert begun.status_code == 202
        # Nobody waits for a clock here: the tick rings the notifier.
        await eventually(lambda: len(program.requests) == 7, within_seconds=5)
        titles = {each.json()["data"]["title"] for each in program.requests}
        assert titles == {f"number {number}" for number in range(7)}


async def give_up_many(store: Store, url: str) -> str:
    """Give up MANY deliveries to one endpoint."""
    record = EndpointRecord(
        id=ids.new("endpoint"),
        kind="webhook",
        url=url,
        name="",
        events=("*",),
        created_at="2025-11-22T21:00:00.000Z",
        max_in_flight=32,
    )
    await store.endpoints.put(record)
    version, _ = await store.endpoints.all()
    await store.events.ensure_group()
    mission = await start(store)
    for _ in range(MANY // 2):
        await store.missions.pause(mission.id)
        await store.missions.resume(mission.id)
    for event in await store.events.after("0-0", limit=2 * MANY):
        if event.type in {"mission.paused", "mission.resumed"}:
            await store.deliveries.plan(event, [record.id], version=version)
    while leased := (await store.deliveries.claim(lease_ms=60_000, limit=99)).deliveries:
        for each in leased:
            attempt = Attempt(number=1, at="", outcome="dead", duration_seconds=0.1)
            await store.deliveries.record(each.id, attempt, outcome="dead", reason="no")
    assert (await store.endpoints.health([record.id]))[0].failures == MANY
    return record.id


async def test_a_replay_goes_on_when_the_townhall_that_began_it_is_killed(
    redis_url: str, eventually: Eventually
) -> None:
    quiet = {"TINYTOWN_NOTIFIER": "off"}
    patient = Limits(breaker_after=10 * MANY)
    async with open_town(redis_url, limits=patient) as store:
        endpoint = await give_up_many(store, "https://hooks.example/")
        with HallProcess(redis_url, **quiet) as first:
            async with first.client() as http:
                wish = {"endpoint_id": endpoint}
                begun = (await http.post("/v1/deliveries/replay", json=wish)).json()

            async def half_done() -> bool:
                return (await store.deliveries.read_replay(begun["id"])).done > 0

            await eventually(half_done)
            first.stop(signal.SIGKILL)
        left = await store.deliveries.read_replay(begun["id"])
        assert left.dead == MANY
        with HallProcess(redis_url, **quiet) as second:

            async def over() -> bool:
                return (await store.deliveries.read_replay(begun["id"])).state == "done"

            await eventually(over, f"it stood at {left.done}", within_seconds=20)
            assert second.stop() == 0
        done = await store.deliveries.read_replay(begun["id"])
        assert done.done == MANY
        none, _ = await store.deliveries.dead(cursor=None, limit=5)
        assert none == []
        with Redis.from_url(redis_url, decode_responses=True, protocol=2) as books:
            [due] = list(books.scan_iter("*:endpoint:*:due"))
            assert books.zcard(due) == MANY, "each once"


async def test_a_phone_hears_of_a_program_that_wants_no_more(
    hall: Townhall, http: httpx.AsyncClient, eventually: Eventually
) -> None:
    with Recorder(status=410) as program, NtfyServer() as ntfy:
        await http.post("/v1/endpoints", json={"url": ntfy.endpoint("phone"), "name": "phone"})
        asked = {"url": program.address, "kind": "webhook", "name": "board"}
        made = (await http.post("/v1/endpoints", json=asked)).json()
        await http.post("/v1/missions", json={"goal": "do it"})
        await eventually(lambda: ntfy.on("phone"))
        [told] = ntfy.on("phone")
    assert told.title == "Endpoint switched off: board at 127.0.0.1"
    assert "410" in told.message
    assert f"tt endpoint resume {made['id']}" in told.message
    shown = (await http.get(f"/v1/endpoints/{made['id']}")).json()
    assert (shown["state"], "410" in shown["disabled_reason"]) == ("disabled", True)
