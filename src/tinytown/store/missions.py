"""The missions' shelf: start one, move one, read one, list them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from tinytown.errors import MissionNotFound, TooMany
from tinytown.models.endpoint import EndpointRecord
from tinytown.models.mission import Mission, MissionState, Result, StartMission
from tinytown.models.task import Message
from tinytown.store import records
from tinytown.store.faults import store_errors
from tinytown.store.keys import Keyring
from tinytown.store.pages import Index, page_of
from tinytown.store.replies import DONE, TOO_MANY, refuse
from tinytown.store.scripts import Scripts
from tinytown.store.wire import Client

_THREAD_IS_OPEN = 3


class TaskPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A task as start_mission wants it: the graph is already checked and counted."""

    id: str
    name: str
    pool: str
    agent: str
    instructions: str
    depends_on: str
    """JSON array of names."""
    deps: int
    dependents: str
    """Ids, separated by spaces."""
    after: str
    """Ids of all it builds on, separated by spaces, in an order that respects the graph."""


class ThreadIsOpen(Exception):
    """The thread has a mission that has not ended: it starts no other."""

    def __init__(self, mission_id: str) -> None:
        """Name the mission that is open."""
        super().__init__(mission_id)
        self.mission_id = mission_id


class Missions:
    """Reads and moves missions."""

    def __init__(self, client: Client, keys: Keyring, scripts: Scripts) -> None:
        """Work on one town's missions."""
        self._client = client
        self._keys = keys
        self._scripts = scripts

    async def start(
        self,
        mission_id: str,
        spec: StartMission,
        *,
        title: str,
        not_before_ms: int,
        actor: str,
        max_attempts: int,
        tasks: Sequence[TaskPlan],
        callback: EndpointRecord | None = None,
        thread: str = "",
    ) -> bool:
        """Create a mission, with its callback; False if it was there already (a repeated call).

        Raises ThreadIsOpen while an earlier mission of its thread has not ended.
        """
        labels = [f"{name}={value}" for name, value in spec.labels.items()]
        reply = await self._scripts.run(
            "start_mission",
            mission=mission_id,
            title=title,
            spec=msgspec.json.encode(spec),
            priority=spec.priority,
            not_before=not_before_ms,
            labels=msgspec.json.encode(labels),
            actor=actor,
            max_attempts=max_attempts,
            tasks=msgspec.json.encode(list(tasks)),
            callback=msgspec.json.encode(callback) if callback else "",
            thread=_digest_of(thread),
        )
        if reply[0] == _THREAD_IS_OPEN:
            raise ThreadIsOpen(reply[1])
        return bool(reply[0] == DONE)

    async def of_thread(self, thread: str) -> str | None:
        """Name the latest mission of a thread, open or ended; None where there was none."""
        with store_errors():
            found = await self._client.get(self._keys("thread", _digest_of(thread)))
        return None if found is None else str(found)

    async def labels(self, mission_id: str) -> dict[str, str]:
        """Read a mission's labels; none for a mission that is gone."""
        with store_errors():
            text = await self._client.hget(self._keys("mission", mission_id), "labels")
        pairs = (
            label.partition("=") for label in msgspec.json.decode(text or "[]", type=list[str])
        )
        return {name: value for name, _, value in pairs}

    async def cancel(self, mission_id: str, *, by: str) -> MissionState:
        """End a mission and all its tasks."""
        reply = await self._scripts.run("cancel_mission", mission=mission_id, by=by)
        return self._moved(reply, "cancel")

    async def pause(self, mission_id: str) -> MissionState:
        """Start nothing new of a mission."""
        return self._moved(await self._scripts.run("pause_mission", mission=mission_id), "pause")

    async def resume(self, mission_id: str) -> MissionState:
        """Go on with a paused mission."""
        return self._moved(await self._scripts.run("resume_mission", mission=mission_id), "resume")

    async def retry(self, mission_id: str) -> MissionState:
        """Run a failed or canceled mission again."""
        return self._moved(await self._scripts.run("retry_mission", mission=mission_id), "retry")

    async def message(self, mission_id: str, *, message_id: str, text: str, by: str) -> int:
        """Leave a sentence for a mission's agents; says how many running ones were told."""
        message = {"id": message_id, "text": text, "by": by}
        reply = await self._scripts.run(
            "send_message", mission=mission_id, message=msgspec.json.encode(message)
        )
        if reply[0] == TOO_MANY:
            raise TooMany("this mission has too many messages", retry_after_seconds=60)
        if reply[0] != DONE:
            refuse(reply, MissionNotFound, "mission", "send a message to")
        return int(reply[1])

    async def messages(self, mission_id: str) -> tuple[Message, ...]:
        """Read all sentences people left for a mission's agents."""
        with store_errors():
            texts = await self._client.lrange(self._keys("mission_messages", mission_id), 0, -1)
        return tuple(records.message(text) for text in texts)

    async def read(self, mission_id: str) -> Mission:
        """Read one mission with its result; raises MissionNotFound."""
        found = await self.read_many([mission_id])
        if not found:
            raise MissionNotFound("there is no mission with this id")
        return found[0]

    async def read_many(self, mission_ids: Sequence[str]) -> list[Mission]:
        """Read missions in the order of their ids; unknown ones are left out."""
        if not mission_ids:
            return []
        rows = await self._scripts.run("read_missions", missions=mission_ids)
        return [self._mission(*row) for row in rows]

    async def page(
        self, *, state: MissionState | None, label: str | None, cursor: str | None, limit: int
    ) -> tuple[list[Mission], str | None]:
        """List missions, newest first; the cursor is the last mission of the page before.

        With both filters the label's index is walked and the state compared, at most ten pages
        per call: the cursor goes on where it stopped.
        """
        if label is not None:
            digest = hashlib.sha1(label.encode(), usedforsecurity=False).hexdigest()
            key = self._keys("missions_by_label", digest)
        elif state is not None:
            key = self._keys("missions_by_state", state)
        else:
            key = self._keys("missions")
        index = Index(key=key, field="created_at", newest_first=True)
        found: list[Mission] = []
        for _ in range(10):
            ids, more = await page_of(
                self._client,
                index,
                cursor=cursor,
                record=self._keys("mission", cursor or ""),
                limit=limit - len(found),
            )
            missions = await self.read_many(ids)
            found += [m for m in missions if state is None or m.state is state]
            cursor = ids[-1] if ids and more else None
            if cursor is None or len(found) >= limit:
                break
        return found, cursor

    async def results(self, mission: Mission) -> list[tuple[str, Result]]:
        """Read what the completed and failed tasks left behind, with their patches."""
        with store_errors():
            pipe = self._client.pipeline(transaction=False)
            for task in mission.tasks:
                pipe.hget(self._keys("task", task.id), "result")
                pipe.get(self._keys("task_patch", task.id))
            rows = await pipe.execute()
        found = []
        for task, text, patch in zip(mission.tasks, rows[::2], rows[1::2], strict=True):
            if text:
                result = msgspec.json.decode(text, type=Result)
                found.append((task.id, msgspec.structs.replace(result, patch=patch)))
        return found

    async def bundles(self, task_ids: Sequence[str]) -> list[bytes]:
        """Read the bundles of tasks, in order; a task without one is left out."""
        if not task_ids:
            return []
        with store_errors():
            texts = await self._client.mget([self._keys("task_bundle", id_) for id_ in task_ids])
        return [text.encode("utf-8", "surrogateescape") for text in texts if text]

    async def checkpoint(self, task_id: str) -> bytes | None:
        """Read what an earlier attempt left to go on with."""
        with store_errors():
            text = await self._client.get(self._keys("task_checkpoint", task_id))
        return None if text is None else text.encode("utf-8", "surrogateescape")

    def _moved(self, reply: Any, move: str) -> MissionState:
        if reply[0] != DONE:
            refuse(reply, MissionNotFound, "mission", move)
        return MissionState(reply[1])

    def _mission(self, id_: str, flat: Any, tasks: Any, asked: Any) -> Mission:
        fields = records.pairs(flat)
        question = records.question(asked[0], records.pairs(asked[1])) if asked else None
        task_fields = [(task_id, records.pairs(task_flat)) for task_id, task_flat in tasks]
        mission = records.mission(
            id_, fields, (records.task(task_id, each) for task_id, each in task_fields), question
        )
        results = [each for _, task in task_fields if (each := records.result(task))]
        return msgspec.structs.replace(mission, result=records.combined(results))


def _digest_of(thread: str) -> str:
    """Name a thread as a key can: whatever is in it, one plain word."""
    return hashlib.sha256(thread.encode("utf-8", "replace")).hexdigest()[:40] if thread else ""
