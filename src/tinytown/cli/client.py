"""The town as the laptop calls it: REST typed by the models, patient within bounds.

What may be sent again is sent again: a request that never left, any reading, and a creation that
carries its Idempotency-Key. Everything else fails at once rather than happen twice.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import anyio
import msgspec

from tinytown import __version__
from tinytown.cli.connection import Connection
from tinytown.cli.failures import Failure, Refused, Unreachable
from tinytown.cli.sse import Lines, Parser, ServerSent

if TYPE_CHECKING:
    from types import TracebackType

    import httpx

T = TypeVar("T")

PATIENCE_SECONDS: Final = 2.0
"""How long a command bears with a town that restarts: longer than one takes to start."""
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 30.0  # a town that is asked for anything has answered long before
_SILENCE_SECONDS: Final = 45.0  # a stream says at least a heartbeat in this time
_ABOUT_THE_STREAM: Final = {"bye", "gap"}  # the town speaks of the stream, not of an event
_PASSING: Final = {429, 502, 503, 504}  # refusals that a stream outlives
_NOTHING_MORE: Final = 204
PAGE: Final = 100
"""The most items of one page (contract)."""

Query = Mapping[str, str | int | None]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page of any list, its items still as the town wrote them."""

    items: tuple[msgspec.Raw, ...]
    next_cursor: str | None = None


class Reply(msgspec.Struct, frozen=True):
    """What the town answered: the bytes for programs, a value for us."""

    body: bytes
    headers: Mapping[str, str]

    def read(self, kind: type[T]) -> T:
        """Read it as a value; raises Failure where it is none (another program answers there)."""
        return decode(self.body, kind)


def decode(body: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Read JSON of the town; what a newer town adds is ignored."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise Failure(f"this does not look like a town's answer: {error}") from None


class TownClient:
    """Speaks with one town; open it with `async with`."""

    def __init__(
        self, connection: Connection, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Prepare to call a town; nothing is sent yet."""
        self.connection = connection
        self._patience_seconds = patience_seconds
        self._open: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        import httpx

        headers = {"User-Agent": f"tt/{__version__}", "Accept": "application/json"}
        if self.connection.key:
            headers["Authorization"] = f"Bearer {self.connection.key}"
        self._open = httpx.AsyncClient(
            base_url=self.connection.url,
            headers=headers,
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            follow_redirects=False,  # a key goes to the address it was given for, nowhere else
            # A proxy of the environment would look for the town of this machine on its own.
            trust_env=not on_this_machine(self.connection.url),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    @property
    def _http(self) -> httpx.AsyncClient:
        if self._open is None:
            message = "open the client with `async with`"
            raise RuntimeError(message)
        return self._open

    # -- one request --------------------------------------------------------------------------

    async def get(self, path: str, query: Query | None = None) -> Reply:
        """Read something."""
        return await self._send("GET", path, query=query, repeatable=True)

    async def post(self, path: str, body: object = None, *, repeatable: bool = True) -> Reply:
        """Create or move something; the Idempotency-Key makes it safe to send again.

        `repeatable` is False for moves that the town refuses the second time.
        """
        return await self._send("POST", path, body=body, repeatable=repeatable)

    async def patch(self, path: str, body: object, *, if_match: str | None = None) -> Reply:
        """Change something; with the ETag it was read under, only that state of it."""
        # A change that was made and not heard of has another ETag by now.
        repeatable = if_match is None
        return await self._send("PATCH", path, body=body, if_match=if_match, repeatable=repeatable)

    async def delete(self, path: str, *, if_match: str | None = None) -> Reply:
        """Remove something; with the ETag it was read under, only that state of it."""
        return await self._send("DELETE", path, if_match=if_match, repeatable=False)

    async def pages(self, path: str, query: Query, *, limit: int) -> list[msgspec.Raw]:
        """Read a list from its beginning until `limit` items are there or it ends."""
        items: list[msgspec.Raw] = []
        cursor: str | None = None
        while len(items) < limit:
            asked = {**query, "cursor": cursor, "limit": min(PAGE, limit - len(items))}
            page = (await self.get(path, asked)).read(Page)
            items += page.items
            cursor = page.next_cursor
            if not cursor:
                break
        return items[:limit]

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        if_match: str | None = None,
        repeatable: bool,
    ) -> Reply:
        import httpx

        headers: dict[str, str] = {} if if_match is None else {"If-Match": if_match}
        content: bytes | None = None
        if method == "POST":
            headers["Idempotency-Key"] = secrets.token_hex(16)
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = msgspec.json.encode(body)
        params = {name: value for name, value in (query or {}).items() if value is not None}
        patience = _Patience(self._patience_seconds)
        while True:
            try:
                response = await self._http.request(
                    method, path, params=params, headers=headers, content=content
                )
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:  # nothing was sent
                if not await patience.wait():
                    raise self._unreachable(error) from None
            except httpx.HTTPError as error:
                if not repeatable or not await patience.wait():
                    raise self._unreachable(error) from None
            else:
                pause = retry_after(response)
                if pause is None or not await patience.wait(pause):
                    return _accepted(response)

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(f"no town answers at {self.connection.url} ({reason(error)})")

    # -- streams ------------------------------------------------------------------------------

    def follow(self, path: str, query: Query | None = None, *, after: str | None = None) -> Stream:
        """Follow a stream of events from after an id (None: from now on)."""
        return Stream(self._http, path, query or {}, after)


class Stream:
    """A stream's events: when it breaks, it goes on after the last id seen.

    It ends when the town says that nothing more will come (204). A town that is down is waited
    for; one that refuses (no such mission, no such key) raises Refused out of the iteration.
    """

    def __init__(self, http: httpx.AsyncClient, path: str, query: Query, after: str | None) -> None:
        """Begin at a position; nothing is sent before the first event is asked for."""
        self._http = http
        self._path = path
        self._params = {name: value for name, value in query.items() if value is not None}
        self.after = after
        """The id of the last event that was handed out."""
        self.connected = False
        """Whether the town is telling right now."""

    async def __aiter__(self) -> AsyncIterator[ServerSent]:
        import httpx

        pause = _FIRST_PAUSE_SECONDS
        while True:
            parser = Parser()  # an event that was cut off in the middle comes again whole
            try:
                async with self._connect() as response:
                    if response.status_code == _NOTHING_MORE:
                        return
                    pause = _FIRST_PAUSE_SECONDS
                    lines = Lines()
                    async for chunk in response.aiter_bytes():
                        for line in lines.feed(chunk):
                            event = parser.feed(line)
                            if event is not None and event.event not in _ABOUT_THE_STREAM:
                                self.after = event.id or self.after
                                yield event
            except httpx.HTTPError:
                pass  # it broke: that is what resuming is for
            except Refused as refused:
                if refused.status not in _PASSING:
                    raise
            finally:
                self.connected = False
            await anyio.sleep(jittered(pause))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[httpx.Response]:
        import httpx

        headers = {"Accept": "text/event-stream"}
        if self.after is not None:
            headers["Last-Event-ID"] = self.after
        timeout = httpx.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS)
        async with self._http.stream(
            "GET", self._path, params=self._params, headers=headers, timeout=timeout
        ) as response:
            if not response.is_success:
                await response.aread()
                _accepted(response)
            self.connected = True
            yield response


class _Patience:
    """How often and how long one request may be tried again."""

    def __init__(self, seconds: float) -> None:
        self._ends = anyio.current_time() + seconds
        self._pause = _FIRST_PAUSE_SECONDS

    async def wait(self, at_least: float = 0.0) -> bool:
        """Wait before the next try; False when patience is at its end."""
        pause = max(jittered(self._pause), at_least)
        if anyio.current_time() + pause > self._ends:
            return False
        await anyio.sleep(pause)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
        return True


def on_this_machine(url: str) -> bool:
    """Tell whether an address is loopback."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def jittered(seconds: float) -> float:
    """Spread a pause over half to all of itself, so that many laptops do not return at once."""
    return seconds * (0.5 + secrets.randbelow(501) / 1000)


def retry_after(response: httpx.Response) -> float | None:
    """Say after how many seconds a refusal is worth another try; None where it is none."""
    if response.status_code == 409 and b"/in-progress" in response.content:
        return 0.0  # what we sent before the connection broke is still at work
    if response.status_code not in {429, 503}:
        return None
    try:
        return max(0.0, float(response.headers.get("Retry-After", "1")))
    except ValueError:
        return 1.0  # a date: the next try will tell


def reason(error: Exception) -> str:
    """Say briefly what went wrong on the way."""
    import httpx

    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not trusted"
    if isinstance(error, httpx.ConnectError):
        return "connection refused" if "refused" in text or "All conn" in text else text
    return "the connection broke"


def _accepted(response: httpx.Response) -> Reply:
    """Give back a good answer; raises Refused for a problem document, Failure for anything odd."""
    if response.is_success:
        return Reply(response.content, response.headers)
    try:
        problem: dict[str, Any] = msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.MsgspecError:
        problem = {}
    status = response.status_code
    if response.is_redirect:
        raise Failure(f"this address leads elsewhere: {response.headers.get('Location', '')}")
    if not problem:
        text = f"the answer was {status} {response.reason_phrase}: is this the address of a town?"
        raise Refused(status, text, {})
    said = str(problem.get("detail") or problem.get("title") or response.reason_phrase)
    errors = problem.get("errors")
    if isinstance(errors, list):
        details = [
            f"{each.get('key') or each.get('source') or 'body'}: {each.get('message')}"
            for each in errors
            if isinstance(each, dict)
        ]
        said = "; ".join([said, *details])
    if status == 401:
        said = f"{said} (run `tt connect`, or set TINYTOWN_API_KEY)"
    raise Refused(status, said, problem)
