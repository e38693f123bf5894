"""A webhook leaves signed, over a kept connection; its reply is read for what counts."""

from __future__ import annotations

import email.utils
import subprocess
import sys
import time

import anyio
import pytest
from standardwebhooks.webhooks import Webhook

from fakes.letters import SECRET, letter, sender
from fakes.stranger import OK, Stranger, Visit
from fakes.web import Recorder
from tinytown import standard_webhooks
from tinytown_notifiers.sinks.webhook import Reply, WebhookSender


def replying(head: str, body: bytes = b"") -> Stranger:
    """Start nothing yet: a stranger that answers every request like this."""
    raw = f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    def behaviour(visit: Visit) -> None:
        while visit.take() is not None:
            visit.say(raw)

    return Stranger(behaviour)


async def reply_to(head: str, body: bytes = b"") -> Reply:
    with replying(head, body) as stranger:
        async with sender() as out:
            return await out.send(letter(stranger.url))


async def test_a_letter_arrives_whole_and_signed_so_that_others_can_verify_it() -> None:
    with Recorder() as receiver:
        async with sender() as out:
            reply = await out.send(
                letter(
                    f"{receiver.address}/hook/%7Ex?a=b%20c&d=[e]",
                    headers={"content-type": "application/json", "x-team": "blue"},
                )
            )

    assert (reply.code, reply.status, reply.reason) == ("ok", 200, "")
    assert reply.duration_seconds > 0
    [asked] = receiver.requests
    assert (asked.method, asked.path) == ("POST", "/hook/%7Ex?a=b%20c&d=[e]"), "as it was given"
    assert asked.body == b'{"type":"mission.finished"}'
    assert Webhook(SECRET).verify(asked.body.decode(), asked.headers)
    assert {name for name in asked.headers if name != "webhook-signature"} == {
        *("host", "content-length", "content-type", "user-agent", "x-team"),
        *("accept", "accept-encoding"),
        *("webhook-id", "webhook-timestamp"),
    }
    assert asked.headers["user-agent"].startswith("tinytown/")
    assert asked.headers["accept-encoding"] == "identity"


async def test_every_attempt_has_a_fresh_time_and_all_signatures_and_the_same_id() -> None:
    private = standard_webhooks.new_secret("v1a")
    with Recorder() as receiver:
        async with sender() as out:
            told = letter(f"{receiver.address}/", secrets=(SECRET, private))
            await out.send(told)
            sent = int(time.time())
            while int(time.time()) == sent:  # noqa: ASYNC110 - the timestamp counts whole seconds
                await anyio.sleep(0.01)  # polling the clock
            await out.send(told)

    first, second = (asked.headers for asked in receiver.requests)
    assert first["webhook-id"] == second["webhook-id"] == told.id
    assert int(second["webhook-timestamp"]) > int(first["webhook-timestamp"])
    for asked in receiver.requests:
        assert [each.split(",")[0] for each in asked.headers["webhook-signature"].split()] == [
            "v1",
            "v1a",
        ]
        for key in (SECRET, standard_webhooks.public_key(private) or ""):
            found = standard_webhooks.verify([key], asked.headers, asked.body, now=time.time())
            assert found == told.id


async def test_an_endpoints_own_header_cannot_stand_in_for_the_signature() -> None:
    with Recorder() as receiver:
        async with sender() as out:
            forged = {"webhook-id": "evt_0-0", "webhook-signature": "v1,AAAA", "user-agent": "own"}
            await out.send(letter(f"{receiver.address}/", headers=forged))

    [asked] = receiver.requests
    assert Webhook(SECRET).verify(asked.body.decode(), asked.headers)
    assert asked.headers["webhook-id"] == "evt_1763856000000-0"
    assert asked.headers["user-agent"] == "own"


async def test_letters_to_one_receiver_share_a_connection() -> None:
    with Stranger() as receiver:
        async with sender() as out:
            for _ in range(20):
                assert (await out.send(letter(receiver.url))).code == "ok"
            assert receiver.connections == 1
        assert receiver.gone(), "closing hangs up"


async def test_many_letters_at_once_all_arrive() -> None:
    with Stranger() as receiver:
        async with sender() as out, anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(out.send, letter(receiver.url, id=f"evt_{number}"))
    assert len(receiver.requests) == 200


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_success(status: int) -> None:
    reply = await reply_to(f"{status} Whatever")

    assert (reply.code, reply.status, reply.throttled, reply.disable) == (
        "ok",
        status,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((status, "http_3xx") for status in (300, 301, 302, 303, 304, 307, 308)),
        *((status, "http_4xx") for status in (400, 401, 403, 404, 405, 408, 413, 422, 451, 499)),
        (410, "http_410"),
        (429, "http_429"),
        *((status, "http_5xx") for status in (500, 501, 502, 503, 504, 520, 599)),
    ],
)
async def test_every_other_status_has_its_class(status: int, code: str) -> None:
    reply = await reply_to(f"{status} Secret words", b"" if status == 304 else b"secret body")

    assert (reply.code, reply.status) == (code, status)
    assert reply.throttled == (status in {429, 502, 504})
    assert reply.disable == (status == 410)
    assert str(status) in reply.reason
    assert "ecret" not in repr(reply), "the receiver's words stay its own"


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("86400", 86_400),
        ("86401", 86_400),
        ("9" * 400, 86_400),
        ("9" * 6000, 86_400),
    ],
)
async def test_retry_after_in_seconds_is_read_up_to_a_day(asked: str, seconds: float) -> None:
    reply = await reply_to(f"503 Busy\r\nRetry-After: {asked}")

    assert (reply.code, reply.retry_after_seconds) == ("http_5xx", seconds)


@pytest.mark.parametrize(("ahead", "seconds"), [(90, 90), (-90, 0), (10_000_000, 86_400)])
async def test_retry_after_as_a_date_is_read_up_to_a_day(ahead: int, seconds: float) -> None:
    date = email.utils.formatdate(time.time() + ahead, usegmt=True)

    reply = await reply_to(f"429 Slow down\r\nRetry-After: {date}")

    assert reply.retry_after_seconds == pytest.approx(seconds, abs=3)


@pytest.mark.parametrize(
    "asked",
    [
        *("soon", "-5", "", "1e9", "1_0", "٣", "0x10", "1.5", "Mon", "inf", "\xff"),
        "Mon, 99 Nov 2026",
        "Sun, 06 Nov 99999 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +9999999999",
    ],
)
async def test_a_retry_after_that_makes_no_sense_is_ignored(asked: str) -> None:
    reply = await reply_to(f"503 Busy\r\nRetry-After: {asked}")

    assert (reply.code, reply.retry_after_seconds) == ("http_5xx", None)


@pytest.mark.parametrize(
    ("header", "disable", "abort"),
    [
        ("webhook-delivery: disable", True, False),
        ("Webhook-Delivery:  Disable ", True, False),
        ("webhook-delivery: abort-message", False, True),
        ("webhook-delivery: abort-message, disable", True, True),
        ("webhook-delivery: disable\r\nwebhook-delivery: abort-message", True, True),
        ("webhook-delivery: disabled", False, False),
        ("x-delivery: disable", False, False),
    ],
)
@pytest.mark.parametrize("status", [200, 404, 500])
async def test_a_receiver_may_say_that_it_wants_no_more(
    status: int, header: str, *, disable: bool, abort: bool
) -> None:
    reply = await reply_to(f"{status} Well\r\n{header}")

    assert (reply.disable, reply.abort) == (disable, abort)


async def test_a_letter_shows_neither_its_address_nor_its_secrets() -> None:
    told = letter("https://hooks.example/T0/secret-path?token=secret", body=b"secret")

    assert repr(told) == "Letter(id='evt_1763856000000-0', host='hooks.example')"
    assert "host=None" in repr(letter("https://[broken"))


async def test_a_letter_that_cannot_be_signed_is_not_sent() -> None:
    with Recorder() as receiver:
        async with sender() as out:
            for wrong in ((), ("whsec_%%%",)):
                reply = await out.send(letter(f"{receiver.address}/", secrets=wrong))
                assert reply.code == "protocol"
                assert "%%%" not in reply.reason
        assert receiver.requests == []


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "a\x00b"])
async def test_a_header_that_would_be_two_is_not_sent(value: str) -> None:
    with Recorder() as receiver:
        async with sender() as out:
            reply = await out.send(letter(f"{receiver.address}/", headers={"x-a": value}))
        assert (reply.code, receiver.requests) == ("protocol", [])


async def test_a_kept_connection_that_ended_meanwhile_is_opened_again() -> None:
    with Stranger() as receiver:
        async with sender() as out:
            assert (await out.send(letter(receiver.url))).code == "ok"
            receiver.hang_up()
            assert (await out.send(letter(receiver.url))).code == "ok"
    assert receiver.connections == 2


async def test_a_kept_connection_that_ends_as_the_letter_comes_is_tried_anew() -> None:
    def once(visit: Visit) -> None:
        visit.take()
        visit.say(OK)
        visit.take()  # and nothing: the caller cannot have known

    with Stranger(once) as receiver:
        async with sender() as out:
            for _ in range(3):
                assert (await out.send(letter(receiver.url))).code == "ok"
    assert (receiver.connections, len(receiver.requests)) == (3, 5)


async def test_a_new_connection_that_is_cut_is_not_tried_again() -> None:
    def rude(visit: Visit) -> None:
        visit.take()

    with Stranger(rude) as receiver:
        async with sender() as out:
            assert (await out.send(letter(receiver.url))).code == "reset"
    assert receiver.connections == 1


async def test_a_closed_sender_sends_nothing() -> None:
    out = WebhookSender(None)  # type: ignore[arg-type]
    await out.close()
    with pytest.raises(RuntimeError):
        await out.send(letter("https://example.com/"))


def test_a_town_without_webhooks_never_loads_aiohttp() -> None:
    script = """
import sys
from tinytown.egress import Egress
from tinytown_notifiers.sinks.webhook import WebhookSender
WebhookSender(Egress())
print(*{"aiohttp", "yarl", "multidict"} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE)
    assert done.stdout == b"\n"
