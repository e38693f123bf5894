"""What the launchers that speak HTTP have in common: one attempt, and what may follow from it.

Each request is made once. What surely did nothing is a failed start; what may have done something
is for the launcher to find out, because another try could be a second worker for one demand.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import msgspec

from tinytown import clock
from tinytown.launch import StartFailed

SECONDS: Final = 10.0
"""Longest wait for a reply: starting a machine is said to take two seconds at most."""
LONGEST_PAUSE_SECONDS: Final = 60.0
"""Whoever asks for more time than this is asked once a minute all the same."""


class Unsure(Exception):
    """The request was sent and no usable reply came: nobody knows what it did."""


async def ask(client: httpx.AsyncClient, method: str, path: str, **how: Any) -> httpx.Response:
    """Send one request; StartFailed when it surely was not heard, Unsure when it may have been."""
    try:
        return await client.request(method, path, **how)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise StartFailed(f"cannot reach {client.base_url.host or 'it'}: {_why(error)}") from error
    except httpx.HTTPError as error:
        raise Unsure(f"no reply: {_why(error)}") from error


def read(response: httpx.Response, kind: Any) -> Any:
    """Read a JSON reply as a type; Unsure when it is something else."""
    try:
        return msgspec.json.decode(response.content, type=kind)
    except msgspec.DecodeError as error:
        raise Unsure(f"a reply that makes no sense (HTTP {response.status_code})") from error


def asked_to_wait(response: httpx.Response, otherwise: float) -> float:
    """Read `Retry-After`, in seconds or as a date; bounded."""
    text = response.headers.get("retry-after", "")
    seconds = otherwise
    if text.isdecimal():
        seconds = float(text)
    elif text:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - clock.unix_seconds()
        except (ValueError, TypeError):
            seconds = otherwise
    return min(max(seconds, 0.0), LONGEST_PAUSE_SECONDS)


def _why(error: Exception) -> str:
    """Say in a few words what went wrong; an address or a token is never part of it."""
    known: dict[type[Exception], str] = {
        httpx.ConnectError: "nobody listens there",
        httpx.ConnectTimeout: "no connection in time",
        httpx.ReadTimeout: "no answer in time",
        httpx.RemoteProtocolError: "the connection was cut",
    }
    return known.get(type(error), type(error).__name__)
