"""A push is dialled where the guard permits, by whatever library its plugin speaks."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from fakes.letters import LOOPBACK, answering
from fakes.messages import MakeMessage
from fakes.spellings import LOOPBACK as SPELLINGS
from fakes.spellings import PLACES
from fakes.stranger import OK, Stranger, Visit
from tinytown.egress import BLOCKED, Egress, parse_allow
from tinytown.errors import Invalid
from tinytown_notifiers.sinks import Delivered, Failed
from tinytown_notifiers.sinks.catalog import SERVICES
from tinytown_notifiers.sinks.courier import Courier
from tinytown_notifiers.sinks.push import PushSink
from tinytown_notifiers.sinks.target import _load

HOSTED = ("ntfy://{at}/topic", "json://{at}/path", "gotify://{at}/Abcdefghijklmno")
MAIL = "mailto://me:secret@example.com:{port}?smtp={host}&from=me@example.com&mode=insecure"


@pytest.fixture
async def stranger() -> AsyncIterator[PushSink]:
    """Lend the sink of somebody who has just typed `tt up`."""
    sink = PushSink(Egress(), send_seconds=5)
    yield sink
    sink.close()


@pytest.fixture(scope="module")
def listeners() -> Iterator[list[Stranger]]:
    """Listen on this machine by every family, on one port: nobody may ever come."""
    with ExitStack() as stack:
        found = [stack.enter_context(Stranger(address="0.0.0.0"))]  # noqa: S104
        found.append(stack.enter_context(Stranger(address="::1", port=found[0].port)))
        yield found
        assert [listener.connections for listener in found] == [0] * len(found)


def names_lead_to(monkeypatch: pytest.MonkeyPatch, *answers: str | list[str]) -> None:
    """Be the name server of this test."""
    lookup = answering(*answers)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, **_: lookup(host, port))


async def refused(sink: PushSink, url: str, message: MakeMessage) -> Failed:
    outcome = await sink.send(message(url))
    assert isinstance(outcome, Failed), url
    return outcome


@pytest.mark.parametrize("url", HOSTED)
async def test_no_spelling_of_this_machine_opens_a_connection(
    stranger: PushSink, listeners: list[Stranger], message: MakeMessage, url: str
) -> None:
    for host in SPELLINGS:
        # "ntfy://0" and its like are topics at ntfy.sh, which is public; nothing inside hears them.
        if not url.startswith("ntfy") or any(letter in host for letter in ".:[@"):
            await refused(stranger, url.format(at=f"{host}:{listeners[0].port}"), message)
        assert sum(listener.connections for listener in listeners) == 0, host


@pytest.mark.parametrize(
    "url",
    [*(url.format(at="push.example") for url in HOSTED), MAIL.format(host="mail.example", port=25)],
)
async def test_no_name_that_leads_inside_is_dialled(
    stranger: PushSink, message: MakeMessage, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    # Apprise loads the machine's certificates for each mail: a tenth of a second.
    for address in PLACES[::8] if url.startswith("mail") else PLACES:
        names_lead_to(monkeypatch, address.partition("%")[0])
        failed = await refused(stranger, url, message)
        assert (failed.permanent, failed.reason) == (True, BLOCKED), address


@pytest.mark.parametrize("smtp", ["127.0.0.1", "[::1]", "localhost", "mail.example"])
@pytest.mark.parametrize("mode", ["insecure", "starttls", "ssl"])
async def test_a_mail_server_inside_is_not_dialled_either(
    stranger: PushSink,
    listeners: list[Stranger],
    message: MakeMessage,
    monkeypatch: pytest.MonkeyPatch,
    smtp: str,
    mode: str,
) -> None:
    if smtp == "mail.example":
        names_lead_to(monkeypatch, "127.0.0.1")
    url = MAIL.format(host=smtp, port=listeners[0].port).replace("insecure", mode)

    failed = await refused(stranger, url, message)

    assert (failed.permanent, failed.reason) == (True, BLOCKED)
    assert sum(listener.connections for listener in listeners) == 0


async def test_mail_goes_where_it_is_allowed(message: MakeMessage) -> None:
    said: list[bytes] = []

    def smtp(visit: Visit) -> None:
        visit.say(b"220 mail.example ESMTP\r\n")
        lines = visit.connection.makefile("rb")
        for line in lines:
            said.append(line)
            if line.upper().startswith(b"DATA"):
                visit.say(b"354 go on\r\n")
                for text in lines:
                    said.append(text)
                    if text == b".\r\n":
                        break
                visit.say(b"250 taken\r\n")
            elif line.upper().startswith(b"EHLO"):
                visit.say(b"250-mail.example\r\n250 AUTH PLAIN\r\n")
            elif line.upper().startswith(b"AUTH"):
                visit.say(b"235 welcome\r\n")
            else:
                visit.say(b"250 fine\r\n")

    sink = PushSink(LOOPBACK, send_seconds=5)
    with Stranger(smtp) as server:
        url = MAIL.format(host="127.0.0.1", port=server.port)
        outcome = await sink.send(message(url, title="Fix the build"))
        assert isinstance(outcome, Delivered), outcome
    assert any(b"Subject: Fix the build" in line for line in said)
    sink.close()


async def test_a_mail_server_that_never_greets_is_cut_off(message: MakeMessage) -> None:
    sink = PushSink(LOOPBACK, send_seconds=0.5)
    with Stranger(Visit.wait) as server:
        outcome = await sink.send(message(MAIL.format(host="127.0.0.1", port=server.port)))
        assert isinstance(outcome, Failed)
        assert server.gone(), "its connection, and the thread that waited for it"
    sink.close()


async def test_mixed_answers_are_dialled_only_where_they_may(
    message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = PushSink(Egress(parse_allow("127.0.0.2")), send_seconds=5)
    with (
        Stranger(address="127.0.0.1") as inside,
        Stranger(address="127.0.0.2", port=inside.port) as outside,
    ):
        names_lead_to(monkeypatch, ["127.0.0.1", "::1", "127.0.0.2"])
        url = f"json://push.example:{inside.port}/"
        assert isinstance(await sink.send(message(url)), Delivered)
        assert (inside.connections, outside.connections) == (0, 1)
    sink.close()


async def test_a_name_that_is_rebound_leads_nowhere(
    message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(visit: Visit) -> None:
        visit.take()
        visit.say(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

    sink = PushSink(Egress(parse_allow("127.0.0.2")), send_seconds=5)
    with (
        Stranger(address="127.0.0.1") as inside,
        Stranger(once, address="127.0.0.2", port=inside.port) as outside,
    ):
        names_lead_to(monkeypatch, "127.0.0.2", "127.0.0.1")
        url = message(f"json://push.example:{inside.port}/")
        assert isinstance(await sink.send(url), Delivered)
        again = await sink.send(url)
        assert isinstance(again, Failed)
        assert again.reason == BLOCKED
        assert (inside.connections, outside.connections) == (0, 1)
    sink.close()


@pytest.mark.parametrize(
    ("url", "free"),
    [
        ("json://push.example/", True),
        ("jsons://push.example:6379/", True),
        ("form://push.example:443/", True),
        ("xml://push.example/", True),
        ("ntfy://push.example:6379/topic", False),
        ("gotifys://push.example:6379/Abcdefghijklmno", False),
    ],
)
async def test_a_request_of_ones_own_needs_tls_and_a_port_of_the_web_outside_the_house(
    message: MakeMessage, monkeypatch: pytest.MonkeyPatch, url: str, *, free: bool
) -> None:
    """A known service speaks its own protocol on its own port, so only its address counts."""
    names_lead_to(monkeypatch, "8.8.8.8")
    dialled: list[Any] = []

    def connect(_: socket.socket, peer: Any) -> None:
        dialled.append(peer)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "socket", type("S", (socket.socket,), {"connect": connect}))
    sink = PushSink(Egress(), send_seconds=5)
    outcome = await sink.send(message(url))
    assert isinstance(outcome, Failed)
    assert (outcome.reason == BLOCKED, dialled == []) == (free, free), outcome
    sink.close()


async def test_a_kept_connection_is_judged_by_the_rule_of_who_uses_it(
    message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a known service may do in plain text, a request of one's own may not do after it."""

    class Known(Egress):
        def check_peer(self, address: tuple[Any, ...], **rule: Any) -> None:
            public = ("8.8.8.8", *address[1:])
            super().check_peer(public, **rule)

    sink = PushSink(Known(), send_seconds=5)
    with Stranger() as server:
        names_lead_to(monkeypatch, "127.0.0.1")
        at = f"push.example:{server.port}"
        assert isinstance(await sink.send(message(f"gotify://{at}/Abcdefghijklmno")), Delivered)
        failed = await refused(sink, f"json://{at}/", message)
        assert (failed.reason, len(server.requests)) == (BLOCKED, 1)
    sink.close()


@pytest.mark.parametrize(
    "url",
    [
        "ntfy://127.0.0.1/topic",
        "ntfys://10.0.0.1:8443/topic",
        "json://[::1]/",
        "jsons://[::ffff:169.254.169.254]/latest",
        "gotify://localhost/Abcdefghijklmno",
        "mailto://me:secret@example.com?smtp=192.168.1.1&from=me@example.com",
    ],
)
async def test_an_address_inside_is_refused_when_it_is_given(url: str, stranger: PushSink) -> None:
    with pytest.raises(Invalid, match=rf"^{BLOCKED}$"):
        await stranger.check(url)
    house = PushSink(Egress(parse_allow("0.0.0.0/0 ::/0")))
    await house.check(url)
    house.close()


@pytest.mark.parametrize(
    "url", ["ntfy://12345", "ntfys://0", "tgram://123456789:Ab-cdefgh_ijkl/42"]
)
async def test_a_topic_that_looks_like_a_number_is_a_topic(url: str, stranger: PushSink) -> None:
    await stranger.check(url)


async def test_a_proxy_of_the_environment_is_not_asked(
    message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Stranger() as proxy, Stranger(address="127.0.0.2") as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        sink = PushSink(LOOPBACK, send_seconds=5)
        outcome = await sink.send(message(f"json://127.0.0.2:{server.port}/"))
        assert isinstance(outcome, Delivered)
        assert (proxy.connections, server.connections) == (0, 1)
        sink.close()


SCRIPT = """
import importlib, sys
from tinytown_notifiers.sinks.catalog import SERVICES
from tinytown_notifiers.sinks.courier import Courier
from tinytown_notifiers.sinks.dialling import Mail
from tinytown_notifiers.sinks.target import _load
from tinytown.errors import Invalid

courier = Courier()
ways = {"socket", "http", "urllib3", "httpx", "aiohttp", "asyncio", "subprocess", "ftplib",
        "imaplib", "poplib", "nntplib", "telnetlib", "xmlrpc", "urlopen", "create_connection"}
for schema, service in SERVICES.items():
    try:
        _load(schema, service, courier)
    except Invalid as error:
        assert "library" in error.detail, error.detail
        continue
    name = f"apprise.plugins.{service.module}"
    for loaded_name, module in list(sys.modules.items()):
        if loaded_name == name or loaded_name.startswith(f"{name}."):
            found = ways & vars(module).keys()
            assert not found, (loaded_name, found)
            assert getattr(module, "requests", courier) is courier, loaded_name
            assert isinstance(getattr(module, "smtplib", courier.mail), Mail), loaded_name
print("all", len(SERVICES))
"""


def test_no_plugin_that_may_be_used_has_another_way_out() -> None:
    """Or a service could be allowed one day that dials past the guard."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"all {len(SERVICES)}\n", done.stderr


@pytest.mark.parametrize("name", ["Session", "session", "sessions", "adapters", "api"])
def test_a_plugin_gets_nothing_of_requests_that_dials_by_itself(name: str) -> None:
    courier = Courier()
    assert not hasattr(courier, name)
    assert courier.codes.ok == 200
    courier.close()


def test_a_plugin_that_connects_in_a_way_of_its_own_is_refused() -> None:
    service = SERVICES["ntfy"].__class__(module="dbus", hosted=False)
    courier = Courier()
    with pytest.raises(Invalid, match="a way of its own"):
        _load("dbus", service, courier)
    courier.close()
