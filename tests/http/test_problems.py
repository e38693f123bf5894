"""One shape for every error, whoever found it, and nothing of ours leaks out."""

from __future__ import annotations

import re
from typing import Any, Final

import anyio
import httpx
import pytest

from halls import API_KEY, Hall
from tinytown import ids
from tinytown.http import BODY_BYTES
from tinytown.http.problems import texts
from tinytown.models.mission import GOAL_BYTES
from towns import open_town, start

JSON = {"Content-Type": "application/json"}


def problem(reply: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """Check the shape that every error has, and give its members."""
    assert reply.status_code == status, f"{reply.request.method} {reply.request.url}: {reply.text}"
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["x-request-id"]
    found: dict[str, Any] = reply.json()
    assert found["type"] == f"/problems/{slug}"
    assert found["status"] == status
    assert found["title"]
    known_status, title, text = texts()[slug]
    assert (known_status, title) == (status, found["title"])
    assert text
    assert "Traceback" not in reply.text
    return found


WRONG_REQUESTS: Final = (
    ("GET", "/nowhere", 404, "not-found"),
    ("GET", "/", 404, "not-found"),
    ("GET", "/v1", 404, "not-found"),
    ("GET", "/v1/missions/%FF%FE", 404, "mission-not-found"),
    ("GET", "/v1/missions/mis_1", 404, "mission-not-found"),
    ("GET", f"/v1/missions/{ids.new('mission')}", 404, "mission-not-found"),
    ("GET", f"/v1/missions/{ids.new('mission')}/events", 404, "mission-not-found"),
    ("GET", f"/v1/missions/{ids.new('mission')}/log", 404, "mission-not-found"),
    ("GET", f"/v1/missions/{ids.new('mission')}/result", 404, "mission-not-found"),
    ("POST", f"/v1/missions/{ids.new('mission')}/cancel", 404, "mission-not-found"),
    ("GET", f"/v1/questions/{ids.new('question')}", 404, "question-not-found"),
    ("GET", f"/v1/questions?mission={ids.new('mission')}", 404, "mission-not-found"),
    ("GET", f"/v1/endpoints/{ids.new('endpoint')}", 404, "endpoint-not-found"),
    ("GET", "/v1/endpoints/version", 404, "endpoint-not-found"),
    ("DELETE", f"/v1/endpoints/{ids.new('endpoint')}", 404, "endpoint-not-found"),
    ("GET", f"/v1/endpoints/{ids.new('endpoint')}/deliveries", 404, "endpoint-not-found"),
    ("POST", f"/v1/endpoints/{ids.new('endpoint')}/test", 404, "endpoint-not-found"),
    ("POST", "/v1/deliveries/dlv_1/replay", 404, "delivery-not-found"),
    ("POST", f"/v1/workers/{ids.new('agent')}/drain", 404, "worker-not-found"),
    ("GET", f"/v1/keys/{ids.new('key')}", 404, "key-not-found"),
    ("DELETE", f"/v1/keys/{ids.new('key')}", 404, "key-not-found"),
    ("GET", "/api/scaling/Nobody", 404, "not-found"),
    ("GET", "/problems/nothing", 404, "not-found"),
    ("PUT", "/v1/missions", 405, "method-not-allowed"),
    ("GET", "/v1/missions?sate=queued", 400, "invalid"),
    ("GET", "/v1/workers?state=idle", 400, "invalid"),
    ("GET", f"/v1/missions/{ids.new('mission')}?x", 400, "invalid"),
    ("POST", "/v1/missions?goal=x", 400, "invalid"),
    ("GET", "/v1/missions?limit=0", 400, "invalid"),
    ("GET", "/v1/missions?limit=101", 400, "invalid"),
    ("GET", "/v1/missions?limit=many", 400, "invalid"),
    ("GET", "/v1/missions?state=open", 400, "invalid"),
    ("GET", "/v1/missions?cursor=elsewhere", 400, "invalid"),
    ("GET", "/v1/questions?state=answered", 400, "invalid"),
    ("GET", "/v1/deliveries?state=due", 400, "invalid"),
    ("GET", "/v1/events?types=mission.exploded", 400, "invalid"),
    ("GET", "/v1/events?types=", 400, "invalid"),
    ("GET", "/v1/events?after=yesterday", 400, "invalid"),
    ("GET", "/v1/events?after=99999999999999999999", 400, "invalid"),
    ("GET", "/api/scaling?wait=61", 400, "invalid"),
    ("GET", "/api/scaling?seq=-1", 400, "invalid"),
)


async def test_whatever_is_wrong_with_a_request_is_a_problem(http: httpx.AsyncClient) -> None:
    for method, path, status, slug in WRONG_REQUESTS:
        found = problem(await http.request(method, path), status, slug)
        assert found, f"{method} {path}"


BAD_BODIES: Final = (
    (b"", 400, "invalid", "a body is needed"),
    (b"{", 400, "invalid", "truncated"),
    (b"[]", 400, "invalid", "object"),
    (b"null", 400, "invalid", ""),
    (b'{"goal": "\xff"}', 400, "invalid", ""),
    (b'{"goal": "\\ud800"}', 400, "invalid", ""),
    (b'{"goal": NaN}', 400, "invalid", ""),
    (b'{"goal": 1}', 400, "invalid", "goal"),
    (b'{"goal": ""}', 400, "invalid", "goal"),
    (b'{"goal": "  "}', 400, "invalid", "goal"),
    (b'{"goal": "x", "colour": 1}', 400, "invalid", "colour"),
    (b'{"goal": "x", "priority": "top"}', 400, "invalid", "priority"),
    (b'{"goal": "x", "agent": "nobody"}', 400, "invalid", "nobody"),
    (b'{"goal": "x", "pool": "Big Pool"}', 400, "invalid", "pool"),
    (b'{"goal": "x", "repo": "ftp://x y"}', 400, "invalid", "repo"),
    (b'{"goal": "x", "ref": "--upload-pack=x"}', 400, "invalid", "ref"),
    (b'{"goal": "x", "not_before": "soon"}', 400, "invalid", "not_before"),
    (b'{"goal": "x", "not_before": "2026-11-22T21:00:00"}', 400, "invalid", "time zone"),
    (b'{"goal": "x", "time_limit_seconds": 1e999}', 400, "invalid", ""),
    (b'{"goal": "x", "labels": {"a b": "c"}}', 400, "invalid", "labels"),
    (
        (
            b'{"goal": "x", "tasks": [{"name": "a", "instructions": "x", "depends_on": ["b"]},'
            b'{"name": "b", "instructions": "x", "depends_on": ["a"]}]}'
        ),
        400,
        "graph-cycle",
        "circle",
    ),
    (
        b'{"goal": "x", "tasks": [{"name": "a", "instructions": "x", "depends_on": ["z"]}]}',
        400,
        "invalid",
        "unknown z",
    ),
    (b"[" * 100_000, 400, "invalid", ""),
    (b'{"goal": "' + b"x" * (GOAL_BYTES + 1) + b'"}', 400, "invalid", "goal"),
    (b'{"goal": "' + "é".encode() * (GOAL_BYTES // 2 + 1) + b'"}', 400, "invalid", "goal"),
    (b'{"goal": "' + b"x" * BODY_BYTES + b'"}', 413, "too-large", ""),
    (b'{"goal": "' + b"x" * 1_000_000 + b'"}', 413, "too-large", ""),
)


async def test_a_bad_body_is_refused_and_starts_nothing(http: httpx.AsyncClient) -> None:
    for body, status, slug, says in BAD_BODIES:
        reply = await http.post("/v1/missions", content=body, headers=JSON)
        found = problem(reply, status, slug)
        assert says in f"{found.get('detail')} {found['title']}", body[:100]
        # What is not read to its end must not stand before the next request.
        assert (reply.headers.get("connection") == "close") == (status == 413)
    assert (await http.get("/v1/missions")).json()["items"] == []


async def test_wrong_fields_are_named_one_by_one(http: httpx.AsyncClient) -> None:
    reply = await http.post("/v1/missions", json={"goal": "x", "priority": "top"})
    found = problem(reply, 400, "invalid")
    assert found["errors"] == [
        {"key": "priority", "message": "Invalid enum value 'top'", "source": "body"}
    ]


async def test_a_wrong_query_is_named_as_its_caller_wrote_it(http: httpx.AsyncClient) -> None:
    for path in ("/v1/missions?state=open", "/v1/deliveries?state=due"):
        found = problem(await http.get(path), 400, "invalid")
        assert [each["key"] for each in found["errors"]] == ["state"]
        assert found["detail"].startswith("state: ")


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "text/json5"])
async def test_only_json_is_read(http: httpx.AsyncClient, kind: str) -> None:
    reply = await http.post("/v1/missions", content=b'{"goal":"x"}', headers={"Content-Type": kind})
    problem(reply, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/vnd.town+json",
        "application/x-www-form-urlencoded",  # what `curl -d` says of every body
        None,
    ],
)
async def test_json_is_read_whether_it_says_so_or_says_nothing(
    http: httpx.AsyncClient, kind: str | None
) -> None:
    headers = {"Content-Type": kind} if kind else {}
    reply = await http.post("/v1/missions", content=b'{"goal":"x"}', headers=headers)
    assert reply.status_code == 201


async def test_a_refused_method_is_told_which_ones_there_are(http: httpx.AsyncClient) -> None:
    reply = await http.put("/v1/missions")
    assert {"GET", "POST"} <= set(reply.headers["allow"].split(", "))


async def test_an_illegal_move_tells_the_state_it_found(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    mission = await start(hall.store)
    assert (await http.post(f"/v1/missions/{mission.id}/cancel")).json()["state"] == "canceled"
    found = problem(await http.post(f"/v1/missions/{mission.id}/pause"), 409, "illegal-move")
    assert found["state"] == "canceled"
    found = problem(
        await http.post(f"/v1/missions/{mission.id}/message", json={"text": "hello"}),
        409,
        "illegal-move",
    )
    assert found["state"] == "canceled"


async def test_another_towns_ids_look_like_unknown_ones(
    hall: Hall, http: httpx.AsyncClient, redis_url: str
) -> None:
    async with open_town(redis_url, town="elsewhere") as other:
        mission = await start(other)
    problem(await http.get(f"/v1/missions/{mission.id}"), 404, "mission-not-found")
    problem(await http.post(f"/v1/missions/{mission.id}/cancel"), 404, "mission-not-found")
    async with open_town(redis_url, town="elsewhere") as other:
        assert (await other.missions.read(mission.id)).state == "queued"


async def test_what_nobody_foresaw_is_a_bare_500_and_a_line_in_the_log(
    hall: Hall, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: str) -> None:
        raise ZeroDivisionError("the secret is 42")

    hall.town.missions.read = broken  # type: ignore[method-assign, assignment]
    reply = await http.get(f"/v1/missions/{ids.new('mission')}", headers={"X-Request-Id": "r-1"})
    problem(reply, 500, "internal-error")
    assert "42" not in reply.text
    assert reply.headers["x-request-id"] == "r-1"
    assert any(record.exc_info for record in caplog.records)


async def test_every_type_of_problem_can_be_opened(http: httpx.AsyncClient) -> None:
    for slug, (status, title, text) in texts().items():
        reply = await http.get(f"/problems/{slug}", headers={"Authorization": ""})
        assert reply.json() == {
            "type": f"/problems/{slug}",
            "title": title,
            "status": status,
            "description": text,
        }


async def test_a_request_id_is_taken_over_when_it_is_harmless(http: httpx.AsyncClient) -> None:
    for sent in ("trace-1", "a/b:c_d.e+f="):
        reply = await http.get("/health", headers={"X-Request-Id": sent})
        assert reply.headers.get_list("x-request-id") == [sent]
    for sent in ("x" * 129, "a b", ""):
        reply = await http.get("/health", headers={"X-Request-Id": sent})
        (made,) = reply.headers.get_list("x-request-id")
        assert re.fullmatch(r"req_[0-9a-z]{26}", made)


async def test_a_caller_who_hangs_up_is_no_error_of_ours(
    hall: Hall, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    host, _, port = hall.address.removeprefix("http://").rpartition(":")
    for path in ("/v1/missions", "/v1/events"):
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n"
            "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
        )
        async with await anyio.connect_tcp(host, int(port)) as line:
            await line.send(head.encode() + b'{"goal": "half a')
    assert (await http.get("/v1/missions")).json()["items"] == []
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
