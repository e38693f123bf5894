"""COMPOSITION ROOT of the notifier alone (`tt notifier`): builds it by hand and lets it live."""

from __future__ import annotations

import signal
import sys
from importlib.util import find_spec

import anyio

from tinytown import logs, settings
from tinytown.egress import Egress, parse_allow
from tinytown.embedded import EmbeddedServer, Quarters
from tinytown.links import AnswerLinks
from tinytown.store import Store, open_store
from tinytown.store.client import CannotConnect
from tinytown.vault import Vault
from tinytown_notifiers import Notifier
from tinytown_notifiers.sinks.push import PushSink
from tinytown_notifiers.sinks.webhook import WebhookSender
from tinytown_notifiers.wording import Writer

_HELP = """usage: tt notifier

Watch a town's events and push what matters to phones. For those who split it off: the townhall
then runs with TINYTOWN_NOTIFIER=off, and any number of notifiers may run side by side.

Settings come from the environment: REDIS_URL, TINYTOWN_TOWN, TINYTOWN_PUBLIC_URL,
TINYTOWN_SECRET_KEY (the townhall's own), … (docs/settings.md).

example:
  REDIS_URL=redis://127.0.0.1:6379 TINYTOWN_PUBLIC_URL=https://town.example tt notifier
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a notifier; exit 0 = told to stop, 1 = failed, 2 = wrong use, 5 = Redis not usable."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments:
        wants_help = arguments[0] in {"-h", "--help"}
        print(_HELP, end="", file=sys.stdout if wants_help else sys.stderr)
        return 0 if wants_help else 2
    try:
        config = settings.load()
        logs.configure(config.log or ("console" if sys.stderr.isatty() else "json"))
        quick = {"use_uvloop": find_spec("uvloop") is not None}
        anyio.run(_run, config, backend="asyncio", backend_options=quick)
    except settings.SettingsError as error:
        print(f"tt notifier: {error}", file=sys.stderr)  # noqa: T201 - the last word of a command
        return 2
    except CannotConnect as error:
        print(f"tt notifier: {error}", file=sys.stderr)  # noqa: T201 - the last word of a command
        return 5
    return 0


async def _run(config: settings.Settings) -> None:
    url = config.redis_url or EmbeddedServer(Quarters(config.home)).url
    async with open_store(url, town=config.town, name="tt:notifier", max_connections=4) as store:
        egress = Egress(parse_allow(" ".join(config.egress_allow)))
        sink, sender = PushSink(egress), WebhookSender(egress)
        links = await _links(store, config)
        notifier = Notifier(
            store,
            vault=Vault(config.secret_key, config.town),
            writer=Writer(public_url=_public_url(config), links=links),
            sink=sink,
            sender=sender,
        )
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(notifier.run)
                with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                    async for _ in signals:
                        break
                group.cancel_scope.cancel()
        finally:
            sink.close()
            with anyio.CancelScope(shield=True):
                await sender.close()


async def _links(store: Store, config: settings.Settings) -> AnswerLinks:
    """Sign links as the townhall verifies them: by the operator's key or the town's own."""
    key = config.secret_key or await store.access.own_secret("links")
    return AnswerLinks(town=config.town, keys=[key])


def _public_url(config: settings.Settings) -> str:
    return config.public_url or f"http://{config.host}:{config.port}"


if __name__ == "__main__":
    sys.exit(main())
