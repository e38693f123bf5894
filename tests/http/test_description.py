"""The OpenAPI document tells the truth: it is complete, and every operation answers as it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from litestar.routes import HTTPRoute

from halls import API_KEY, Hall
from tinytown import clock
from tinytown.models.endpoint import NewEndpoint
from tinytown.models.source import NewSource
from towns import ask, hand, start

METHODS = {"get", "post", "put", "patch", "delete", "head"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Read the document that is shipped; the papers' test keeps it equal to the code."""
    path = Path(__file__).parents[2] / "src/tinytown/http/openapi.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


async def test_it_is_served_as_shipped(hall: Hall, document: dict[str, Any]) -> None:
    async with hall.client(None) as stranger:
        reply = await stranger.get("/schema/openapi.json")
    assert reply.json() == document
    assert document["openapi"].startswith("3.1")
    assert reply.headers["content-type"].startswith("application/vnd.oai.openapi+json")


async def test_every_route_is_in_it_and_nothing_else(hall: Hall, document: dict[str, Any]) -> None:
    served = {
        (method.lower(), route.path_format)
        for route in hall.door.litestar.routes
        if isinstance(route, HTTPRoute)
        for method in route.route_handler_map
        if method not in {"OPTIONS", "HEAD"} and route.path_format != "/schema/openapi.json"
    }
    described = {
        (method, path)
        for path, item in document["paths"].items()
        for method in item.keys() & METHODS
    }
    assert described == served
    later = ("/mcp", "/a2a", "/v1/push")
    assert not [path for path in document["paths"] if path.startswith(later)]


def test_every_operation_says_what_it_is_for_and_how_it_refuses(document: dict[str, Any]) -> None:
    names = []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            names.append(operation["operationId"])
            assert operation["summary"], path
            assert operation["description"], path
            for status, reply in operation["responses"].items():
                if status >= "400" and path != "/ready":
                    assert "application/problem+json" in reply["content"], (method, path, status)
            if operation.get("security") != []:
                assert {"401", "403"} <= operation["responses"].keys(), path
    assert len(set(names)) == len(names)


def test_no_example_and_no_default_carries_a_secret(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    assert API_KEY not in text
    assert '"example"' not in text


@pytest.mark.timeout(150)
async def test_schemathesis_finds_nothing(hall: Hall, tmp_path: Path) -> None:
    """Let it send what the document allows and forbids, to records that are really there."""
    mission = await start(hall.store)
    claim = await (await hand(hall.store)).take()
    _, question = await ask(hall.store, claim, options=("yes", "no"))
    endpoint = await hall.town.endpoints.add(NewEndpoint(url="ntfys://push.example/topic"))
    source = await hall.town.sources.add(NewSource(scheme="token"))
    worker = await hand(hall.store)
    token = hall.town.links.make(
        (await ask(hall.store, claim, "And?"))[1], expires_at=int(clock.unix_seconds()) + 3600
    )
    known = {
        "mission_id": mission.id,
        "question_id": question,
        "endpoint_id": endpoint.id,
        "source_id": source.id,
        "worker_id": worker.id,
        "token": token,
        "pool": "default",
        "slug": "already-answered",
    }
    found = await anyio.to_thread.run_sync(_schemathesis, hall.address, tmp_path, known)
    assert found.returncode == 0, found.stdout[-6000:]
    async with hall.client() as client:
        assert (await client.get("/ready")).status_code == 200


def _schemathesis(
    address: str, folder: Path, known: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    parameters = "\n".join(f'"path.{name}" = "{value}"' for name, value in known.items())
    (folder / "schemathesis.toml").write_text(
        # Waiting is not what is tested here.
        f'[parameters]\n{parameters}\n"query.wait" = 0\n',
        encoding="utf-8",
    )
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        *("--config-file", str(folder / "schemathesis.toml"), "run"),
        *(f"{address}/schema/openapi.json", "--url", address),
        *("--header", f"Authorization: Bearer {API_KEY}"),
        # A stream does not end; what is well-formed may still mean nothing here (400).
        *("--exclude-path", "/v1/events", "--exclude-checks", "positive_data_acceptance"),
        *("--phases", "coverage,fuzzing", "--max-examples", "6", "--seed", "1"),
        *("--request-timeout", "10", "--no-color"),
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


async def test_head_and_options_tell_the_same_as_the_routes(http: httpx.AsyncClient) -> None:
    for path, allowed in (
        ("/a/x", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("/health", {"GET", "HEAD", "OPTIONS"}),
        ("/v1/missions", {"GET", "POST", "OPTIONS"}),
        ("/v1/endpoints/x", {"GET", "PATCH", "DELETE", "OPTIONS"}),
    ):
        reply = await http.options(path)
        assert reply.status_code == 204
        assert set(reply.headers["allow"].split(", ")) == allowed, path
        refused = await http.put(path)
        assert set(refused.headers["allow"].split(", ")) == allowed, path
