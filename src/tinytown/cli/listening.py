"""`tt endpoint listen`: a program on this machine that hears of the town while it runs."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import anyio
import anyio.to_thread
import click
import msgspec

import tinytown.cli.deliveries  # noqa: F401 - it adds commands to the group
from tinytown import clock, standard_webhooks
from tinytown.cli import render
from tinytown.cli.client import TownClient, on_this_machine
from tinytown.cli.desk import Example, json_option, print_line, town_command
from tinytown.cli.endpoints import endpoint
from tinytown.cli.failures import FAILED, USAGE, Failure, Refused
from tinytown.cli.text import plain
from tinytown.cli.wishes import events_option, filter_of, filter_options, options
from tinytown.egress import BLOCKED
from tinytown.models.endpoint import EndpointWithSecret, NewEndpoint

__all__ = ["endpoint"]

BODY_BYTES: Final = 65_536
"""No delivery is larger."""
LINGER_SECONDS: Final = 0.25
"""How often the receiver is asked whether something came."""


class Came(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery as it came in."""

    webhook_id: str
    verified: bool
    reason: str | None
    """Why it is not verified."""
    at: str
    body: Any
    """The event, as JSON; text where it is none."""


class Receiver:
    """Takes deliveries on loopback and looks at their signatures."""

    def __init__(self, port: int) -> None:
        """Listen on a port of 127.0.0.1, 0 for any; raises Failure where it is taken."""
        self.secrets: tuple[str, ...] = ()
        self._known = threading.Event()
        self._came: queue.Queue[Came] = queue.Queue()
        try:
            self._http = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        except OSError as error:
            raise Failure(f"cannot listen on port {port}: {error.strerror}", FAILED) from None
        self._http.daemon_threads = True

    @property
    def port(self) -> int:
        """Say where it listens."""
        return int(self._http.server_address[1])

    def trust(self, secret: str) -> None:
        """Verify by a secret, or a public key; what comes before waits."""
        self.secrets = (secret,)
        self._known.set()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Answer for as long as the block lasts."""
        thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._http.shutdown()
            thread.join()
            self._http.server_close()

    def next(self) -> Came | None:
        """Wait a moment for the next delivery; None when none came."""
        try:
            return self._came.get(timeout=LINGER_SECONDS)
        except queue.Empty:
            return None

    def take(self, headers: list[tuple[str, str]], body: bytes) -> bool:
        """Keep a delivery for whoever looks; says whether its signature is good."""
        self._known.wait(timeout=10)
        try:
            webhook_id = standard_webhooks.verify(
                self.secrets, headers, body, now=clock.unix_seconds()
            )
            reason = None
        except standard_webhooks.BadSignature as error:
            webhook_id = next((value for name, value in headers if name == "webhook-id"), "")
            reason = error.reason
        try:
            told = msgspec.json.decode(body)
        except msgspec.MsgspecError:
            told = body.decode("utf-8", "replace")
        self._came.put(
            Came(
                webhook_id=webhook_id,
                verified=reason is None,
                reason=reason,
                at=clock.written(clock.now()),
                body=told,
            )
        )
        return reason is None

    def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - seen from inside
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 20

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
                """Say nothing: what came is told by the command."""

            def do_POST(self) -> None:
                """Answer 204 to what is signed, 401 to what is not."""
                length = self.headers.get("Content-Length", "")
                if not length.isascii() or not length.isdigit() or int(length) > BODY_BYTES:
                    self.close_connection = True
                    self._answer(413)
                    return
                headers = [(name.lower(), value) for name, value in self.headers.items()]
                self._answer(204 if receiver.take(headers, self.rfile.read(int(length))) else 401)

            def _answer(self, status: int) -> None:
                self.send_response(status)
                if status != 204:
                    self.send_header("Content-Length", "0")
                self.end_headers()

        return Handler


@endpoint.command(
    cls=Example,
    example="""
    tt endpoint listen
    tt endpoint listen --events 'mission.*' --json
    """,
)
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Port; else any free one.")
@click.option("--url", help="Where the town finds this port: the address of your tunnel.")
@events_option
@options(*filter_options)
@click.option("--signing", type=click.Choice(["v1", "v1a"]), default="v1", show_default=True)
@click.option("--count", type=click.IntRange(1), help="Leave after so many deliveries.")
@json_option
@town_command
async def listen(
    town: TownClient,
    *,
    port: int,
    url: str | None,
    events: tuple[str, ...],
    mission: str | None,
    labels: tuple[str, ...],
    signing: Any,
    count: int | None,
    as_json: bool,
) -> None:
    """Hear of the town in this terminal, by signed webhooks, until Ctrl-C.

    It adds an endpoint for itself and removes it at the end. The town has to be allowed to call
    this machine: TINYTOWN_EGRESS_ALLOW=127.0.0.1 where it runs. With --json, one delivery a line.
    """
    receiver = Receiver(port)
    address = url or f"http://127.0.0.1:{receiver.port}/"
    if url is None and not on_this_machine(town.connection.url):
        raise Failure(
            "the town is on another machine and cannot call this one: say where a tunnel to "
            "--port leads with --url, or add a program it can reach: tt endpoint add https://…",
            USAGE,
        )
    new = NewEndpoint(
        url=address,
        kind="webhook",
        name="tt endpoint listen",
        events=events or None,
        signing=signing,
        filter=await filter_of(town, mission, labels) or NewEndpoint(url=address).filter,
    )
    with receiver.listening():
        made = await _add(town, new)
        try:
            receiver.trust(str(made.secret or made.public_key))
            render.note(f"{made.id} hears {', '.join(made.events)} at {address}")
            render.note(f"try it: tt endpoint test {made.id} · Ctrl-C ends it and removes it")
            await _print_each(receiver, count, as_json=as_json)
        finally:
            with anyio.CancelScope(shield=True):
                await _remove(town, made.id)


async def _add(town: TownClient, new: NewEndpoint) -> EndpointWithSecret:
    try:
        return (await town.post("/v1/endpoints", new)).read(EndpointWithSecret)
    except Refused as refused:
        if on_this_machine(new.url) and BLOCKED in refused.message:
            raise Failure(
                "the town may not call this machine: start it with TINYTOWN_EGRESS_ALLOW=127.0.0.1 "
                "in its environment, such as `TINYTOWN_EGRESS_ALLOW=127.0.0.1 tt up`",
                FAILED,
            ) from None
        raise


async def _remove(town: TownClient, endpoint_id: str) -> None:
    try:
        await town.delete(f"/v1/endpoints/{endpoint_id}")
        render.note(f"{endpoint_id} is removed")
    except Failure as failure:
        render.note(f"{endpoint_id} is still there ({failure.message}): tt endpoint remove it")


async def _print_each(receiver: Receiver, count: int | None, *, as_json: bool) -> None:
    """Print deliveries until told to stop, or until so many came."""
    async with anyio.create_task_group() as group:

        async def wait_for_the_end() -> None:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    break
            group.cancel_scope.cancel()

        group.start_soon(wait_for_the_end)
        left = count
        while left is None or left > 0:
            came = await anyio.to_thread.run_sync(receiver.next)
            if came is None:
                continue
            _print(came, as_json=as_json)
            left = None if left is None else left - 1
        group.cancel_scope.cancel()


def _print(came: Came, *, as_json: bool) -> None:
    if as_json:
        print_line(msgspec.json.encode(came))
        return
    event = came.body if isinstance(came.body, dict) else {}
    facts = event.get("data") if isinstance(event.get("data"), dict) else {}
    about = event.get("mission_id") or ""
    words = (facts or {}).get("title") or (facts or {}).get("text") or ""
    seal = "verified" if came.verified else f"NOT VERIFIED ({came.reason})"
    parts = (came.at[11:19], event.get("type") or "?", about, seal, came.webhook_id, words)
    render.say("  ".join(plain(str(part)) for part in parts if part))
