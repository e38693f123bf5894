"""Every Redis key: its name, type, life and who writes it. No other file spells one.

The prefix `tt:{<town>}:` has literal braces: a hash tag, so that all keys of a town share one
cluster slot and every script may touch any of them. The Lua prelude gets its key builders from
this table (store/scripts.py).
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

Life = Literal["permanent", "mission", "expires"]


class Key(msgspec.Struct, frozen=True):
    """One family of keys.

    `permanent` keys stay and are bounded by design; `mission` keys have no TTL while their
    mission is open and get one when it ends; `expires` keys always have a TTL.
    """

    name: str
    pattern: str
    type: str
    life: Life
    writers: str
    about: str

    @property
    def arguments(self) -> tuple[str, ...]:
        """Name the parts of the pattern that vary, in order."""
        return tuple(re.findall(r"<(\w+)>", self.pattern))


KEYS: Final = (
    Key("events", "events", "stream", "permanent", "every script that changes a state",
        "the town's event stream; bounded by EVENTS_KEPT; group `notifiers`"),
    Key("planned", "planned", "string", "permanent", "plan_deliveries",
        "the last event filed for anybody: there the group `notifiers` begins again if it is lost"),
    Key("counters", "counters", "hash", "permanent", "every script that counts",
        "what only grows: events, finished missions, deliveries, histograms"),
    Key("gauges", "gauges", "hash", "permanent", "every script that moves a record",
        "how many records stand in each state now, per pool"),
    Key("timers", "timers", "zset", "permanent", "every script that makes something due",
        "all that happens by time: lease:, later:, question:, worker:, retire:, replay:; score = "
        "due ms"),
    Key("pools", "pools", "set", "permanent", "start_mission, register_worker", "pools ever named"),
    Key("docket", "docket:<pool>:<priority>", "stream", "permanent", "enqueue, settle, release",
        "tasks ready to be claimed and claimed ones; group `workers`; an entry goes at the end"),
    Key("waiting", "waiting:<pool>", "zset", "permanent", "enqueue, claim, cancel",
        "tasks nobody holds, by the time they began to wait"),
    Key("later", "later:<pool>", "zset", "permanent", "start, resume, retry, tick",
        "tasks put aside until a time, by that time"),
    Key("mission", "mission:<id>", "hash", "mission", "start_mission and every move", "a mission"),
    Key("mission_tasks", "mission:<id>:tasks", "zset", "mission", "start_mission",
        "its tasks by position"),
    Key("mission_events", "mission:<id>:events", "stream", "mission", "every emit",
        "its history; same ids as the town's stream; bounded"),
    Key("mission_log", "mission:<id>:log", "stream", "mission", "append_log",
        "what its agents say and do; bounded"),
    Key("mission_messages", "mission:<id>:messages", "list", "mission", "send_message",
        "sentences from people to its agents; bounded"),
    Key("mission_questions", "mission:<id>:questions", "zset", "mission", "ask_question",
        "its questions by the time they were asked"),
    Key("missions", "missions", "zset", "permanent", "start_mission, tick (retire)",
        "missions by creation time; one leaves with its retention"),
    Key("missions_by_state", "missions:<state>", "zset", "permanent", "every mission move",
        "missions in a state by creation time"),
    Key("missions_by_label", "label:<label>", "zset", "permanent", "start_mission, tick (retire)",
        "missions with a label `name=value` by creation time"),
    Key("task", "task:<id>", "hash", "mission", "every task move", "a task, its lease and outcome"),
    Key("task_patch", "task:<id>:patch", "string", "mission", "settle_task", "its patch; bounded"),
    Key("task_bundle", "task:<id>:bundle", "string", "mission", "settle_task",
        "its work as a git bundle, where no remote carries it to the next task; bounded"),
    Key("task_checkpoint", "task:<id>:checkpoint", "string", "mission", "save_checkpoint",
        "what another worker needs to go on: the CLI's session and the work so far; bounded"),
    Key("task_asked", "task:<id>:asked", "hash", "mission", "ask_question",
        "digest of what was asked -> question id"),
    Key("worker", "worker:<id>", "hash", "expires", "register, claim, renew, settle, leave",
        "a worker's card"),
    Key("worker_inbox", "worker:<id>:inbox", "stream", "expires", "answer, cancel, message, drain",
        "signals to one worker; bounded"),
    Key("workers", "workers", "zset", "permanent", "register_worker, tick",
        "workers by last sign of life; a stopped one leaves with its card"),
    Key("draining", "draining", "set", "permanent", "drain_worker, leave_worker, tick",
        "workers that take nothing new but are still there"),
    Key("starts", "starts", "zset", "expires", "reserve_starts, register_worker, end_start",
        "workers promised and not here yet, `pool:launcher:start`, by their deadline"),
    Key("launches", "launches", "hash", "permanent", "reserve_starts, end_start, claim_task",
        "failed starts in a row per pool, and until when it is held back; bounded by the pools"),
    Key("launcher_lease", "lease:launcher", "string", "expires", "reserve_starts",
        "token of the one process that starts workers now"),
    Key("question", "question:<id>", "hash", "mission", "ask_question, answer_question, tick",
        "a question and its answer"),
    Key("questions_open", "questions:open", "zset", "permanent", "ask, answer, withdraw, tick",
        "open questions by the time they were asked"),
    Key("endpoints", "endpoints", "hash", "permanent", "put_endpoint, drop_endpoint",
        "endpoint id -> JSON; `version` counts changes"),
    Key("callbacks", "callbacks", "hash", "permanent", "start_mission, tick (retire)",
        "endpoint id -> JSON of the callback of a mission; goes with its mission"),
    Key("endpoint_health", "endpoint:<id>:health", "hash", "permanent",
        "put_endpoint, claim_deliveries, record_attempts",
        "how an endpoint is doing (state, failures, circuit, pace) and how it wants to be treated "
        "(in flight, rate, order); deleted with it"),
    Key("endpoint_deliveries", "endpoint:<id>:deliveries", "zset", "expires", "plan_deliveries",
        "its latest deliveries by time; bounded"),
    Key("delivery", "delivery:<id>", "hash", "expires", "plan_deliveries, record_attempts",
        "one event for one endpoint, with its attempts"),
    Key("event_body", "event:<id>", "hash", "expires", "plan_deliveries, tick (replay)",
        "an event as it is delivered, once for all its deliveries"),
    Key("endpoint_due", "endpoint:<id>:due", "zset", "permanent", "plan, claim, record_attempts",
        "its undelivered deliveries by the time they are due, or by the order of events (FIFO)"),
    Key("endpoint_flight", "endpoint:<id>:flight", "zset", "permanent", "claim, record_attempts",
        "its deliveries on their way, by the end of their lease"),
    Key("endpoint_dead", "endpoint:<id>:dead", "zset", "expires", "record_attempts, replay",
        "its dead letters by the time of their event; bounded"),
    Key("deliveries_due", "deliveries:due", "zset", "permanent", "plan, claim, record_attempts",
        "endpoints by the earliest time something may be done for them: none hides another"),
    Key("deliveries_dead", "deliveries:dead", "zset", "permanent", "record_attempts, replay",
        "dead letters by time; bounded"),
    Key("replay", "replay:<id>", "hash", "expires", "start_replay, tick",
        "many deliveries made due again, batch by batch"),
    Key("replay_todo", "replay:<id>:todo", "zset", "expires", "start_replay, tick",
        "what is left of it"),
    Key("replays", "replays", "zset", "permanent", "start_replay", "the latest replays; bounded"),
    Key("idempotency", "idempotency:<actor>:<key>", "string", "expires", "the idempotent door",
        "the reply to an Idempotency-Key, 24 h"),
    Key("keys", "keys", "hash", "permanent", "put_key, drop_key", "key id -> JSON"),
    Key("keys_by_digest", "keys:digest", "hash", "permanent", "put_key, drop_key",
        "SHA-256 of a key -> key id"),
    Key("sources", "sources", "hash", "permanent", "put_source, drop_source",
        "source id -> JSON; `version` grows with every change"),
    Key("source_seen", "source:<id>:seen:<delivery>", "string", "expires", "take_hook",
        "hook id of a delivery, by its digest, as long as the sender may send it again"),
    Key("source_rejected", "source:<id>:rejected", "string", "expires", "reject_hook",
        "how many hooks were refused within the minute"),
    Key("source_hooks", "source:<id>:hooks", "zset", "expires", "take_hook, settle_hooks",
        "its latest hooks by time; bounded"),
    Key("hook", "hook:<id>", "hash", "expires", "take_hook, settle_hooks, replay_hook",
        "a hook with its payload, and what became of it"),
    Key("hooks", "hooks", "stream", "permanent", "take_hook, replay_hook, settle_hooks",
        "hooks that wait for their rule; group `routers`; an entry goes when it is settled"),
    Key("hooks_bytes", "hooks:bytes", "string", "permanent", "take_hook, settle_hooks",
        "how large the payloads are that wait; together bounded"),
    Key("hooks_dead", "hooks:dead", "zset", "permanent", "settle_hooks, replay_hook",
        "hooks that could not be carried out, by time; bounded"),
    Key("thread", "thread:<digest>", "string", "expires", "start_mission",
        "the latest mission of a thread: while it is open the thread starts no other"),
    Key("audit", "audit", "stream", "permanent", "write_audit, reject_hook",
        "who did what to what; bounded"),
    Key("secrets", "secrets", "hash", "permanent", "first start of a townhall",
        "what a town makes for itself when no secret key is set: the key that signs links"),
)  # fmt: skip

_BY_NAME: Final = {key.name: key for key in KEYS}


class Keyring:
    """Spells the keys of one town."""

    def __init__(self, town: str) -> None:
        """Bind the table to a town's prefix."""
        self.town = town
        self.prefix = f"tt:{{{town}}}:"

    def __call__(self, name: str, *arguments: str) -> str:
        """Spell a key: `keys("task", "tsk_…")` -> `tt:{main}:task:tsk_…`."""
        key = _BY_NAME[name]
        text = key.pattern
        for field, value in zip(key.arguments, arguments, strict=True):
            text = text.replace(f"<{field}>", value)
        return self.prefix + text

    def family(self, key: str) -> Key | None:
        """Find the family a key belongs to; None for a key this table does not know."""
        if not key.startswith(self.prefix):
            return None
        text = key.removeprefix(self.prefix)
        # Longer patterns first: mission:<id>:tasks before mission:<id>.
        for candidate in sorted(KEYS, key=lambda k: len(k.pattern), reverse=True):
            if re.fullmatch(re.sub(r"<\w+>", "[^:]+", candidate.pattern), text):
                return candidate
        return None


def lua_builders() -> dict[str, str]:
    """Write the table as Lua, line by name: `K.events` is a key, `K.task(id)` builds one."""
    lines = {}
    for key in KEYS:
        if not key.arguments:
            lines[key.name] = f"K.{key.name} = P .. '{key.pattern}'"
            continue
        names = ", ".join(key.arguments)
        pieces = re.split(r"<(\w+)>", key.pattern)
        parts = [
            piece if index % 2 else f"'{piece}'" for index, piece in enumerate(pieces) if piece
        ]
        call = f"return P .. {' .. '.join(parts)}"
        lines[key.name] = f"K.{key.name} = function({names}) {call} end"
    return lines
