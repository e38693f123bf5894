"""Does what a hook asks for, once: however often it is tried, its id makes it the same deed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from tinytown import ids
from tinytown.errors import (
    AlreadyAnswered,
    Gone,
    IllegalMove,
    Invalid,
    MissionNotFound,
    NotFound,
    TooMany,
)
from tinytown.models.hook import HookMove, HookOutcome
from tinytown.models.key import Actor
from tinytown.models.mission import ENDED, Mission
from tinytown.models.source import GithubRules, Preview, SourceRecord
from tinytown.store import Store
from tinytown.store.hooks import Waiting
from tinytown.store.missions import ThreadIsOpen
from tinytown.town.github import same_repository
from tinytown.town.missions import MissionDesk, clean
from tinytown.town.questions import APPROVAL_OPTIONS, QuestionDesk
from tinytown.town.rules import Decision, spec_of

FOLLOW_UPS: Final = 3
"""Missions in a row that may follow each other on one branch: then a person should look."""
_FOLLOWS: Final = "follow-up"
_RACES: Final = 5


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a hook, and what its mission's log says about it."""

    move: HookMove
    outcome: HookOutcome
    line: str = ""
    told_in: str = ""
    """The mission whose log has that line."""


class Acts:
    """Carries decisions out with the desks' use-cases."""

    def __init__(self, store: Store, missions: MissionDesk, questions: QuestionDesk) -> None:
        """Act in one town."""
        self._store = store
        self._missions = missions
        self._questions = questions

    async def perform(self, decision: Decision, waiting: Waiting, source: SourceRecord) -> Done:
        """Do it. What cannot be done now or ever raises a TownError."""
        said = _Doing(decision, waiting, source)
        match decision.action:
            case "start_mission":
                return await self._start(said)
            case "message":
                return await self._message(said)
            case "cancel":
                return await self._cancel(said)
            case "answer_question":
                return await self._answer(said)
            case "attach":
                return await self._attach(said)
            case "ignore":
                return said.ignored(decision.reason)

    async def preview(self, decision: Decision, kind: str) -> Preview:
        """Say what `perform` would do; changes nothing."""
        fields = decision.fields
        would, mission_id, reason = decision.action, fields.get("mission_id"), decision.reason
        if thread := fields.get("thread"):
            mission_id = await self._open_mission(thread)
            if would == "start_mission":
                spec_of(_spec_fields(fields))
                if mission_id:
                    would, reason = "message", f"the thread {thread} has an open mission"
            elif not mission_id:
                would, reason = "ignore", f"the thread {thread} has no open mission"
        return Preview(
            kind=kind,
            would=would,
            rule=decision.rule,
            fields=fields,
            mission_id=mission_id,
            reason=reason or None,
        )

    # -- one by one -----------------------------------------------------------------------------

    async def _start(self, said: _Doing) -> Done:
        fields = _spec_fields(said.fields)
        labels = {"source": said.source.name or said.source.id}
        thread = str(said.fields.get("thread", ""))
        if thread:
            labels["thread"] = clean(thread)[:200]
        spec = spec_of({**fields, "labels": labels | fields.get("labels", {})})
        if thread and said.waiting.hook.tries > 1:
            # An earlier try may have told the thread's mission, which has ended since.
            told = await self._told(thread, said.waiting.hook.id)
            if told:
                return said.routed("message", told)
        for _ in range(_RACES):
            try:
                mission = await self._missions.start(
                    spec, said.actor, mission_id=said.mission_id, thread=thread
                )
                return said.routed("start_mission", mission.id)
            except ThreadIsOpen as open_:
                try:
                    await self._tell(said, open_.mission_id)
                except (IllegalMove, MissionNotFound):
                    continue  # it ended in between: the thread is free
                return said.routed("message", open_.mission_id)
        raise Invalid(f"the missions of the thread {thread} end as fast as they start")

    async def _told(self, thread: str, hook_id: str) -> str | None:
        mission_id = await self._store.missions.of_thread(thread)
        if mission_id is None:
            return None
        messages = await self._store.missions.messages(mission_id)
        return mission_id if any(each.id == hook_id for each in messages) else None

    async def _message(self, said: _Doing) -> Done:
        mission_id = await self._mission_meant(said.fields)
        if mission_id is None:
            return said.ignored("its thread has no open mission")
        try:
            await self._tell(said, mission_id)
        except IllegalMove as error:
            return said.ignored(error.detail, mission_id)
        return said.routed("message", mission_id)

    async def _tell(self, said: _Doing, mission_id: str) -> None:
        await self._missions.message(
            mission_id, said.fields["text"], said.actor, message_id=said.waiting.hook.id
        )

    async def _cancel(self, said: _Doing) -> Done:
        mission_id = await self._mission_meant(said.fields)
        if mission_id is None:
            return said.ignored("its thread has no open mission")
        try:
            await self._missions.cancel(mission_id, said.actor)
        except IllegalMove as error:
            # Where an earlier try of this hook got through, that was it.
            if error.extra.get("state") != "canceled" or said.waiting.hook.tries < 2:
                return said.ignored(error.detail, mission_id)
        return said.routed("cancel", mission_id)

    async def _answer(self, said: _Doing) -> Done:
        via = said.source.scheme
        question_id, answer = said.fields.get("question_id", ""), said.fields.get("answer")
        try:
            if token := said.fields.get("token"):
                link = self._questions.open_link(token)
                question = await self._questions.read(link.question_id)
                question_id = question.id
                options = question.options or (
                    APPROVAL_OPTIONS if question.kind == "approval" else ()
                )
                if link.choice is not None:
                    if link.choice >= len(options):
                        raise Invalid("the button stands for an option the question has not")
                    answer = options[link.choice]
            if answer is None:
                raise Invalid("the button stands for no answer")
            question = await self._questions.answer(
                question_id, answer, by=said.actor.name, via=via
            )
        except (AlreadyAnswered, IllegalMove, Gone) as error:
            return said.ignored(error.detail, question_id=question_id or None)
        except NotFound as error:
            if "token" in said.fields:
                return said.ignored("the button is none of this town's")
            raise error from None
        return said.routed("answer_question", question.mission_id, question_id=question.id)

    async def _attach(self, said: _Doing) -> Done:
        mission_id = said.fields["mission_id"]
        try:
            mission = await self._missions.read(mission_id)
        except MissionNotFound:
            return said.ignored("that mission is not known here (any more)")
        if not same_repository(mission.repo, said.fields["repository"]):
            return said.ignored("that mission works on another repository")
        line = said.fields["line"]
        if mission.state not in ENDED:
            if "text" in said.fields:
                # It may end this moment, or have heard enough: its log says what happened.
                with suppress(IllegalMove, TooMany):
                    await self._tell(said, mission_id)
            return said.routed("attach", mission_id, line=line)
        github = said.source.github or GithubRules()
        depth = _depth(mission)
        if not github.follow_up or "goal" not in said.fields or depth >= FOLLOW_UPS:
            return said.routed("attach", mission_id, line=line)
        started = await self._start(said.following(mission, depth))
        # The earlier mission's log says what happened and who goes on.
        reason = f"{started.outcome.mission_id} goes on"
        outcome = msgspec.structs.replace(started.outcome, action="follow_up", reason=line)
        return Done(
            move=HookMove.ROUTE, outcome=outcome, line=f"{line}; {reason}", told_in=mission_id
        )

    async def _mission_meant(self, fields: Mapping[str, Any]) -> str | None:
        if "mission_id" in fields:
            return str(fields["mission_id"])
        return await self._open_mission(fields["thread"])

    async def _open_mission(self, thread: str) -> str | None:
        mission_id = await self._store.missions.of_thread(thread)
        if mission_id is None:
            return None
        try:
            mission = await self._missions.read(mission_id)
        except MissionNotFound:
            return None
        return None if mission.state in ENDED else mission_id


class _Doing(msgspec.Struct, frozen=True):
    """One decision about one hook."""

    decision: Decision
    waiting: Waiting
    source: SourceRecord

    @property
    def fields(self) -> dict[str, Any]:
        return self.decision.fields

    @property
    def mission_id(self) -> str:
        """Name the mission this hook may start: of all tries of all routers the same one."""
        return f"{ids.PREFIXES['mission']}_{self.waiting.hook.id.partition('_')[2]}"

    @property
    def actor(self) -> Actor:
        """Say who acts: the person the hook names, through the source."""
        source = clean(self.source.name) or self.source.scheme
        who = clean(str(self.fields.get("by", "")))
        name = f"{who} via {source}" if who and self.decision.action != "answer_question" else who
        return Actor(id=self.source.id, name=name or source, scopes=frozenset({"write", "answer"}))

    def following(self, mission: Mission, depth: int) -> _Doing:
        """Make the decision to go on where an ended mission stopped."""
        fields = {
            **self.fields,
            "title": f"Follow-up: {mission.title}"[:200],
            "repo": mission.repo,
            "agent": mission.agent,
            "pool": mission.pool,
            "priority": mission.priority,
            "thread": f"{self.fields['repository']}@{self.fields['ref']}",
            "labels": {**mission.labels, _FOLLOWS: str(depth + 1), "follows": mission.id},
        }
        fields = {name: value for name, value in fields.items() if value is not None}
        fields.setdefault("text", fields["line"])
        return _Doing(
            msgspec.structs.replace(self.decision, fields=fields), self.waiting, self.source
        )

    def routed(
        self, action: str, mission_id: str | None, *, question_id: str | None = None, line: str = ""
    ) -> Done:
        outcome = HookOutcome(
            action=action,
            rule=self.decision.rule,
            mission_id=mission_id,
            question_id=question_id,
        )
        told_in = (mission_id or "") if line else ""
        return Done(move=HookMove.ROUTE, outcome=outcome, line=line, told_in=told_in)

    def ignored(
        self, reason: str, mission_id: str | None = None, *, question_id: str | None = None
    ) -> Done:
        outcome = HookOutcome(
            action=self.decision.action,
            rule=self.decision.rule,
            mission_id=mission_id,
            question_id=question_id,
            reason=reason or None,
        )
        return Done(move=HookMove.IGNORE, outcome=outcome)


def _spec_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    spec = {name: value for name, value in fields.items() if name != "by"}
    if title := clean(str(spec.pop("title", "")))[:200]:
        spec["title"] = title
    return spec


def _depth(mission: Mission) -> int:
    said = mission.labels.get(_FOLLOWS, "0")
    return int(said) if said.isdecimal() and len(said) < 4 else FOLLOW_UPS
