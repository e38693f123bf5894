"""Scripts are put together from what they need, and count in one breath."""

from __future__ import annotations

from redis import Redis

from tinytown.store import Limits, Store
from tinytown.store.assembly import assemble
from tinytown.store.keys import Keyring
from tinytown.store.scripts import Scripts
from towns import start

SHARED = """-- The shared half.
local base = 40

local function count(name, by) end
local function write_books() end

-- Adds to what `base` says.
local function plus(by) return base + by end
local DUE = {}
function DUE.one(id) return plus(LIMIT.more) end
local function unused() return K.unused end
"""


def whole(body: str) -> str:
    """Assemble a script of a small shared text."""
    return assemble(
        body,
        shared=[SHARED],
        keys={"events": "K.events = P .. 'events'", "unused": "K.unused = P .. 'unused'"},
        moves={"task": "{ claim = { queued = true } }", "worker": "{}"},
        bounds={"more": "2", "less": "1"},
    )


def test_a_script_gets_what_it_names_and_what_that_names() -> None:
    text = whole("return DUE.one(K.events)")
    for needed in (
        "local DUE",
        "function DUE.one",
        "local function plus",
        "local base",
        "K.events",
    ):
        assert needed in text
    assert "more = 2" in text
    for spared in ("unused", "less", "write_books", "worker", "queued"):
        assert spared not in text


def test_names_in_strings_and_comments_need_nothing() -> None:
    assert "local function plus" not in whole("-- plus\nreturn 'plus' .. \"x\"")


def test_what_is_counted_is_written_at_the_end() -> None:
    text = whole("count('x')\nreturn 1")
    assert text.endswith("local reply = act()\nwrite_books()\nreturn reply")


def test_a_table_of_moves_comes_with_the_noun_that_asks() -> None:
    assert "task = { claim" in whole("return allowed('task', 'claim', ARGV[2])")


async def test_every_script_compiles(store: Store, books: Redis) -> None:
    for script in Scripts(None, Keyring("main"), Limits())._scripts.values():  # type: ignore[arg-type]
        assert books.script_load(script.text) == script.sha


async def test_a_task_that_passes_through_a_state_in_one_breath_costs_nothing(
    store: Store, books: Redis
) -> None:
    await start(store)
    assert "tasks:default:pending" not in books.hgetall(store.keys("gauges"))
