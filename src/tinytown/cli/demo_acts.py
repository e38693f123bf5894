"""What happens in `tt demo`, act by act: each is waited for, checked, and only then told."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final

import anyio
import click

from tinytown import clock
from tinytown.cli import demo_agent
from tinytown.cli.client import TownClient, decode
from tinytown.cli.demo_stage import Stage
from tinytown.cli.failures import Failure
from tinytown.cli.outcome import read_log
from tinytown.cli.wire import LogLine, MissionResult
from tinytown.models.endpoint import NewEndpoint
from tinytown.models.event import Event
from tinytown.models.mission import Mission, StartMission
from tinytown.models.scaling import Signal

if TYPE_CHECKING:
    from tinytown_notifiers.standin import Notification, StandIn

_LOOK_SECONDS: Final = 0.02
_ENDS: Final = {"mission.failed", "mission.canceled", "task.requeued"}  # it went another way
_COLUMN: Final = 52  # where the latencies stand


class Missing(Exception):
    """A step that did not happen; knows which, and why it is thought so."""

    def __init__(self, step: str, why: str) -> None:
        super().__init__(f"{step}: {why}")
        self.step = step
        self.why = why


class Timeline:
    """Tells each step when it has really happened, with the time since the beginning."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def tell(self, what: str, *latency: str | float) -> None:
        """Print a step, and what took how long (`name, seconds, …`)."""
        pairs = zip(latency[::2], latency[1::2], strict=True)
        told = ", ".join(f"{name} {float(seconds) * 1000:.0f} ms" for name, seconds in pairs)
        head = click.style(f"{time.monotonic() - self._began:7.2f} s", dim=True)
        mark = click.style("✓", fg="green")
        tail = f"{' ' * max(2, _COLUMN - len(what))}{click.style(told, fg='cyan')}" if told else ""
        click.echo(f"{head}  {mark} {what}{tail}")


class Heard:
    """The town's events as they come over HTTP."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._bell = anyio.Event()

    async def listen(self, town: TownClient) -> None:
        """Follow the town from its beginning until cancelled."""
        async for sent in town.follow("/v1/events", after="0-0"):
            self._events.append(decode(sent.data.encode(), Event))
            self._bell.set()
            self._bell = anyio.Event()

    async def first(self, kind: str) -> Event:
        """Wait for the first event of a type; raises Failure once it cannot come any more."""
        while True:
            for event in self._events:
                if event.type == kind:
                    return event
                if event.type in _ENDS:
                    raise Failure(f"{event.type}: {event.data.get('reason') or 'no reason'}")
            await self._bell.wait()


class Play:
    """One mission from nothing to nothing."""

    def __init__(
        self, stage: Stage, timeline: Timeline, *, patience: float, thinks: float, ignores: bool
    ) -> None:
        """Play on a stage; every step has `patience` seconds to happen."""
        self._stage = stage
        self._timeline = timeline
        self._patience = patience
        self._thinks = thinks
        self._ignores = ignores

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        """Wait for a step; raises Missing when it does not happen, or goes wrong."""
        try:
            with anyio.fail_after(self._patience):
                yield
        except TimeoutError:
            raise Missing(name, f"not within {self._patience:g} s") from None
        except Failure as failure:
            raise Missing(name, failure.message) from None

    async def run(self, town: TownClient, phone: StandIn) -> None:
        """Play it to the end; raises Missing at the first step that does not happen."""
        tell = self._timeline.tell
        async with self._listening(town) as heard:
            with self._step("a phone is added"):
                await town.post("/v1/endpoints", NewEndpoint(url=phone.endpoint(), name="demo"))
            tell("a phone is added")

            with self._step("the mission is posted"):
                spec = StartMission(goal=demo_agent.GOAL, repo=str(self._stage.origin))
                mission = (await town.post("/v1/missions", spec)).read(Mission)
                posted = at(await heard.first("mission.created"))
            tell(f"the mission is posted ({mission.id})")

            with self._step("a worker is started and claims the task"):
                came = at(await heard.first("worker.started"))
                claimed = at(await heard.first("task.started"))
            tell(
                "a worker is started and claims the task",
                *("posted → claimed", seconds(posted, claimed)),
                *("of it to start a worker", seconds(posted, came)),
            )
            goes_on = await self._question(town, phone, heard, mission)
            await self._outcome(town, phone, heard, mission, goes_on)
            await self._home(town, heard)

    async def _question(
        self, town: TownClient, phone: StandIn, heard: Heard, mission: Mission
    ) -> datetime:
        """From the question to the moment at which the agent goes on."""
        tell = self._timeline.tell
        with self._step("the agent asks a question"):
            asked = at(await heard.first("question.asked"))
        tell("the agent fixes the spelling and asks a question")

        with self._step("the question is pushed to the phone"):
            push, pushed = await self._next_push(phone)
            check(demo_agent.QUESTION in f"{push.title} {push.message}", "it says something else")
        tell("the question is on the phone", "asked → push", seconds(asked, pushed))

        with self._step("the answer is pressed on the phone"):
            if self._ignores:
                await anyio.sleep_forever()
            wanted = demo_agent.OPTIONS[0]
            button = next((each for each in push.buttons if each.label == wanted), None)
            if button is None:
                raise Failure(f"there is no button {wanted!r} among {len(push.buttons)}")
            await anyio.sleep(self._thinks)
            pressed = await phone.press(button)
            check(pressed.status == 200, f"the answer link said {pressed.status}")
            event = await heard.first("question.answered")
            check(event.data.get("answer") == wanted, "another answer was stored")
        tell(
            f"the answer {wanted!r} is pressed on the phone",
            *("push → answer", seconds(pushed, at(event))),
        )

        with self._step("the agent goes on with the answer"):
            goes_on = await self._heard_by_agent(town, mission.id)
        tell(
            "the agent goes on with the answer",
            *("answer → agent continues", seconds(at(event), goes_on)),
        )
        return goes_on

    async def _outcome(
        self, town: TownClient, phone: StandIn, heard: Heard, mission: Mission, goes_on: datetime
    ) -> None:
        """From the answer to the branch."""
        tell = self._timeline.tell
        with self._step("the mission completes"):
            done = at(await heard.first("mission.completed"))
        tell("the mission is completed", "answer heard → done", seconds(goes_on, done))

        with self._step("the completion is pushed to the phone"):
            push, pushed = await self._next_push(phone)
            check("Done" in push.title, f"the push says {push.title!r}")
        tell("the phone knows", "done → push", seconds(done, pushed))

        with self._step("the branch is in the repository"):
            reply = await town.get(f"/v1/missions/{mission.id}/result")
            left = reply.read(MissionResult).result
            if left is None or left.branch is None:
                raise Failure("the mission left no branch behind")
            commit, subject, program = await self._stage.read_branch(left.branch)
            check(left.pushed and left.head == commit, "the result names another commit")
            ends = demo_agent.OPTIONS[0]
            check(f'"Hello, {{name}}{ends}"' in program, "the program is not what was agreed")
            await self._stage.check_patch(left.patch or "")
        tell(f"the branch has {commit[:10]}: {subject}")

    async def _home(self, town: TownClient, heard: Heard) -> None:
        """From the last task to a town at rest."""
        with self._step("the worker goes home"):
            rests = at(await heard.first("worker.idle"))
            home = at(await heard.first("worker.stopped"))
            while True:
                signal = (await town.get("/api/scaling")).read(Signal)
                if signal.desired == 0 and signal.workers.present == 0:
                    break
                await anyio.sleep(_LOOK_SECONDS)
        self._timeline.tell(
            f"the worker is home; the town is at zero ({signal.recommendation})",
            *("idle → home", seconds(rests, home)),
        )

    @asynccontextmanager
    async def _listening(self, town: TownClient) -> AsyncIterator[Heard]:
        async with anyio.create_task_group() as group:
            heard = Heard()
            group.start_soon(heard.listen, town)
            yield heard
            group.cancel_scope.cancel()

    async def _next_push(self, phone: StandIn) -> tuple[Notification, datetime]:
        push = await phone.next()
        return push, clock.now()

    async def _heard_by_agent(self, town: TownClient, mission_id: str) -> datetime:
        """Find in the mission's log when the agent, by its own clock, had the answer."""
        while True:
            for item in await read_log(town, mission_id):
                words = decode(item, LogLine).words
                if words.startswith(demo_agent.CONTINUED):
                    ms = int(words.removeprefix(demo_agent.CONTINUED).partition(":")[0])
                    return datetime.fromtimestamp(ms / 1000, tz=clock.now().tzinfo)
            await anyio.sleep(_LOOK_SECONDS)


def check(held: object, otherwise: str) -> None:
    """Insist on a fact; raises Failure with what is so instead."""
    if not held:
        raise Failure(otherwise)


def at(event: Event) -> datetime:
    """Tell when an event happened."""
    return datetime.fromisoformat(event.timestamp)


def seconds(since: datetime, until: datetime) -> float:
    """Count the seconds between two moments (both clocks are this machine's)."""
    return (until - since).total_seconds()
