"""/health (alive) and /ready (Redis answers, the clock ticks, pushes go out)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

import anyio
import msgspec
from litestar import Response, Router, get, head
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec

import tinytown
from tinytown.errors import StoreUnavailable
from tinytown.http.auth import PROBE
from tinytown.http.problems import refusals
from tinytown.town import Town

PING_SECONDS: Final = 2.0
"""Health checks of platforms give up after 2 to 5 seconds; a late answer is as good as none."""

Check: TypeAlias = Callable[[], dict[str, Any]]
"""Says how a part of this process is: `ok` and facts."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The process lives."""

    status: Literal["ok"]
    version: str
    uptime_seconds: float


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the town can work, and what keeps it from it."""

    status: Literal["ok", "unavailable", "stopping"]
    checks: Annotated[
        dict[str, dict[str, Any]],
        msgspec.Meta(description="`redis`, `dispatcher`, `notifier`: each with `ok` and facts."),
    ]


class Vitals:
    """What the health routes look at."""

    def __init__(self, town: Town, checks: Mapping[str, Check]) -> None:
        """Watch a town and what else this process does, by name."""
        self._town = town
        self._checks = checks
        self._since = time.monotonic()
        self.stopping = False

    def health(self) -> Health:
        """Say that the process lives; touches nothing."""
        uptime = round(time.monotonic() - self._since, 3)
        return Health(status="ok", version=tinytown.__version__, uptime_seconds=uptime)

    async def ready(self) -> Readiness:
        """Ask Redis and every service."""
        checks = {"redis": await self._redis()}
        for name, check in self._checks.items():
            checks[name] = check()
        if self.stopping:
            return Readiness(status="stopping", checks=checks)
        fine = all(check["ok"] for check in checks.values())
        return Readiness(status="ok" if fine else "unavailable", checks=checks)

    async def _redis(self) -> dict[str, Any]:
        begun = time.perf_counter()
        with anyio.move_on_after(PING_SECONDS):
            try:
                await self._town.store.clockwork.ping()
            except StoreUnavailable as error:
                return {"ok": False, "latency_seconds": None, "reason": error.detail}
            return {"ok": True, "latency_seconds": round(time.perf_counter() - begun, 6)}
        return {"ok": False, "latency_seconds": None, "reason": "Redis does not answer in time"}


@get(
    "/health",
    operation_id="health",
    summary="Is the process alive?",
)
async def health(vitals: NamedDependency[Vitals]) -> Health:
    """Say that the process lives; touches nothing else."""
    return vitals.health()


@get(
    "/ready",
    opt={"scope": PROBE},
    operation_id="ready",
    summary="Can the town work?",
    responses={
        **refusals(401, 403),
        503: ResponseSpec(Readiness, description="It cannot, or is stopping"),
    },
)
async def ready(vitals: NamedDependency[Vitals]) -> Response[Readiness]:
    """Say whether Redis answers, deadlines are kept and pushes go out."""
    found = await vitals.ready()
    return Response(found, status_code=200 if found.status == "ok" else 503)


@head("/health", include_in_schema=False)
async def health_head() -> None:
    """Say that the process lives, to those who want no body."""


@head("/ready", opt={"scope": PROBE}, include_in_schema=False)
async def ready_head(vitals: NamedDependency[Vitals]) -> Response[None]:
    """Say by the status alone whether the town can work."""
    found = await vitals.ready()
    return Response(None, status_code=200 if found.status == "ok" else 503)


def routes() -> Router:
    """Gather the routes of health checks."""
    return Router("/", route_handlers=[health, health_head, ready, ready_head], tags=["probes"])
