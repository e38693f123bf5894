"""Receivers of webhooks that mean harm, and letters that are called back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.letters import LOOPBACK, QUICK, SECRET, letter, sender
from fakes.stranger import OK, Behaviour, Stranger, Visit, polite
from tinytown import logs
from tinytown_notifiers.sinks.webhook import Reply, SenderRules, WebhookSender

CANARY = "CanaryTopicZebra"


def never_answers(visit: Visit) -> None:
    visit.take()
    visit.wait()


def never_takes(visit: Visit) -> None:
    visit.wait()


def drips_its_status(visit: Visit) -> None:
    visit.take()
    visit.drip(OK * 100)


def drips_headers(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 200 OK\r\n")
    visit.drip(b"X-A: 1\r\n" * 1000)


def floods_with_1xx(visit: Visit) -> None:
    visit.take()
    visit.flood(b"HTTP/1.1 100 Continue\r\n\r\n")


def drips_1xx(visit: Visit) -> None:
    visit.take()
    while not visit.stranger.closing.wait(0.02):
        visit.say(b"HTTP/1.1 102 Processing\r\n\r\n")


def one_endless_header(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 200 OK\r\nX-A: ")
    visit.flood(b"a" * 65536)


def a_hundred_thousand_headers(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(100_000)))
    visit.say(b"Content-Length: 2\r\n\r\nok")
    visit.take()


def endless_headers(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 200 OK\r\n")
    visit.flood(b"X-A: 1\r\n" * 1000)


def endless_status(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 200 ")
    visit.flood(b"K" * 65536)


def garbage(visit: Visit) -> None:
    visit.take()
    visit.say(b"\x16\x03\x01\x00garbage\r\n\r\n" * 20)


def another_protocol(visit: Visit) -> None:
    visit.say(b"220 mail.example ESMTP ready\r\n")
    visit.take()


def http_0_9(visit: Visit) -> None:
    visit.take()
    visit.say(b"<html>hello</html>")


def nonsense_status(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 999999 OK\r\nContent-Length: 0\r\n\r\n")


def switches_protocols(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    visit.wait()


def two_lengths(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\nok")


def a_negative_length(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok")


def closes_at_once(visit: Visit) -> None:
    pass


def closes_after_the_request(visit: Visit) -> None:
    visit.take()


def closes_in_the_head(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 200 OK\r\nContent-Le")


def resets_at_once(visit: Visit) -> None:
    visit.reset()


def resets_after_the_request(visit: Visit) -> None:
    visit.take()
    visit.reset()


@pytest.mark.parametrize(
    ("behaviour", "codes"),
    [
        (never_answers, "total_timeout"),
        (never_takes, "total_timeout"),
        (drips_its_status, "total_timeout"),
        (drips_headers, "total_timeout protocol"),
        (floods_with_1xx, "total_timeout"),
        (drips_1xx, "total_timeout"),
        (one_endless_header, "protocol"),
        (endless_headers, "protocol"),
        (endless_status, "protocol"),
        (a_hundred_thousand_headers, "protocol"),
        (garbage, "protocol"),
        (another_protocol, "protocol"),
        (http_0_9, "protocol"),
        (nonsense_status, "protocol"),
        (switches_protocols, "protocol"),
        (two_lengths, "protocol"),
        (a_negative_length, "protocol"),
        (closes_at_once, "reset"),
        (closes_after_the_request, "reset"),
        (closes_in_the_head, "reset protocol"),
        (resets_at_once, "reset"),
        (resets_after_the_request, "reset"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_a_receiver_without_manners_ends_as_a_failure_with_its_name(
    behaviour: Behaviour, codes: str
) -> None:
    with Stranger(behaviour) as stranger:
        async with sender(rules=QUICK) as out:
            reply = await out.send(letter(f"{stranger.url}/{CANARY}"))
            assert reply.code in codes.split(), reply
            assert reply.reason
            assert CANARY not in repr(reply)
            assert await anyio.to_thread.run_sync(stranger.gone), "its connection is not kept"
            # And it has cost nobody else anything.
            stranger.behaviour = polite
            assert (await out.send(letter(stranger.url))).code == "ok"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location",
    ["{inside}/hook", "//{inside_host}/", "/other", "http://[::1]/", "file:///etc/passwd"],
)
async def test_redirects_are_an_answer_and_nobody_goes_there(status: int, location: str) -> None:
    with Stranger() as inside:
        there = location.format(inside=inside.url, inside_host=f"127.0.0.1:{inside.port}")
        raw = f"HTTP/1.1 {status} Moved\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n".encode()

        def moved(visit: Visit) -> None:
            while visit.take() is not None:
                visit.say(raw)

        with Stranger(moved) as stranger:
            async with sender() as out:
                own = {"authorization": "Bearer secret", "cookie": "a=b"}
                reply = await out.send(letter(stranger.url, headers=own))

            assert (reply.code, reply.status) == ("http_3xx", status)
            assert len(stranger.requests) == 1
        assert inside.connections == 0


async def test_a_cookie_that_a_receiver_sets_does_not_come_back() -> None:
    def baking(visit: Visit) -> None:
        while visit.take() is not None:
            visit.say(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b; Path=/\r\n\r\n"))

    with Stranger(baking) as stranger:
        async with sender() as out:
            await out.send(letter(stranger.url))
            await out.send(letter(stranger.url))
    assert len(stranger.requests) == 2
    assert not any(b"cookie:" in request.lower() for request in stranger.requests)


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with Stranger() as proxy, Stranger() as stranger:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        async with sender() as out:
            assert (await out.send(letter(stranger.url))).code == "ok"
        assert (proxy.connections, stranger.connections) == (0, 1)


async def test_the_password_of_a_netrc_is_not_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "netrc"
    file.write_text("default login me password CanaryPassword\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    with Stranger() as stranger:
        async with sender() as out:
            await out.send(letter(stranger.url))
    assert b"authorization" not in stranger.requests[0].lower()


async def test_black_holes_do_not_hold_up_a_healthy_receiver() -> None:
    with Stranger(never_answers) as hole, Stranger() as healthy:
        rules = SenderRules(total_seconds=20)
        async with sender(rules=rules) as out, anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(out.send, letter(hole.url, id=f"evt_{number}"))
            while len(hole.requests) < 40:  # noqa: ASYNC110 - a server's thread changes it
                await anyio.sleep(0.005)  # polling what a thread changes
            for _ in range(10):
                assert (await out.send(letter(healthy.url))).code == "ok"
            group.cancel_scope.cancel()
        assert len(healthy.requests) == 10


HEADS = (
    b"",
    b"HTTP/1.1 ",
    b"HTTP/0.9 200",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: ",
)
NOISE = st.builds(
    lambda *parts: b"".join(parts),
    st.sampled_from(HEADS),
    st.binary(max_size=200),
    st.sampled_from([b"", b"\r\n\r\n"]),
)


@given(replies=st.lists(NOISE, min_size=1, max_size=20))
@settings(max_examples=30)
async def test_whatever_bytes_come_back_each_letter_has_an_end_with_a_name(
    replies: list[bytes],
) -> None:
    known = {"ok", "protocol", "reset", "http_3xx", "http_4xx", "http_5xx", "http_410", "http_429"}
    with Stranger() as stranger:
        async with sender() as out:
            for raw in replies:

                def says(visit: Visit, raw: bytes = raw) -> None:
                    visit.take()
                    visit.say(raw)

                stranger.behaviour = says
                reply = await out.send(letter(stranger.url))
                assert reply.code in known, raw
                assert reply.code == "ok" or reply.reason


@pytest.mark.parametrize("behaviour", [never_answers, polite, drips_headers])
async def test_two_thousand_cancelled_letters_leave_the_pool_working(behaviour: Behaviour) -> None:
    rules = SenderRules(connections=5)
    with Stranger(behaviour) as stranger, Stranger() as healthy:
        async with sender(rules=rules) as out:
            for batch in range(100):
                with anyio.move_on_after(0.0005 * (batch % 8)):
                    async with anyio.create_task_group() as group:
                        for number in range(20):
                            group.start_soon(out.send, letter(stranger.url, id=f"evt_{number}"))
            for _ in range(20):
                with anyio.fail_after(10):
                    assert (await out.send(letter(healthy.url))).code == "ok"
            if behaviour is not polite:
                assert await anyio.to_thread.run_sync(stranger.gone), "a connection leaks"


async def test_closing_ends_what_is_on_its_way() -> None:
    replies: list[Reply] = []
    with Stranger(never_answers) as stranger:
        out = WebhookSender(LOOPBACK)

        async def send() -> None:
            replies.append(await out.send(letter(stranger.url)))

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            while not stranger.requests:  # noqa: ASYNC110 - a server's thread changes it
                await anyio.sleep(0.005)  # polling what a thread changes
            await out.close()
        assert [reply.code for reply in replies] == ["reset"]
        assert await anyio.to_thread.run_sync(stranger.gone)


@pytest.fixture
def our_logs(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Log as a process of ours does, and at its chattiest."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure("json", logging.DEBUG)
    yield lambda: "".join(capfd.readouterr())
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    "behaviour", [polite, garbage, resets_after_the_request, never_answers, switches_protocols]
)
async def test_secrets_show_up_neither_in_replies_nor_in_logs(
    our_logs: Callable[[], str], behaviour: Behaviour
) -> None:
    with Stranger(behaviour) as stranger:
        async with sender(rules=QUICK) as out:
            told = letter(
                f"{stranger.url}/{CANARY}?token={CANARY}",
                headers={"authorization": f"Bearer {CANARY}", "bad": f"{CANARY}"},
            )
            reply = await out.send(told)
            worse = await out.send(letter(stranger.url, headers={"x-a": f"{CANARY}\r\n"}))

    logging.getLogger("tinytown_notifiers").info("a line of our own")
    shown = "".join([repr(reply), repr(worse), repr(told), our_logs()])
    assert "a line of our own" in shown, "the log is really read here"
    assert CANARY not in shown
    assert SECRET.removeprefix("whsec_") not in shown


async def test_the_time_of_everything_together_is_bounded() -> None:
    """However a receiver spreads its delays, and however often a dead connection is tried anew."""

    def slow_then_gone(visit: Visit) -> None:
        visit.take()
        visit.say(OK)
        if visit.take() is not None:
            visit.stranger.closing.wait(0.5)

    with Stranger(slow_then_gone) as stranger:
        async with sender(rules=SenderRules(total_seconds=0.8)) as out:
            assert (await out.send(letter(stranger.url))).code == "ok"
            before = time.monotonic()
            reply = await out.send(letter(stranger.url))
            assert reply.code in {"ok", "reset", "total_timeout"}
            assert time.monotonic() - before < 5
