"""The `fly` launcher: starts stopped machines of the app's process group `worker`.

A machine starts its worker, the worker goes home with exit 0, the machine is stopped and costs
nothing: nobody here ever stops one. Standbys are left alone, and machines are made only where
`TINYTOWN_FLY_CREATE` says so.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import httpx
import msgspec

from tinytown import __version__
from tinytown.launch import Ended, StartFailed, one_by_one, silence
from tinytown.launch.http import SECONDS, Unsure, ask, asked_to_wait, read
from tinytown.models.scaling import Signal, Start

_log = logging.getLogger(__name__)

PUBLIC_URL: Final = "https://api.machines.dev/v1"
PRIVATE_URL: Final = "http://_api.internal:4280/v1"
GROUP: Final = "worker"
PACE_SECONDS: Final = 1.0
"""Fly takes one request a second for each action of a machine (of the app: list and create)."""
REPLACING_SECONDS: Final = 2.0
"""A machine that is being replaced can be started a few seconds later."""
FULL_SECONDS: Final = 5.0
"""Where every machine is in use, another look before that finds the same."""
FRESH_SECONDS: Final = 30.0
"""How long a started machine may still be listed as stopped: the deadline of its start."""
_CAN_START: Final = frozenset({"stopped", "suspended"})
_ALREADY_UP: Final = frozenset({"started", "starting"})
_NOT_NOW: Final = frozenset({httpx.codes.CONFLICT, httpx.codes.PRECONDITION_FAILED})
"""Being replaced, or held by a deploy's lease."""


class _Machine(msgspec.Struct, frozen=True):
    id: str
    state: str = ""
    region: str = ""
    config: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def works(self) -> bool:
        """Whether it is one of the workers', and not a standby for another."""
        metadata = self.config.get("metadata") or {}
        ours = metadata.get("fly_process_group") == GROUP
        return ours and not self.config.get("standbys") and self.state != "destroyed"

    @property
    def pools(self) -> frozenset[str]:
        """The pools its worker takes tasks from."""
        text = (self.config.get("env") or {}).get("TINYTOWN_POOL") or "default"
        return frozenset(part.strip() for part in text.split(","))


class _Started(msgspec.Struct, frozen=True):
    previous_state: str = ""


class _NextOne(Exception):
    """This machine cannot be started now; perhaps another can. One word that says why."""


class FlyLauncher:
    """Starts machines of one app; made by `fly_launcher`."""

    name = "fly"
    outlived = True

    def __init__(self, client: httpx.AsyncClient, app: str, *, create: bool) -> None:
        """Start machines of an app; make some where none is stopped, if it may."""
        self._client = client
        self._app = app
        self._create = create
        self._turn = anyio.Lock()
        self._asked_at: dict[tuple[str, str], float] = {}
        self._started_at: dict[str, float] = {}

    async def start(self, starts: Sequence[Start], signal: Signal) -> Mapping[str, StartFailed]:  # noqa: ARG002 (the seam's)
        """Start a machine for each."""
        # One round at a time: two would choose the same machine.
        async with self._turn:
            try:
                machines = await self._list()
            except StartFailed as failed:
                return {start.id: failed for start in starts}

            async def one(start: Start) -> None:
                await self._start_one(start, machines)

            return await one_by_one(one, starts)

    async def ended(self) -> Ended:
        """Never: a stopped machine tells nobody."""
        return await silence()

    async def _start_one(self, start: Start, machines: Sequence[_Machine]) -> None:
        """Start the first machine of the pool that can be; StartFailed if there is none."""
        ours = [machine for machine in machines if start.pool in machine.pools]
        why = ""
        for machine in ours:
            if machine.state not in _CAN_START or self._is_fresh(machine.id):
                continue
            try:
                await self._wake(machine.id)
            except _NextOne as cannot:
                why = str(cannot)
                continue
            self._started_at[machine.id] = anyio.current_time()
            facts = {"start": start.id, "pool": start.pool, "machine": machine.id}
            _log.info("launch.machine", extra={"facts": facts})
            return
        if any(machine.state in {"replacing", "created", "updating"} for machine in ours):
            why = why or "replacing"
        if why:
            raise StartFailed(
                f"machines are not ready ({why})", failed=False, again_seconds=REPLACING_SECONDS
            )
        await self._make(start, ours or machines)

    async def _wake(self, machine: str) -> None:
        """Ask one machine to start; _NextOne when another should be tried."""
        try:
            reply = await self._ask("start", "POST", f"/machines/{machine}/start", machine)
            if reply.status_code == httpx.codes.NOT_FOUND:
                raise _NextOne("gone")
            if reply.status_code in _NOT_NOW:
                raise _NextOne("replacing")
            _refuse(reply, "start")
            if read(reply, _Started).previous_state in _ALREADY_UP:
                self._started_at[machine] = anyio.current_time()
                raise _NextOne("up already")
        except Unsure as unsure:
            await self._find_out(machine, str(unsure))

    async def _find_out(self, machine: str, why: str) -> None:
        """See what became of a machine whose start was not answered as it should be."""
        try:
            reply = await self._ask("get", "GET", f"/machines/{machine}", machine)
            state = read(reply, _Machine).state if reply.is_success else ""
        except (Unsure, StartFailed):
            state = ""
        if state in _CAN_START:
            raise StartFailed(f"machine {machine} does not start ({why})")
        if state not in _ALREADY_UP:
            # Nobody can tell: the promise keeps its place until the worker comes or it lapses.
            facts = {"machine": machine, "reason": why}
            _log.warning("launch.unsure", extra={"facts": facts})

    async def _make(self, start: Start, models: Sequence[_Machine]) -> None:
        """Make a machine like the others, where that is wanted; else say what is missing."""
        if not models:
            raise StartFailed(f"the app {self._app} has no machine of process group {GROUP}")
        if not self._create:
            serving = [machine for machine in models if start.pool in machine.pools]
            if not serving:
                raise StartFailed(
                    f"no machine of process group {GROUP} serves the pool {start.pool}"
                )
            raise StartFailed(
                f"all {len(serving)} machines of the pool {start.pool} are in use",
                failed=False,
                again_seconds=FULL_SECONDS,
            )
        config = {key: value for key, value in models[0].config.items() if key != "standbys"}
        config["env"] = {**(config.get("env") or {}), "TINYTOWN_POOL": start.pool}
        body = {"region": models[0].region, "config": config}
        try:
            reply = await self._ask("create", "POST", "/machines", json=body)
            _refuse(reply, "create")
            made: _Machine = read(reply, _Machine)
        except Unsure as unsure:
            facts = {"start": start.id, "reason": str(unsure)}
            _log.warning("launch.unsure", extra={"facts": facts})
            return
        self._started_at[made.id] = anyio.current_time()
        facts = {"start": start.id, "pool": start.pool, "machine": made.id}
        _log.info("launch.made", extra={"facts": facts})

    async def _list(self) -> list[_Machine]:
        try:
            reply = await self._ask(
                "list", "GET", "/machines", params={"metadata.fly_process_group": GROUP}
            )
            if reply.status_code == httpx.codes.NOT_FOUND:
                raise StartFailed(f"there is no app {self._app} for this FLY_API_TOKEN")
            _refuse(reply, "list")
            machines: list[_Machine] = read(reply, list[_Machine])
        except Unsure as unsure:
            # Reading starts nothing.
            raise StartFailed(f"list: {unsure}") from unsure
        # The filter is a courtesy that not every version of the API knows.
        return sorted((each for each in machines if each.works), key=lambda each: each.id)

    async def _ask(
        self, action: str, method: str, path: str, machine: str = "", **how: Any
    ) -> httpx.Response:
        """Send one request, no sooner than a second after the last of its kind."""
        now = anyio.current_time()
        self._asked_at = {
            kind: at for kind, at in self._asked_at.items() if now - at < PACE_SECONDS
        }
        last = self._asked_at.get((action, machine))
        if last is not None:
            await anyio.sleep(last + PACE_SECONDS - now)
        self._asked_at[action, machine] = anyio.current_time()
        return await ask(self._client, method, f"apps/{self._app}{path}", **how)

    def _is_fresh(self, machine: str) -> bool:
        """Tell whether a machine was started a moment ago, whatever the list says."""
        now = anyio.current_time()
        self._started_at = {
            each: at for each, at in self._started_at.items() if now - at < FRESH_SECONDS
        }
        return machine in self._started_at


@asynccontextmanager
async def fly_launcher(
    url: str, *, app: str, token: str, create: bool
) -> AsyncIterator[FlyLauncher]:
    """Launch by starting machines of an app through the Machines API at a base URL."""
    headers = {"authorization": f"Bearer {token}", "user-agent": f"tinytown/{__version__}"}
    async with httpx.AsyncClient(base_url=url, timeout=SECONDS, headers=headers) as client:
        yield FlyLauncher(client, app, create=create)


def _refuse(reply: httpx.Response, what: str) -> None:
    """Raise StartFailed for a reply that says no, Unsure for one that says nothing."""
    status = reply.status_code
    if reply.is_success:
        return
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise StartFailed(f"{what}: Fly refuses FLY_API_TOKEN (HTTP {status})")
    if status == httpx.codes.TOO_MANY_REQUESTS:
        wait = asked_to_wait(reply, PACE_SECONDS)
        raise StartFailed(f"{what}: too many requests", failed=False, again_seconds=wait)
    if reply.is_server_error:
        raise Unsure(f"HTTP {status}")
    raise StartFailed(f"{what}: HTTP {status}")
