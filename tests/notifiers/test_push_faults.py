"""When a phone's server misbehaves: who suffers, what is said, and whether we try again."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import anyio
import pytest

from fakes.letters import LOOPBACK
from fakes.messages import MakeMessage
from fakes.ntfy import Fault, NtfyServer
from fakes.web import Recorder
from tinytown import logs
from tinytown_notifiers.sinks import Delivered, Failed, Outcome
from tinytown_notifiers.sinks.push import PushSink
from tinytown_notifiers.sinks.target import Target

CANARY = "Canary7Topic9Secret"


async def fail(outcome: Awaitable[Outcome]) -> Failed:
    failed = await outcome
    assert isinstance(failed, Failed), failed
    return failed


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 422])
async def test_what_will_never_work_is_permanent(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage, status: int
) -> None:
    ntfy.fault("phone", Fault(status=status))

    failed = await fail(sink.send(message(ntfy.endpoint("phone"))))

    assert (failed.permanent, failed.status) == (True, status)
    assert failed.reason
    assert len(ntfy.requests) == 1, "no retries inside"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507])
async def test_what_may_work_later_is_transient(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage, status: int
) -> None:
    ntfy.fault("phone", Fault(status=status))

    failed = await fail(sink.send(message(ntfy.endpoint("phone"))))

    assert (failed.permanent, failed.status) == (False, status)
    assert len(ntfy.requests) == 1, "no retries inside"


async def test_the_servers_own_words_are_the_reason(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage
) -> None:
    ntfy.fault("phone", Fault(status=429))

    failed = await fail(sink.send(message(ntfy.endpoint("phone"))))

    assert "limit reached: too many requests" in failed.reason


async def test_retry_after_in_seconds_is_kept(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage
) -> None:
    ntfy.fault("phone", Fault(status=429, headers={"Retry-After": "37"}))

    failed = await fail(sink.send(message(ntfy.endpoint("phone"))))

    assert (failed.permanent, failed.retry_after_seconds) == (False, 37.0)


async def test_retry_after_as_a_date_is_kept(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage
) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    ntfy.fault("phone", Fault(status=503, headers={"Retry-After": later}))

    failed = await fail(sink.send(message(ntfy.endpoint("phone"))))

    assert failed.retry_after_seconds == pytest.approx(90, abs=3)


@pytest.mark.parametrize("nonsense", ["soon", "-5", "", "1e9", "Mon, 99 Nov 2026"])
async def test_a_retry_after_that_makes_no_sense_is_ignored(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage, nonsense: str
) -> None:
    ntfy.fault("phone", Fault(status=429, headers={"Retry-After": nonsense}))

    failed = await fail(sink.send(message(ntfy.endpoint("phone"))))

    assert failed.retry_after_seconds is None


async def test_telegrams_retry_after_in_json_is_kept(
    sink: PushSink, message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apprise.plugins.telegram import NotifyTelegram

    body = b'{"ok":false,"error_code":429,"parameters":{"retry_after":12}}'
    with Recorder(status=429, body=body) as telegram:
        monkeypatch.setattr(NotifyTelegram, "notify_url", f"{telegram.address}/bot")
        failed = await fail(
            sink.send(message("tgram://123456789:AbcdefghijklmnopqrstuvwxyzAbcdefghi/42"))
        )

    assert (failed.permanent, failed.retry_after_seconds) == (False, 12.0)
    assert "AbcdefghijklmnopqrstuvwxyzAbcdefghi" not in repr(failed)


@pytest.mark.parametrize(
    ("status", "permanent"), [(301, True), (302, False), (303, False), (307, False), (308, True)]
)
async def test_redirects_are_not_followed(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage, status: int, *, permanent: bool
) -> None:
    with Recorder() as inside:
        ntfy.fault(
            "phone", Fault(status=status, headers={"Location": f"{inside.address}/metadata"})
        )
        failed = await fail(sink.send(message(ntfy.endpoint("phone"))))

        assert inside.requests == []
    assert (failed.permanent, failed.status) == (permanent, status)
    assert "redirect" in failed.reason


async def test_a_server_that_is_not_there_is_transient(
    sink: PushSink, message: MakeMessage
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    failed = await fail(sink.send(message(f"ntfy://127.0.0.1:{port}/{CANARY}")))

    assert (failed.permanent, failed.status, failed.reason) == (False, None, "connection refused")


async def test_a_host_that_nobody_knows_is_transient(sink: PushSink, message: MakeMessage) -> None:
    failed = await fail(sink.send(message("ntfy://no.such.host.invalid/topic")))

    assert (failed.permanent, failed.reason) == (False, "the host name is not known")


async def test_a_connection_cut_after_the_request_is_transient(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage
) -> None:
    ntfy.fault("phone", Fault(reset=True))

    failed = await fail(sink.send(message(ntfy.endpoint("phone"))))

    assert (failed.permanent, failed.reason) == (False, "the server hung up")


async def test_a_kept_connection_that_the_server_closed_meanwhile_is_opened_again(
    sink: PushSink, message: MakeMessage
) -> None:
    with NtfyServer() as server:
        url, port = server.endpoint("phone"), server.port
        assert isinstance(await sink.send(message(url)), Delivered)

    with NtfyServer(port=port) as restarted:
        assert isinstance(await sink.send(message(url)), Delivered)
        assert len(restarted.on("phone")) == 1


@pytest.mark.parametrize("fault", [Fault(hang=True), Fault(drip=True)], ids=["silent", "dripping"])
async def test_a_server_that_takes_for_ever_is_cut_off_and_its_thread_ends(
    ntfy: NtfyServer, message: MakeMessage, fault: Fault
) -> None:
    sink = PushSink(LOOPBACK, send_seconds=0.5)
    ntfy.fault("phone", fault, None)
    before = time.monotonic()

    failed = await fail(sink.send(message(ntfy.endpoint("phone"))))

    assert time.monotonic() - before < 2.5
    assert not failed.permanent
    # The lane is free at once: the next message goes through.
    assert isinstance(await sink.send(message(ntfy.endpoint("phone"))), Delivered)
    sink.close()


async def test_twelve_hanging_targets_do_not_delay_a_healthy_one(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage
) -> None:
    for number in range(12):
        ntfy.fault(f"dead{number}", Fault(hang=True), forever=True)
    await sink.send(message(ntfy.endpoint("phone")))  # the plugin is loaded
    healthy: list[float] = []

    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(sink.send, message(ntfy.endpoint(f"dead{number}")))
        with anyio.fail_after(4):
            while len(ntfy.requests) < 13:  # noqa: ASYNC110 - threads of a server change it
                await anyio.sleep(0.005)  # polling what a thread changes
        for _ in range(5):
            before = time.monotonic()
            assert isinstance(await sink.send(message(ntfy.endpoint("phone"))), Delivered)
            healthy.append(time.monotonic() - before)
        group.cancel_scope.cancel()

    assert sorted(healthy)[2] < 0.25, healthy


async def test_stopping_does_not_wait_for_a_hanging_target(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage
) -> None:
    ntfy.fault("phone", Fault(hang=True), forever=True)
    threads = threading.active_count()
    before = time.monotonic()

    async with anyio.create_task_group() as group:
        group.start_soon(sink.send, message(ntfy.endpoint("phone")))
        with anyio.fail_after(4):
            while not ntfy.requests:  # noqa: ASYNC110 - a server's thread changes it
                await anyio.sleep(0.005)  # polling what a thread changes
        group.cancel_scope.cancel()

    assert time.monotonic() - before < 2.5
    assert threading.active_count() <= threads + 2


@pytest.fixture
def our_logs(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Log as a process of ours does, and at its chattiest (pytest would listen to every logger)."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure("json", logging.DEBUG)
    yield lambda: "".join(capfd.readouterr())
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    "fault", [Fault(status=401), Fault(status=500, body=b"<html>"), Fault(reset=True)]
)
async def test_secrets_show_up_neither_in_outcomes_nor_in_logs(
    ntfy: NtfyServer,
    sink: PushSink,
    message: MakeMessage,
    our_logs: Callable[[], str],
    fault: Fault,
) -> None:
    ntfy.fault(CANARY, fault)
    link = "https://town.example/a/Canary-token-of-an-answer-link-0123456789"
    url = ntfy.endpoint(CANARY, login="CanaryUser:CanaryPass")

    told = message(url, click=link)
    outcome = await sink.send(told)

    logging.getLogger("tinytown_notifiers").info("a line of our own")
    shown = "".join([repr(outcome), repr(told), our_logs()])
    assert "a line of our own" in shown, "the log is really read here"
    assert "Canary" not in shown


async def test_a_url_that_is_not_allowed_is_a_permanent_failure_and_not_an_exception(
    sink: PushSink, message: MakeMessage
) -> None:
    failed = await fail(sink.send(message("dbus://")))

    assert failed.permanent


async def test_a_plugin_that_raises_is_a_permanent_failure(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apprise.plugins.ntfy import NotifyNtfy

    def send(*_: object, **__: object) -> bool:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(NotifyNtfy, "send", send)
    failed = await fail(sink.send(message(ntfy.endpoint(CANARY))))

    assert failed.permanent
    assert CANARY not in failed.reason


async def test_apprise_cannot_carry_a_label_beyond_latin1_in_ntfys_simple_format(
    ntfy: NtfyServer,
) -> None:
    """Why buttons travel as escaped JSON; should this fail one day, Apprise has mended it."""
    from apprise import Apprise

    from tinytown_notifiers.sinks.courier import Courier, Exchange, carrying

    def notify(label: str) -> bool:
        target = Target(ntfy.endpoint("phone"), courier)
        exchange = Exchange(egress=LOOPBACK, deadline=time.monotonic() + 5)
        with carrying(exchange):
            plugin = target.build({"actions": f"http, {label}, https://town.example/a/x"})
            apprise = Apprise(asset=plugin.asset)
            apprise.add(plugin)
            return bool(apprise.notify(body="x"))

    courier = Courier()
    assert await anyio.to_thread.run_sync(notify, "Yes")
    assert not await anyio.to_thread.run_sync(notify, "✅ Yes")
    assert len(ntfy.published) == 1
    courier.close()
