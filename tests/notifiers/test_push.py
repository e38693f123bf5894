"""A message through the real Apprise to a phone: everything a person sees and presses arrives."""

from __future__ import annotations

import threading

import anyio
import pytest

from fakes.letters import LOOPBACK
from fakes.messages import MakeMessage
from fakes.ntfy import NtfyServer
from fakes.web import Recorder
from tinytown_notifiers.sinks import Button, Delivered, Priority
from tinytown_notifiers.sinks.push import PushSink

BUTTONS = (
    Button(label="✅ Ja, größer", url="https://town.example/a/one"),
    Button(label='No, "never"; stop', url="https://town.example/a/two"),
    Button(label="Öffnen", url="https://town.example/a/page", method=None),
)


async def test_title_body_priority_link_tags_and_buttons_arrive_at_ntfy(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage
) -> None:
    outcome = await sink.send(
        message(
            ntfy.endpoint("phone"),
            title="Größe ändern? 日本語 🚀",
            body="Zeile eins\nDo you — really — want it? ✅",
            priority=Priority.HIGH,
            click="https://town.example/a/page?x=1&y=2",
            tags=("question", "warning"),
            buttons=BUTTONS,
        )
    )

    assert isinstance(outcome, Delivered)
    (got,) = ntfy.on("phone")
    assert got.title == "Größe ändern? 日本語 🚀"
    assert got.message == "Zeile eins\nDo you — really — want it? ✅"
    assert (got.priority, got.tags) == (4, ["question", "warning"])
    assert got.click == "https://town.example/a/page?x=1&y=2"
    assert [(one.action, one.label, one.url, one.method) for one in got.actions] == [
        ("http", "✅ Ja, größer", "https://town.example/a/one", "POST"),
        ("http", 'No, "never"; stop', "https://town.example/a/two", "POST"),
        ("view", "Öffnen", "https://town.example/a/page", ""),
    ]
    assert all(one.clear for one in got.actions), "a second press must not be invited"
    assert not got.icon, "no phone fetches a picture from a third party"


@pytest.mark.parametrize(
    ("priority", "expected"),
    [
        (Priority.MIN, 1),
        (Priority.LOW, 2),
        (Priority.DEFAULT, 0),  # ntfy's own default: nothing is said
        (Priority.HIGH, 4),
        (Priority.MAX, 5),
    ],
)
async def test_each_priority_has_its_ntfy_number(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage, priority: Priority, expected: int
) -> None:
    await sink.send(message(ntfy.endpoint("phone"), priority=priority))

    assert ntfy.on("phone")[0].priority == expected


async def test_what_the_owner_wrote_into_the_url_wins(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage
) -> None:
    url = ntfy.endpoint("phone", query="priority=min&tags=mine")

    await sink.send(message(url, priority=Priority.MAX, tags=("question",)))

    (got,) = ntfy.on("phone")
    assert (got.priority, got.tags) == (1, ["mine"])


@pytest.mark.parametrize("letter", ["a", "ü", "🚀", '"', "\\"])
async def test_a_long_body_stays_a_message_and_becomes_no_file(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage, letter: str
) -> None:
    outcome = await sink.send(message(ntfy.endpoint("phone"), body="x" + letter * 9_000 + "x"))

    assert isinstance(outcome, Delivered)
    (got,) = ntfy.on("phone")
    assert not got.attachment
    assert got.message.startswith("x" + letter * 500)
    assert got.message.endswith("…")


@pytest.mark.parametrize("login", ["me:pa%3Ass%40word", "tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2"])
async def test_user_and_token_log_in(message: MakeMessage, login: str) -> None:
    sink = PushSink(LOOPBACK)
    with NtfyServer(
        users={"me": "pa:ss@word"}, tokens={"tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2"}
    ) as server:
        outcome = await sink.send(message(server.endpoint("phone", login=login)))

        assert isinstance(outcome, Delivered)
        assert len(server.on("phone")) == 1
    sink.close()


async def test_messages_to_one_phone_keep_their_order_and_their_connection(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage
) -> None:
    url = ntfy.endpoint("phone")
    for number in range(6):
        await sink.send(message(url, body=str(number)))

    assert [got.message for got in ntfy.on("phone")] == [str(number) for number in range(6)]
    assert ntfy.connections == 1, "kept alive: no new connection (and TLS) per message"


async def test_two_messages_in_a_row_do_not_wait_for_apprises_throttle(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage
) -> None:
    with anyio.fail_after(3):  # Apprise itself would sleep 5.5 s between the two
        for _ in range(2):
            await sink.send(message(ntfy.endpoint("phone")))


async def test_where_nothing_can_be_tapped_the_link_stands_in_the_text(
    sink: PushSink, message: MakeMessage
) -> None:
    with Recorder() as gotify:
        url = f"gotify://127.0.0.1:{gotify.port}/Asecrettoken"
        outcome = await sink.send(
            message(url, click="https://town.example/a/page", priority=Priority.HIGH)
        )

    assert isinstance(outcome, Delivered)
    sent = gotify.requests[0].json()
    assert sent["message"] == "Shall I?\n\nhttps://town.example/a/page"
    assert (sent["title"], sent["priority"]) == ("Fix the build", 8)


async def test_text_that_looks_like_html_stays_text_in_chats_that_speak_html(
    sink: PushSink, message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apprise.plugins.telegram import NotifyTelegram

    with Recorder(body=b'{"ok": true, "result": {}}') as telegram:
        monkeypatch.setattr(NotifyTelegram, "notify_url", f"{telegram.address}/bot")
        outcome = await sink.send(
            message(
                "tgram://123456789:AbcdefghijklmnopqrstuvwxyzAbcdefghi/42",
                title="<b>bold</b> & co",
                body='<a href="https://evil.example">click me</a>',
                priority=Priority.LOW,
            )
        )

    assert isinstance(outcome, Delivered)
    sent = telegram.requests[0].json()
    assert "<a" not in sent["text"]
    assert "&lt;a" in sent["text"]
    assert "<b>bold" not in sent["text"]
    assert sent["disable_notification"] is True


HOSTED = {
    "bark": "bark://127.0.0.1:{}/devicekey",
    "gotify": "gotify://127.0.0.1:{}/Asecrettoken",
    "hassio": "hassio://127.0.0.1:{}/longlivedtoken",
    "json": "json://127.0.0.1:{}/path",
    "mmost": "mmost://127.0.0.1:{}/3ccdd113474722377935511fc85d3dd4",
    "nctalk": "nctalk://user:pass@127.0.0.1:{}/room",
    "pushdeer": "pushdeer://127.0.0.1:{}/pushKey123",
    "signal": "signal://127.0.0.1:{}/+11234567890",
    "synology": "synology://127.0.0.1:{}/token",
    "xml": "xml://127.0.0.1:{}/path",
}


@pytest.mark.parametrize("url", HOSTED.values(), ids=HOSTED.keys())
async def test_other_services_send_one_request_with_the_text(
    sink: PushSink, message: MakeMessage, url: str
) -> None:
    with Recorder(body=b'{"success":true,"code":200,"error":0}') as server:
        outcome = await sink.send(message(url.format(server.port)))

    assert isinstance(outcome, Delivered), outcome
    (asked,) = server.requests
    assert "Shall" in asked.path + asked.body.decode()


async def test_sending_never_blocks_the_event_loop(
    ntfy: NtfyServer, sink: PushSink, message: MakeMessage
) -> None:
    loop_thread = threading.get_ident()
    seen: set[int] = set()
    from tinytown_notifiers.sinks.courier import Courier

    original = Courier.request

    def request(self: Courier, method: str, url: str, **kwargs: object) -> object:
        seen.add(threading.get_ident())
        return original(self, method, url, **kwargs)

    Courier.request = request  # type: ignore[assignment,method-assign]
    try:
        await sink.send(message(ntfy.endpoint("phone")))
    finally:
        Courier.request = original  # type: ignore[method-assign]
    assert seen
    assert loop_thread not in seen
