"""docs/webhooks.md, run: each receiver it shows believes what the town sends, and nothing else."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Literal, NamedTuple

import httpx
import msgspec
import pytest

from fakes.letters import letter, sender
from house.tree import ROOT
from snippets import Receiver, listens, programs, running, written
from tinytown.egress import parse_allow
from tinytown.models.catalogue import example
from tinytown.models.endpoint import NewEndpoint
from tinytown.standard_webhooks import new_secret, public_key, sign
from tinytown_notifiers.letters import write
from tinytown_notifiers.sinks.webhook import Letter
from tinytown_notifiers.wording import Writer

PAGE = "webhooks.md"
EVENT = example("mission.completed")
GARBAGE = ["", "garbage", "v1,", "v1,  x", "v1a,!", ",", "v1,caf\u00e9", "v2,AAAA", "v1,A" * 2_000]


class Pair(NamedTuple):
    """A receiver's program and how it is signed to."""

    program: str
    signing: Literal["v1", "v1a"]


PAIRS = [
    Pair("receive.py", "v1"),
    Pair("receive_library.py", "v1"),
    Pair("receive.mjs", "v1"),
    Pair("receive.go", "v1"),
    Pair("receive.go", "v1a"),
]
ROTATING = [pair for pair in PAIRS if "library" not in pair.program and "mjs" not in pair.program]


class Rig(NamedTuple):
    """A receiver that runs, and the secret that the town signs with."""

    receiver: Receiver
    secret: str
    before: str
    """Another secret that the receiver was given; of the libraries' programs the same."""


def known(secret: str) -> str:
    """What a receiver is told of a secret: the public half where there is one."""
    return public_key(secret) or secret


@pytest.fixture(scope="module", params=PAIRS, ids=lambda pair: f"{pair.program}-{pair.signing}")
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    pair: Pair = request.param
    command = written(PAGE, pair.program, tmp_path_factory.mktemp("receiver"))
    before, secret = new_secret(pair.signing), new_secret(pair.signing)
    both = [before, secret] if pair in ROTATING else [secret]
    with running(command, " ".join(map(known, both))) as receiver:
        yield Rig(receiver, secret, both[0])


@pytest.fixture
async def post(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    await listens(rig.receiver)
    async with httpx.AsyncClient(base_url=rig.receiver.url) as client:
        yield client


def body() -> bytes:
    writer = Writer(public_url=None, links=None)  # type: ignore[arg-type]
    made, _ = write(
        EVENT, format="standard", payload="full", link=None, writer=writer, endpoint_id=""
    )
    return made


def ours(rig: Rig, *secrets: str) -> Letter:
    return letter(rig.receiver.url, id=EVENT.id, body=body(), secrets=secrets or (rig.secret,))


def signed(rig: Rig, *, at: float | None = None) -> dict[str, str]:
    now = int(time.time() if at is None else at)
    return {
        "webhook-id": EVENT.id,
        "webhook-timestamp": str(now),
        "webhook-signature": sign([rig.secret], id=EVENT.id, timestamp=now, body=body()),
    }


pytestmark = pytest.mark.timeout(180)  # the first time, Go compiles its library


async def test_it_believes_what_the_towns_own_sender_signed(
    rig: Rig, post: httpx.AsyncClient
) -> None:
    async with sender() as sending:
        reply = await sending.send(ours(rig))
    assert (reply.code, reply.status) == ("ok", 204)
    assert rig.receiver.line() == f"{EVENT.type} {EVENT.id}"


async def test_it_believes_either_signature_while_the_secret_is_rotated(
    rig: Rig, post: httpx.AsyncClient
) -> None:
    async with sender() as sending:
        for secrets in ((new_secret("v1"), rig.secret), (rig.secret, new_secret("v1a"))):
            reply = await sending.send(ours(rig, *secrets))
            assert reply.code == "ok"
            assert rig.receiver.line() == f"{EVENT.type} {EVENT.id}"
        reply = await sending.send(ours(rig, rig.before))
        assert reply.code == "ok", "and either secret, where it was given both"
        rig.receiver.line()


@pytest.mark.parametrize("part", ["body", "webhook-id", "webhook-timestamp", "webhook-signature"])
async def test_it_refuses_what_was_changed_on_the_way(
    rig: Rig, post: httpx.AsyncClient, part: str
) -> None:
    headers, sent = signed(rig), body()
    if part == "body":
        sent = sent.replace(b"completed", b"Completed")
    elif part == "webhook-timestamp":
        headers[part] = str(int(headers[part]) - 1)
    else:
        headers[part] = headers[part][:-2] + "x" + headers[part][-1]
    reply = await post.post("", content=sent, headers=headers)
    assert reply.status_code == 401


@pytest.mark.parametrize("seconds", [-301, -86_400, 310], ids=["old", "a day old", "early"])
async def test_it_refuses_what_was_not_signed_just_now(
    rig: Rig, post: httpx.AsyncClient, seconds: int
) -> None:
    headers = signed(rig, at=time.time() + seconds)
    assert (await post.post("", content=body(), headers=headers)).status_code == 401


async def test_it_refuses_another_secret_and_the_other_kind_of_signature(
    rig: Rig, post: httpx.AsyncClient
) -> None:
    async with sender() as sending:
        for secrets in ((new_secret("v1"),), (new_secret("v1a"),)):
            reply = await sending.send(ours(rig, *secrets))
            assert (reply.code, reply.status) == ("http_4xx", 401)


async def test_garbage_is_refused_and_does_not_end_it(rig: Rig, post: httpx.AsyncClient) -> None:
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        for garbage in GARBAGE:
            headers = {**signed(rig), name: garbage}
            raw = [(key.encode(), value.encode("latin-1")) for key, value in headers.items()]
            reply = await post.post("", content=body(), headers=httpx.Headers(raw))
            assert reply.status_code == 401, (name, garbage)
        lacking = {key: value for key, value in signed(rig).items() if key != name}
        assert (await post.post("", content=body(), headers=lacking)).status_code == 401
    for sent in (b"", b"\xff\xfe", b"[]"):
        assert (await post.post("", content=sent, headers=signed(rig))).status_code == 401
    assert (await post.post("", content=body(), headers=signed(rig))).status_code == 204
    rig.receiver.line()


# The rest of the page --------------------------------------------------------------------------


def page() -> str:
    return (ROOT / "docs" / PAGE).read_text(encoding="utf-8")


def test_every_program_of_the_page_is_run_here() -> None:
    assert set(programs(PAGE)) == {pair.program for pair in PAIRS}
    blocks = re.findall(r"^```(python|js|go)$", page(), re.MULTILINE)
    assert len(blocks) == len(programs(PAGE)), "a program needs a comment with its name above it"


def test_what_a_newcomer_is_told_to_send_makes_an_endpoint() -> None:
    [told] = re.findall(r"-d '(\{.*?\})'", page())
    endpoint = msgspec.json.decode(told, type=NewEndpoint)
    assert endpoint.kind == "webhook"
    assert parse_allow(re.findall(r"TINYTOWN_EGRESS_ALLOW=(\S+)", page())[0])
    assert endpoint.url.startswith("http://127.0.0.1:9000/")


def test_the_table_of_an_endpoints_fields_names_all_of_them_with_their_defaults() -> None:
    table = page().partition("## Add an endpoint")[2].partition("## Verify")[0]
    assert {name for name in NewEndpoint.__struct_fields__ if f"`{name}`" not in table} == {"name"}
    plain = NewEndpoint(url="https://hooks.example")
    for name in ("format", "payload", "max_in_flight", "fifo"):
        shown = json.dumps(getattr(plain, name)).strip('"')
        [row] = [line for line in table.splitlines() if line.startswith(f"| `{name}`")]
        assert shown in row.rpartition("|")[0].rpartition("|")[2], row
