"""The tree of commands: every one explains itself, the Tab key knows them, and it loads fast."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from laptop import KEY, Laptop
from tinytown.cli import PROGRAMS
from tinytown.cli.root import _COMMANDS, tt
from tinytown.townhall import Townhall
from towns import ask, hand, start


def tree(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Go through every command with its path."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=" ".join(path))
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, name
            yield from tree(child, *path, name)


EVERY = {" ".join(path): command for path, command in tree(tt, "tt")}


def help_of(name: str) -> str:
    command = EVERY[name]
    return command.get_help(click.Context(command, info_name=name))


def test_the_tree_has_every_command_of_the_contract() -> None:
    promised = """connect | mission start | mission list | mission show | mission watch
        | mission cancel | mission pause | mission resume | mission retry | mission log
        | mission result | mission message | questions | answer | endpoint add | endpoint list
        | endpoint test | endpoint show | endpoint pause | endpoint resume | endpoint remove
        | endpoint deliveries | endpoint change | endpoint rotate | endpoint recover
        | endpoint listen | deliveries | replay | replays | events | workers | workers drain
        | scaling
        | source add | source list | source show | source test | source pause | source resume
        | source rotate | source remove | source hooks | keys list | keys create
        | keys revoke | doctor | status | up | demo | completion
        | agent | notifier | ask"""
    names = {"tt " + " ".join(name.split()) for name in promised.split("|")}
    assert names <= EVERY.keys()


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_command_explains_itself(name: str) -> None:
    text = help_of(name)
    assert EVERY[name].help, "no sentence"
    is_group = isinstance(EVERY[name], click.Group) and name != "tt workers"
    is_program = name.removeprefix("tt ") in PROGRAMS
    if (not is_group and not is_program) or name == "tt":
        assert "Example:\n" in text
        assert f"  {name.split(maxsplit=1)[0]} " in text.partition("Example:")[2]


def test_every_example_is_a_command_that_exists() -> None:
    for name in EVERY:
        for line in help_of(name).partition("Example:\n")[2].splitlines():
            words = line.split("|")[-1].split() if "tt mission start -" in line else line.split()
            words = words[words.index("tt") :] if "tt" in words else []
            if not words:
                continue
            known = [n for n in EVERY if " ".join(words).startswith(n)]
            assert max(known, key=len) not in {
                "tt",
                "tt mission",
                "tt endpoint",
                "tt keys",
                "tt source",
            }, line


READS = (
    "mission list", "mission show", "mission log", "mission result", "questions", "endpoint list",
    "endpoint show", "endpoint deliveries", "deliveries", "replays", "events", "workers", "scaling",
    "source list", "source show", "source hooks", "source test", "keys list", "doctor", "status",
)  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_every_reading_command_speaks_json(name: str) -> None:
    assert any("--json" in option.opts for option in EVERY[f"tt {name}"].params)


def test_the_list_says_what_each_command_says_of_itself() -> None:
    for name, (_, _, sentence) in _COMMANDS.items():
        first = (EVERY[f"tt {name}"].help or "").splitlines()[0]
        same = {sentence.rstrip("."), sentence.partition(":")[0].rstrip(".")}
        assert any(first.startswith(each.partition(",")[0]) for each in same), (name, first)


def loaded_by(code: str) -> set[str]:
    """Run code in a fresh interpreter; list the modules it loaded."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"{code}\nimport sys; print(*sorted(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_the_list_of_commands_loads_no_command() -> None:
    code = "import tinytown.cli.root as r\ntry: r.run(['--help'])\nexcept SystemExit: pass"
    heavy = {"httpx", "rich", "anyio", "redis", "litestar", "apprise", "msgspec"}
    assert not heavy & loaded_by(code)


def test_reading_from_a_pipe_never_loads_the_terminal_or_the_town() -> None:
    loaded = loaded_by("import tinytown.cli.outcome, tinytown.cli.status, tinytown.cli.client")
    assert not {"httpx", "rich", "redis", "litestar", "apprise"} & loaded


@pytest.mark.parametrize("arguments", [["agent", "--help"], ["ask", "--help"], ["messages"]])
def test_a_workers_way_through_tt_loads_nothing_of_the_laptop(arguments: list[str]) -> None:
    # The interpreter's own account of its imports: an agent's `tt` leaves without taking itself
    # apart, so nothing could be asked of it at its end.
    code = f"import sys, tinytown.cli as c; sys.argv = ['tt', *{arguments!r}]; c.main()"
    told = subprocess.run(
        [sys.executable, "-I", "-X", "importtime", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    loaded = set(re.findall(r"^import time:.*\| +(\S+)$", told, re.MULTILINE))
    assert "tinytown.cli" in loaded, told
    heavy = {"click", "rich", "httpx", "litestar", "granian", "apprise", "tinytown.cli.root"}
    assert not heavy & loaded


async def test_programs_get_their_arguments_and_give_back_their_exit_code(away: Laptop) -> None:
    said = await away("agent", "--help")
    assert said.out.startswith("usage: tt agent")
    await away("agent", "--wrong", code=2)
    said = await away("ask", "Red?", code=2)
    assert "only inside an agent's session" in said.err
    said = await away("ask", "--help")
    assert "--deadline" in said.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_prints_a_script_for_each_shell(away: Laptop, shell: str) -> None:
    said = await away("completion", shell)
    assert "_TT_COMPLETE" in said.out


async def completed(laptop: Laptop, *words: str) -> list[str]:
    """Press Tab after these words."""
    pressed = laptop.knowing(
        _TT_COMPLETE="bash_complete", COMP_WORDS=" ".join(words), COMP_CWORD=str(len(words) - 1)
    )
    said = await pressed(code=0)
    return [line.partition(",")[2] for line in said.out.splitlines() if line]


async def test_the_tab_key_knows_commands_options_and_ids(tt: Laptop, hall: Townhall) -> None:
    store = hall.town.store
    mission = await start(store)
    worker = await hand(store)
    _, question = await ask(store, await worker.take())
    assert await completed(tt, "tt", "miss") == ["mission"]
    assert "--priority" in await completed(tt, "tt", "mission", "start", "--pri")
    assert await completed(tt, "tt", "mission", "show", "mis_") == [mission.id]
    assert await completed(tt, "tt", "answer", "") == [question]


async def test_the_tab_key_is_silent_where_no_town_answers(away: Laptop) -> None:
    assert await completed(away, "tt", "mission", "show", "mis_") == []


async def test_a_key_is_never_in_an_error(tt: Laptop) -> None:
    said = await tt("mission", "show", "nothing", code=3)
    assert KEY not in said.err + said.out
