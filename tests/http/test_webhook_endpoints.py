"""Programs over HTTP: added with a secret, changed as they were read, rotated, and replayed to."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest

from halls import Hall
from tinytown import ids, standard_webhooks
from tinytown.models.delivery import Attempt
from tinytown.models.endpoint import WEBHOOK_EVENTS, NewEndpoint, NewSecret
from tinytown.models.key import Actor
from tinytown.models.mission import Mission, StartedMission, StartMission
from towns import start

URL = "https://hooks.example/services/T0/very-hidden?token=also-hidden"


async def add(http: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """Add a webhook."""
    reply = await http.post("/v1/endpoints", json={"url": URL, "kind": "webhook", **fields})
    assert reply.status_code == 201, reply.text
    made: dict[str, Any] = reply.json()
    return made


async def test_a_program_is_told_its_secret_once(http: httpx.AsyncClient) -> None:
    asked = {
        "url": URL,
        "kind": "webhook",
        "name": "the board",
        "headers": {"X-Api-Key": "hush-hush"},
        "schedule_seconds": [5, 60],
        "max_in_flight": 2,
        "rate_per_second": 10,
        "filter": {"labels": {"team": "blue"}},
    }
    key = {"Idempotency-Key": "once"}
    reply = await http.post("/v1/endpoints", json=asked, headers=key)
    made = reply.json()
    assert reply.status_code == 201
    standard_webhooks.check_secret(made["secret"])
    assert (made["kind"], made["events"]) == ("webhook", list(WEBHOOK_EVENTS))
    assert made["headers"] == {"X-Api-Key": "***"}
    assert made["url"] == "https://hooks.example/•••"
    assert (made["schedule_seconds"], made["max_in_flight"]) == ([5.0, 60.0], 2)
    again = await http.post("/v1/endpoints", json=asked, headers=key)
    assert (again.json(), again.headers["idempotent-replayed"]) == (made, "true")
    read = (await http.get(f"/v1/endpoints/{made['id']}")).json()
    assert {**read, "secret": made["secret"], "public_key": None} == made
    listed = await http.get("/v1/endpoints")
    for text in (listed.text, str(read), reply.text):
        assert "hidden" not in text
        assert "hush" not in text
    assert made["secret"] not in listed.text


async def test_signatures_of_a_key_pair_are_verified_by_what_may_be_known(
    http: httpx.AsyncClient,
) -> None:
    made = await add(http, signing="v1a")
    assert made["secret"] is None, "nobody but the town signs"
    standard_webhooks.check_secret(made["public_key"], to="verify")
    mine = standard_webhooks.new_secret("v1a")
    brought = await add(http, secret=mine)
    assert (brought["secret"], brought["secrets"][0]["kind"]) == (None, "v1a")
    assert brought["public_key"] == standard_webhooks.public_key(mine)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"url": "http://hooks.example/"}, ""),  # loopback is permitted here, so a name may be it
        ({"url": "http://10.0.0.1/"}, "blocked address"),
        ({"url": "https://user:pass@hooks.example/"}, "user or password"),
        ({"url": "ntfys://topic"}, "https://"),
        ({"events": ["mission.exploded"]}, "no event matches mission.exploded"),
        ({"filter": {"mission_id": "mis_1"}}, "filter.mission_id"),
        ({"schedule_seconds": [172_800] * 4}, "6 days"),
        ({"headers": {"Host": "other.example"}}, "Host"),
        ({"headers": {"X-A": "***"}}, "***"),
        ({"secret": "whsec_c2hvcnQ="}, "whsec_"),
        ({"secret": "not-a-secret-at-all"}, "whsec_"),
        ({"secret": standard_webhooks.new_secret(), "signing": "v1a"}, "v1a"),
        ({"max_in_flight": 0}, "max_in_flight"),
        *(({"rate_per_second": rate}, "rate_per_second") for rate in (0, 5e-324, 0.0009)),
        ({"format": "xml"}, "format"),
    ],
)
async def test_what_cannot_work_is_refused_where_it_is_said(
    http: httpx.AsyncClient, fields: dict[str, Any], said: str
) -> None:
    reply = await http.post("/v1/endpoints", json={"url": URL, "kind": "webhook", **fields})
    if not said:
        assert reply.status_code == 201
        return
    assert reply.status_code == 400, reply.text
    assert said in reply.json()["detail"]
    assert fields.get("secret", "----") not in reply.text


async def test_a_push_has_no_part_in_what_webhooks_have(http: httpx.AsyncClient) -> None:
    asked = {"url": "ntfys://push.example/topic", "format": "slack", "headers": {"X-A": "b"}}
    reply = await http.post("/v1/endpoints", json=asked)
    assert reply.status_code == 400
    assert reply.json()["fields"] == ["format", "headers"]
    phone = (await http.post("/v1/endpoints", json={"url": asked["url"]})).json()
    path = f"/v1/endpoints/{phone['id']}"
    changed = await http.patch(path, json={"max_in_flight": 9})
    assert (changed.status_code, changed.json()["fields"]) == (400, ["max_in_flight"])
    rotated = await http.post(f"{path}/rotate", json={})
    assert rotated.status_code == 409


async def test_a_change_is_made_to_what_its_caller_read(http: httpx.AsyncClient) -> None:
    made = await add(http, headers={"X-One": "first", "X-Two": "second"})
    path = f"/v1/endpoints/{made['id']}"
    read = (await http.get(path)).headers["etag"]
    mine = await http.patch(path, json={"name": "mine"}, headers={"If-Match": read})
    assert mine.status_code == 200
    assert mine.headers["etag"] != read
    stale = await http.patch(path, json={"name": "theirs"}, headers={"If-Match": read})
    assert (stale.status_code, stale.json()["type"]) == (412, "/problems/stale")
    weak = await http.patch(path, json={"name": "x"}, headers={"If-Match": f"W/{read}"})
    assert weak.status_code == 412
    several = f'"other", {mine.headers["etag"]}'
    listed = await http.patch(path, json={"payload": "thin"}, headers={"If-Match": several})
    assert listed.json()["payload"] == "thin"
    anyway = await http.patch(path, json={"format": "slack"}, headers={"If-Match": "*"})
    assert anyway.json()["name"] == "mine"
    assert (await http.delete(path, headers={"If-Match": read})).status_code == 412
    nonsense = await http.delete(path, headers={"If-Match": "nonsense"})
    assert nonsense.status_code == 400
    now = (await http.get(path)).headers["etag"]
    assert (await http.post(f"{path}/pause")).status_code == 200
    assert (await http.get(path)).headers["etag"] == now, "how it is doing is not its state"
    assert (await http.delete(path, headers={"If-Match": now})).status_code == 204


async def test_a_header_sent_back_hidden_stays_as_it_is(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    made = await add(http, headers={"X-One": "first", "X-Two": "second"})
    path = f"/v1/endpoints/{made['id']}"
    new = {"x-one": "***", "X-Three": "third"}
    assert (await http.patch(path, json={"headers": new})).json()["headers"] == {
        "x-one": "***",
        "X-Three": "***",
    }
    record = await hall.store.endpoints.read(made["id"])
    assert record.headers == {"x-one": "first", "X-Three": "third"}


async def test_a_new_secret_signs_beside_the_old_one_for_a_while(http: httpx.AsyncClient) -> None:
    made = await add(http)
    path = f"/v1/endpoints/{made['id']}"
    key = {"Idempotency-Key": "rotate-once"}
    first = (await http.post(f"{path}/rotate", json={}, headers=key)).json()
    assert (await http.post(f"{path}/rotate", json={}, headers=key)).json() == first
    assert first["secret"] not in {None, made["secret"]}
    newest, old = first["secrets"]
    assert (newest["expires_at"], old["id"]) == (None, made["secrets"][0]["id"])
    assert old["expires_at"] is not None
    pair = await http.post(f"{path}/rotate", json={"signing": "v1a", "overlap_seconds": 60})
    assert [each["kind"] for each in pair.json()["secrets"]] == ["v1a", "v1", "v1"]
    assert (pair.json()["secret"], pair.json()["public_key"][:5]) == (None, "whpk_")
    kept = (await http.post(f"{path}/rotate", json={})).json()["secrets"]
    assert kept[0]["kind"] == "v1a", "the present kind, where nothing is said"
    for _ in range(9):
        kept = (await http.post(f"{path}/rotate", json={"signing": "v1"})).json()["secrets"]
    assert len(kept) == 10
    alone = (await http.post(f"{path}/rotate", json={"overlap_seconds": 0})).json()["secrets"]
    assert len(alone) == 1
    stale = await http.post(f"{path}/rotate", json={}, headers={"If-Match": '"other"'})
    assert stale.status_code == 412


async def bury(hall: Hall, endpoint_id: str, missions: int) -> list[Mission]:
    """Let missions start, and give the delivery of each up."""
    started = [await start(hall.store) for _ in range(missions)]
    version, _ = await hall.store.endpoints.all()
    await hall.store.events.ensure_group()
    for event in await hall.store.events.after("0-0", limit=1_000):
        if event.type == "mission.created":
            await hall.store.deliveries.plan(event, [endpoint_id], version=version)
    while leased := (await hall.store.deliveries.claim(lease_ms=9_000, limit=99)).deliveries:
        for each in leased:
            attempt = Attempt(
                number=each.attempt, at="", outcome="dead", duration_seconds=0.1, code="http_4xx"
            )
            await hall.store.deliveries.record(each.id, attempt, outcome="dead", reason="no")
    return started


async def test_dead_letters_are_found_by_their_endpoint_and_replayed_after_a_count(
    hall: Hall, http: httpx.AsyncClient, eventually: Any
) -> None:
    mine = (await add(http, events=["mission.created"]))["id"]
    other = (await add(http, events=["mission.created"]))["id"]
    await bury(hall, mine, 3)
    listed = (await http.get("/v1/deliveries", params={"endpoint_id": mine, "limit": 2})).json()
    rest = {"endpoint_id": mine, "cursor": listed["next_cursor"]}
    listed["items"] += (await http.get("/v1/deliveries", params=rest)).json()["items"]
    assert len({each["id"] for each in listed["items"]}) == 3
    assert {each["endpoint_id"] for each in listed["items"]} == {mine}
    none = (await http.get("/v1/deliveries", params={"endpoint_id": other})).json()["items"]
    assert none == []
    one = (await http.get(f"/v1/deliveries/{listed['items'][0]['id']}")).json()
    assert (one, one["attempts"][0]["code"]) == (listed["items"][0], "http_4xx")
    wish = {"endpoint_id": mine}
    counted = await http.post("/v1/deliveries/replay", json={**wish, "dry_run": True})
    assert (counted.status_code, counted.json()) == (200, {"dead": 3, "missing": 0})
    assert hall.outside.rung == 0
    begun = await http.post("/v1/deliveries/replay", json=wish)
    assert begun.status_code == 202
    path = begun.headers["location"]

    async def over() -> bool:
        return bool((await http.get(path)).json()["state"] == "done")

    # The clock alone would look in 45 seconds: the door has rung it.
    await eventually(over, within_seconds=5)
    replay = (await http.get(path)).json()
    assert (replay["dead"], replay["done"], replay["endpoint_id"]) == (3, 3, mine)
    assert (await http.get("/v1/replays")).json()["items"] == [replay]
    assert (await http.get("/v1/deliveries")).json()["items"] == []


async def test_what_an_endpoint_missed_is_counted_as_it_is_replayed(
    hall: Hall, http: httpx.AsyncClient, eventually: Any
) -> None:
    made = await add(http, events=["mission.*"], filter={"labels": {"team": "blue"}})
    path = f"/v1/endpoints/{made['id']}"
    await http.post(f"{path}/pause")
    for team in ("blue", "red", "blue"):
        mission = await start(hall.store, labels={"team": team})
        await hall.store.missions.cancel(mission.id, by="ada")
    since = {"since": made["created_at"]}
    paused = await http.post(f"{path}/recover", json=since)
    assert (paused.status_code, paused.json()["state"]) == (409, "disabled")
    await http.post(f"{path}/resume")
    counted = await http.post(f"{path}/recover", json={**since, "dry_run": True})
    assert counted.json() == {"dead": 0, "missing": 4}
    before = {**since, "until": made["created_at"], "dry_run": True}
    assert (await http.post(f"{path}/recover", json=before)).json()["missing"] == 0
    begun = (await http.post(f"{path}/recover", json=since)).json()

    async def over() -> bool:
        return (await hall.store.deliveries.read_replay(begun["id"])).state == "done"

    await eventually(over, within_seconds=5)
    assert (await http.get(f"/v1/replays/{begun['id']}")).json()["done"] == 4
    again = await http.post(f"{path}/recover", json={**since, "dry_run": True})
    assert again.json()["missing"] == 0


@pytest.mark.parametrize(
    "wish",
    [
        {"since": "yesterday"},
        {"since": "2026-11-22T21:00:00"},
        {"since": "2026-11-22T21:00:00Z", "until": "2026-11-22T20:00:00Z"},
        {"until": "9" * 30},
        {"missing": True},
        {"endpoint": "x"},
    ],
)
async def test_a_time_that_is_none_replays_nothing(
    http: httpx.AsyncClient, wish: dict[str, Any]
) -> None:
    reply = await http.post("/v1/deliveries/replay", json=wish)
    assert reply.status_code == 400, reply.text
    assert (await http.get("/v1/replays")).json()["items"] == []


async def test_what_is_not_there_is_not_found(http: httpx.AsyncClient) -> None:
    nobody = ids.new("endpoint")
    for path in (
        f"/v1/deliveries/dlv_1-0_{nobody[4:]}",
        "/v1/deliveries/dlv_x",
        f"/v1/replays/{ids.new('replay')}",
        "/v1/replays/x",
        f"/v1/deliveries?endpoint_id={nobody}",
    ):
        assert (await http.get(path)).status_code == 404, path
    for path, body in (
        ("/v1/deliveries/replay", {"endpoint_id": nobody}),
        (f"/v1/endpoints/{nobody}/recover", {"since": "2026-11-22T21:00:00Z"}),
        (f"/v1/endpoints/{nobody}/rotate", {}),
    ):
        assert (await http.post(path, json=body)).status_code == 404, path


async def test_changes_at_once_lose_nothing_and_of_those_that_expect_one_wins(
    http: httpx.AsyncClient,
) -> None:
    made = await add(http)
    path = f"/v1/endpoints/{made['id']}"
    changes: list[dict[str, Any]] = [
        *({"name": "n"}, {"events": ["mission.*"]}, {"format": "slack"}, {"payload": "thin"}),
        *({"max_in_flight": 9}, {"rate_per_second": 3}, {"schedule_seconds": [1]}),
    ]
    secrets: list[str] = []

    async def change(fields: dict[str, Any]) -> None:
        assert (await http.patch(path, json=fields)).status_code == 200

    async def rotate() -> None:
        secrets.append((await http.post(f"{path}/rotate", json={})).json()["secret"])

    async with anyio.create_task_group() as group:
        for fields in changes:
            group.start_soon(change, fields)
        for _ in range(3):
            group.start_soon(rotate)
    read = await http.get(path)
    for fields in changes:
        assert fields.items() <= read.json().items()
    assert (len(set(secrets)), len(read.json()["secrets"])) == (3, 4)

    tag = {"If-Match": read.headers["etag"]}
    said: list[int] = []

    async def expect(name: str) -> None:
        said.append((await http.patch(path, json={"name": name}, headers=tag)).status_code)

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(expect, f"of {number}")
    assert sorted(said) == [200, *[412] * 7]


async def test_a_townhall_that_died_before_it_replied_tells_the_same_secret_again(
    hall: Hall,
) -> None:
    endpoint_id, secret_id, mission_id = map(ids.new, ("endpoint", "secret", "mission"))
    desk = hall.town.endpoints
    new = NewEndpoint(url=URL, kind="webhook")
    first, again = [await desk.add(new, endpoint_id=endpoint_id) for _ in range(2)]
    assert (again.secret, again.id) == (first.secret, endpoint_id)
    turns = [await desk.rotate(endpoint_id, NewSecret(), secret_id=secret_id) for _ in range(2)]
    assert turns[0].secret == turns[1].secret != first.secret
    assert len(turns[1].secrets) == 2
    actor = Actor(id="key_ada", name="ada", scopes=frozenset({"write"}))
    spec = StartMission(goal="do it", callback_url=URL)
    begun = [await hall.town.missions.start(spec, actor, mission_id=mission_id) for _ in range(2)]
    told = [each.callback for each in begun if isinstance(each, StartedMission)]
    assert len(told) == 2
    assert told[0] == told[1]
    assert "hidden" not in repr((new, first, spec, *told, await hall.store.endpoints.all()))
    assert str(first.secret) not in repr((first, *turns, await hall.store.endpoints.all()))
