"""Canaries in place of every secret: none may sing in a log, a reply, a metric or Redis.

One town is led through everything that handles a secret, failures included; then all that anybody
could read of it is searched. Replies that show a secret once are the only ones left out.
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from redis import Redis

from fakes.stranger import OK, Stranger, Visit
from halls import HallProcess
from tinytown.standard_webhooks import sign

Eventually = Callable[..., Awaitable[None]]

BIRD = "canary"
"""In every secret that can have any form."""
ADMIN_KEY = "tt_canary-of-the-operator-0123456789"
SECRET_KEY = "canary-that-seals-and-signs-0123456789"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"canary bytes of the webhook's owner").decode()
CALLBACK_SECRET = "whsec_" + base64.b64encode(b"canary bytes of the mission's author").decode()
HOOK_SECRET = "canary-of-the-hmac-source-0123456789"


def spellings(secret: str) -> set[str]:
    """List the forms in which a secret could be read: as it is, without its prefix, in base64."""
    plain = secret.partition("_")[2] if secret.startswith(("whsec_", "whsk_")) else secret
    return {secret, plain, base64.b64encode(secret.encode()).decode()}


def serve(visit: Visit) -> None:
    """Take everything on the good path; say no on the bad one."""
    while (head := visit.take()) is not None:
        bad = b"/bad/" in head.partition(b"\r\n")[0]
        visit.say(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n" if bad else OK)


def every_value(client: Redis) -> str:
    """Read all of Redis, whatever it is."""
    readers: dict[str, Callable[[Any], Any]] = {
        "string": client.get,
        "hash": client.hgetall,
        "list": lambda key: client.lrange(key, 0, -1),
        "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1),
        "stream": client.xrange,
    }
    keys: list[Any] = list(client.scan_iter(count=1000))
    kinds: list[Any] = [client.type(key) for key in keys]
    return "\n".join(
        f"{key!r} {readers[kind.decode()](key)!r}" for key, kind in zip(keys, kinds, strict=True)
    )


async def readable(client: httpx.AsyncClient, known: dict[str, str]) -> dict[str, str]:
    """Read every page of the API that the ids at hand lead to."""
    paths = (await client.get("/schema/openapi.json")).json()["paths"]
    pages = {}
    for path, operations in paths.items():
        if "get" not in operations or path in {"/v1/events", "/v1/missions/{mission_id}/log"}:
            continue
        try:
            concrete = re.sub(r"\{(\w+)\}", lambda found: known[found[1]], path)
        except KeyError:
            continue
        pages[concrete] = (await client.get(concrete)).text
    return pages


async def post(client: httpx.AsyncClient, path: str, body: dict[str, Any] | None = None) -> Any:
    """Post, and expect it to be taken."""
    reply = await client.post(path, json=body)
    assert reply.is_success, reply.text
    return reply.json() if reply.content else None


@pytest.mark.timeout(60)
async def test_no_secret_is_readable_anywhere_but_where_it_is_shown_once(
    redis_url: str, eventually: Eventually
) -> None:
    shown: dict[str, str] = {
        "admin key": ADMIN_KEY,
        "secret key": SECRET_KEY,
        "webhook secret": WEBHOOK_SECRET,
        "callback secret": CALLBACK_SECRET,
        "hook secret": HOOK_SECRET,
        "anything": BIRD,
    }
    environment = {"TINYTOWN_API_KEY": ADMIN_KEY, "TINYTOWN_SECRET_KEY": SECRET_KEY}
    with Stranger(serve) as stranger, HallProcess(redis_url, **environment) as hall:
        async with hall.client(ADMIN_KEY) as client:
            url = stranger.url.removesuffix("/hook")
            phone = f"ntfy://{url.partition('://')[2]}/canary-topic"
            good = await post(
                client,
                "/v1/endpoints",
                {
                    "kind": "webhook",
                    "url": f"{url}/canary-path?token=canary-query",
                    "headers": {"authorization": "Bearer canary-header"},
                    "secret": WEBHOOK_SECRET,
                },
            )
            bad = await post(
                client, "/v1/endpoints", {"kind": "webhook", "url": f"{url}/bad/canary-bad"}
            )
            shown["made secret"] = bad["secret"]
            pushed = await post(client, "/v1/endpoints", {"url": phone, "events": ["mission.*"]})
            rotated = await client.post(
                f"/v1/endpoints/{good['id']}/rotate", json={}, headers={"Idempotency-Key": "again"}
            )
            shown["rotated secret"] = rotated.json()["secret"]
            key = await post(client, "/v1/keys", {"name": "reader", "scopes": ["read"]})
            shown["made key"] = key["key"]
            source = await post(
                client,
                "/v1/sources",
                {"scheme": "hmac", "secret": HOOK_SECRET, "rule": {"action": "ignore"}},
            )
            mission = await post(
                client,
                "/v1/missions",
                {
                    "goal": "sing",
                    "callback_url": f"{url}/canary-callback",
                    "callback_secret": CALLBACK_SECRET,
                },
            )
            await post(client, f"/v1/missions/{mission['id']}/cancel")
            await eventually(lambda: len(stranger.requests) >= 6, "deliveries")
            for endpoint in (good, bad, pushed):
                await post(client, f"/v1/endpoints/{endpoint['id']}/test")
            # What is refused must not repeat what it refuses.
            refused = [
                await client.post("/v1/endpoints", json={"url": "nobody://canary-topic"}),
                await client.post(
                    "/v1/endpoints", json={"kind": "webhook", "url": "https://canary:x@y.example"}
                ),
                await client.post(
                    "/v1/endpoints",
                    json={"kind": "webhook", "url": url, "secret": "whsec_canary-canary!"},
                ),
                await client.post(f"/hooks/{source['id']}", content=b"canary-body"),
                await client.get("/v1/missions", headers={"Authorization": "Bearer tt_canary-x"}),
            ]
            assert all(400 <= each.status_code < 500 for each in refused)
            known = {
                "mission_id": mission["id"],
                "endpoint_id": good["id"],
                "source_id": source["id"],
                "key_id": key["id"],
            }
            pages = await readable(client, known)
            deliveries = (await client.get(f"/v1/endpoints/{bad['id']}/deliveries")).json()
            assert any(each["attempts"] for each in deliveries["items"]), "something has failed"
            pages["the bad one's deliveries"] = str(deliveries)
            pages["what is refused"] = "".join(each.text for each in refused)
            with Redis.from_url(redis_url) as books:
                pages["Redis"] = every_value(books)
        hall.stop()
        pages["the log"] = repr(hall.log)
        pages["standard output"] = repr(hall.said)
    assert len(pages) > 15
    assert "delivery.attempt" in pages["the log"]
    heard = {
        f"{name} in {page}"
        for name, secret in shown.items()
        for form in spellings(secret)
        for page, text in pages.items()
        if form in text
    }
    assert heard == set()


def test_a_canary_would_be_heard() -> None:
    """The search itself works: what is written in clear is found in each of its forms."""
    text = repr({"secret": base64.b64encode(SECRET_KEY.encode()).decode()})
    assert any(form in text for form in spellings(SECRET_KEY))
    told = subprocess.run(
        [sys.executable, "-m", "tinytown.townhall", "settings"],
        env={"PATH": "/usr/bin:/bin", "TINYTOWN_API_KEY": ADMIN_KEY},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "TINYTOWN_API_KEY=" in told
    assert BIRD not in told


def test_signing_needs_the_secret_itself() -> None:
    """The canaries are real secrets, not made-up words that nothing would ever use."""
    for secret in (WEBHOOK_SECRET, CALLBACK_SECRET):
        assert sign([secret], id="msg_1", timestamp=1, body=b"{}").startswith("v1,")
