"""Children of every bad habit: each ends in time, bounded, and leaves nobody behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from hypothesis import given
from hypothesis import strategies as st

from tinytown_workers.lines import BURST_LINES, KEPT_LINES, Line, LineSplitter, Spillway
from tinytown_workers.process import (
    CannotStart,
    Exit,
    Launch,
    Limits,
    Pulse,
    Stream,
    supervise,
)
from tinytown_workers.stragglers import COOKIE, leash

Eventually = Callable[..., Awaitable[None]]
QUICK = Limits(grace_seconds=0.5, drain_seconds=0.3)


def launch(script: str, cwd: Path, *, stdin: bytes | None = None) -> Launch:
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd)}
    return Launch(argv=("bash", "-c", script), env=env, cwd=cwd, stdin=stdin)


class Heard:
    """Collects lines and counts each as a sign of life."""

    def __init__(self) -> None:
        self.pulse = Pulse()
        self.lines: list[tuple[Stream, Line]] = []

    async def __call__(self, stream: Stream, line: Line) -> None:
        self.lines.append((stream, line))
        self.pulse.beat()

    def of(self, stream: Stream) -> list[bytes]:
        return [line.data for where, line in self.lines if where == stream]

    async def run(self, script: str, cwd: Path, *, limits: Limits = QUICK, **more: bytes) -> Exit:
        return await supervise(launch(script, cwd, **more), self, limits=limits, pulse=self.pulse)


def alive(mark: str) -> list[str]:
    """List the command lines of living processes that contain the mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if mark in line and state != "Z" and int(entry.name) != os.getpid():
                found.append(line)
    return found


@pytest.fixture
def heard() -> Heard:
    return Heard()


async def test_both_streams_arrive_line_by_line_with_the_code(heard: Heard, tmp_path: Path) -> None:
    ended = await heard.run("echo one; echo two; echo oops >&2; printf three; exit 3", tmp_path)
    assert (ended.why, ended.code) == ("exited", 3)
    assert heard.of("stdout") == [b"one", b"two", b"three"]
    assert heard.of("stderr") == [b"oops"]
    assert ended.stderr_tail == b"oops\n"


async def test_standard_input_arrives_byte_for_byte_and_ends(heard: Heard, tmp_path: Path) -> None:
    goal = bytes(range(256)) * 300
    await heard.run("cat > got; echo end", tmp_path, stdin=goal)
    assert (tmp_path / "got").read_bytes() == goal


async def test_without_standard_input_there_is_nothing_to_wait_for(
    heard: Heard, tmp_path: Path
) -> None:
    ended = await heard.run("cat; echo end", tmp_path)
    assert heard.of("stdout") == [b"end"]
    assert ended.code == 0


async def test_it_gets_exactly_its_environment_and_its_own_session(
    heard: Heard, tmp_path: Path
) -> None:
    script = "import os; print(sorted(os.environ)); print(os.getsid(0) == os.getpid())"
    child = Launch(argv=(sys.executable, "-c", script), env={"A": "1"}, cwd=tmp_path)
    await supervise(child, heard, pulse=heard.pulse)
    names, leads = heard.of("stdout")
    # LC_CTYPE is Python's own addition.
    assert set(eval(names)) - {"LC_CTYPE"} == {"A", COOKIE}  # noqa: S307 - our own print
    assert leads == b"True"


async def test_invalid_utf8_and_nuls_pass_unharmed(heard: Heard, tmp_path: Path) -> None:
    await heard.run(r"printf 'a\0b\xff\xfe\n\n'", tmp_path)
    assert heard.of("stdout") == [b"a\0b\xff\xfe", b""]


async def test_silence_ends_it(heard: Heard, tmp_path: Path) -> None:
    limits = Limits(idle_seconds=0.2, grace_seconds=5)
    ended = await heard.run("echo start; sleep 60", tmp_path, limits=limits)
    assert (ended.why, ended.code) == ("idle", -signal.SIGTERM)
    assert ended.seconds < 5


async def test_a_chatty_one_is_ended_by_the_wall_clock(heard: Heard, tmp_path: Path) -> None:
    limits = Limits(idle_seconds=5, wall_seconds=0.5, grace_seconds=5)
    script = "while true; do echo again; sleep 0.05; done"
    assert (await heard.run(script, tmp_path, limits=limits)).why == "overtime"
    assert len(heard.lines) > 2


async def test_one_that_ignores_term_is_killed_with_its_whole_group(
    heard: Heard, tmp_path: Path
) -> None:
    limits = Limits(idle_seconds=0.3, grace_seconds=0.3)
    script = "trap '' TERM; (trap '' TERM; exec -a deaf-child sleep 61) & sleep 61; wait"
    ended = await heard.run(script, tmp_path, limits=limits)
    assert (ended.why, ended.code) == ("idle", -signal.SIGKILL)
    assert not alive("deaf-child")


async def test_both_clocks_stand_still_while_a_person_is_asked(
    heard: Heard, tmp_path: Path
) -> None:
    limits = Limits(idle_seconds=0.3, wall_seconds=0.6, grace_seconds=1)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    heard.pulse.hold()
    async with anyio.create_task_group() as group:

        async def person() -> None:
            await anyio.sleep(1.0)  # the time that must not count
            gate.open("w").close()
            heard.pulse.release()

        group.start_soon(person)
        ended = await heard.run("read _ < gate; echo answered", tmp_path, limits=limits)
    assert (ended.why, ended.code) == ("exited", 0)
    assert heard.of("stdout") == [b"answered"]


async def test_silence_counts_again_once_the_question_is_closed(
    heard: Heard, tmp_path: Path
) -> None:
    with heard.pulse.held(), heard.pulse.held():
        pass
    limits = Limits(idle_seconds=0.2, grace_seconds=1)
    assert (await heard.run("sleep 60", tmp_path, limits=limits)).why == "idle"


async def test_a_new_child_begins_with_clean_clocks(heard: Heard, tmp_path: Path) -> None:
    await heard.run("echo one", tmp_path)
    heard.pulse.last_word(0.0)
    heard.pulse.stop("budget")
    ended = await heard.run("sleep 0.1; echo two", tmp_path)
    assert (ended.why, ended.code) == ("exited", 0)


async def test_a_question_left_open_holds_the_clocks_of_the_next_child(
    heard: Heard, tmp_path: Path
) -> None:
    heard.pulse.hold()
    limits = Limits(idle_seconds=0.1, wall_seconds=0.1, grace_seconds=1)
    assert (await heard.run("sleep 0.4", tmp_path, limits=limits)).why == "exited"
    assert (await heard.run("sleep 0.4", tmp_path, limits=limits)).why == "exited"


async def test_the_time_of_all_children_adds_up_without_that_of_people(
    heard: Heard, tmp_path: Path
) -> None:
    await heard.run("sleep 0.2", tmp_path)
    between = heard.pulse.worked_seconds
    assert 0.2 <= between < 2
    with heard.pulse.held():
        await heard.run("sleep 0.5", tmp_path)
        assert heard.pulse.worked_seconds < between + 0.4
    await heard.run("sleep 0.2", tmp_path)
    assert heard.pulse.worked_seconds >= between + 0.2


async def test_after_its_last_word_it_has_to_leave(heard: Heard, tmp_path: Path) -> None:
    async def hear(stream: Stream, line: Line) -> None:
        heard.pulse.last_word(0.2)

    child = launch("echo done; sleep 60", tmp_path)
    ended = await supervise(child, hear, limits=QUICK, pulse=heard.pulse)
    assert ended.why == "lingered"


async def test_a_flood_is_bounded_and_its_head_and_tail_are_kept(
    heard: Heard, tmp_path: Path
) -> None:
    ended = await heard.run("seq 1 400000; echo the end", tmp_path)
    kept = heard.of("stdout")
    assert ended.code == 0
    assert kept[:3] == [b"1", b"2", b"3"]
    assert kept[-3:] == [b"399999", b"400000", b"the end"]
    assert len(kept) + ended.lines_dropped == 400_001
    assert ended.lines_dropped > 300_000
    assert ended.stdout_tail.endswith(b"400000\nthe end\n")


async def test_an_endless_flood_is_cut_off(heard: Heard, tmp_path: Path) -> None:
    limits = Limits(output_bytes=1_000_000, grace_seconds=1)
    assert (await heard.run("yes", tmp_path, limits=limits)).why == "flooded"


async def test_an_endless_line_costs_no_more_than_its_head(heard: Heard, tmp_path: Path) -> None:
    ended = await heard.run("head -c 8000000 /dev/zero; echo; echo next", tmp_path)
    (_, first), (_, second) = heard.lines
    assert (len(first.data), first.length, first.whole) == (1 << 20, 8_000_000, False)
    assert second.data == b"next"
    assert ended.lines_dropped == 0


async def test_children_left_behind_are_ended_and_hold_nothing_up(
    heard: Heard, tmp_path: Path
) -> None:
    script = """
        (exec -a left-in-group sleep 62) &
        (setsid bash -c 'exec -a left-the-group sleep 62' &)
        echo bye
    """
    ended = await heard.run(script, tmp_path)
    assert (ended.why, ended.code) == ("exited", 0)
    assert heard.of("stdout") == [b"bye"]
    assert not alive("left-in-group")
    assert not alive("left-the-group")
    assert ended.seconds < 5


async def test_a_stranger_who_holds_the_pipe_holds_nothing_up(heard: Heard, tmp_path: Path) -> None:
    # Without the cookie, and out of the group: we have no right to it, and need not wait for it.
    ended = await heard.run("env -i setsid sleep 3 & echo bye", tmp_path)
    assert heard.of("stdout") == [b"bye"]
    assert ended.seconds < 2


async def test_a_closed_stdout_is_not_the_end(heard: Heard, tmp_path: Path) -> None:
    ended = await heard.run("exec >&-; sleep 0.3; echo late >&2; exit 4", tmp_path)
    assert ended.code == 4
    assert heard.of("stderr") == [b"late"]


async def test_one_that_is_killed_from_outside_says_so(heard: Heard, tmp_path: Path) -> None:
    ended = await heard.run("kill -KILL $$", tmp_path)
    assert (ended.why, ended.code) == ("exited", -signal.SIGKILL)


async def test_cancellation_leaves_nobody_behind(heard: Heard, tmp_path: Path) -> None:
    with anyio.move_on_after(0.5) as scope:
        await heard.run("(exec -a canceled-child sleep 63) & echo up; wait", tmp_path)
    assert scope.cancelled_caught
    assert heard.of("stdout") == [b"up"]
    assert not alive("canceled-child")


async def test_trouble_with_a_line_comes_out_once_the_child_is_gone(tmp_path: Path) -> None:
    async def refuse(stream: Stream, line: Line) -> None:
        raise LookupError(line.data.decode())

    with pytest.raises(LookupError, match="hello"):
        await supervise(
            launch("echo hello; exec -a refused-child sleep 64", tmp_path), refuse, limits=QUICK
        )
    assert not alive("refused-child")


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (("no-such-program-here",), "No such file"),
        (("/etc/passwd",), "Permission denied"),
        (("echo", "a\0b"), "null byte"),
    ],
)
async def test_what_cannot_start_is_named(
    heard: Heard, tmp_path: Path, argv: tuple[str, ...], reason: str
) -> None:
    child = Launch(argv=argv, env={"PATH": os.environ["PATH"]}, cwd=tmp_path)
    with pytest.raises(CannotStart, match=f"cannot start {argv[0]}: .*{reason}"):
        await supervise(child, heard)


def test_a_launch_never_shows_the_values_it_carries(tmp_path: Path) -> None:
    child = Launch(
        argv=("claude", "sk-ant-argument"),
        env={"ANTHROPIC_API_KEY": "sk-ant-secret"},
        cwd=tmp_path,
        stdin=b"goal",
    )
    assert "sk-ant" not in repr(child)
    assert "ANTHROPIC_API_KEY" in repr(child)


async def test_a_killed_worker_takes_its_child_along(
    tmp_path: Path, eventually: Eventually
) -> None:
    worker = textwrap.dedent(
        """
        import anyio
        from pathlib import Path
        from tinytown_workers.process import Launch, supervise

        async def hear(stream, line):
            print(line.data.decode(), flush=True)

        script = "echo up; exec -a orphan-of-a-worker sleep 65"
        env = {"PATH": "/usr/bin:/bin"}
        anyio.run(supervise, Launch(argv=("bash", "-c", script), env=env, cwd=Path.cwd()), hear)
        """
    )
    async with await anyio.open_process(
        [sys.executable, "-c", worker], stderr=None, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        said = BufferedByteReceiveStream(process.stdout)
        assert await said.receive_until(b"\n", 100) == b"up"
        await eventually(lambda: alive("orphan-of-a-worker"), "the child runs")
        process.kill()
    await eventually(lambda: not alive("orphan-of-a-worker"), "the child is gone")


def test_a_leash_that_was_let_go_bites_nobody() -> None:
    with subprocess.Popen(["sleep", "66"], start_new_session=True) as child:
        with leash(child.pid):
            pass
        assert child.poll() is None
        child.kill()


# --- The splitter and the spillway, without a process -------------------------------------------


@given(
    chunks=st.lists(st.binary(max_size=40) | st.sampled_from([b"\n", b"\n\n"]), max_size=30),
    limit=st.integers(1, 20),
)
def test_lines_do_not_depend_on_how_they_were_cut(chunks: list[bytes], limit: int) -> None:
    splitter = LineSplitter(line_bytes=limit)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)] + [*splitter.rest()]
    whole = b"".join(chunks)
    expected = whole.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert [line.length for line in lines] == [len(line) for line in expected]
    assert [line.data for line in lines] == [line[:limit] for line in expected]


@given(
    pours=st.lists(st.tuples(st.integers(0, 4000), st.floats(0, 3)), max_size=12),
)
def test_the_spillway_keeps_order_counts_losses_and_never_holds_much(
    pours: list[tuple[int, float]],
) -> None:
    spillway, clock, poured, passed = Spillway(), 0.0, 0, []
    for count, pause in pours:
        clock += pause
        lines = [Line(b"%d" % (poured + n), 0) for n in range(count)]
        poured += count
        passed += [int(line.data) for line in spillway.pour(lines, clock)]
        assert len(passed) <= BURST_LINES + 500 * clock + 1
        assert poured - len(passed) - spillway.dropped <= KEPT_LINES
    passed += [int(line.data) for line in spillway.rest()]
    assert passed == sorted(passed)
    assert len(passed) + spillway.dropped == poured
    assert passed[-min(KEPT_LINES, poured) :] == list(range(poured))[-min(KEPT_LINES, poured) :]
