"""Phones over HTTP: added, shown redacted, changed, paused, tried, and what was sent to them."""

from __future__ import annotations

from typing import Any

import httpx
from redis.asyncio import Redis

from halls import Hall
from tinytown.models.delivery import Attempt, Trial
from tinytown.models.endpoint import PUSH_EVENTS
from towns import hand, start

URL = "ntfys://tk_secret@push.example/my-topic"


async def test_an_address_goes_in_and_never_comes_out(hall: Hall, http: httpx.AsyncClient) -> None:
    reply = await http.post("/v1/endpoints", json={"url": URL, "name": "Ada's phone"})
    endpoint = reply.json()
    assert reply.status_code == 201
    assert reply.headers["location"] == f"/v1/endpoints/{endpoint['id']}"
    assert (endpoint["kind"], endpoint["state"]) == ("push", "active")
    assert endpoint["events"] == list(PUSH_EVENTS)
    path = f"/v1/endpoints/{endpoint['id']}"
    listed = (await http.get("/v1/endpoints")).json()
    assert listed == {"items": [endpoint], "next_cursor": None}
    for text in (reply.text, (await http.get(path)).text, str(listed)):
        assert "tk_secret" not in text
        assert "my-topic" not in text


async def test_only_what_is_named_is_changed(hall: Hall, http: httpx.AsyncClient) -> None:
    endpoint = (await http.post("/v1/endpoints", json={"url": URL, "name": "old"})).json()
    path = f"/v1/endpoints/{endpoint['id']}"
    changed = (await http.patch(path, json={"name": "new", "events": ["mission.*"]})).json()
    assert changed == {**endpoint, "name": "new", "events": ["mission.*"]}
    assert await hall.town.endpoints.secret_url(endpoint["id"]) == URL
    moved = (await http.patch(path, json={"url": "ntfys://other.example/topic"})).json()
    assert moved["name"] == "new"
    assert await hall.town.endpoints.secret_url(endpoint["id"]) == "ntfys://other.example/topic"
    wrongs: tuple[dict[str, Any], ...] = (
        {"events": ["mission.exploded"]},
        {"events": []},
        {"kind": "push"},
        {"url": 1},
        {"id": endpoint["id"]},
    )
    for wrong in wrongs:
        assert (await http.patch(path, json=wrong)).status_code == 400, wrong


async def test_an_endpoint_is_paused_resumed_and_removed(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    endpoint = (await http.post("/v1/endpoints", json={"url": URL})).json()
    path = f"/v1/endpoints/{endpoint['id']}"
    assert (await http.post(f"{path}/pause")).json()["state"] == "disabled"
    again = await http.post(f"{path}/pause")
    assert (again.status_code, again.json()["state"]) == (409, "disabled")
    assert (await http.post(f"{path}/resume")).json()["state"] == "active"
    assert hall.outside.rung == 1, "what waited meanwhile is due now"
    assert (await http.delete(path)).status_code == 204
    assert (await http.get(path)).status_code == 404
    assert (await http.delete(path)).status_code == 404


async def test_a_test_message_says_how_it_went(hall: Hall, http: httpx.AsyncClient) -> None:
    endpoint = (await http.post("/v1/endpoints", json={"url": URL})).json()
    path = f"/v1/endpoints/{endpoint['id']}/test"
    assert (await http.post(path)).json()["delivered"] is True
    hall.outside.trial = Trial(
        delivered=False, duration_seconds=0.2, status=403, reason="forbidden"
    )
    reply = await http.post(path)
    assert reply.status_code == 200
    assert reply.json() == {
        "delivered": False,
        "duration_seconds": 0.2,
        "status": 403,
        "reason": "forbidden",
        "code": None,
        "webhook_id": None,
    }


async def test_deliveries_are_listed_and_dead_letters_replayed(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    endpoint = (
        await http.post("/v1/endpoints", json={"url": URL, "events": ["mission.created"]})
    ).json()
    version, _ = await hall.store.endpoints.all()
    for _ in range(3):
        await start(hall.store)
    events = [
        event
        for event in await hall.store.events.after("0-0", limit=100)
        if event.type == "mission.created"
    ]
    await hall.store.events.ensure_group()
    for event in events:
        await hall.store.deliveries.plan(event, [endpoint["id"]], version=version)
    path = f"/v1/endpoints/{endpoint['id']}/deliveries"
    page = (await http.get(path, params={"limit": 2})).json()
    assert len(page["items"]) == 2
    rest = (await http.get(path, params={"cursor": page["next_cursor"]})).json()
    listed = page["items"] + rest["items"]
    assert rest["next_cursor"] is None
    assert [each["state"] for each in listed] == ["due"] * 3
    assert listed[0]["event"]["type"] == "mission.created"
    living = await http.post(f"/v1/deliveries/{listed[0]['id']}/replay")
    assert (living.status_code, living.json()["state"]) == (200, "due"), "now, not later"
    due = await hall.store.deliveries.claim(lease_ms=1000, limit=1)
    (leased,) = due.deliveries
    attempt = Attempt(
        number=leased.attempt, at="", outcome="failed", duration_seconds=0.1, error="gone"
    )
    await hall.store.deliveries.record(leased.id, attempt, outcome="dead", reason="gone")
    dead = (await http.get("/v1/deliveries", params={"state": "dead"})).json()["items"]
    assert [(each["id"], each["reason"]) for each in dead] == [(leased.id, "gone")]
    assert dead[0]["attempts"][0]["error"] == "gone"
    replayed = await http.post(f"/v1/deliveries/{leased.id}/replay")
    assert replayed.json()["state"] == "due"
    assert hall.outside.rung == 2
    assert (await http.get("/v1/deliveries")).json()["items"] == []


async def test_workers_are_listed_and_sent_home(
    hall: Hall, http: httpx.AsyncClient, redis: Redis
) -> None:
    worker = await hand(hall.store, "coder")
    (found,) = (await http.get("/v1/workers")).json()["items"]
    assert (found["id"], found["state"], found["pools"]) == (worker.id, "starting", ["coder"])
    drained = await http.post(f"/v1/workers/{worker.id}/drain")
    assert drained.json()["state"] == "draining"
    inbox: Any = await redis.xrange(hall.store.workers.inbox(worker.id))
    assert [fields["kind"] for _, fields in inbox] == ["drain"]
    await worker.leave(always=True)
    again = await http.post(f"/v1/workers/{worker.id}/drain")
    assert (again.status_code, again.json()["state"]) == (409, "stopped")


async def test_a_cursor_whose_record_is_gone_does_not_begin_anew(http: httpx.AsyncClient) -> None:
    made = [(await http.post("/v1/endpoints", json={"url": URL})).json()["id"] for _ in range(3)]
    page = (await http.get("/v1/endpoints", params={"limit": 2})).json()
    rest = (await http.get("/v1/endpoints", params={"cursor": page["next_cursor"]})).json()
    assert [each["id"] for each in page["items"] + rest["items"]] == made
    await http.delete(f"/v1/endpoints/{page['next_cursor']}")
    refused = await http.get("/v1/endpoints", params={"cursor": page["next_cursor"]})
    assert (refused.status_code, "begin anew" in refused.json()["detail"]) == (400, True)
