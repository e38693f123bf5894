"""COMPOSITION ROOT of the worker (`tt agent`, `tt-worker`): builds it by hand and lets it live."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import anyio

from tinytown import logs, settings
from tinytown.embedded import EmbeddedServer, Quarters
from tinytown.store import open_store
from tinytown.store.client import CannotConnect
from tinytown.vault import Vault
from tinytown_workers.hardening import Reaper, become_subreaper, close_process
from tinytown_workers.loop import Worker, WorkerRules
from tinytown_workers.session import SessionRules

_STARTED = time.monotonic()
_HELP = """usage: tt agent

Run one worker: claim tasks of its pools, run the coding CLI, ask people when it must, and go home
(exit 0) when there is nothing to do for TINYTOWN_IDLE_SECONDS.

Settings come from the environment: REDIS_URL, TINYTOWN_POOL, TINYTOWN_AGENT, … (docs/settings.md).

example:
  REDIS_URL=redis://127.0.0.1:6379 TINYTOWN_AGENT=codex tt agent
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a worker; exit 0 = went home, 1 = failed, 2 = wrong use, 5 = Redis not usable."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments:
        asked = arguments[0] in {"-h", "--help"}
        (sys.stdout if asked else sys.stderr).write(_HELP)
        return 0 if asked else 2
    try:
        config = settings.load()
        logs.configure(config.log or ("console" if sys.stderr.isatty() else "json"))
        anyio.run(_run, config, backend="asyncio")
    except settings.SettingsError as error:
        sys.stderr.write(f"tt agent: {error}\n")
        return 2
    except CannotConnect as error:
        sys.stderr.write(f"tt agent: {error}\n")
        return 5
    return 0


async def _run(config: settings.Settings) -> None:
    close_process()
    reaper = Reaper() if become_subreaper() else None
    url = config.redis_url or EmbeddedServer(Quarters(config.home)).url
    async with open_store(url, town=config.town, name="tt:worker", max_connections=2) as store:
        worker = Worker(
            store,
            rules=WorkerRules(
                pools=config.pool,
                idle_seconds=config.idle_seconds,
                lease_seconds=config.lease_seconds,
                drain_seconds=config.drain_seconds,
            ),
            session_rules=SessionRules(
                work_dir=config.work_dir or config.home / "work",
                agent=config.agent,
                agent_command=config.agent_command,
                model=config.model,
                permissions=config.permissions,
                budget_usd=config.budget_usd,
                task_seconds=config.task_seconds,
                silence_seconds=config.silence_seconds,
                hold_seconds=config.hold_seconds,
                git_token=config.git_token or "",
                login_home=Path.home(),
            ),
            environ=settings.surroundings(),
            vault=Vault(config.secret_key, config.town),
            boot_seconds=time.monotonic() - _STARTED,
        )
        async with anyio.create_task_group() as group:
            group.start_soon(_obey_signals, worker)
            if reaper is not None:
                group.start_soon(reaper.run)
            await worker.run()
            group.cancel_scope.cancel()


async def _obey_signals(worker: Worker) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            worker.stop()


if __name__ == "__main__":
    sys.exit(main())
