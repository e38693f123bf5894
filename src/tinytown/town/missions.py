"""Missions: open one, read it, cancel, pause, resume, retry, leave a message."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from graphlib import CycleError, TopologicalSorter
from typing import Final

import msgspec

from tinytown import ids
from tinytown.errors import GraphCycle, Invalid, MissionNotFound
from tinytown.models.endpoint import EndpointRecord
from tinytown.models.key import Actor
from tinytown.models.mission import (
    GOAL_BYTES,
    Mission,
    MissionState,
    Result,
    StartedCallback,
    StartedMission,
    StartMission,
)
from tinytown.models.task import AGENTS, TaskSpec
from tinytown.store import Store
from tinytown.store.missions import TaskPlan
from tinytown.town.webhooks import WebhookMaker, callback_of

TITLE_LENGTH: Final = 80
"""A title made from the goal fits one line of a lock screen twice."""
MESSAGE_BYTES: Final = 8_192
DEFAULT_POOL: Final = "default"
_REPO: Final = re.compile(
    r"^(?:(?:https?|ssh|git|file)://\S+|[\w.-]+@[\w.-]+:\S+|/\S.*|[\w.-]+/[\w.-]+)$"
)


class MissionDesk:
    """What can be done with missions."""

    def __init__(self, store: Store, maker: WebhookMaker, *, max_attempts: int) -> None:
        """Work on one town's missions; `maker` makes their callbacks."""
        self._store = store
        self._maker = maker
        self._max_attempts = max_attempts

    async def start(
        self,
        spec: StartMission,
        actor: Actor,
        *,
        mission_id: str | None = None,
        thread: str = "",
    ) -> Mission:
        """Start a mission; with a mission id given again, it is the same mission and callback.

        With a callback it is a StartedMission, which tells its secret once.

        Raises Invalid for what cannot be run, GraphCycle for tasks that wait for each other, and
        ThreadIsOpen while another mission of its thread has not ended.
        """
        mission_id = mission_id or ids.new("mission")
        check(spec)
        callback = self._callback(mission_id, spec)
        fresh = await self._store.missions.start(
            mission_id,
            # Whoever may read a mission reads what it was started with.
            msgspec.structs.replace(
                spec, callback_url=None, callback_secret=None, callback_events=None
            ),
            title=clean(spec.title) if spec.title else title_of(spec.goal),
            not_before_ms=when(spec.not_before),
            actor=actor.id,
            max_attempts=self._max_attempts,
            tasks=plan(spec),
            callback=callback,
            thread=thread,
        )
        mission = await self.read(mission_id)
        if callback is None:
            return mission
        if not fresh:
            callback = await self._store.endpoints.read(callback_of(mission_id))
        shown = self._maker.shown(callback, spec.callback_secret)
        facts = {name: getattr(mission, name) for name in mission.__struct_fields__}
        facts["callback"] = StartedCallback(endpoint_id=callback.id, **shown)
        return StartedMission(**facts)

    def _callback(self, mission_id: str, spec: StartMission) -> EndpointRecord | None:
        if spec.callback_url is None:
            if spec.callback_secret is not None or spec.callback_events is not None:
                raise Invalid("callback_secret and callback_events are about a callback_url")
            return None
        return self._maker.callback(
            mission_id,
            url=spec.callback_url,
            secret=spec.callback_secret,
            events=spec.callback_events,
        )

    async def read(self, mission_id: str) -> Mission:
        """Read a mission; raises MissionNotFound."""
        self._known(mission_id)
        return await self._store.missions.read(mission_id)

    async def page(
        self, *, state: MissionState | None, label: str | None, cursor: str | None, limit: int
    ) -> tuple[list[Mission], str | None]:
        """List missions, newest first."""
        if cursor is not None and not ids.is_id("mission", cursor):
            raise Invalid("the cursor is not one this list gave")
        return await self._store.missions.page(state=state, label=label, cursor=cursor, limit=limit)

    async def cancel(self, mission_id: str, actor: Actor) -> Mission:
        """End a mission with all its tasks."""
        self._known(mission_id)
        await self._store.missions.cancel(mission_id, by=actor.name)
        return await self.read(mission_id)

    async def pause(self, mission_id: str) -> Mission:
        """Start nothing new of a mission; what runs may finish."""
        self._known(mission_id)
        await self._store.missions.pause(mission_id)
        return await self.read(mission_id)

    async def resume(self, mission_id: str) -> Mission:
        """Go on with a paused mission."""
        self._known(mission_id)
        await self._store.missions.resume(mission_id)
        return await self.read(mission_id)

    async def retry(self, mission_id: str) -> Mission:
        """Run what failed or was canceled again."""
        self._known(mission_id)
        await self._store.missions.retry(mission_id)
        return await self.read(mission_id)

    async def message(
        self, mission_id: str, text: str, actor: Actor, *, message_id: str | None = None
    ) -> Mission:
        """Leave a sentence for a mission's agents; running ones hear it at once."""
        self._known(mission_id)
        if not 1 <= len(encoded(text, "text")) <= MESSAGE_BYTES:
            raise Invalid(f"a message has 1 to {MESSAGE_BYTES} bytes")
        await self._store.missions.message(
            mission_id, message_id=message_id or ids.new("event"), text=text, by=actor.name
        )
        return await self.read(mission_id)

    async def results(self, mission_id: str) -> tuple[Mission, list[tuple[str, Result]]]:
        """Read a mission and what each of its tasks left behind, patches included."""
        mission = await self.read(mission_id)
        return mission, await self._store.missions.results(mission)

    def _known(self, mission_id: str) -> None:
        if not ids.is_id("mission", mission_id):
            raise MissionNotFound("there is no mission with this id")


def check(spec: StartMission) -> None:
    """Refuse what has the right types but cannot be run."""
    if len(encoded(spec.goal, "goal")) > GOAL_BYTES:
        raise Invalid(f"goal has more than {GOAL_BYTES} bytes")
    if not spec.goal.strip():
        raise Invalid("goal is empty")
    for text in (spec.title, spec.repo, spec.ref, *spec.labels.values()):
        encoded(text or "", "text")
    if spec.title is not None and not clean(spec.title):
        raise Invalid("title has nothing to read")
    if spec.repo is not None and (not _REPO.match(spec.repo) or control(spec.repo)):
        raise Invalid("repo is not a git URL: https://, ssh://, git://, file://, user@host:path")
    if spec.ref is not None and (
        spec.ref.startswith("-") or control(spec.ref) or " " in spec.ref or ".." in spec.ref
    ):
        raise Invalid("ref is not a branch, tag or commit")
    for agent in (spec.agent, *(task.agent for task in spec.tasks)):
        if agent is not None and agent not in AGENTS:
            raise Invalid(f"unknown agent {agent}: one of {', '.join(AGENTS)}")
    for task in spec.tasks:
        encoded(task.instructions, "instructions")
    when(spec.not_before)


def plan(spec: StartMission) -> list[TaskPlan]:
    """Make the tasks of a mission: one for the goal, or the graph its author drew."""
    pool = spec.pool or DEFAULT_POOL
    if not spec.tasks:
        return [
            TaskPlan(
                id=ids.new("task"),
                name="main",
                pool=pool,
                agent=spec.agent or "",
                instructions="",
                depends_on="[]",
                deps=0,
                dependents="",
                after="",
            )
        ]
    order = in_order(spec.tasks)
    id_of = {task.name: ids.new("task") for task in spec.tasks}
    before: dict[str, set[str]] = {}
    specs = {task.name: task for task in spec.tasks}
    for name in order:
        direct = set(specs[name].depends_on)
        before[name] = direct.union(*(before[each] for each in direct))
    return [
        TaskPlan(
            id=id_of[task.name],
            name=task.name,
            pool=task.pool or pool,
            agent=task.agent or spec.agent or "",
            instructions=task.instructions,
            depends_on=msgspec.json.encode(task.depends_on).decode(),
            deps=len(set(task.depends_on)),
            dependents=" ".join(
                id_of[other.name] for other in spec.tasks if task.name in other.depends_on
            ),
            after=" ".join(id_of[name] for name in order if name in before[task.name]),
        )
        for task in spec.tasks
    ]


def in_order(tasks: tuple[TaskSpec, ...]) -> list[str]:
    """Sort task names so that each comes after what it depends on.

    Raises Invalid for a name used twice or a dependency nobody has, GraphCycle for a circle.
    """
    names = [task.name for task in tasks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Invalid(f"task names must differ: {', '.join(twice)}")
    for task in tasks:
        unknown = sorted(set(task.depends_on) - set(names))
        if unknown:
            raise Invalid(f"task {task.name} depends on unknown {', '.join(unknown)}")
    try:
        return list(TopologicalSorter({t.name: t.depends_on for t in tasks}).static_order())
    except CycleError as error:
        cycle = list(error.args[1])
        raise GraphCycle(f"tasks wait for each other: {' -> '.join(cycle)}", cycle=cycle) from None


def when(text: str | None) -> int:
    """Read an RFC 3339 time as milliseconds; 0 for none."""
    if text is None:
        return 0
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise Invalid("not_before needs a time zone, such as 2026-11-22T21:00:00Z")
        return max(0, int(moment.astimezone(UTC).timestamp() * 1000))
    except (ValueError, OverflowError):
        raise Invalid("not_before is not an RFC 3339 time such as 2026-11-22T21:00:00Z") from None


def title_of(goal: str) -> str:
    """Make a title of a goal: its first line with something to read, cut at a word."""
    line = next((found for each in goal.splitlines() if (found := clean(each))), "mission")
    if len(line) <= TITLE_LENGTH:
        return line
    cut = line[: TITLE_LENGTH - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut[TITLE_LENGTH // 2 :] else cut).rstrip() + "…"


def clean(text: str) -> str:
    """Drop what can mislead on a screen: control, format (bidi) and unassigned characters."""
    kept = (" " if c.isspace() else c for c in text if c.isspace() or not control(c))
    return " ".join("".join(kept).split())


def control(text: str) -> bool:
    """Tell whether a text holds characters nobody can see."""
    return any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn"} for c in text)


def encoded(text: str, name: str) -> bytes:
    """Encode a text; raises Invalid for lone surrogates, which no UTF-8 can carry."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{name} is not valid Unicode") from None
