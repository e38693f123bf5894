"""Loads the Lua scripts and runs them by name; a script's header is its signature.

Every script is the prelude (key builders from keys.py, the tables of moves from models/, the
bounds below, then the shared texts of PRELUDE) followed by its own body. `run("settle_task",
task=…, attempt=…)` takes exactly the names of the header's ARGV line, so a wrapper and its script
cannot drift apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from importlib import resources
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from tinytown.models import delivery, endpoint, hook, mission, question, task, worker
from tinytown.models.moves import Moves
from tinytown.store.assembly import assemble
from tinytown.store.client import Script
from tinytown.store.keys import Keyring, lua_builders

Argument = str | int | float | bytes

PRELUDE: Final = ("_ground", "_hooks", "_deliveries", "_town", "_endings", "_clock", "_demand")
"""The shared texts, in the order in which they build on each other."""

TABLES: Final[dict[str, Moves[Any, Any]]] = {
    "mission": mission.MOVES,
    "task": task.MOVES,
    "question": question.MOVES,
    "worker": worker.MOVES,
    "endpoint": endpoint.MOVES,
    "delivery": delivery.MOVES,
    "hook": hook.MOVES,
}

BUCKETS_MS: Final = (
    1, 2, 5, 10, 15, 25, 50, 100, 250, 500,
    1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 1_800_000, 7_200_000, 86_400_000,
)  # fmt: skip
"""Upper bounds of the histograms that live in Redis: from a push in milliseconds to a day."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds the scripts keep: what is stored stays small however long a town lives."""

    events: int = 20_000
    """Entries of the town's stream: days of a busy town in about 6 MB."""
    mission_events: int = 1_000
    log: int = 5_000
    """Lines of a mission's log."""
    inbox: int = 256
    messages: int = 200
    tries: int = 20
    """Attempts kept per delivery."""
    dead: int = 10_000
    """Dead letters kept, and of one endpoint as many."""
    backlog: int = 10_000
    """Deliveries that may wait for one endpoint; one more is a dead letter at once."""
    losses: int = 5
    """Notifiers that may be lost while they send a delivery, before it is taken for the cause."""
    sweep: int = 100
    """Deliveries that one claim clears away, of an endpoint, before it finds one to send."""
    planning_tries: int = 5
    """How often an event is tried that nobody can plan (once a minute), before those behind it go
    on where order was asked."""
    ordering_ms: int = 20
    """How soon to look again whether what happened earlier is filed."""
    breaker_after: int = 5
    """Failures in a row that open a webhook's circuit."""
    breaker_ms: int = 30_000
    """How long it stays open at first; doubled by every probe that fails."""
    breaker_ceiling_ms: int = 600_000
    pace_first_ms: int = 250
    """What 429, 502 and 504 put between two requests at first; doubled by every further one."""
    pace_ceiling_ms: int = 60_000
    pace_floor_ms: int = 20
    """Below this the brake is off: fifty requests a second."""
    disable_after_ms: int = 5 * 86_400_000
    """How long nothing may get through to a webhook before it is disabled (Svix's five days)."""
    disable_failures: int = 20
    """And how many attempts must have failed: a week without events disables nobody."""
    gave_up_ms: int = 86_400_000
    """How soon an endpoint's given up delivery makes it `failing` again, the circuit apart."""
    replay_batch: int = 100
    """Deliveries a replay makes due in one breath: about 2 ms of Redis."""
    replays: int = 100
    """Replays listed."""
    endpoint_log: int = 200
    """Deliveries listed per endpoint."""
    failing_after: int = 3
    """Failures in a row that make an endpoint `failing`."""
    retention_ms: int = 7 * 86_400_000
    """How long an ended mission can be read."""
    grace_ms: int = 366 * 86_400_000
    """How much later than retention its keys expire by themselves. The tick removes them in time
    and keeps the books; only a town that nobody ticks for a year is cleared without it."""
    gone_ms: int = 3_600_000
    """How long a stopped or lost worker is listed."""
    worker_ttl: int = 366 * 86_400
    """Seconds a worker's card outlives its last renewal when nobody ticks: a card that vanished
    sooner would stay counted as a worker for ever."""
    inbox_ttl: int = 86_400
    """Seconds a worker's inbox outlives its last signal or renewal."""
    delivery_ttl: int = 7 * 86_400
    """Seconds a delivery can be read (house.md 4.4)."""
    start_ms: int = 30_000
    """How long a start counts as a worker to come (contract: `start_deadline`)."""
    start_pauses_ms: tuple[int, ...] = (1_000, 2_000, 4_000, 8_000, 60_000)
    """Pauses after failed starts in a row; the last one is the open circuit, a probe a minute.
    Four may be bad luck; from the fifth on it is the machine or the settings, and costs money."""
    forgiven_ms: int = 600_000
    """Failures further apart than this, ten times the longest pause, are not in a row."""
    starts_ttl: int = 86_400
    """Seconds a lapsed promise is kept for the next launcher to count it."""
    endpoints: int = 500
    """Beside the callbacks of missions; all of them are read whenever one is changed."""
    sources: int = 100
    hooks: int = 10_000
    """Hooks that wait to be routed: ten seconds of a thousand a second with no router."""
    hooks_bytes: int = 32 * 1_048_576
    """Their payloads together: a small Redis keeps room for what matters more."""
    source_hooks: int = 50
    """Hooks listed per source, besides those that wait."""
    hook_bytes: int = 65_536
    """A larger payload is let go once its hook is settled."""
    hook_ttl_ms: int = 7 * 86_400_000
    """How long a settled hook can be read."""
    hooks_dead: int = 200
    """Dead hooks kept."""
    rejections: int = 20
    """Lines in the audit about refused hooks, per source and minute: strangers write no more."""
    audit: int = 5_000
    """Lines of the audit: a year of a town that is changed daily, in about 1 MB."""
    buckets_ms: tuple[int, ...] = BUCKETS_MS


def servers_own_clock() -> int:
    """Leave the time to the Redis server (0); only tests turn a clock of their own."""
    return 0


def _lua_value(value: Any) -> str:
    if isinstance(value, tuple):
        return "{ " + ", ".join(str(item) for item in value) + " }"
    return str(value)


def _lua_table(moves: Moves[Any, Any]) -> str:
    """Write which states each move of a noun may leave."""
    rows = []
    for move, (sources, _) in moves.items():
        states = ", ".join(f"{state} = true" for state in sorted(sources))
        rows.append(f"{move} = {{ {states} }}")
    return f"{{ {', '.join(rows)} }}"


def parse_arguments(source: str) -> tuple[str, ...]:
    """Read the names after `-- ARGV:` in a header; the last may end in `…` (any number of them)."""
    text = ""
    for line in source.splitlines():
        if line.startswith("-- ARGV:"):
            text = line.removeprefix("-- ARGV:")
        elif text and line.startswith("--   ") and not re.match(r"--\s+\w+: ", line):
            text += line.removeprefix("--")
        elif text:
            break
    names = re.sub(r"\([^)]*\)", "", text).split(",")
    return tuple(name.strip().replace(" ", "_") for name in names if name.strip())


def parse_flags(source: str) -> str:
    """Read `-- flags:` of a header; empty for a script that writes."""
    found = re.search(r"^-- flags: (.+)$", source, re.MULTILINE)
    return found[1] if found else ""


def sources() -> dict[str, str]:
    """Read every text by its name: the scripts' bodies and the shared ones (PRELUDE)."""
    folder = resources.files("tinytown.store") / "lua"
    return {
        entry.name.removesuffix(".lua"): entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".lua")
    }


class Scripts:
    """The scripts of one town, ready to run."""

    def __init__(
        self,
        client: Redis,
        keys: Keyring,
        limits: Limits,
        *,
        clock: Callable[[], int] = servers_own_clock,
    ) -> None:
        """Assemble every script; nothing is sent before the first run."""
        self._client = client
        self._clock = clock
        self._events = keys("events")
        texts = sources()
        shared = [texts.pop(name) for name in PRELUDE]
        moves = {noun: _lua_table(table) for noun, table in TABLES.items()}
        bounds = {name: _lua_value(value) for name, value in msgspec.structs.asdict(limits).items()}
        self._scripts: dict[str, Script] = {}
        self._arguments: dict[str, tuple[str, ...]] = {}
        for name, body in texts.items():
            # The shebang makes Redis refuse a writing script as a whole when it is out of memory
            # or read-only, before its first write. Those that end or free something carry
            # `allow-oom`: a full Redis must be able to finish what it has.
            flags = parse_flags(body)
            shebang = f"#!lua flags={flags}" if flags else "#!lua"
            text = assemble(body, shared=shared, keys=lua_builders(), moves=moves, bounds=bounds)
            self._scripts[name] = Script(f"{shebang}\n{text}\n", name=name)
            self._arguments[name] = parse_arguments(body)

    async def run(self, name: str, **values: Any) -> Any:
        """Run a script with exactly its header's arguments; the first, the time, is the clock's.

        Raises `StoreUnavailable` when Redis will not have it (then nothing was written) and
        `TypeError` when the names are not the header's.
        """
        arguments: list[Argument] = [self._clock()]
        expected = self._arguments[name][1:]
        plain = tuple(argument.removesuffix("…") for argument in expected)
        if tuple(values) != plain:
            message = f"{name} takes {plain}, not {tuple(values)}"
            raise TypeError(message)
        for argument, value in zip(expected, values.values(), strict=True):
            if argument.endswith("…"):
                rest: Iterable[Argument] = value
                arguments.extend(rest)
            else:
                arguments.append(value)
        return await self._scripts[name].run(self._client, [self._events], arguments)
