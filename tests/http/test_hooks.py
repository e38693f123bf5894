"""The door for other services: proof or nothing, stored or told when to come again."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import signal
import time
from typing import Any
from urllib.parse import quote

import anyio
import httpx
import pytest
from redis import Redis

from conftest import Eventually
from halls import Hall, open_hall
from hooking import (
    LABELED,
    SECRET,
    SIGNED_OPTIONS,
    add_source,
    github,
    issue,
    latest,
    send,
    signed,
)
from servers import RedisServer
from tinytown import clock, ids
from tinytown.http import BODY_BYTES
from tinytown.models.hook import HOOK_BYTES
from tinytown.store import Limits, Store
from towns import ask, hand, open_town, start


def refused(reply: httpx.Response) -> dict[str, Any]:
    """Check that a refusal tells nothing; gives what is left when its request's id is taken out."""
    assert reply.status_code == 401
    assert reply.headers["content-type"] == "application/problem+json"
    headers = {name: value for name, value in reply.headers.items() if name != "date"}
    assert headers.pop("x-request-id")
    return {"body": reply.json(), "headers": headers}


async def reasons(http: httpx.AsyncClient) -> list[str]:
    """List why hooks were refused, the latest first."""
    lines = (await http.get("/v1/audit")).json()["items"]
    return [each["reason"] for each in lines if each["verb"] == "receive_hook"]


async def test_whatever_is_wrong_looks_the_same_and_the_audit_knows(
    http: httpx.AsyncClient,
) -> None:
    source, paused = await add_source(http), await add_source(http)
    await http.post(f"/v1/sources/{paused['id']}/pause")
    body, headers = signed({"a": 1})
    tries = [
        await send(http, {"id": ids.new("source")}, (body, headers)),
        await send(http, {"id": "nothing"}, (body, headers)),
        await send(http, source, (body, {**headers, "x-signature": "0" * 64})),
        await send(http, source, (body + b" ", headers)),
        await send(http, source, (body, {})),
        await send(http, paused, (body, headers)),
    ]
    first, *others = [refused(reply) for reply in tries]
    assert all(other == first for other in others)
    assert first["body"]["detail"] == "this hook is not taken here"
    assert await reasons(http) == [
        "paused", "missing_header", "signature", "signature", "unknown_source", "unknown_source",
    ]  # fmt: skip
    events = (await http.get("/metrics")).text
    assert 'tinytown_hooks_total{outcome="rejected"} 6.0' in events
    assert 'tinytown_events_total{type="source.rejected"} 2.0' in events


async def test_a_hook_is_stored_and_told_apart_from_its_repetition(
    http: httpx.AsyncClient, eventually: Eventually
) -> None:
    source = await add_source(http, rule={"action": "ignore"})
    hook = signed({"a": 1}, kind="order.paid")
    first = await send(http, source, hook)
    assert first.status_code == 202
    assert ids.is_id("hook", first.json()["id"])
    assert first.json()["duplicate"] is False
    again = await send(http, source, hook)
    assert again.status_code == 202
    assert again.json() == {"id": first.json()["id"], "duplicate": True}

    async def ignored() -> bool:
        return bool((await latest(http, source))["state"] == "ignored")

    await eventually(ignored)
    assert (await latest(http, source))["kind"] == "order.paid"
    assert len((await http.get(f"/v1/sources/{source['id']}/hooks")).json()["items"]) == 1


async def test_a_key_of_the_town_is_neither_needed_nor_kept(
    hall: Hall, http: httpx.AsyncClient, redis: Any
) -> None:
    source = await add_source(http)
    body, headers = signed({"a": 1})
    secret = {"x-api-key": "hide-me", "authorization": "Bearer hide-me", "cookie": "hide-me"}
    async with hall.client(None) as stranger:
        reply = await stranger.post(
            f"/hooks/{source['id']}", content=body, headers={**headers, **secret}
        )
    assert reply.status_code == 202
    kept = await redis.hgetall(hall.store.keys("hook", reply.json()["id"]))
    assert "hide-me" not in str(kept)
    assert headers["x-signature"] not in str(kept)
    assert json.loads(kept["headers"])["x-event"] == ""


async def test_a_hook_may_have_a_megabyte_and_the_rest_still_half_of_it(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    source = await add_source(http, rule={"action": "ignore"})
    filling = HOOK_BYTES - len(b'{"a": ""}')
    largest = b'{"a": "' + b"x" * filling + b'"}'
    assert (await send(http, source, signed(largest))).status_code == 202
    over = await send(http, source, signed(largest + b" "))
    assert (over.status_code, over.json()["type"]) == (413, "/problems/too-large")
    async with hall.client() as other:
        elsewhere = await other.post("/v1/missions", content=b" " * (BODY_BYTES + 1))
    assert elsewhere.status_code == 413


BODIES = [
    b"", b" ", b"null", b"[]", b'""', b"{", b"\xff\xfe", b"\x00", b'{"a": "\\ud800"}',
    b'{"a":' * 60 + b"1" + b"}" * 60, b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000,
    b"123456789012345678901234567890", b'{"a": 1e999}', b'{"a": NaN}', "ä🎉".encode() * 1000,
    b"a=1&b=2", b'{"a": 123456789012345678901234567890}', b'{"__proto__": {"a": 1}}',
    json.dumps({f"k{number}": number for number in range(5000)}).encode(),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "x-www-form", "a/b; c", ""])
async def test_no_body_can_break_anything(
    http: httpx.AsyncClient, kind: str, eventually: Eventually, store: Store
) -> None:
    rule = {
        "action": "start_mission",
        "when": {"payload.zzz": {"exists": True}},
        "with": {"goal": "{{ payload }}"},
    }
    refusal = await http.post("/v1/sources", json={"scheme": "token", "rule": rule})
    assert refusal.status_code == 400, "a whole payload is no field"
    rule["with"] = {"goal": "{{ payload.a }} {{ headers.user-agent | nobody }}"}
    rule["when"] = {}
    for scheme in ("hmac", "github"):
        source = await add_source(http, scheme, rule=rule)
        for number, body in enumerate(BODIES):
            hook = signed(body) if scheme == "hmac" else github("push", body)
            hook[1]["content-type"] = kind
            reply = await send(http, source, hook)
            assert reply.status_code in {202, 401}, (number, reply.text)

        async def settled() -> bool:
            return await store.hooks.waiting() == 0

        await eventually(settled)
        items = (await http.get(f"/v1/sources/{source['id']}/hooks?limit=100")).json()["items"]
        assert {each["state"] for each in items} <= {"routed", "dead", "ignored"}
        assert all(each["tries"] == 1 for each in items), "nothing was tried twice"


async def test_headers_may_be_anything(http: httpx.AsyncClient) -> None:
    source = await add_source(http)
    body, headers = signed({"a": 1})
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    for extra, status in (
        ([(b"x-signature", headers["x-signature"].encode())], 401),
        ([(b"x-delivery", b"two")], 401),
        ([(b"x-thing", b"\xff\xfe")], 202),
        ([(f"x-{number}".encode(), b"v" * 100) for number in range(60)], 202),
        ([(b"user-agent", b"a" * 5000)], 202),
    ):
        reply = await http.post(f"/hooks/{source['id']}", content=body, headers=[*pairs, *extra])
        assert reply.status_code == status, extra[:1]


async def test_other_methods_and_queries(http: httpx.AsyncClient) -> None:
    source = await add_source(http)
    path = f"/hooks/{source['id']}"
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        assert (await http.request(method, path)).status_code == 405
    body, headers = signed({"a": 1})
    reply = await http.post(f"{path}?token=x&y", content=body, headers=headers)
    assert reply.status_code == 202, "services put words of their own there"


async def test_a_full_queue_says_when_to_come_again(redis_url: str) -> None:
    async with (
        open_town(redis_url, limits=Limits(hooks=0)) as store,
        open_hall(store) as hall,
        hall.client() as http,
    ):
        source = await add_source(http)
        reply = await send(http, source, signed({}))
        assert (reply.status_code, reply.json()["type"]) == (429, "/problems/too-many")
        assert int(reply.headers["retry-after"]) >= 1


async def test_a_town_without_its_redis_says_when_to_come_again(
    redis_server: Any, eventually: Eventually
) -> None:
    server: RedisServer = redis_server(tcp=True)
    async with open_town(server.url) as store, open_hall(store) as hall, hall.client() as http:
        source = await add_source(http)
        assert (await send(http, source, signed({}))).status_code == 202
        server.stop(signal.SIGKILL)
        begun = time.monotonic()
        for hook in (signed({}), (b"{}", {})):
            reply = await send(http, source, hook)
            assert (reply.status_code, reply.json()["type"]) == (503, "/problems/store-unavailable")
            assert int(reply.headers["retry-after"]) >= 1
        assert time.monotonic() - begun < 10


def slack(body: bytes, kind: str, *, age: int = 0) -> tuple[bytes, dict[str, str]]:
    """Sign what Slack would send."""
    at = str(int(clock.unix_seconds()) - age)
    digest = hmac.new(SECRET.encode(), f"v0:{at}:".encode() + body, hashlib.sha256).hexdigest()
    return body, {
        "content-type": kind,
        "x-slack-request-timestamp": at,
        "x-slack-signature": f"v0={digest}",
    }


def tap(token: str, who: str = "ada.lovelace") -> tuple[bytes, dict[str, str]]:
    """Write what Slack sends when somebody taps a button."""
    said = {
        "type": "block_actions",
        "user": {"id": "U1", "username": who, "name": who},
        "actions": [{"type": "button", "action_id": "a", "value": token}],
    }
    body = f"payload={quote(json.dumps(said))}".encode()
    return slack(body, "application/x-www-form-urlencoded")


async def test_slacks_challenge_is_answered_at_once_and_not_stored(
    http: httpx.AsyncClient, store: Store
) -> None:
    source = await add_source(http, "slack")
    body = b'{"type": "url_verification", "challenge": "3eZbrw1a", "token": "x"}'
    reply = await send(http, source, slack(body, "application/json"))
    assert (reply.status_code, reply.text) == (200, "3eZbrw1a")
    assert reply.headers["content-type"].startswith("text/plain")
    assert (await http.get(f"/v1/sources/{source['id']}/hooks")).json()["items"] == []
    assert (await send(http, source, slack(body, "application/json", age=600))).status_code == 401
    await http.post(f"/v1/sources/{source['id']}/pause")
    assert (await send(http, source, slack(body, "application/json"))).status_code == 401


async def test_a_tap_in_slack_answers_the_question_in_that_persons_name(
    hall: Hall, http: httpx.AsyncClient, eventually: Eventually
) -> None:
    source = await add_source(http, "slack")
    mission = await start(hall.store)
    claim = await (await hand(hall.store)).take()
    _, question = await ask(hall.store, claim, options=("blue", "green"))
    later = int(clock.unix_seconds()) + 3600
    token = hall.town.links.make(question, expires_at=later, choice=1)
    other = hall.town.links.make(question, expires_at=later, choice=0)
    reply = await send(http, source, tap(token))
    assert (reply.status_code, reply.content) == (200, b""), "Slack shows people what it reads"

    async def answered() -> bool:
        return bool((await hall.town.questions.read(question)).state == "answered")

    await eventually(answered)
    found = await hall.town.questions.read(question)
    assert (found.answer, found.answered_by, found.answered_via) == (
        "green", "ada.lovelace", "slack",
    )  # fmt: skip
    for hook, reason in (
        (tap(other, "grace"), "ada.lovelace already answered"),
        (tap("x" * 76), "none of this town's"),
        (tap(hall.town.links.make(question, expires_at=1, choice=1)), "has expired"),
    ):
        await send(http, source, hook)

        async def said(reason: str = reason) -> bool:
            outcome = (await latest(http, source))["outcome"] or {}
            return reason in outcome.get("reason", "")

        await eventually(said, reason)
    assert found.mission_id == mission.id


async def test_every_scheme_has_its_way_in(http: httpx.AsyncClient) -> None:
    now = int(clock.unix_seconds())
    key = base64.b64encode(b"k" * 32).decode()

    def mac(content: bytes, secret: bytes = SECRET.encode()) -> bytes:
        return hmac.new(secret, content, hashlib.sha256).digest()

    body = json.dumps({"id": "evt_1", "type": "a.b", "webhookTimestamp": now * 1000}).encode()
    cases: list[tuple[str, str, dict[str, str], int]] = [
        ("github", SECRET, github("push", body)[1], 202),
        ("stripe", SECRET, {
            "stripe-signature": f"t={now},v1={mac(f'{now}.'.encode() + body).hex()}"}, 202),
        ("linear", SECRET, {
            "linear-signature": mac(body).hex(), "linear-delivery": "l1"}, 200),
        ("standard", f"whsec_{key}", {
            "webhook-id": "msg_1", "webhook-timestamp": str(now), "webhook-signature": "v1," +
            base64.b64encode(mac(f"msg_1.{now}.".encode() + body, b"k" * 32)).decode()}, 202),
        ("token", SECRET, {"authorization": f"Bearer {SECRET}"}, 202),
        ("basic", SECRET, {
            "authorization": "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()}, 202),
    ]  # fmt: skip
    for scheme, secret, headers, status in cases:
        made = await http.post("/v1/sources", json={"scheme": scheme, "secret": secret})
        source = made.json()
        assert made.status_code == 201, made.text
        assert (await send(http, source, (body, headers))).status_code == status, scheme
        worse = {name: value[:-2] + "00" for name, value in headers.items()}
        assert (await send(http, source, (body, worse))).status_code == 401, scheme


async def test_the_same_delivery_fifty_times_at_once_starts_one_mission(
    http: httpx.AsyncClient, eventually: Eventually, store: Store
) -> None:
    source = await add_source(http, "github")
    hook = github("issues", LABELED)
    replies: list[dict[str, Any]] = []

    async def one() -> None:
        reply = await send(http, source, hook)
        assert reply.status_code == 202
        replies.append(reply.json())

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(one)
    assert sorted(each["duplicate"] for each in replies) == [False] + [True] * 49
    assert len({each["id"] for each in replies}) == 1

    async def routed() -> bool:
        return bool((await latest(http, source))["state"] == "routed")

    await eventually(routed)
    [mission] = (await http.get("/v1/missions")).json()["items"]
    assert mission["id"] == replies[0]["id"].replace("hok_", "mis_")


async def test_an_issue_has_one_open_mission_and_the_rest_reaches_it(
    http: httpx.AsyncClient, eventually: Eventually, store: Store
) -> None:
    source = await add_source(http, "github")
    hooks = [github("issues", LABELED) for _ in range(10)]

    async def one(hook: tuple[bytes, dict[str, str]]) -> None:
        assert (await send(http, source, hook)).status_code == 202

    async with anyio.create_task_group() as group:
        for hook in hooks:
            group.start_soon(one, hook)

    async def all_routed() -> bool:
        items = (await http.get(f"/v1/sources/{source['id']}/hooks")).json()["items"]
        return [each["state"] for each in items] == ["routed"] * 10

    await eventually(all_routed)
    [mission] = (await http.get("/v1/missions")).json()["items"]
    messages = await store.missions.messages(mission["id"])
    assert len(messages) == 9
    assert {each.by for each in messages} == {"octocat via github"}
    await http.post(f"/v1/missions/{mission['id']}/cancel")
    await one(github("issues", LABELED))

    async def second() -> bool:
        return len((await http.get("/v1/missions")).json()["items"]) == 2

    await eventually(second)
    other = issue(action="labeled", label={"name": "tinytown"}, number=13)
    await one(github("issues", other))

    async def third() -> bool:
        return len((await http.get("/v1/missions")).json()["items"]) == 3

    await eventually(third)


async def test_what_was_stored_by_another_town_or_a_flushed_one_is_not_believed(
    http: httpx.AsyncClient, redis_url: str
) -> None:
    source = await add_source(http)
    assert (await send(http, source, signed({}))).status_code == 202
    with Redis.from_url(redis_url, protocol=2) as client:
        client.flushall()
    assert (await send(http, source, signed({}))).status_code == 401
    fresh = await add_source(http, options=SIGNED_OPTIONS)
    assert (await send(http, fresh, signed({}))).status_code == 202
