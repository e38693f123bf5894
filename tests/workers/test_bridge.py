"""The MCP bridge, met by the official client and by raw lines of both generations."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters

from bridge_wire import Wire, text_of, wired
from fakes.person import Person
from tinytown_workers.desk import Desk

STATELESS = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
# The same bridge, only more talkative: tests do not wait for the seconds of real clients.
QUICK = """
import os, sys
from tinytown_workers import bridge, bridge_tools
bridge_tools.TICK_SECONDS = 0.02
os._exit(bridge.main(sys.argv[1:], None))
"""


# The official client -----------------------------------------------------------------


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
async def test_the_official_client_asks_a_person(desk: Desk, person: Person, mode: str) -> None:
    _, *rest = desk.bridge_command()
    server = StdioServerParameters(command=sys.executable, args=rest)
    async with Client(server, mode=mode) as client:
        expected = "2025-11-25" if mode == "legacy" else "2026-07-28"
        assert client.protocol_version == expected
        assert [tool.name for tool in (await client.list_tools()).tools] == [
            "ask_human",
            "report_progress",
        ]
        async with anyio.create_task_group() as group:

            async def answer() -> None:
                assert (await person.asked()).options == ("red", "blue")
                person.answer("blue", by="maria")

            group.start_soon(answer)
            result = await client.call_tool(
                "ask_human", {"question": "Red or blue?", "options": ["red", "blue"]}
            )
        assert not result.is_error
        assert result.content[0].text == "ANSWERED by maria via push: blue"  # type: ignore[union-attr]
        assert result.structured_content == {
            "outcome": "answered",
            "answer": "blue",
            "answered_by": "maria",
            "question_id": "qst_1",
            "message": "ANSWERED by maria via push: blue",
        }


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_the_official_client_hears_progress_while_a_person_thinks(
    desk: Desk, person: Person, mode: str
) -> None:
    server = StdioServerParameters(command=sys.executable, args=["-I", "-c", QUICK, str(desk.card)])
    heard: list[float] = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        assert message is not None
        assert message.startswith("waiting for a person")
        heard.append(progress)
        if len(heard) == 3:
            person.answer("go", to="Go?")

    async with Client(server, mode=mode) as client:
        result = await client.call_tool(
            "ask_human", {"question": "Go?"}, progress_callback=progress
        )
    assert result.structured_content is not None
    assert result.structured_content["answer"] == "go"
    assert len(heard) >= 3
    assert heard == sorted(heard)


# The handshake -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
        (None, "2025-11-25"),
    ],
)
async def test_every_handshake_is_answered_with_a_version_we_speak(
    wire: Wire, offered: str | None, agreed: str
) -> None:
    hello = {"protocolVersion": offered, "capabilities": {}, "clientInfo": {"name": "x"}}
    result = (await wire.ask("initialize", **hello))["result"]
    assert result["protocolVersion"] == agreed
    assert result["capabilities"] == {"tools": {}}
    assert result["serverInfo"]["name"] == "tinytown"
    await wire.send("notifications/initialized")
    assert (await wire.ask("ping", "two"))["result"] == {}
    listed = (await wire.ask("tools/list"))["result"]
    assert set(listed) == {"tools"}  # nothing of the other generation


async def test_the_stateless_form_says_all_it_must(wire: Wire) -> None:
    found = (await wire.ask("server/discover", _meta=STATELESS))["result"]
    assert found["supportedVersions"] == ["2026-07-28"]
    listed = (await wire.ask("tools/list", _meta=STATELESS))["result"]
    for result in (found, listed):
        assert result["resultType"] == "complete"
        assert result["ttlMs"] > 0
        assert result["cacheScope"] == "private"
        assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "tinytown"
    reported = await wire.ask(
        "tools/call", name="report_progress", arguments={"text": "half"}, _meta=STATELESS
    )
    assert reported["result"]["resultType"] == "complete"


async def test_an_unknown_version_learns_which_are_spoken(wire: Wire) -> None:
    meta = STATELESS | {"io.modelcontextprotocol/protocolVersion": "2031-01-01"}
    error = (await wire.ask("server/discover", _meta=meta))["error"]
    assert error["code"] == -32022
    assert error["data"]["requested"] == "2031-01-01"
    assert error["data"]["supported"][0] == "2026-07-28"


async def test_the_permission_tool_is_there_only_where_it_is_wanted(desk: Desk) -> None:
    async with wired(*desk.bridge_command()) as wire:
        assert "approve" not in str(await wire.ask("tools/list"))
        refused = await wire.ask("tools/call", name="approve", arguments={})
        assert refused["error"]["code"] == -32602


# Cancelling, side by side, messages --------------------------------------------------


async def test_a_cancelled_question_stays_open_and_is_attached_again(
    wire: Wire, person: Person
) -> None:
    await wire.ask_human(1, question="Red or blue?")
    await person.asked()
    await wire.send("notifications/cancelled", requestId=1, reason="timeout")
    await person.left()
    await wire.ask_human(2, question="Red or blue?")
    await person.asked()
    person.answer("red")
    answer = await wire.receive()
    assert answer["id"] == 2  # the cancelled one got no answer
    assert "red" in text_of(answer)
    assert len(set(person.questions)) == 1


@pytest.mark.parametrize("number", [99, "x", None, [1], {"a": 1}])
async def test_cancelling_what_is_unknown_or_finished_changes_nothing(
    wire: Wire, number: Any
) -> None:
    await wire.ask("tools/call", 99, name="report_progress", arguments={"text": "x"})
    await wire.send("notifications/cancelled", requestId=number)
    await wire.throw(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":[1]}\n')
    assert (await wire.ask("ping", 5)) == {"jsonrpc": "2.0", "id": 5, "result": {}}


async def test_calls_run_side_by_side(wire: Wire, person: Person) -> None:
    for number in range(5):
        await wire.ask_human(number, question=f"Question {number}?")
        await person.asked()
    assert (await wire.ask("ping", "p"))["id"] == "p"
    for number in reversed(range(5)):
        person.answer(f"answer {number}", to=f"Question {number}?")
        answer = await wire.receive()
        assert answer["id"] == number
        assert text_of(answer).endswith(f"answer {number}")


async def test_an_id_that_still_runs_is_not_taken_twice(wire: Wire, person: Person) -> None:
    await wire.ask_human(1, question="Red or blue?")
    await person.asked()
    await wire.ask_human(1, question="Again?")
    assert (await wire.receive())["error"]["code"] == -32600
    person.answer("red")
    assert "red" in text_of(await wire.receive())


async def test_too_many_calls_at_once_are_refused(wire: Wire, person: Person) -> None:
    for number in range(32):
        await wire.ask_human(number, question=str(number))
    for _ in range(32):
        await person.asked()
    await wire.ask_human(32, question="one more")
    assert (await wire.receive())["error"]["message"] == "too many calls at once"


BAD_ARGUMENTS = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "approve", "arguments": []},
    }
).encode()

# What is thrown at it ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "number", "code"),
    [
        (b"nonsense", None, -32700),
        (b"\xff\xfe", None, -32700),
        (b"[" * 100_000, None, -32700),
        (b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}', None, -32700),
        (b'{"jsonrpc":"2.0","id":' + b"1" * 10_000 + b',"method":"ping"}', None, -32700),
        (b"7", None, -32600),
        (b"[]", None, -32600),
        (b'{"id":3,"method":"ping"}', 3, -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', None, -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', None, -32600),
        (b'{"jsonrpc":"2.0","id":1}', 1, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', 1, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}', 1, -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"resources/list"}', 1, -32601),
        (b'{"jsonrpc":"2.0","id":"a","method":"tools/call"}', "a", -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}', 1, -32602),
        (BAD_ARGUMENTS, 1, -32602),
        (b"x" * 5_000_000, None, -32600),
    ],
)
async def test_bad_lines_get_their_error_and_the_next_line_is_served(
    wire: Wire, line: bytes, number: Any, code: int
) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(wire.throw, line + b"\n")
        answer = await wire.receive()
    assert (answer["id"], answer["error"]["code"]) == (number, code)
    assert (await wire.ask("ping", 2)) == {"jsonrpc": "2.0", "id": 2, "result": {}}


async def test_answers_to_nothing_and_blank_lines_are_passed_over(wire: Wire) -> None:
    await wire.throw(b'\n  \n{"jsonrpc":"2.0","id":1,"result":{}}\n')
    await wire.throw(b'{"jsonrpc":"2.0","id":1,"error":{}}\n')
    await wire.send("notifications/roots/list_changed")
    assert (await wire.ask("ping", 2))["id"] == 2


async def test_a_batch_is_answered_as_one(wire: Wire, person: Person) -> None:
    call = {"name": "ask_human", "arguments": {"question": "Red or blue?"}}
    batch = [
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        7,
        {"jsonrpc": "2.0", "id": 2, "method": "ping"},
    ]
    await wire.throw(json.dumps(batch).encode() + b"\n")
    await person.asked()
    person.answer("red")
    answers = await wire.receive()
    assert sorted(str(answer["id"]) for answer in answers) == ["1", "2", "None"], "in any order"


async def test_the_bridge_stays_until_the_cli_that_is_told_to_leave_has_left(desk: Desk) -> None:
    async with await anyio.open_process(desk.bridge_command(), env={}) as process:
        wire = Wire(process)
        assert (await wire.ask("ping", 1))["id"] == 1
        process.terminate()
        assert (await wire.ask("ping", 2))["id"] == 2
        assert process.stdin is not None
        await process.stdin.aclose()
        assert await process.wait() == 0


async def test_the_bridge_leaves_when_its_input_ends(desk: Desk, person: Person) -> None:
    async with await anyio.open_process(desk.bridge_command(), env={}) as process:
        wire = Wire(process)
        await wire.ask_human(question="Go?")
        await person.asked()
        assert process.stdin is not None
        await process.stdin.aclose()
        with anyio.fail_after(5):
            assert await process.wait() == 0
        await person.left()  # nobody waits any more; the question stays


async def test_without_a_desk_it_says_so() -> None:
    done = await anyio.run_process(
        [sys.executable, "-I", "-m", "tinytown_workers.bridge"], env={}, check=False
    )
    assert done.returncode == 2
    assert b"no desk" in done.stderr


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
ALMOST = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | JSON,
        "id": JSON,
        "method": st.sampled_from(
            ["initialize", "tools/list", "server/discover", "ping", "notifications/cancelled"]
        )
        | JSON,
        "params": st.fixed_dictionaries({}, optional={"_meta": JSON, "requestId": JSON}) | JSON,
    },
)


@given(
    lines=st.lists(
        st.binary(max_size=200)
        | JSON.map(lambda value: json.dumps(value).encode())
        | ALMOST.map(lambda value: json.dumps(value).encode()),
        max_size=20,
    )
)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_line_ends_the_bridge(wire: Wire, lines: list[bytes]) -> None:
    for line in lines:
        await wire.throw(line.replace(b"\n", b" ") + b"\n")
    await wire.send("ping", "still there")
    while (answer := await wire.receive()) != {
        "jsonrpc": "2.0",
        "id": "still there",
        "result": {},
    }:
        for one in answer if isinstance(answer, list) else [answer]:
            assert one["jsonrpc"] == "2.0"
            assert ("result" in one) != ("error" in one)


async def test_a_workspace_cannot_put_its_modules_in_the_way(
    desk: Desk, person: Person, tmp_path: Path
) -> None:
    for name in ("json", "socket", "threading", "tinytown_workers"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hijacked')")
    async with await anyio.open_process(
        desk.bridge_command(), env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path
    ) as process:
        assert (await Wire(process).ask("ping"))["result"] == {}
        process.kill()


async def test_it_starts_with_the_standard_library_alone(desk: Desk) -> None:
    code = (
        "import sys, tinytown_workers.bridge, tinytown_workers.ask;"
        "print(sorted({name.partition('.')[0] for name in sys.modules}"
        " - sys.stdlib_module_names))"
    )
    done = await anyio.run_process([sys.executable, "-I", "-S", "-c", _SITE + code], env={})
    assert done.stdout.decode().strip() == "['__main__', 'tinytown', 'tinytown_workers']"


_ROOT = Path(__file__).parents[2]
_SITE = f"import sys; sys.path += [{str(_ROOT / 'src')!r}, {str(_ROOT / 'workers')!r}];"
