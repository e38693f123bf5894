"""What machines of random orders stand on: a town with a turned clock, one step at a time."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from redis import Redis

from servers import RedisServer
from tinytown.store import Limits
from towns import TurnedClock, open_town


class TownInOrders(RuleBasedStateMachine):
    """A town, emptied before each story, that does one step at a time."""

    server: RedisServer
    limits: ClassVar[Limits | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.server.send("FLUSHALL")
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.clock = TurnedClock()
        self.clock.turn()
        self.store = self.do(
            self.stack.enter_async_context(
                open_town(self.server.url, clock=self.clock, limits=self.limits)
            )
        )
        self.client = Redis.from_url(self.server.url, decode_responses=True, protocol=2)
        self.counters: dict[str, int] = {}
        """Those of the town when it was last looked at."""

    def do(self, step: Any) -> Any:
        """Run one step of the town."""

        async def run() -> Any:
            return await step

        return self.runner.run(run())

    def teardown(self) -> None:
        """Close the town."""
        self.client.close()
        self.do(self.stack.aclose())
        self.runner.close()


def live_through(machine: type[TownInOrders], server: RedisServer, *, steps: int) -> None:
    """Run a machine through stories of so many steps; ten times as many under `just props`."""
    machine.server = server
    how = settings(
        max_examples=300 if settings().max_examples > 100 else 30,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=how)
