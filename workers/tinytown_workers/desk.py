"""The desk: where the agent of one session speaks with its worker, over a socket in its room.

One connection carries one request: a line of JSON with the session's secret, answered by a line of
JSON, confirmed by a third. The agent's side (the MCP bridge, `tt ask`) may come and go as it likes:
a question outlives its asker, and a reply that was not confirmed waits for whoever asks again.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final, Literal, Protocol

import anyio
import msgspec
from anyio.abc import SocketStream, TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream

from tinytown.errors import Invalid, TownError
from tinytown.models.question import Ask
from tinytown.models.task import Message
from tinytown.redact import redact

_log = logging.getLogger(__name__)
_LINE_BYTES: Final = 256 * 1024  # the longest question with its context, escaped, fits ten times
_PATH_BYTES: Final = 103  # what macOS allows for a socket's path; Linux allows 107
_CONNECTIONS: Final = 64  # no agent calls more tools at once
_PATIENCE_SECONDS: Final = 10.0  # to send the request, to take the reply, to confirm it
_SETTLED: Final = frozenset({"answered", "defaulted", "no_answer", "withdrawn"})

Via = Literal["mcp", "tt"]


class AskReply(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a question. Only `answered` is a person's word."""

    outcome: Literal["answered", "defaulted", "no_answer", "withdrawn", "parked"]
    question_id: str = ""
    answer: str | None = None
    by: str | None = None
    via: str | None = None
    messages: tuple[Message, ...] = ()


class DeskHandler(Protocol):
    """What the worker does with what the agent says; `TownError`s reach the agent as refusals."""

    async def ask(self, ask: Ask, *, via: Via) -> AskReply:
        """Put the question and wait for its end (or the end of the hold: `parked`).

        Cancelled when nobody waits any more; the question must stay, and the same `ask` attach
        to it again. Called once at a time for the same `ask`. An answer that was taken must be
        returned even if the cancellation comes at that moment: the desk keeps it.
        """

    async def progress(self, text: str, percent: float | None) -> tuple[Message, ...]:
        """Tell people how far the agent is; returns what they wrote meanwhile."""

    async def inbox(self) -> tuple[Message, ...]:
        """Take what people wrote to the agent."""


class _AskLine(msgspec.Struct, frozen=True, tag="ask", tag_field="op", forbid_unknown_fields=True):
    secret: str
    ask: Ask
    via: Via = "tt"


class _ProgressLine(
    msgspec.Struct, frozen=True, tag="progress", tag_field="op", forbid_unknown_fields=True
):
    secret: str
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
    percent: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None


class _InboxLine(
    msgspec.Struct, frozen=True, tag="inbox", tag_field="op", forbid_unknown_fields=True
):
    secret: str


class _Told(msgspec.Struct, frozen=True):
    messages: tuple[Message, ...]


class _Refusal(msgspec.Struct, frozen=True):
    error: str
    detail: str


_decoder: Final = msgspec.json.Decoder(_AskLine | _ProgressLine | _InboxLine)


class _Waiting:
    """One question put to the handler, and everybody who waits for it."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()
        self.reply: AskReply | Exception = RuntimeError("not answered yet")
        self.waiters = 0
        self.confirmed = False


class Desk:
    """The open desk of one session."""

    def __init__(self, card: Path, secret: str, handler: DeskHandler, group: TaskGroup) -> None:
        self.card: Final = card
        """What TINYTOWN_DESK names: a file, for its owner only, with the socket and the secret."""
        self._secret = secret
        self._handler = handler
        self._group = group
        self._connections = 0
        self._waiting: dict[str, _Waiting] = {}
        self._unclaimed: dict[str, AskReply] = {}
        self._unread: list[Message] = []

    def bridge_command(self, *, approvals: bool = False) -> tuple[str, ...]:
        """Return the command of the MCP server for this desk; no secret is in it.

        `approvals` adds the tool for claude's --permission-prompt-tool. Isolated mode keeps
        modules that lie in the workspace from being imported instead of the standard library's.
        """
        flags = ("--approvals",) if approvals else ()
        return (sys.executable, "-I", "-m", "tinytown_workers.bridge", *flags, str(self.card))

    async def serve(self, stream: SocketStream) -> None:
        """Serve one connection; nothing it does can raise out of here."""
        async with stream:
            if self._connections >= _CONNECTIONS:
                with anyio.move_on_after(1), contextlib.suppress(anyio.EndOfStream):
                    await stream.receive()  # closing on unread words would swallow our own
                await _send(stream, _Refusal("busy", "too many requests at once"))
                return
            self._connections += 1
            try:
                await self._converse(stream)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass  # the other side went away: nothing more to say to it
            finally:
                self._connections -= 1

    async def _converse(self, stream: SocketStream) -> None:
        lines = BufferedByteReceiveStream(stream)
        try:
            with anyio.fail_after(_PATIENCE_SECONDS):
                line = await lines.receive_until(b"\n", _LINE_BYTES)
            request = _decoder.decode(line)
        except (TimeoutError, anyio.EndOfStream, anyio.IncompleteRead):
            return
        except anyio.DelimiterNotFound:
            await _send(stream, _Refusal("too-large", "the request is too long"))
            return
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            await _send(stream, _Refusal("invalid", redact(str(error))))
            return
        if not hmac.compare_digest(request.secret.encode(), self._secret.encode()):
            await _send(stream, _Refusal("unauthenticated", "this desk serves another session"))
            return
        try:
            if isinstance(request, _AskLine):
                await self._serve_ask(stream, lines, request)
            else:
                await self._serve_messages(stream, lines, request)
        except TownError as error:
            await _send(stream, _Refusal(error.slug(), redact(error.detail)))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise
        except Exception:  # noqa: BLE001 - one request that fails must not close the desk
            _log.exception("desk.failed")
            await _send(stream, _Refusal("internal", "the worker could not do this"))

    async def _serve_messages(
        self,
        stream: SocketStream,
        lines: BufferedByteReceiveStream,
        request: _ProgressLine | _InboxLine,
    ) -> None:
        if isinstance(request, _ProgressLine):
            new = await self._handler.progress(request.text, request.percent)
        else:
            new = await self._handler.inbox()
        messages = (*self._unread, *new)
        self._unread.clear()
        try:
            if await _send(stream, _Told(messages)) and await _confirmed(lines):
                messages = ()
        finally:
            self._unread[:0] = messages

    async def _serve_ask(
        self, stream: SocketStream, lines: BufferedByteReceiveStream, request: _AskLine
    ) -> None:
        _check(request.ask)
        ask = self._apart(request.ask)
        key = ask.digest()
        while (last := self._waiting.get(key)) and last.scope.cancel_called:
            await last.done.wait()  # its asker just went away: see first what it left
        if (kept := self._unclaimed.pop(key, None)) is not None:
            waiting = _Waiting()
            waiting.reply = kept
        else:
            waiting = last or self._put(key, ask, request.via)
            if not await self._wait(waiting, lines):
                return
        if isinstance(waiting.reply, Exception):
            raise waiting.reply
        waiting.reply = self._with_messages(waiting.reply, ask)
        try:
            if await _send(stream, waiting.reply) and await _confirmed(lines):
                waiting.confirmed = True
                self._unclaimed.pop(key, None)
        finally:
            if not waiting.confirmed:
                self._keep(key, waiting.reply)

    def _with_messages(self, reply: AskReply, ask: Ask) -> AskReply:
        """Let the reply carry what people wrote; the answer to a permission prompt cannot."""
        if ask.kind == "approval":
            self._unread.extend(reply.messages)
            return msgspec.structs.replace(reply, messages=())
        messages = (*self._unread, *reply.messages)
        self._unread.clear()
        return msgspec.structs.replace(reply, messages=messages)

    def _apart(self, ask: Ask) -> Ask:
        """Keep identical approvals that wait at the same time apart: each is spent once."""
        if ask.kind != "approval":
            return ask
        number, other = 1, ask
        while (same := self._waiting.get(other.digest())) and not same.scope.cancel_called:
            number += 1
            other = msgspec.structs.replace(ask, binding=f"{ask.binding}#{number}")
        return other

    def _put(self, key: str, ask: Ask, via: Via) -> _Waiting:
        waiting = self._waiting[key] = _Waiting()

        async def put() -> None:
            try:
                with waiting.scope:
                    waiting.reply = await self._handler.ask(ask, via=via)
            except Exception as error:  # noqa: BLE001 - told to each asker in its own task
                waiting.reply = error
            finally:
                del self._waiting[key]
                waiting.done.set()
                if waiting.waiters == 0:
                    self._keep(key, waiting.reply)

        self._group.start_soon(put)
        return waiting

    def _keep(self, key: str, reply: AskReply | Exception) -> None:
        """Keep a reply that nobody has taken for whoever asks the same again."""
        if isinstance(reply, AskReply) and reply.outcome in _SETTLED:
            self._unclaimed[key] = reply

    async def _wait(self, waiting: _Waiting, lines: BufferedByteReceiveStream) -> bool:
        """Wait for the reply; False when the asker went away first."""
        waiting.waiters += 1
        try:
            async with anyio.create_task_group() as group:

                async def gone() -> None:
                    # Nothing is sent while waiting: whatever arrives is the end.
                    with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                        await lines.receive(1)
                    group.cancel_scope.cancel()

                group.start_soon(gone)
                await waiting.done.wait()
                group.cancel_scope.cancel()
        finally:
            waiting.waiters -= 1
            if waiting.waiters == 0 and not waiting.done.is_set():
                waiting.scope.cancel()
        return waiting.done.is_set()


@asynccontextmanager
async def open_desk(directory: Path, handler: DeskHandler) -> AsyncIterator[Desk]:
    """Open the desk of one session in `directory`; when it closes, waiting agents are told."""
    socket, borrowed = _place(directory)
    secret = secrets.token_urlsafe(24)
    card = directory / "card"
    try:
        async with await anyio.create_unix_listener(socket, mode=0o600) as listener:
            _write_card(card, socket, secret)
            async with anyio.create_task_group() as group:
                desk = Desk(card, secret, handler, group)
                group.start_soon(listener.serve, desk.serve)
                yield desk
                group.cancel_scope.cancel()
    finally:
        socket.unlink(missing_ok=True)
        card.unlink(missing_ok=True)
        if borrowed is not None:
            shutil.rmtree(borrowed, ignore_errors=True)


def _place(directory: Path) -> tuple[Path, str | None]:
    """Choose where the socket stands: in `directory`, or in a short one of its own."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket = directory / "socket"
    if len(os.fsencode(socket)) <= _PATH_BYTES:
        socket.unlink(missing_ok=True)
        return socket, None
    short = min(tempfile.gettempdir(), "/tmp", key=len)  # noqa: S108 - mkdtemp is owner-only
    borrowed = tempfile.mkdtemp(prefix="tt-", dir=short)
    return Path(borrowed, "socket"), borrowed


def _write_card(card: Path, socket: Path, secret: str) -> None:
    handle = os.open(card, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode({"socket": str(socket), "secret": secret}))


def _check(ask: Ask) -> None:
    """Refuse questions that no person could answer, in words for the agent."""
    if len(set(ask.options)) != len(ask.options):
        raise Invalid("the options must differ from each other")
    if ask.kind in ("choice", "approval") and not ask.options:
        raise Invalid("a choice needs options")
    if ask.default is not None and ask.options and not ask.free_text:  # noqa: SIM102 - reads better
        if ask.default not in ask.options:
            raise Invalid("the default must be one of the options")
    if not ask.text.strip():
        raise Invalid("the question is empty")


async def _send(stream: SocketStream, reply: msgspec.Struct) -> bool:
    """Send one line; False when the other side is gone or does not read."""
    with anyio.move_on_after(_PATIENCE_SECONDS):
        try:
            await stream.send(msgspec.json.encode(reply) + b"\n")
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return False
        return True
    return False


async def _confirmed(lines: BufferedByteReceiveStream) -> bool:
    """Wait for the line by which the other side says that it has the reply."""
    with anyio.move_on_after(_PATIENCE_SECONDS):
        try:
            await lines.receive_until(b"\n", _LINE_BYTES)
        except (
            anyio.EndOfStream,
            anyio.IncompleteRead,
            anyio.DelimiterNotFound,
            anyio.BrokenResourceError,
        ):
            return False
        return True
    return False
