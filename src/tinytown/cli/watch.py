"""`tt mission watch`: follows a mission to its end, and lets its questions be answered in place."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import anyio
import click

from tinytown import clock
from tinytown.cli import keyboard, render
from tinytown.cli.client import TownClient, decode
from tinytown.cli.failures import FAILED, Failure, Unreachable
from tinytown.cli.looking import event_line
from tinytown.cli.outcome import read_log
from tinytown.cli.scene import Scene, chosen, last_words
from tinytown.cli.text import legible
from tinytown.cli.wire import LogLine
from tinytown.models.event import Event
from tinytown.models.mission import Mission, MissionState
from tinytown.models.question import Answer

_REDRAW_SECONDS: Final = 1.0  # the clock in the head moves once a second
_FRAME_SECONDS: Final = 0.05  # 20 pictures a second at most, however much an agent says


async def watch_mission(town: TownClient, mission_id: str) -> None:
    """Show a mission until it ends; exits 1 where it did not complete."""
    found = (await town.get(f"/v1/missions/{mission_id}")).read(Mission)
    at_terminal = render.at_terminal() and sys.stdin.isatty()
    watch = _Picture(town, found) if at_terminal else _Lines(town, found)
    ended = await watch.run()
    render.say(last_words(ended))
    if ended.state is not MissionState.COMPLETED:
        raise click.exceptions.Exit(FAILED)


class _Watch:
    """Follows events and log; what becomes of them is the subclass's."""

    def __init__(self, town: TownClient, found: Mission) -> None:
        self._town = town
        self._path = f"/v1/missions/{found.id}"
        self._events = town.follow(f"{self._path}/events", after="0-0")
        self._log = town.follow(f"{self._path}/log", after="0-0")
        self._stale = anyio.Event()
        self.scene = Scene(found)

    async def run(self) -> Mission:
        """Watch until the mission has ended."""
        async with anyio.create_task_group() as group:
            for service in (self._hear, self._read, *self.services()):
                group.start_soon(service)
            await self._refresh()
            group.cancel_scope.cancel()
        # What the agents said last may not have come through the stream yet.
        for item in await read_log(self._town, self.scene.mission.id, after=self._log.after or ""):
            self.read(decode(item, LogLine))
        return self.scene.mission

    def services(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """Say what else runs while watching."""
        return ()

    def hear(self, event: Event) -> None:
        """Take an event."""
        self.scene.hear(event)

    def read(self, line: LogLine) -> None:
        """Take a line of the log."""
        self.scene.read(line)

    def changed(self) -> None:
        """Show that something is different."""

    async def _hear(self) -> None:
        async for sent in self._events:
            self.hear(decode(sent.data.encode(), Event))
            self._stale.set()
            self.changed()

    async def _read(self) -> None:
        async for sent in self._log:
            self.read(decode(sent.data.encode(), LogLine))
            self.changed()

    async def _refresh(self) -> None:
        """Read the mission again after every event, until it has ended."""
        while not self.scene.ended:
            await self._stale.wait()
            self._stale = anyio.Event()
            try:
                self.scene.mission = (await self._town.get(self._path)).read(Mission)
            except Unreachable:
                self._stale.set()  # the town is away: ask again, the client has waited already
            self.changed()


class _Lines(_Watch):
    """For pipes and logs: every event and everything an agent says is a line."""

    def hear(self, event: Event) -> None:
        super().hear(event)
        render.say(event_line(event))

    def read(self, line: LogLine) -> None:
        for each in legible(line.words).splitlines():
            render.say(f"  {each}")


class _Picture(_Watch):
    """For a person: one picture that moves, with a line to type answers on."""

    def __init__(self, town: TownClient, found: Mission) -> None:
        super().__init__(town, found)
        self._line = keyboard.Line()
        self._dirty = anyio.Event()

    def services(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        return (self._draw, self._listen)

    async def run(self) -> Mission:
        from rich.live import Live

        fd = sys.stdin.fileno()
        with (
            keyboard.key_by_key(fd),
            Live(console=render.console(), auto_refresh=False, transient=False) as self._live,
        ):
            ended = await super().run()
            self._show()
            return ended

    def changed(self) -> None:
        self._dirty.set()

    async def _draw(self) -> None:
        while True:
            self._show()
            with anyio.move_on_after(_REDRAW_SECONDS):
                await self._dirty.wait()
                await anyio.sleep(_FRAME_SECONDS)
            self._dirty = anyio.Event()

    def _show(self) -> None:
        self.scene.connected = self._events.connected or self.scene.ended
        size = self._live.console.size
        picture = self.scene.picture(clock.now(), width=size.width, height=size.height)
        self._live.update(picture, refresh=True)

    async def _listen(self) -> None:
        async for typed in keyboard.keys(sys.stdin.fileno()):
            for line in self._line.press(typed):
                if line is None:
                    raise Failure("stopped watching; the mission goes on")
                await self._answer(line)
            self.scene.typed = self._line.text
            self.changed()

    async def _answer(self, typed: str) -> None:
        """Give an answer to the question on the screen; an empty line is none."""
        question = self.scene.mission.question
        if question is None or not typed.strip():
            return
        self.scene.note = ""
        self.scene.typed = ""
        try:
            path = f"/v1/questions/{question.id}/answer"
            await self._town.post(path, Answer(answer=chosen(question, typed)))
        except Failure as failure:
            self.scene.note = failure.message
        self._stale.set()
