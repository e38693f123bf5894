"""Which errors of Redis mean "not now", and how the loops of a process wait until it is back."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import anyio
from redis import exceptions as redis_errors

from tinytown.errors import StoreUnavailable
from tinytown.redact import redact

T = TypeVar("T")
_log = logging.getLogger(__name__)

# At most one line about an outage in so many seconds, however many loops meet it.
LINE_SECONDS: Final = 1.0
# How rare the lines become while an outage goes on: an operator who looks sees one soon enough.
LONGEST_SILENCE_SECONDS: Final = 30.0

# What Redis says when it will not serve us now, by the first word of its reply (a script's error
# starts with the same word), in our words and with the seconds after which asking again may help.
_REFUSALS: Final[dict[str, tuple[str, float]]] = {
    "LOADING": ("Redis is loading its data", 2),
    "READONLY": ("Redis is read-only, probably during a fail-over", 2),
    "MASTERDOWN": ("Redis has lost its primary", 2),
    "CLUSTERDOWN": ("the Redis cluster is down", 2),
    "TRYAGAIN": ("the Redis cluster is moving our keys", 2),
    "MOVED": ("the Redis cluster keeps our keys on another node", 2),
    "ASK": ("the Redis cluster is moving our keys", 2),
    "NOREPLICAS": ("Redis has too few replicas to accept writes", 5),
    "NOSCRIPT": ("Redis forgot a script twice in a row, probably during a fail-over", 1),
    "UNBLOCKED": ("Redis ended a blocking read, probably during a fail-over", 1),
    "BUSY": ("Redis is busy running a script", 1),
    "OOM": ("Redis is out of memory (maxmemory)", 15),
    "MISCONF": ("Redis cannot save to its disk and refuses to write", 15),
    "NOAUTH": ("Redis asks for a password", 30),
    "WRONGPASS": ("Redis refuses our password", 30),
    "NOPERM": ("Redis does not allow our user this command", 30),
    "DENIED": ("Redis refuses our connection", 30),
}

# The part of a MISCONF that tells a person what to do.
_DISK_REASONS: Final = ("No space left on device", "Disk quota exceeded", "File too large")


def outage(error: BaseException) -> StoreUnavailable | None:
    """Translate a Redis error that means "not now"; None for a mistake of ours."""
    if isinstance(error, redis_errors.MaxConnectionsError):
        return None  # two tasks share a blocking connection: a mistake, waiting cures nothing
    # What fails while a unix socket is greeted arrives wrapped in a ConnectionError.
    if isinstance(error.__cause__, redis_errors.RedisError):
        error = error.__cause__
    said = _REFUSALS.get(reply_word(error))
    if said is None and isinstance(error, redis_errors.ConnectionError):
        if "max number of clients reached" in str(error):
            said = ("Redis has no free connections", 5)
        elif "No connection available" in str(error):
            said = ("all our connections to Redis are busy", 1)
        elif isinstance(error, redis_errors.AuthenticationError):
            said = _REFUSALS["WRONGPASS"]
        else:
            said = (f"Redis cannot be reached: {one_line(error)}", 2)
    if said is None and isinstance(error, redis_errors.TimeoutError):
        said = ("Redis does not answer in time", 2)
    if said is None and isinstance(error, redis_errors.InvalidResponse):
        said = ("Redis answered in another language", 5)
    if said is None:
        return None
    reason = next((sign for sign in _DISK_REASONS if sign in str(error)), None)
    detail = f"{said[0]}: {reason}" if reason else said[0]
    return StoreUnavailable(detail, retry_after_seconds=said[1])


def reply_word(error: BaseException) -> str:
    """Give the word an error reply starts with (`OOM`, `READONLY`); empty for other errors."""
    if not isinstance(error, redis_errors.ResponseError | redis_errors.ConnectionError):
        return ""
    text = str(error)
    if "user executing the script" in text or "ACL failure in script" in text:
        return "NOPERM"
    word: str = getattr(error, "status_code", None) or text.partition(" ")[0]
    return word


def one_line(error: BaseException) -> str:
    """Write an error as one line without credentials."""
    return redact(" ".join(str(error).split()) or type(error).__name__)


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn every Redis error that means "not now" into `StoreUnavailable`; leave mistakes alone."""
    try:
        yield
    except (redis_errors.RedisError, OSError) as error:
        unavailable = outage(error)
        if unavailable is None:
            raise
        raise unavailable from error


class Patience:
    """How the loops of one process live through an outage: capped waits, few words.

    The waits grow from `first_seconds` to `cap_seconds`, each drawn between half and all of its
    length so that many processes do not return in step. The cap keeps the promise that work goes
    on at most 2 s after Redis is back. All loops together write at most one line a second, and
    fewer the longer it lasts; the line that it is over comes when no loop fails any more.
    """

    def __init__(
        self,
        *,
        first_seconds: float = 0.05,
        cap_seconds: float = 1.5,
        draw: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first = first_seconds
        self._cap = cap_seconds
        self._draw = draw
        self._monotonic = monotonic
        self._failing = 0
        self._away_since: float | None = None
        self._back_since: float | None = None
        self._said_at = float("-inf")
        self._silence = LINE_SECONDS
        self._unsaid = 0

    def wait_seconds(self, failures: int) -> float:
        """Say how long to wait after so many failures in a row (1 or more)."""
        longest = min(self._cap, self._first * 2.0 ** min(failures - 1, 30))
        return longest * (0.5 + self._draw() / 2)

    async def keep_trying(self, name: str, step: Callable[[], Awaitable[T]]) -> T:
        """Call `step` until it succeeds, waiting while Redis is away; other errors pass through."""
        failures = 0
        try:
            while True:
                try:
                    with store_errors():
                        result = await step()
                    break
                except StoreUnavailable as error:
                    failures += 1
                    self._failing += failures == 1
                    wait = self.wait_seconds(failures)
                    self._say_away(name, error, failures, wait)
                await anyio.sleep(wait)
        finally:
            self._failing -= failures > 0
        self._say_back()
        return result

    def _say_away(self, name: str, error: StoreUnavailable, failures: int, wait: float) -> None:
        """Write that Redis is away, unless that was said a moment ago."""
        now = self._monotonic()
        self._back_since = None
        if now < self._said_at + self._silence:
            self._unsaid += 1
            return
        if self._away_since is None:
            self._away_since = now
        else:
            self._silence = min(2 * self._silence, LONGEST_SILENCE_SECONDS)
        facts = {
            "loop": name,
            "reason": error.detail,
            "failures": failures,
            "wait_seconds": round(wait, 3),
            "unsaid": self._unsaid,
        }
        self._said_at = now
        self._unsaid = 0
        _log.warning("redis.away", extra={"facts": facts})

    def _say_back(self) -> None:
        """Write that it is over, if that was not said yet and no loop fails any more."""
        if self._away_since is None or self._failing:
            return
        now = self._monotonic()
        if self._back_since is None:
            self._back_since = now
        if now < self._said_at + LINE_SECONDS:
            return  # a later step that succeeds says it
        facts = {
            "away_seconds": round(self._back_since - self._away_since, 3),
            "unsaid": self._unsaid,
        }
        self._said_at = now
        self._silence = LINE_SECONDS
        self._unsaid = 0
        self._away_since = self._back_since = None
        _log.info("redis.back", extra={"facts": facts})
