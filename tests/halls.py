"""Townhalls for tests: one inside the test with real sockets, or a whole process to be hurt."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import anyio
import httpx

from tinytown.egress import Egress, parse_allow
from tinytown.http import Door
from tinytown.http.endpoints import Post
from tinytown.http.health import Check
from tinytown.http.listener import Listener
from tinytown.links import AnswerLinks
from tinytown.models.delivery import Trial
from tinytown.models.key import NewKey, Scope
from tinytown.store import Store
from tinytown.town import Town, TownRules
from tinytown.town.dispatcher import Dispatcher
from tinytown.town.routing import HookRouter
from tinytown.vault import Vault

API_KEY: Final = "tt_the-operators-key-of-all-tests"
PROBE_KEY: Final = "the-probes-key"


class Outside:
    """Stands in for those who send: what the door asked of them, and what they answer."""

    def __init__(self) -> None:
        self.tested: list[str] = []
        self.rung = 0
        self.trial = Trial(delivered=True, duration_seconds=0.01)
        self.checked: list[str] = []

    async def test(self, endpoint_id: str) -> Trial:
        """Pretend to send a test message."""
        self.tested.append(endpoint_id)
        return self.trial

    def ring(self) -> None:
        """Hear that something became due."""
        self.rung += 1

    async def check(self, url: str) -> None:
        """Accept every URL."""
        self.checked.append(url)


class Hall:
    """A door on a loopback socket, the town behind it, and clients with any key."""

    def __init__(self, town: Town, door: Door, address: str, outside: Outside) -> None:
        self.town = town
        self.store = town.store
        self.door = door
        self.address = address
        self.outside = outside

    def client(self, key: str | None = API_KEY, **headers: str) -> httpx.AsyncClient:
        """Make a client that sends a key."""
        if key:
            headers["Authorization"] = f"Bearer {key}"
        return httpx.AsyncClient(
            base_url=self.address, headers=headers, timeout=10, trust_env=False
        )

    async def key(self, *scopes: Scope) -> str:
        """Make a key with these scopes."""
        return (await self.town.keys.make(NewKey(name="-".join(scopes), scopes=scopes))).key


def make_town(store: Store, outside: Outside, *, secret_key: str | None = None) -> Town:
    """Build the town of a store."""
    town = Town(
        store,
        rules=TownRules(),
        vault=Vault(secret_key, store.town),
        links=AnswerLinks(town=store.town, keys=[b"a secret of sixteen bytes"]),
        check_url=outside.check,
        redact_url=lambda url: url.partition("://")[0] + "://•••",
        egress=Egress(parse_allow("127.0.0.0/8 ::1")),
    )
    town.keys.trust(API_KEY)
    return town


@asynccontextmanager
async def open_hall(
    store: Store, *, probe_key: str | None = None, checks: Mapping[str, Check] | None = None
) -> AsyncIterator[Hall]:
    """Open a door with real sockets inside this process."""
    outside = Outside()
    town = make_town(store, outside)
    dispatcher = Dispatcher(store, town.hub)
    door = Door(
        town,
        out=Post(outside.test, ring=outside.ring, tick=dispatcher.ring),
        probe_key=probe_key,
        checks=checks or {},
    )
    with Listener("127.0.0.1", 0) as listener:
        async with anyio.create_task_group() as group:
            for service in (
                town.hub,
                town.logs,
                dispatcher,
                HookRouter(store, town.acts, town.vault),
            ):
                group.start_soon(service.run)
            async with listener.serving(door.app):
                yield Hall(town, door, listener.address, outside)
                door.close()
            group.cancel_scope.cancel()


class HallProcess:
    """A whole townhall as people start it; hurt it as you like."""

    def __init__(self, redis_url: str, *arguments: str, **environment: str) -> None:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TINYTOWN_", "REDIS_", "FLY_")) and name != "PORT"
        }
        self._environment = {
            **inherited,
            "REDIS_URL": redis_url,
            "TINYTOWN_API_KEY": API_KEY,
            "TINYTOWN_LOG": "json",
            "TINYTOWN_EGRESS_ALLOW": "127.0.0.0/8",  # where phones and receivers of tests live
            **environment,
        }
        self._arguments = arguments or ("--port", "0")
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self.log: list[dict[str, Any]] = []
        self.said: list[str] = []
        self.address = ""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tinytown.townhall", *self._arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._read_log),
            threading.Thread(target=self._read_words),
        ]
        for reader in self._readers:
            reader.start()
        self.address = self.wait_for("townhall.ready")["address"]
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()
        stray = [line for line in self.log if line["event"] in {"plain", "http.broken"}]
        assert not stray, f"not every line of the log is one of ours: {stray}"

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            try:
                line = json.loads(text)
            except ValueError:
                line = {"event": "plain", "text": text.rstrip()}
            self.log.append(line)
            self._lines.put(line)
        self._lines.put({"event": "closed"})

    def _read_words(self) -> None:
        assert self.process.stdout is not None
        self.said.extend(text.rstrip() for text in self.process.stdout)

    def wait_for(self, event: str, *, within_seconds: float = 15) -> dict[str, Any]:
        """Wait for a line of the log."""
        deadline = time.monotonic() + within_seconds
        while True:
            line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            if line["event"] == event:
                return line
            assert line["event"] != "closed", f"it ended before {event}: {self.log}"

    def stop(self, how: signal.Signals = signal.SIGTERM, *, within_seconds: float = 10) -> int:
        """End it and give back its exit code."""
        self.process.send_signal(how)
        return self.process.wait(timeout=within_seconds)

    def client(self, key: str | None = API_KEY) -> httpx.AsyncClient:
        """Make a client that sends a key."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(
            base_url=self.address, headers=headers, timeout=10, trust_env=False
        )
