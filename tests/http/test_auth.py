"""Nothing is open by accident: every route says who may, and the guard denies what says nothing."""

from __future__ import annotations

import httpx
import pytest
from litestar import get
from litestar.routes import HTTPRoute
from redis import Redis

from halls import API_KEY, PROBE_KEY, Hall, open_hall
from tinytown import clock, ids
from tinytown.http.auth import PROBE, PUBLIC
from tinytown.models.key import SCOPES, NewKey, Scope
from tinytown.store import Store
from towns import ask, hand, start


def table(hall: Hall) -> list[tuple[str, str, str | None]]:
    """List every method of every route with the scope it asks for."""
    return [
        (method, route.path_format, handler.opt.get("scope"))
        for route in hall.door.litestar.routes
        if isinstance(route, HTTPRoute)
        for method, (handler, _) in route.route_handler_map.items()
        # The framework's own: an empty reply that lists the methods.
        if method != "OPTIONS"
    ]


async def test_every_route_has_a_scope_or_is_on_the_public_list(hall: Hall) -> None:
    routes = table(hall)
    assert len(routes) > 35
    assert {path for _, path, scope in routes if scope is None} == PUBLIC
    for method, path, scope in routes:
        assert scope in {None, PROBE, *SCOPES}, path
        if method not in {"GET", "HEAD"} and path not in PUBLIC:
            assert scope in {"write", "answer", "admin"}, path
        if "/keys" in path:
            assert scope == "admin", path


async def test_no_route_answers_a_stranger_except_the_public_ones(hall: Hall) -> None:
    async with hall.client(None) as stranger, hall.client("tt_" + "x" * 40) as liar:
        for method, path, scope in table(hall):
            url = path.replace("{slug}", "invalid").replace("{", "").replace("}", "")
            for client in (stranger, liar):
                reply = await client.request(method, url)
                if path.startswith("/hooks/"):
                    # Its own proof is missing, which no key can make up for.
                    assert reply.status_code == 401, path
                elif scope is None or scope == PROBE:
                    assert reply.status_code not in {401, 403}, path
                else:
                    assert reply.status_code == 401, path
                    assert reply.headers["www-authenticate"] == 'Bearer realm="tinytown"'


async def test_a_key_opens_only_what_its_scopes_say(hall: Hall) -> None:
    scopes: tuple[Scope, ...] = ("read", "write", "answer", "worker")
    for scope in scopes:
        async with hall.client(await hall.key(scope)) as client:
            for method, path, needed in table(hall):
                if needed in {None, PROBE} or (method, path) == ("GET", "/v1/events"):
                    continue
                url = path.replace("{", "").replace("}", "")
                reply = await client.request(method, url)
                assert (reply.status_code == 403) is (needed != scope), (scope, method, path)
                assert reply.status_code != 401


async def test_a_route_that_says_nothing_is_shut_even_for_admins(store: Store) -> None:
    @get("/forgotten")
    async def forgotten() -> str:
        return "secrets"

    async with open_hall(store) as hall:
        hall.door.litestar.register(forgotten)
        async with hall.client() as operator, hall.client(None) as stranger:
            assert (await operator.get("/forgotten")).status_code == 403
            assert (await stranger.get("/forgotten")).status_code == 401


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Basic dGVzdDp0ZXN0", API_KEY, f"Token {API_KEY}", "Bearer é"],
)
async def test_what_is_no_bearer_key_is_nothing(hall: Hall, header: str) -> None:
    async with hall.client(None) as client:
        reply = await client.get(
            "/v1/missions", headers={b"Authorization": header.encode("latin-1")}
        )
        assert reply.status_code == 401


async def test_a_revoked_key_opens_nothing_from_then_on(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    made = (await http.post("/v1/keys", json={"name": "phone", "scopes": ["read"]})).json()
    async with hall.client(made["key"]) as phone:
        assert (await phone.get("/v1/missions")).status_code == 200
        assert (await http.delete(f"/v1/keys/{made['id']}")).status_code == 204
        assert (await phone.get("/v1/missions")).status_code == 401


async def test_a_key_ends_when_it_was_said_to(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await hall.town.keys.make(NewKey(name="brief", expires_in_seconds=60))
    async with hall.client(made.key) as client:
        assert (await client.get("/v1/missions")).status_code == 200
        later = clock.now().replace(year=clock.now().year + 1)
        monkeypatch.setattr(clock, "now", lambda: later)
        assert (await client.get("/v1/missions")).status_code == 401


async def test_a_key_is_shown_once_and_stored_as_a_hash(
    hall: Hall, http: httpx.AsyncClient, redis_url: str
) -> None:
    made = (await http.post("/v1/keys", json={"name": "laptop", "scopes": ["admin"]})).json()
    assert made["key"].startswith("tt_")
    listed = (await http.get("/v1/keys")).json()["items"]
    assert [key["name"] for key in listed] == ["laptop"]
    assert made["key"] not in str(listed)
    assert (await http.get(f"/v1/keys/{made['id']}")).json() == listed[0]
    with Redis.from_url(redis_url, decode_responses=True, protocol=2) as client:
        held = (
            client.hgetall(hall.store.keys("keys")),
            client.hgetall(hall.store.keys("keys_by_digest")),
        )
    assert made["key"] not in str(held)


async def test_probes_are_open_unless_a_probe_key_is_set(store: Store) -> None:
    probes = ("/ready", "/metrics", "/api/scaling")
    async with open_hall(store, probe_key=PROBE_KEY) as hall:
        async with hall.client(None) as stranger:
            assert (await stranger.get("/health")).status_code == 200
            for path in probes:
                assert (await stranger.get(path)).status_code == 401
        for key in (PROBE_KEY, API_KEY, await hall.key("read")):
            async with hall.client(key) as client:
                for path in probes:
                    assert (await client.get(path)).status_code == 200
        async with hall.client(await hall.key("answer")) as client:
            assert (await client.get("/ready")).status_code == 403
        async with hall.client(PROBE_KEY) as prober:
            assert (await prober.get("/v1/missions")).status_code == 401


async def test_who_may_answer_may_not_start_and_the_other_way_round(hall: Hall) -> None:
    mission = await start(hall.store)
    claim = await (await hand(hall.store)).take()
    _, question = await ask(hall.store, claim)
    async with hall.client(await hall.key("answer")) as phone:
        path = f"/v1/questions/{question}/answer"
        assert (await phone.post("/v1/missions", json={"goal": "x"})).status_code == 403
        assert (await phone.get(f"/v1/missions/{mission.id}")).status_code == 403
        reply = await phone.post(path, json={"answer": "yes"})
        assert reply.json()["answered_by"] == "answer"
        assert reply.json()["answered_via"] == "api"
    async with hall.client(await hall.key("read", "write")) as laptop:
        reply = await laptop.post(
            f"/v1/questions/{ids.new('question')}/answer", json={"answer": "yes"}
        )
        assert reply.status_code == 403
