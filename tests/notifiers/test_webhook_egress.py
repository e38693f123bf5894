"""A webhook is dialled where the guard permits, whatever its URL says and its name answers."""

from __future__ import annotations

import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from fakes.letters import QUICK, answering, letter, sender
from fakes.spellings import LOOPBACK as SPELLINGS
from fakes.spellings import PLACES
from fakes.stranger import OK, Stranger, Visit
from tinytown.egress import BLOCKED, Egress, parse_allow
from tinytown_notifiers.sinks.webhook import Reply, SenderRules, WebhookSender

CANARY = "CanaryTopicZebra"


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Run on both loops: a townhall uses uvloop where it can, and it connects in its own way."""
    return "asyncio", {"use_uvloop": request.param}


class AddressesOnly(Egress):
    """The rule about addresses alone, so that nothing else can be why a trick failed."""

    def check_url(self, url: str) -> None:
        """Accept every text."""

    def check_peer(self, address: tuple[Any, ...], **_: Any) -> None:
        """Judge by the address."""
        super().check_peer(address)


@pytest.fixture(scope="module")
def listeners() -> Iterator[list[Stranger]]:
    """Listen on this machine by every family, on one port: nobody may ever come."""
    with ExitStack() as stack:
        found = [stack.enter_context(Stranger(address="0.0.0.0"))]  # noqa: S104
        try:
            found.append(stack.enter_context(Stranger(address="::1", port=found[0].port)))
        except OSError:
            warnings.warn("no IPv6 here", ResourceWarning, stacklevel=1)
        yield found
        assert [listener.connections for listener in found] == [0] * len(found)


async def refuse(out: WebhookSender, url: str, listeners: list[Stranger]) -> Reply:
    reply = await out.send(letter(url))
    assert reply.code != "ok", url
    assert sum(listener.connections for listener in listeners) == 0, f"somebody came by {url}"
    return reply


@pytest.mark.parametrize("egress", [Egress(), AddressesOnly()], ids=["text too", "socket alone"])
async def test_no_spelling_of_this_machine_opens_a_connection(
    listeners: list[Stranger], egress: Egress
) -> None:
    port = listeners[0].port
    async with sender(egress, rules=QUICK) as out:
        for host in SPELLINGS:
            for scheme in ("http", "https"):
                await refuse(out, f"{scheme}://{host}:{port}/", listeners)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"])  # noqa: S104
async def test_the_same_tricks_work_where_all_is_allowed(host: str) -> None:
    """Or the test before this one would prove nothing."""
    everything = Egress(parse_allow("0.0.0.0/0 ::/0"))
    family = "::1" if host == "[::1]" else "127.0.0.1"
    bind = "::" if host == "[::]" else family
    with Stranger(address=bind) as stranger:
        async with sender(everything, rules=QUICK) as out:
            assert (await out.send(letter(f"http://{host}:{stranger.port}/"))).code == "ok"


async def test_no_name_that_leads_inside_opens_a_connection(listeners: list[Stranger]) -> None:
    led = {f"hooks{number}.example": address for number, address in enumerate(PLACES)}

    def lookup(host: str, *rest: Any) -> Any:
        return answering(led[host].partition("%")[0])(host, *rest)

    async with sender(Egress(), rules=QUICK, lookup=lookup) as out:
        for host, address in led.items():
            reply = await refuse(out, f"https://{host}:8443/{CANARY}", listeners)
            assert (reply.code, reply.reason) == ("blocked_address", BLOCKED), address


async def test_a_name_with_mixed_answers_is_dialled_only_where_it_may(tmp_path: Path) -> None:
    allowed = Egress(parse_allow("127.0.0.2 127.0.0.4"))
    with Stranger(address="127.0.0.1") as inside:
        with Stranger(address="127.0.0.2", port=inside.port) as outside:
            mixes = (
                ["127.0.0.1", "127.0.0.2"],
                ["127.0.0.2", "127.0.0.1"],
                ["::1", "127.0.0.1", "10.0.0.1", "127.0.0.2", "169.254.169.254"],
                ["::ffff:127.0.0.1", "::ffff:127.0.0.2"],
            )
            for number, mix in enumerate(mixes, start=1):
                async with sender(allowed, rules=QUICK, lookup=answering(mix)) as out:
                    reply = await out.send(letter(f"http://hooks.example:{inside.port}/"))
                    assert reply.code == "ok", mix
                assert (inside.connections, outside.connections) == (0, number)

        # The one that may be dialled is not there: its failure is what is told.
        mix = ["127.0.0.1", "127.0.0.4"]
        async with sender(allowed, rules=QUICK, lookup=answering(mix)) as out:
            reply = await out.send(letter(f"http://hooks.example:{inside.port}/"))
        assert reply.code == "connect_refused"

        mix = ["127.0.0.1", "::1", "10.0.0.1"]
        async with sender(allowed, rules=QUICK, lookup=answering(mix)) as out:
            reply = await out.send(letter(f"http://hooks.example:{inside.port}/"))
        assert reply.code == "blocked_address"
        assert inside.connections == 0


async def test_a_name_that_is_rebound_after_the_check_leads_nowhere() -> None:
    allowed = Egress(parse_allow("127.0.0.2"))
    rules = SenderRules(total_seconds=5, names_seconds=0)

    def polite_once(visit: Visit) -> None:
        visit.take()
        visit.say(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

    with (
        Stranger(address="127.0.0.1") as inside,
        Stranger(polite_once, address="127.0.0.2", port=inside.port) as outside,
    ):
        url = f"http://hooks.example:{inside.port}/"
        allowed.check_url(url)
        lookup = answering("127.0.0.2", "127.0.0.1")
        async with sender(allowed, rules=rules, lookup=lookup) as out:
            codes = [(await out.send(letter(url))).code for _ in range(3)]

        assert codes == ["ok", "blocked_address", "blocked_address"]
        assert (inside.connections, outside.connections) == (0, 1)


async def test_a_public_address_gets_no_plain_http_and_no_other_port() -> None:
    house = Egress(parse_allow("127.0.0.1"))
    async with sender(house, rules=QUICK, lookup=answering("8.8.8.8")) as out:
        for url in ("http://hooks.example/", "http://hooks.example:443/", "https://h.example:22/"):
            assert (await out.send(letter(url))).code == "blocked_address", url


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("", "invalid_url"),
        ("hooks.example", "invalid_url"),
        ("ftp://hooks.example/", "invalid_url"),
        ("https://me:secret@hooks.example/", "invalid_url"),
        ("https://hooks.example/#a", "invalid_url"),
        ("https://hooks.example:99999/", "invalid_url"),
        ("https://[::g]/", "invalid_url"),
        ("https://exa\u0301mple.example/", "invalid_url"),
        ("https://10.0.0.1/", "blocked_address"),
        ("https://[fdaa::3]/", "blocked_address"),
    ],
)
async def test_an_address_that_cannot_be_called_is_told_apart(url: str, code: str) -> None:
    async with sender(rules=QUICK) as out:
        assert (await out.send(letter(url))).code == code


async def test_nobody_listening_is_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with sender(rules=QUICK) as out:
        reply = await out.send(letter(f"http://127.0.0.1:{port}/{CANARY}"))
    assert reply.code == "connect_refused"
    assert "127.0.0.1" not in repr(reply)


async def test_a_receiver_too_busy_to_be_connected_to_is_told_apart() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        with ExitStack() as stack:
            for _ in range(4):  # more than the backlog: the next handshake gets no answer
                one = stack.enter_context(socket.socket())
                one.setblocking(False)  # noqa: FBT003 - its only form
                one.connect_ex(address)
            async with sender(rules=QUICK) as out:
                reply = await out.send(letter(f"http://127.0.0.1:{address[1]}/"))
    assert reply.code == "connect_timeout"


@pytest.mark.parametrize(
    "trouble",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        OSError("resolver on fire"),
        TimeoutError("resolver asleep"),
        UnicodeError("label too long"),
    ],
    ids=repr,
)
async def test_a_name_that_cannot_be_looked_up_is_told_apart(trouble: Exception) -> None:
    async with sender(rules=QUICK, lookup=answering(trouble)) as out:
        reply = await out.send(letter(f"http://{CANARY}.example/"))
    assert reply.code == "dns"
    assert CANARY not in repr(reply)


async def test_a_name_without_addresses_is_told_apart() -> None:
    async with sender(rules=QUICK, lookup=answering([])) as out:
        assert (await out.send(letter("http://hooks.example/"))).code == "dns"


async def test_a_dead_name_server_costs_only_those_who_ask_it() -> None:
    stop = threading.Event()

    def lookup(host: str, port: int, *rest: Any) -> Any:
        if host.startswith("dead"):
            stop.wait(20)
        return answering("127.0.0.1")(host, port, *rest)

    rules = SenderRules(total_seconds=9, connect_seconds=2)
    with Stranger() as stranger:
        async with sender(rules=rules, lookup=lookup) as out:
            replies: list[Reply] = []

            async def ask(number: int) -> None:
                replies.append(await out.send(letter(f"http://dead{number}.example/")))

            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(ask, number)
                await anyio.lowlevel.checkpoint()
                alive = await out.send(letter(f"http://alive.example:{stranger.port}/"))
                assert (alive.code, replies) == ("ok", []), "while the dead were waited for"
            assert {reply.code for reply in replies} == {"dns"}
        stop.set()
