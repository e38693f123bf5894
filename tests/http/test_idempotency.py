"""The same request again is the same reply, also when the first one died half-way."""

from __future__ import annotations

import anyio
import httpx
import pytest
from redis.asyncio import Redis

from halls import API_KEY, Hall
from tinytown.errors import StoreUnavailable
from tinytown.models.endpoint import EndpointWithSecret
from towns import start

KEY = {"Idempotency-Key": "the first of many"}
QUOTED = {"Idempotency-Key": '"the first of many"'}


async def test_the_same_key_and_body_give_the_stored_reply(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    first = await http.post("/v1/missions", json={"goal": "x", "title": "y"}, headers=KEY)
    assert "idempotent-replayed" not in first.headers
    await hall.store.missions.cancel(first.json()["id"], by="test")
    body = b'{ "title": "y",\n"goal": "\\u0078" }'
    again = await http.post(
        "/v1/missions", content=body, headers={**QUOTED, "Content-Type": "application/json"}
    )
    assert again.headers["idempotent-replayed"] == "true"
    assert (again.status_code, again.headers["location"]) == (201, first.headers["location"])
    assert again.json() == first.json(), "the reply of then, not the state of now"
    assert len((await http.get("/v1/missions")).json()["items"]) == 1


async def test_the_same_key_with_another_body_or_path_is_refused(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    mission = (await http.post("/v1/missions", json={"goal": "x"}, headers=KEY)).json()
    for path, body in (
        ("/v1/missions", {"goal": "z"}),
        (f"/v1/missions/{mission['id']}/message", {"text": "x"}),
    ):
        reply = await http.post(path, json=body, headers=KEY)
        assert reply.status_code == 422
        assert reply.json()["type"] == "/problems/idempotency-mismatch"


async def test_two_people_may_use_the_same_key(hall: Hall, http: httpx.AsyncClient) -> None:
    first = await http.post("/v1/missions", json={"goal": "x"}, headers=KEY)
    async with hall.client(await hall.key("write")) as other:
        second = await other.post("/v1/missions", json={"goal": "x"}, headers=KEY)
    assert first.json()["id"] != second.json()["id"]


async def test_a_request_that_still_runs_is_a_conflict(hall: Hall, http: httpx.AsyncClient) -> None:
    going, go_on = anyio.Event(), anyio.Event()
    add = hall.town.endpoints.add

    async def slow(*arguments: object, **named: object) -> EndpointWithSecret:
        going.set()
        await go_on.wait()
        return await add(*arguments, **named)  # type: ignore[arg-type]

    hall.town.endpoints.add = slow  # type: ignore[method-assign]
    body = {"url": "ntfys://push.example/topic"}
    replies: list[httpx.Response] = []

    async def first() -> None:
        replies.append(await http.post("/v1/endpoints", json=body, headers=KEY))

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await going.wait()
        second = await http.post("/v1/endpoints", json=body, headers=KEY)
        assert second.status_code == 409
        assert second.json()["type"] == "/problems/in-progress"
        go_on.set()
    assert replies[0].status_code == 201
    third = await http.post("/v1/endpoints", json=body, headers=KEY)
    assert third.json() == replies[0].json()


async def test_a_refused_request_frees_its_key(http: httpx.AsyncClient) -> None:
    wrong = {"goal": "x", "agent": "nobody"}
    assert (await http.post("/v1/missions", json=wrong, headers=KEY)).status_code == 400
    right = {"goal": "x", "agent": "claude"}
    assert (await http.post("/v1/missions", json=right, headers=KEY)).status_code == 201


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_between_creating_and_replying_creates_once(
    hall: Hall, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    start_mission = hall.store.missions.start

    async def dies(*arguments: object, **named: object) -> bool:
        if when == "after":
            await start_mission(*arguments, **named)  # type: ignore[arg-type]
        raise StoreUnavailable("gone", retry_after_seconds=2)

    with monkeypatch.context() as patched:
        patched.setattr(hall.store.missions, "start", dies)
        first = await http.post("/v1/missions", json={"goal": "x"}, headers=KEY)
        assert first.status_code == 503
        assert first.headers["retry-after"] == "2"
    second = await http.post("/v1/missions", json={"goal": "x"}, headers=KEY)
    assert second.status_code == 201
    missions = (await http.get("/v1/missions")).json()["items"]
    assert [mission["id"] for mission in missions] == [second.json()["id"]]


async def test_a_message_is_left_once(hall: Hall, http: httpx.AsyncClient) -> None:
    mission = await start(hall.store)
    for _ in range(3):
        reply = await http.post(
            f"/v1/missions/{mission.id}/message", json={"text": "hello"}, headers=KEY
        )
        assert reply.status_code == 200
    assert len(await hall.store.missions.messages(mission.id)) == 1


async def test_a_test_message_is_sent_once(hall: Hall, http: httpx.AsyncClient) -> None:
    made = (await http.post("/v1/endpoints", json={"url": "ntfys://push.example/topic"})).json()
    for _ in range(2):
        reply = await http.post(f"/v1/endpoints/{made['id']}/test", headers=KEY)
        assert reply.json()["delivered"] is True
    assert hall.outside.tested == [made["id"]]


async def test_a_new_key_is_given_again_but_never_lies_in_redis(
    hall: Hall, http: httpx.AsyncClient, redis: Redis
) -> None:
    body = {"name": "phone", "scopes": ["read"]}
    first = await http.post("/v1/keys", json=body, headers=KEY)
    again = await http.post("/v1/keys", json=body, headers=KEY)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    assert len((await http.get("/v1/keys")).json()["items"]) == 1
    values = [await redis.get(key) for key in await redis.keys("*idempotency*")]
    assert values
    assert first.json()["key"] not in str(values)
    assert API_KEY not in str(values)


async def test_a_key_made_again_after_a_crash_leaves_only_the_last_secret(
    hall: Hall, http: httpx.AsyncClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_key = hall.store.access.put_key
    lost: list[str] = []

    async def dies(key: object) -> None:
        await put_key(key)  # type: ignore[arg-type]
        lost.append(key.digest)  # type: ignore[attr-defined]
        raise StoreUnavailable("gone", retry_after_seconds=1)

    with monkeypatch.context() as patched:
        patched.setattr(hall.store.access, "put_key", dies)
        assert (await http.post("/v1/keys", json={"name": "a"}, headers=KEY)).status_code == 503
    made = (await http.post("/v1/keys", json={"name": "a"}, headers=KEY)).json()
    async with hall.client(made["key"]) as client:
        assert (await client.get("/v1/missions")).status_code == 200
    digests = await redis.hkeys(hall.store.keys("keys_by_digest"))
    assert len(digests) == 1
    assert digests != lost
