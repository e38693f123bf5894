"""Turns what Redis keeps (hashes of text, milliseconds) into the nouns, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from tinytown.models.delivery import Attempt, Delivery, DeliveryState, DueDelivery, Replay
from tinytown.models.event import Event, event_id
from tinytown.models.mission import Callback, Mission, MissionState, Result, StartMission
from tinytown.models.question import OutcomeKind, Question, QuestionState
from tinytown.models.task import Claim, Message, Task, TaskState
from tinytown.models.worker import Worker, WorkerState

Fields = Mapping[str, str]


def instant(ms: str | float | None) -> str | None:
    """Write milliseconds as RFC 3339 UTC (`2026-11-22T21:00:00.123Z`); None for nothing."""
    if not ms or ms == "0":
        return None
    moment = datetime.fromtimestamp(int(ms) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def must(ms: str | float) -> str:
    """Write milliseconds that are surely there."""
    return instant(ms) or ""


def milliseconds(text: str) -> int:
    """Read what `must` wrote."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def pairs(flat: Sequence[Any] | Mapping[str, Any]) -> dict[str, str]:
    """Make a dict of a flat reply of fields and values."""
    if isinstance(flat, Mapping):
        return {str(name): str(value) for name, value in flat.items()}
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _or_none(text: str | None) -> str | None:
    return text or None


def mission(id_: str, fields: Fields, tasks: Iterable[Task], question: Question | None) -> Mission:
    """Make a mission of its hash, its tasks and its oldest open question."""
    spec = msgspec.json.decode(fields["spec"], type=StartMission)
    tasks = tuple(tasks)
    callback = fields.get("callback")
    return Mission(
        id=id_,
        title=fields["title"],
        goal=spec.goal,
        state=MissionState(fields["state"]),
        created_at=must(fields["created_at"]),
        started_at=instant(fields.get("started_at")),
        finished_at=instant(fields.get("finished_at")),
        repo=spec.repo,
        ref=spec.ref,
        agent=spec.agent,
        pool=spec.pool or (tasks[0].pool if tasks else "default"),
        priority=spec.priority,
        not_before=instant(fields.get("not_before")),
        time_limit_seconds=spec.time_limit_seconds,
        labels=spec.labels,
        tasks=tasks,
        question=question,
        reason=_or_none(fields.get("reason")),
        callback=Callback(endpoint_id=callback) if callback else None,
    )


def task(id_: str, fields: Fields) -> Task:
    """Make a task of its hash."""
    return Task(
        id=id_,
        name=fields["name"],
        state=TaskState(fields["state"]),
        attempt=int(fields["attempt"]),
        worker=_or_none(fields.get("worker")),
        pool=fields["pool"],
        agent=_or_none(fields.get("agent")),
        depends_on=tuple(msgspec.json.decode(fields["depends_on"])),
        queued_at=instant(fields.get("queued_at")),
        started_at=instant(fields.get("started_at")),
        finished_at=instant(fields.get("finished_at")),
        summary=_or_none(fields.get("summary")),
        reason=_or_none(fields.get("reason")),
    )


def result(fields: Fields) -> Result | None:
    """Read what a task left behind from its hash; None while it has not ended."""
    text = fields.get("result")
    return msgspec.json.decode(text, type=Result) if text else None


def message(text: str) -> Message:
    """Make a message of its stored JSON."""
    raw = msgspec.json.decode(text)
    return Message(id=raw["id"], text=raw["text"], at=must(raw["at_ms"]), by=raw["by"])


def claim(reply: Sequence[Any]) -> Claim:
    """Make a claim of claim_task's reply (without its leading 1)."""
    task_id, mission_id, attempt, lease_until, spec_json, fields, messages = reply
    name, instructions, agent, pool, after, dependents, checkpoint = fields
    spec = msgspec.json.decode(spec_json, type=StartMission)
    return Claim(
        task_id=task_id,
        mission_id=mission_id,
        attempt=attempt,
        lease_until_ms=lease_until,
        name=name,
        goal=spec.goal,
        instructions=instructions,
        title=spec.title or "",
        repo=spec.repo,
        ref=spec.ref,
        agent=_or_none(agent),
        pool=pool,
        time_limit_seconds=spec.time_limit_seconds,
        messages=tuple(message(text) for text in messages),
        earlier=tuple(after.split()),
        leads=bool(dependents),
        checkpoint=checkpoint not in {None, "", "0"},
    )


def question(id_: str, fields: Fields) -> Question:
    """Make a question of its hash."""
    outcome = fields.get("outcome")
    answered = fields["state"] == "answered" or outcome == "defaulted"
    return Question(
        id=id_,
        mission_id=fields["mission"],
        task_id=fields["task"],
        kind=msgspec.convert(fields["kind"], type=Any),
        text=fields["text"],
        options=tuple(msgspec.json.decode(fields["options"])),
        free_text=fields["free_text"] == "1",
        default=fields["default"] if fields["has_default"] == "1" else None,
        context=fields["context"],
        risk=msgspec.convert(fields["risk"], type=Any),
        asked_at=must(fields["asked_at"]),
        expires_at=instant(fields["expires_at"]),
        state=QuestionState(fields["state"]),
        answer=fields.get("answer") if answered else None,
        answered_at=instant(fields.get("answered_at")) if fields["state"] == "answered" else None,
        answered_by=_or_none(fields.get("answered_by")),
        answered_via=_or_none(fields.get("answered_via")),
        outcome=OutcomeKind(outcome) if outcome else None,
        mission_title=fields["title"],
    )


def worker(id_: str, fields: Fields, seen_ms: float) -> Worker:
    """Make a worker of its card and its last sign of life."""
    card = msgspec.json.decode(fields["card"])
    return Worker(
        id=id_,
        state=WorkerState(fields["state"]),
        pools=tuple(fields["pools"].split()),
        agent=card.get("agent"),
        host=card.get("host", ""),
        version=card.get("version", ""),
        task_id=_or_none(fields.get("task")),
        started_at=must(fields["started_at"]),
        seen_at=must(seen_ms),
        stopped_at=instant(fields.get("stopped_at")),
    )


def event(town: str, stream_id: str, fields: Fields, mission_id: str | None = None) -> Event:
    """Make an event of its stream entry."""
    return Event(
        id=event_id(stream_id),
        type=fields["type"],
        timestamp=must(fields["at"]),
        town=town,
        mission_id=_or_none(fields.get("mission", mission_id)),
        task_id=_or_none(fields.get("task")),
        data=_as_told(msgspec.json.decode(fields["data"])),
    )


def _as_told(facts: dict[str, Any]) -> dict[str, Any]:
    """Write the milliseconds of scripts as everyone outside reads them: RFC 3339 and seconds."""
    told: dict[str, Any] = {}
    for name, value in facts.items():
        plain = name.removesuffix("_ms")
        if plain == name:
            told[name] = value
        elif plain.endswith(("_at", "_before")):
            told[plain] = instant(value)
        else:
            told[f"{plain}_seconds"] = value / 1000
    return told


def due(row: Sequence[Any], events: Mapping[str, Event]) -> DueDelivery:
    """Make a leased delivery of one row of claim_deliveries; `events` by their stream id."""
    id_, endpoint_id, attempt, created_at, round_try, stream_id, kind = row
    return DueDelivery(
        id=id_,
        endpoint_id=endpoint_id,
        kind=kind,
        event=events[stream_id],
        attempt=attempt,
        created_at_ms=int(created_at),
        tried=round_try,
    )


def delivered_event(town: str, stream_id: str, fields: Fields) -> Event:
    """Make an event of the text kept for its deliveries; without its data where that is gone."""
    if not fields:
        at = stream_id.partition("-")[0]
        return Event(id=event_id(stream_id), type="", timestamp=must(at), town=town)
    return event(town, stream_id, fields)


def delivery(town: str, id_: str, fields: Fields, body: Fields) -> Delivery:
    """Make a delivery of its hash and its event's text."""
    state = DeliveryState(fields["state"])
    told = delivered_event(town, fields["event"], body)
    return Delivery(
        id=id_,
        endpoint_id=fields["endpoint"],
        kind=fields["kind"],
        event=told if told.type else msgspec.structs.replace(told, type=fields["type"]),
        state=state,
        attempt=int(fields["attempt"]),
        created_at=must(fields["created_at"]),
        due_at=instant(fields.get("due_at")) if state is DeliveryState.DUE else None,
        finished_at=instant(fields.get("finished_at")),
        reason=_or_none(fields.get("reason")),
        attempts=msgspec.json.decode(fields.get("tries") or "[]", type=tuple[Attempt, ...]),
    )


def replay(id_: str, fields: Fields) -> Replay:
    """Make a replay of its hash."""
    return Replay(
        id=id_,
        state=fields["state"],
        endpoint_id=_or_none(fields["endpoint"]),
        since=instant(fields["since"]),
        until=must(fields["until"]),
        missing=fields["missing"] == "1",
        dead=int(fields["total"]),
        done=int(fields["done"]),
        created_at=must(fields["created_at"]),
        created_by=fields["by"],
        finished_at=instant(fields.get("finished_at")),
    )


def combined(results: Sequence[Result]) -> Result | None:
    """Sum up what the tasks of a mission left behind; None while there is nothing.

    Summaries and branch are the last task's, files and tokens add up.
    """
    if not results:
        return None
    last = results[-1]
    costs = [each.cost_usd for each in results if each.cost_usd is not None]
    return msgspec.structs.replace(
        last,
        cost_usd=sum(costs) if costs else None,
        input_tokens=sum(each.input_tokens for each in results),
        output_tokens=sum(each.output_tokens for each in results),
        files_changed=sum(each.files_changed for each in results),
    )
