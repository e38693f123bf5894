"""Letters for tests, and senders that are let out to this machine only."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tinytown.egress import Egress, parse_allow
from tinytown_notifiers.sinks.webhook import Letter, SenderRules, WebhookSender

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LOOPBACK = Egress(parse_allow("127.0.0.0/8 ::1"))
QUICK = SenderRules(total_seconds=1.0, connect_seconds=0.7)


def letter(url: str, **changes: Any) -> Letter:
    """Write a letter; what matters is where it goes."""
    given: dict[str, Any] = {
        "id": "evt_1763856000000-0",
        "url": url,
        "body": b'{"type":"mission.finished"}',
        "headers": {"content-type": "application/json"},
        "secrets": (SECRET,),
    }
    return Letter(**{**given, **changes})


@asynccontextmanager
async def sender(
    egress: Egress = LOOPBACK,
    *,
    rules: SenderRules | None = None,
    lookup: Callable[..., Any] = socket.getaddrinfo,
) -> AsyncIterator[WebhookSender]:
    """Open a sender and close it afterwards."""
    opened = WebhookSender(egress, rules=rules, lookup=lookup)
    try:
        yield opened
    finally:
        await opened.close()


def answering(*answers: str | list[str] | Exception) -> Callable[..., Any]:
    """Make a name server: each look-up gets the next answer, the last one stays."""
    left = list(answers)

    def lookup(_host: str, port: int, *_: Any) -> Any:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        addresses = [answer] if isinstance(answer, str) else answer
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (address, port, 0, 0) if ":" in address else (address, port),
            )
            for address in addresses
        ]

    return lookup
