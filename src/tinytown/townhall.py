"""COMPOSITION ROOT of the server: builds every part of a townhall by hand and lets it live.

    async with running_townhall(settings) as hall:
        ...                       # hall.address, hall.redis_url, hall.town, hall.first_key
        await hall.finished()     # until somebody calls hall.stop(), or a part cannot go on

`tt up` and `tt demo` use the same function with services of their own (a launcher): a service is
built by a function that gets the running hall, has a `name`, and works in `run()` until it is
cancelled. Services end before the store closes, and the embedded Redis ends last.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any, Final, Protocol

import anyio
import msgspec

import tinytown
from tinytown import logs, settings
from tinytown.egress import Egress, parse_allow
from tinytown.embedded import EmbeddedError, EmbeddedServer, Quarters
from tinytown.errors import Invalid, StoreUnavailable
from tinytown.http import Door
from tinytown.http.endpoints import Post
from tinytown.http.listener import CannotListen, Listener
from tinytown.launch import CannotLaunch
from tinytown.links import AnswerLinks
from tinytown.settings import Settings, SettingsError
from tinytown.store import Limits, open_store
from tinytown.store.client import CannotConnect
from tinytown.town import Town, TownRules
from tinytown.town.dispatcher import Dispatcher
from tinytown.town.routing import HookRouter
from tinytown.vault import Vault
from tinytown_notifiers import Notifier
from tinytown_notifiers.sinks.push import PushSink
from tinytown_notifiers.sinks.target import redacted_url
from tinytown_notifiers.sinks.webhook import WebhookSender
from tinytown_notifiers.wording import Writer

__all__ = ["Service", "Townhall", "cause_of", "main", "running_townhall", "serve"]

_log = logging.getLogger(__name__)

FIRST_TICK_SECONDS: Final = 2.0
"""How long the doors wait for the first tick, so that who hears "ready" finds it so."""
DAY_MS: Final = 86_400_000
_LAST_PORT: Final = 65535


class Service(Protocol):
    """Something that lives as long as the townhall."""

    @property
    def name(self) -> str:
        """What it is called in logs."""

    async def run(self) -> None:
        """Work until cancelled; raise only when it cannot go on: the townhall ends with it."""


class Townhall:
    """A running townhall."""

    def __init__(
        self, town: Town, *, settings: Settings, redis_url: str, address: str, first_key: str | None
    ) -> None:
        """Know where it is; made by `running_townhall`."""
        self.town = town
        self.settings = settings
        self.redis_url = redis_url
        """Where workers find the store; the embedded server's socket when REDIS_URL is unset."""
        self.address = address
        """`http://127.0.0.1:8080`: with the real port, also where 0 was asked for."""
        self.first_key = first_key
        """The admin key this start made for a town that had none; shown once, never stored."""
        self._stopping = anyio.Event()

    def stop(self) -> None:
        """Begin to end: whoever waits in `finished` goes on."""
        self._stopping.set()

    async def finished(self) -> None:
        """Wait until somebody calls `stop`."""
        await self._stopping.wait()


@asynccontextmanager
async def running_townhall(
    config: Settings, *, services: Sequence[Callable[[Townhall], Service]] = ()
) -> AsyncIterator[Townhall]:
    """Run a townhall for as long as the block lasts; it serves when the block begins.

    Leaving the block ends streams, finishes requests, stops the services in reverse order of
    trust (launcher, notifier, dispatcher), closes the store and last the embedded Redis.
    Raises CannotConnect, CannotListen or EmbeddedError, each with one line that says why.
    """
    async with AsyncExitStack() as stack:
        # First the cheapest thing that can go wrong: a port in use starts nothing.
        listener = stack.enter_context(Listener(config.host, config.port))
        background: list[Service] = []
        redis_url = config.redis_url
        if redis_url is None:
            embedded = await stack.enter_async_context(EmbeddedServer(Quarters(config.home)))
            background.append(embedded)
            redis_url = settings.Secret(embedded.url)
        store = await stack.enter_async_context(
            open_store(
                redis_url,
                town=config.town,
                name="tt:townhall",
                limits=Limits(retention_ms=round(config.retention_days * DAY_MS)),
            )
        )
        vault = Vault(config.secret_key, config.town)
        secret = config.secret_key or await store.access.own_secret("links")
        links = AnswerLinks(town=config.town, keys=[secret])
        egress = Egress(parse_allow(" ".join(config.egress_allow)))
        sink = PushSink(egress)
        stack.callback(sink.close)
        sender = WebhookSender(egress)
        stack.push_async_callback(sender.close)
        town = Town(
            store,
            rules=TownRules(
                max_workers=config.max_workers,
                max_attempts=config.max_attempts,
                lease_seconds=config.lease_seconds,
            ),
            vault=vault,
            links=links,
            check_url=sink.check,
            redact_url=redacted_url,
            egress=egress,
            public_url=config.public_url or listener.address,
        )
        if config.api_key:
            town.keys.trust(config.api_key)
        hall = Townhall(
            town,
            settings=config,
            redis_url=redis_url,
            address=listener.address,
            first_key=await town.keys.first_key(),
        )
        await _add_phones(town, config)
        writer = Writer(public_url=config.public_url or hall.address, links=links)
        notifier = Notifier(store, vault=vault, writer=writer, sink=sink, sender=sender)
        # What a tick makes due (a replay) comes without an event that the notifier would hear.
        dispatcher = Dispatcher(store, town.hub, handled=notifier.ring)
        background += [town.hub, town.logs, dispatcher, HookRouter(store, town.acts, vault)]
        if config.notifier:
            background.append(notifier)
        door = Door(
            town,
            out=Post(notifier.send_test, ring=notifier.ring, tick=dispatcher.ring),
            probe_key=config.probe_key,
            checks=_checks(dispatcher, notifier if config.notifier else None),
        )
        async with anyio.create_task_group() as group:
            for service in background:
                group.start_soon(_run, service, name=service.name)
            with anyio.move_on_after(FIRST_TICK_SECONDS):
                while not dispatcher.healthy:  # noqa: ASYNC110 - it tells nobody, and it is soon
                    await anyio.sleep(0.002)
            async with listener.serving(door.app), anyio.create_task_group() as guests:
                for build in services:
                    service = build(hall)
                    guests.start_soon(_run, service, name=service.name)
                _log.info("townhall.ready", extra={"facts": {"address": hall.address}})
                try:
                    yield hall
                finally:
                    _log.info("townhall.stopping", extra={"facts": {"streams": len(door.streams)}})
                    door.close()
                guests.cancel_scope.cancel()
            group.cancel_scope.cancel()


async def _add_phones(town: Town, config: Settings) -> None:
    """Make sure that the phones of TINYTOWN_NOTIFY are there; raises SettingsError."""
    for place, url in enumerate(config.notify, start=1):
        try:
            # Stored where it belongs it is no setting any more: plain text again.
            await town.endpoints.add_from_settings((str(url),))
        except Invalid as error:
            raise SettingsError(f"TINYTOWN_NOTIFY entry {place}: {error.detail}") from None


async def _run(service: Service) -> None:
    try:
        await service.run()
    except Exception as error:
        facts = {"service": service.name, "reason": str(error) or type(error).__name__}
        _log.error("service.failed", extra={"facts": facts})
        raise


def _checks(
    dispatcher: Dispatcher, notifier: Notifier | None
) -> dict[str, Callable[[], dict[str, Any]]]:
    def of_dispatcher() -> dict[str, Any]:
        age = dispatcher.last_tick_age_seconds
        seconds = None if age is None else round(age, 3)
        return {"ok": dispatcher.healthy, "last_tick_age_seconds": seconds}

    checks: dict[str, Callable[[], dict[str, Any]]] = {"dispatcher": of_dispatcher}
    if notifier is not None:
        checks["notifier"] = lambda: {"ok": notifier.ok, "lag_seconds": notifier.lag_seconds}
    return checks


async def serve(
    config: Settings,
    *,
    services: Sequence[Callable[[Townhall], Service]] = (),
    ready: Callable[[Townhall], None] = lambda _: None,
) -> None:
    """Run a townhall until SIGTERM or SIGINT; `ready` is called once it serves."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with (
            running_townhall(config, services=services) as hall,
            anyio.create_task_group() as group,
        ):

            async def listen() -> None:
                async for number in signals:
                    _log.info("townhall.signal", extra={"facts": {"signal": number.name}})
                    hall.stop()

            group.start_soon(listen)
            ready(hall)
            await hall.finished()
            group.cancel_scope.cancel()


_HELP: Final = """usage: townhall [--host HOST] [--port PORT]
       townhall settings

The always-on process of a town: serves its API, keeps its deadlines and pushes to phones.
Needs nothing: without REDIS_URL it starts a Redis of its own under TINYTOWN_HOME.

  --host HOST   address to listen on (TINYTOWN_HOST; 127.0.0.1)
  --port PORT   port to listen on, 0 for any free one (TINYTOWN_PORT or PORT; 8080)
  settings      print every setting with its present value, secrets masked
  --version     print the version

exit codes: 0 told to stop, 1 failed, 2 wrong use or settings, 5 Redis not usable

example:
  REDIS_URL=redis://127.0.0.1:6379 townhall --port 8080
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the console script `townhall`; exit codes as its help says."""
    asked = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(asked):
        return _print(_HELP.rstrip())
    if "--version" in asked:
        return _print(f"townhall {tinytown.__version__}")
    try:
        config = settings.load()
        if asked == ["settings"]:
            return _print(*(f"{name}={value}" for name, value in settings.describe(config)))
        config = _with_options(config, asked)
        logs.configure(config.log or ("console" if sys.stderr.isatty() else "json"))
        serving = partial(serve, config, services=_launching(config), ready=_greet)
        anyio.run(serving, backend_options={"use_uvloop": _uvloop()})
    except Exception as error:  # noqa: BLE001 - the last net: one line, never a bare trace
        return _last_word(cause_of(error))
    return 0


def _launching(config: Settings) -> list[Callable[[Townhall], Service]]:
    """Choose the service that starts workers; CannotLaunch when what it needs is not there."""
    if config.launcher == "none":
        return []
    from tinytown.launch import choosing
    from tinytown.launch.reconciler import Reconciler

    choosing.check(config)
    environ = settings.surroundings()

    def launcher(hall: Townhall) -> Service:
        opening = choosing.open_launcher(config, environ, redis_url=hall.redis_url)
        return Reconciler(hall.town, opening)

    return [launcher]


class _Misused(Exception):
    """The command line makes no sense; one line."""


def _with_options(config: Settings, arguments: list[str]) -> Settings:
    """Apply the command line; it is too small for a parser's 10 ms and 2 MB."""
    rest = list(arguments)
    changes: dict[str, Any] = {}
    while rest:
        name, _, value = rest.pop(0).partition("=")
        if name not in {"--host", "--port"}:
            raise _Misused(f"unknown argument {name}; try townhall --help")
        value = value or (rest.pop(0) if rest else "")
        if name == "--port" and not (value.isdecimal() and int(value) <= _LAST_PORT):
            raise _Misused("--port takes a number from 0 to 65535")
        if not value:
            raise _Misused(f"{name} takes a value")
        changes[name[2:]] = int(value) if name == "--port" else value
    return msgspec.structs.replace(config, **changes)


def _greet(hall: Townhall) -> None:
    """Say once on standard output what nobody can look up later; the rest is in the log."""
    if hall.first_key:
        _print(
            "",
            "  This town had no key yet. This is its admin key; it is shown only now:",
            "",
            f"    {hall.first_key}",
            "",
            f"  tt connect {hall.address} --key <that key>",
            "",
        )
    if sys.stdout.isatty():
        _print(f"  The townhall is open at {hall.address}. Ctrl-C closes it.")


def _uvloop() -> bool:
    return find_spec("uvloop") is not None


def _print(*lines: str) -> int:
    print(*lines, sep="\n", flush=True)  # noqa: T201 - what a command is asked to say
    return 0


# What a person can do something about, and the exit code that says so.
_EXITS: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (SettingsError, 2),
    (CannotLaunch, 2),
    (_Misused, 2),
    (CannotConnect, 5),
    (StoreUnavailable, 5),
    (CannotListen, 1),
    (EmbeddedError, 1),
)


def cause_of(error: BaseException) -> BaseException:
    """Find the one error inside the groups that task groups wrap around it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _last_word(error: BaseException) -> int:
    """Say in one line why it ends; what nobody foresaw is traced in the log. The exit code."""
    for kind, code in _EXITS:
        if isinstance(error, kind):
            print(f"townhall: {error}", file=sys.stderr)  # noqa: T201 - the last word of a command
            return code
    _log.error("townhall.failed", exc_info=error)
    return 1


if __name__ == "__main__":
    sys.exit(main())
