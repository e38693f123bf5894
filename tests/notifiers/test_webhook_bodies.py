"""Replies that never end, or hold more than was asked for; the letter was taken all the same."""

from __future__ import annotations

import resource
import threading
import zlib
from functools import cache

import anyio
import anyio.lowlevel
import pytest

from fakes.letters import QUICK, letter, sender
from fakes.stranger import OK, Behaviour, Stranger, Visit, polite


def drips_its_body(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    visit.drip(b"x" * 100_000)


def hangs_in_the_body(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    visit.wait()


def closes_in_the_body(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


def resets_in_the_body(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    visit.reset()


def a_gigabyte(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    visit.flood(b"x" * 65536)


def endless_chunks(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    visit.flood(b"1\r\nx\r\n" * 1000)


def a_chunk_that_is_none(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    visit.say(b"zz\r\nnonsense\r\n")
    visit.wait()


def endless_trailers(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
    visit.flood(b"X-A: 1\r\n" * 1000)


def no_length_and_no_end(visit: Visit) -> None:
    visit.take()
    visit.say(b"HTTP/1.1 200 OK\r\n\r\n")
    visit.flood(b"x" * 65536)


@cache
def bomb() -> bytes:
    """Make 200 MB small."""
    packer = zlib.compressobj(wbits=31)
    megabyte = bytes(1_000_000)
    return b"".join([*(packer.compress(megabyte) for _ in range(200)), packer.flush()])


def a_bomb(visit: Visit) -> None:
    raw = bomb()
    visit.take()
    visit.say(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(raw) + raw
    )
    visit.take()


def says_more_than_was_asked(visit: Visit) -> None:
    visit.take()
    visit.say(OK + b"HTTP/1.1 500 Poisoned\r\nContent-Length: 0\r\n\r\n")
    while visit.take() is not None:
        visit.say(b"HTTP/1.1 500 Poisoned\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    "behaviour",
    [
        drips_its_body,
        hangs_in_the_body,
        closes_in_the_body,
        resets_in_the_body,
        a_gigabyte,
        endless_chunks,
        a_chunk_that_is_none,
        endless_trailers,
        no_length_and_no_end,
        a_bomb,
        says_more_than_was_asked,
    ],
    ids=lambda behaviour: behaviour.__name__,
)
async def test_a_body_without_manners_is_cut_off_and_the_letter_was_taken(
    behaviour: Behaviour,
) -> None:
    bomb()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Stranger(behaviour) as stranger:
        async with sender(rules=QUICK) as out:
            reply = await out.send(letter(stranger.url))
            if behaviour in {a_chunk_that_is_none, endless_trailers}:
                # Seen together with the head, or when that was read already.
                assert reply.code in {"ok", "protocol"}
            else:
                assert (reply.code, reply.status) == ("ok", 200), reply
            # What it said is not taken for the answer to the next letter.
            stranger.behaviour = polite
            assert (await out.send(letter(stranger.url))).code == "ok"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 32 * 1024, f"{grown} KiB"


async def test_of_a_long_reply_no_more_is_read_than_the_limit() -> None:
    sent = threading.Event()

    def wordy(visit: Visit) -> None:
        visit.take()
        visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
        visit.connection.settimeout(5)
        for _ in range(1600):
            visit.say(b"x" * 65536)
        sent.set()

    with Stranger(wordy) as stranger:
        async with sender() as out:
            assert (await out.send(letter(stranger.url))).code == "ok"
            assert await anyio.to_thread.run_sync(stranger.gone)
    assert not sent.is_set(), "100 MB went through"
