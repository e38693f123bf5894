"""Hooks for tests, signed as their services sign them."""

from __future__ import annotations

import hashlib
import hmac
import itertools
from typing import Any, Final

import httpx
import msgspec

SECRET: Final = "the-secret-of-all-tests-0123456789"
_numbers = itertools.count(1)


def encoded(payload: Any) -> bytes:
    """Write a payload as its service would."""
    return payload if isinstance(payload, bytes) else msgspec.json.encode(payload)


def github(
    event: str, payload: Any, *, secret: str = SECRET, delivery: str | None = None
) -> tuple[bytes, dict[str, str]]:
    """Sign what GitHub would send: body and headers."""
    body = encoded(payload)
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return body, {
        "content-type": "application/json",
        "user-agent": "GitHub-Hookshot/044aadd",
        "x-github-event": event,
        "x-github-delivery": delivery or f"72d3162e-cc78-11e3-81ab-{next(_numbers):012}",
        "x-hub-signature-256": f"sha256={digest}",
    }


def signed(
    payload: Any, *, secret: str = SECRET, delivery: str | None = None, kind: str = ""
) -> tuple[bytes, dict[str, str]]:
    """Sign what a service of the scheme `hmac` would send."""
    body = encoded(payload)
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return body, {
        "content-type": "application/json",
        "x-signature": digest,
        "x-delivery": delivery or f"delivery-{next(_numbers)}",
        "x-event": kind,
    }


SIGNED_OPTIONS: Final = {"id_header": "x-delivery", "kind_header": "x-event"}


async def add_source(
    client: httpx.AsyncClient, scheme: str = "hmac", **more: Any
) -> dict[str, Any]:
    """Add a source whose secret tests know; gives it as the API shows it."""
    if scheme == "hmac":
        more.setdefault("options", SIGNED_OPTIONS)
    reply = await client.post("/v1/sources", json={"scheme": scheme, "secret": SECRET, **more})
    assert reply.status_code == 201, reply.text
    made: dict[str, Any] = reply.json()
    return made


async def send(
    client: httpx.AsyncClient, source: dict[str, Any], hook: tuple[bytes, dict[str, str]]
) -> httpx.Response:
    """Send a hook to a source, without a key, as services do."""
    body, headers = hook
    path = f"/hooks/{source['id']}"
    return await client.post(path, content=body, headers={"authorization": "", **headers})


def issue(
    *,
    number: int = 12,
    body: str = "It does not work.",
    title: str = "Broken",
    association: str = "OWNER",
    author: str = "octocat",
    repository: str = "octo/town",
    **more: Any,
) -> dict[str, Any]:
    """Write what all hooks about an issue share."""
    return {
        "repository": {
            "full_name": repository,
            "clone_url": f"https://github.com/{repository}.git",
            "ssh_url": f"git@github.com:{repository}.git",
            "default_branch": "main",
        },
        "sender": {"login": "octocat", "type": "User"},
        "issue": {
            "number": number,
            "title": title,
            "body": body,
            "html_url": f"https://github.com/{repository}/issues/{number}",
            "user": {"login": author},
            "author_association": association,
            "labels": [{"name": "bug"}, {"name": "tinytown"}],
        },
        **more,
    }


LABELED: Final = issue(action="labeled", label={"name": "tinytown"})


async def latest(client: httpx.AsyncClient, source: dict[str, Any]) -> dict[str, Any]:
    """Read what became of a source's latest hook."""
    items = (await client.get(f"/v1/sources/{source['id']}/hooks")).json()["items"]
    found: dict[str, Any] = items[0]
    return found
