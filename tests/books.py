"""The books of a town, checked: what is counted is what is there, and the events tell it all."""

from __future__ import annotations

import json
from collections import Counter
from functools import cached_property
from typing import Any

from catalogued import differences
from delivery_books import DeliveryBooks, Records
from leaks import key_leaks
from tinytown.models import mission, question, task, worker
from tinytown.models.event import TYPES
from tinytown.store import records

GONE = {"stopped", "lost"}
LEASED = {"running", "blocked"}


def leased(record: dict[str, str]) -> bool:
    """Tell whether a worker holds a task: a parked one is blocked without."""
    return record["state"] in LEASED and record.get("parked") != "1"


class Books(DeliveryBooks):
    """Everything one town keeps in Redis, read when it is first looked at."""

    @cached_property
    def gauges(self) -> dict[str, int]:
        rows = self.client.hgetall(self.keys("gauges"))
        return {name: int(value) for name, value in rows.items()}

    @cached_property
    def timers(self) -> dict[str, float]:
        return dict(self.client.zrange(self.keys("timers"), 0, -1, withscores=True))

    @cached_property
    def missions(self) -> Records:
        return self.hashes("mission")

    @cached_property
    def tasks(self) -> Records:
        return self.hashes("task")

    @cached_property
    def workers(self) -> Records:
        return self.hashes("worker")

    @cached_property
    def questions(self) -> Records:
        return self.hashes("question")

    def check(self) -> list[str]:
        """List everything that does not add up."""
        self.check_gauges()
        self.check_docket()
        self.check_timers()
        self.check_leases()
        self.check_missions()
        self.check_questions()
        self.check_deliveries()
        self.check_story()
        self.wrong += key_leaks(self.client)
        return self.wrong

    def check_gauges(self) -> None:
        """Each gauge is the number of records in its state."""
        there: Counter[str] = Counter()
        for record in self.tasks.values():
            there[f"tasks:{record['pool']}:{record['state']}"] += 1
            if record["deferred"] == "1":
                there[f"deferred:{record['pool']}"] += 1
                self.same("a deferred task's state", record["state"], "pending")
        for record in self.workers.values():
            there[f"workers:{record['pool']}:{record['state']}"] += 1
        kept = {name: value for name, value in self.gauges.items() if value}
        self.same("gauges", kept, dict(there))

    def check_docket(self) -> None:
        """The streams hold what is queued or leased, the groups what is leased, and by whom."""
        waiting: dict[str, set[str]] = {}
        entries: dict[str, set[str]] = {}
        pending: dict[str, dict[str, str]] = {}
        for id_, record in self.tasks.items():
            stream = self.keys("docket", record["pool"], record["priority"])
            if record["state"] == "queued":
                waiting.setdefault(record["pool"], set()).add(id_)
            if record["state"] == "queued" or leased(record):
                entries.setdefault(stream, set()).add(record["entry"])
            if leased(record):
                pending.setdefault(stream, {})[record["entry"]] = record["worker"]
        for pool in self.client.smembers(self.keys("pools")):
            kept = set(self.client.zrange(self.keys("waiting", pool), 0, -1))
            self.same(f"waiting of {pool}", kept, waiting.pop(pool, set()))
            for priority in mission.PRIORITIES:
                stream = self.keys("docket", pool, priority)
                listed = {id_ for id_, _ in self.client.xrange(stream)}
                self.same(f"entries of {stream}", listed, entries.pop(stream, set()))
                claimed = {}
                if any(group["name"] == "workers" for group in self._groups(stream)):
                    rows = self.client.xpending_range(stream, "workers", "-", "+", 10_000)
                    claimed = {row["message_id"]: row["consumer"] for row in rows}
                self.same(f"claimed of {stream}", claimed, pending.pop(stream, {}))
        self.same("pools nobody named", [], [*waiting, *entries, *pending])

    def _groups(self, stream: str) -> list[dict[str, Any]]:
        return list(self.client.xinfo_groups(stream)) if self.client.exists(stream) else []

    def check_timers(self) -> None:
        """Everything that must happen by time has its timer, and nothing else has one."""
        owed: set[str] = set()
        later: dict[str, set[str]] = {}
        for id_, record in self.tasks.items():
            if leased(record):
                owed.add(f"lease:{id_}")
            if f"later:{id_}" in self.timers:
                self.same(f"deferred {id_}", record["deferred"], "1")
                owed.add(f"later:{id_}")
                later.setdefault(record["pool"], set()).add(id_)
            elif record["deferred"] == "1":  # nothing but a person's `resume` wakes it
                self.same(f"{id_} paused", self.missions[record["mission"]]["paused"], "1")
        owed |= {
            f"question:{id_}"
            for id_, record in self.questions.items()
            if record["state"] == "open" and record["expires_at"] != "0"
        }
        owed |= {
            f"gone:{id_}" if record["state"] in GONE else f"worker:{id_}"
            for id_, record in self.workers.items()
        }
        owed |= {
            f"retire:{id_}"
            for id_, record in self.missions.items()
            if record["state"] in mission.ENDED
        }
        running = self.hashes("replay").items()
        owed |= {f"replay:{id_}" for id_, record in running if record["state"] == "running"}
        self.same("timers", set(self.timers), owed)
        for pool in self.client.smembers(self.keys("pools")):
            kept = set(self.client.zrange(self.keys("later", pool), 0, -1))
            self.same(f"later of {pool}", kept, later.get(pool, set()))

    def check_leases(self) -> None:
        """A leased task has a living worker that holds it, and a worker holds one task at most."""
        for id_, record in self.tasks.items():
            if not leased(record):
                if record["state"] in LEASED:
                    self.same(f"parked {id_}", (record["state"], record["worker"]), ("blocked", ""))
                continue
            holder = self.workers.get(record["worker"], {})
            self.same(f"what the worker of {id_} holds", holder.get("task"), id_)
            if holder.get("state") not in {"busy", "draining"}:
                self.wrong.append(f"{id_} is held by a worker that is {holder.get('state')}")
        for id_, record in self.workers.items():
            if record["task"]:
                self.same(f"who holds {record['task']}", self.tasks[record["task"]]["worker"], id_)
            elif record["state"] == "busy":
                self.wrong.append(f"{id_} is busy with nothing")
        draining = {id_ for id_, record in self.workers.items() if record["state"] == "draining"}
        self.same("draining", self.client.smembers(self.keys("draining")), draining)
        self.same(
            "workers", set(self.client.zrange(self.keys("workers"), 0, -1)), set(self.workers)
        )

    def check_missions(self) -> None:
        """A mission's state follows from its tasks, and every index lists it once."""
        of: dict[str, Counter[str]] = {id_: Counter() for id_ in self.missions}
        for record in self.tasks.values():
            of[record["mission"]][record["state"]] += 1
        for id_, record in self.missions.items():
            counts = of[id_]
            opened = sum(n for state, n in counts.items() if state not in task.ENDED)
            broken = counts["failed"] + counts["dead"]
            self.same(f"open of {id_}", int(record["open"]), opened)
            self.same(f"blocked of {id_}", int(record["blocked"]), counts["blocked"])
            self.same(f"failed of {id_}", int(record["failed"]), broken)
            self.same(f"state of {id_}", record["state"], self._follows(record, counts, opened))
        self.same("missions", set(self.client.zrange(self.keys("missions"), 0, -1)), set(of))
        for state in mission.MissionState:
            there = {id_ for id_, record in self.missions.items() if record["state"] == state}
            kept = set(self.client.zrange(self.keys("missions_by_state", state), 0, -1))
            self.same(f"missions {state}", kept, there)

    def _follows(self, record: dict[str, str], counts: Counter[str], opened: int) -> str:
        if opened:
            if record["paused"] == "1":
                return "paused"
            if counts["blocked"]:
                return "blocked"
            return "running" if record.get("started_at") else "queued"
        if record["state"] == "canceled":
            return "canceled"
        return "failed" if counts["failed"] + counts["dead"] else "completed"

    def check_questions(self) -> None:
        """A task is blocked exactly by its attempt's open questions; ended tasks have none."""
        asked: Counter[str] = Counter()
        there = {id_ for id_, record in self.questions.items() if record["state"] == "open"}
        for id_ in there:
            record = self.questions[id_]
            owner = self.tasks[record["task"]]
            if owner["state"] in task.ENDED:
                self.wrong.append(f"{id_} is open although its task is {owner['state']}")
            if owner["state"] in LEASED and owner["attempt"] == record["attempt"]:
                asked[record["task"]] += 1
        for id_, record in self.tasks.items():
            if record["state"] in LEASED:
                self.same(f"questions of {id_}", int(record["questions"]), asked[id_])
                self.same(f"blocked {id_}", record["state"] == "blocked", asked[id_] > 0)
        kept = set(self.client.zrange(self.keys("questions_open"), 0, -1))
        self.same("open questions", kept, there)

    def check_story(self) -> None:
        """Told from the events alone, every record stands where it stands."""
        events = list(self.client.xrange(self.keys("events")))
        if events:
            added = self.client.xinfo_stream(self.keys("events"))["entries-added"]
            self.same("seq", added, len(events))
        town = dict(events)
        story = Story()
        for stream_id, fields in events:
            story.hear(fields)
            if wrong := differences(records.event("main", stream_id, fields)):
                self.wrong.append(wrong)
        for id_, record in self.missions.items():
            self.same(f"the story of {id_}", story.missions.get(id_), record["state"])
            for stream_id, fields in self.client.xrange(self.keys("mission_events", id_)):
                expected = {**town.get(stream_id, {})}
                self.same("whose history", expected.pop("mission", None), id_)
                self.same(f"{stream_id} in a history", fields, expected)
        for id_, record in self.questions.items():
            self.same(f"the story of {id_}", story.questions.get(id_), record["state"])
        for id_, record in self.tasks.items():
            ending = record["state"] if record["state"] in task.ENDED else "open"
            if record["state"] == "canceled" and story.missions[record["mission"]] == "canceled":
                continue
            self.same(f"the story of {id_}", story.ending(record["mission"], record, id_), ending)
        for id_, record in self.workers.items():
            state = record["state"] if record["state"] in {"draining", *GONE} else "there"
            self.same(f"the story of {id_}", story.workers.get(id_), state)


class Story:
    """What somebody knows who has only heard the events."""

    def __init__(self) -> None:
        self.missions: dict[str, str] = {}
        self.tasks: dict[str, str] = {}
        self.dropped: dict[str, set[str]] = {}
        self.questions: dict[str, str] = {}
        self.workers: dict[str, str] = {}

    def hear(self, fields: dict[str, str]) -> None:
        """Learn from one event."""
        noun, _, fact = fields["type"].partition(".")
        data = json.loads(fields["data"])
        assert fields["type"] in TYPES
        if noun == "mission":
            before = self.missions.get(fields["mission"])
            assert data["state"] != before, f"{fields['type']} without a move"
            self.missions[fields["mission"]] = data["state"]
            if data.get("reason") == "retry":
                self.dropped.pop(fields["mission"], None)
        elif noun == "task" and fact != "progressed":
            ending = fact if fact in {"completed", "failed", "dead"} else "open"
            self.tasks[fields["task"]] = ending
            self.dropped.setdefault(fields["mission"], set()).update(data.get("canceled", ()))
        elif noun == "question":
            self.questions[data["question_id"]] = "open" if fact == "asked" else fact
        elif noun == "worker":
            self.workers[data["worker"]] = "there" if fact in {"started", "idle"} else fact

    def ending(self, mission_id: str, record: dict[str, str], task_id: str) -> str:
        """Say how a task ended as far as the story tells."""
        if record["name"] in self.dropped.get(mission_id, ()):
            return "canceled"
        ending = self.tasks.get(task_id, "open")
        retried = ending != "completed" and self.missions[mission_id] not in mission.ENDED
        return "open" if retried and record["state"] == "pending" else ending


def reachable_states() -> dict[str, dict[str, set[str]]]:
    """List for each noun which states follow which, over any number of moves but no retry."""
    tables = {
        "missions": (mission.MOVES, "retry"),
        "tasks": (task.MOVES, "retry"),
        "questions": (question.MOVES, ""),
        "workers": (worker.MOVES, ""),
    }
    found: dict[str, dict[str, set[str]]] = {}
    for noun, (moves, left_out) in tables.items():
        steps: dict[str, set[str]] = {}
        for move, (sources, targets) in moves.items():  # type: ignore[attr-defined]
            if move != left_out:
                for source in sources:
                    steps.setdefault(source, set()).update(targets)
        closed: dict[str, set[str]] = {}
        for state in steps:
            seen, todo = {state}, [state]
            while todo:
                for following in steps.get(todo.pop(), ()):
                    if following not in seen:
                        seen.add(following)
                        todo.append(following)
            closed[state] = seen
        found[noun] = closed
    return found
