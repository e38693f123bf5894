"""The signal, posted: signed, once for each round, and what the answer means."""

from __future__ import annotations

import base64
import hashlib
import hmac

import msgspec
import pytest

from conftest import Eventually
from fakes.web import Recorder
from paper import NO_SIGNAL, MakeTown, reconciling
from tinytown.launch import StartFailed
from tinytown.launch.webhook import sign, webhook_launcher
from tinytown.models.scaling import Signal, Start
from tinytown.store import Store
from towns import start

STARTS = [Start("s1", "default"), Start("s2", "gpu")]


async def post(url: str, secret: str | None = None) -> dict[str, StartFailed]:
    """Launch once."""
    async with webhook_launcher(url, secret) as launcher:
        return await launcher.start(STARTS, NO_SIGNAL)


async def test_one_round_is_one_post_of_the_signal(
    town_of: MakeTown, store: Store, eventually: Eventually
) -> None:
    for _ in range(3):
        await start(store)
    with Recorder(status=204, body=b"") as web:
        opening = webhook_launcher(f"{web.address}/wake?key=1", None)
        async with reconciling(town_of(max_workers=2), opening):
            await eventually(lambda: web.requests)
    (asked,) = web.requests
    assert (asked.method, asked.path) == ("POST", "/wake?key=1")
    said = msgspec.json.decode(asked.body, type=Signal)
    assert (said.start, said.pools["default"].start, said.waiting) == (2, 2, 3)
    assert "webhook-signature" not in asked.headers


async def test_a_post_is_signed_as_standard_webhooks_are() -> None:
    with Recorder() as web:
        assert await post(web.address, "a secret of some length") == {}
    (asked,) = web.requests
    assert asked.headers["webhook-id"] == "s1"
    text = f"s1.{asked.headers['webhook-timestamp']}.".encode() + asked.body
    digest = hmac.new(b"a secret of some length", text, hashlib.sha256).digest()
    assert asked.headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


def test_the_standards_own_example_comes_out() -> None:
    """The example of the Standard Webhooks specification's reference libraries."""
    signed = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("status", "said", "counts"),
    [
        (302, "HTTP 302", True),
        (404, "HTTP 404", True),
        (429, "HTTP 429: not now", False),
        (500, "HTTP 500", True),
        (503, "HTTP 503: not now", False),
    ],
)
async def test_an_answer_that_says_no_fails_every_start(
    status: int,
    said: str,
    counts: bool,  # noqa: FBT001
) -> None:
    with Recorder(status=status, headers={"Location": "/elsewhere"}) as web:
        failed = await post(web.address)
    assert {key: (str(each), each.failed) for key, each in failed.items()} == {
        "s1": (said, counts),
        "s2": (said, counts),
    }
    assert len(web.requests) == 1


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        ("12", 12),
        ("100000", 60),
        ("soon", 5),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 2999 23:59:59 GMT", 60),
    ],
)
async def test_it_may_say_when_to_come_again(after: str, seconds: float) -> None:
    with Recorder(status=429, headers={"Retry-After": after}) as web:
        failed = await post(web.address)
    assert failed["s1"].again_seconds == seconds


async def test_nobody_there_is_a_failed_start() -> None:
    with Recorder() as web:
        url = web.address
    assert str((await post(url))["s1"]) == "cannot reach it: nobody listens there"
