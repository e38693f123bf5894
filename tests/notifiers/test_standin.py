"""The phone that ships with the demo: a real push reaches it and a real press leaves it."""

from __future__ import annotations

import anyio
import pytest

from fakes.messages import MakeMessage
from fakes.web import Recorder
from tinytown_notifiers.sinks import Button, Delivered, Failed, Priority
from tinytown_notifiers.sinks.push import PushSink
from tinytown_notifiers.standin import PhoneButton, stand_in


async def test_a_push_arrives_with_its_buttons_and_a_press_is_a_request(
    sink: PushSink, message: MakeMessage
) -> None:
    with Recorder(status=201, body="Danke ✅".encode()) as town:
        async with stand_in() as phone:
            link = f"{town.address}/a/token"
            buttons = (
                Button(label="✅ Ja", url=link),
                Button(label="Seite", url=f"{link}?x=1", method=None),
            )
            outcome = await sink.send(
                message(
                    phone.endpoint(),
                    title="Größe?",
                    priority=Priority.HIGH,
                    click=link,
                    tags=("question",),
                    buttons=buttons,
                )
            )
            assert isinstance(outcome, Delivered)
            with anyio.fail_after(5):
                shown = await phone.next()

            assert (shown.topic, shown.title, shown.message) == ("phone", "Größe?", "Shall I?")
            assert (shown.priority, shown.click, shown.tags) == (4, link, ("question",))
            yes, page = shown.buttons
            assert (yes.label, page.label, page.action) == ("✅ Ja", "Seite", "view")
            pressed = await phone.press(yes)
            assert (pressed.status, pressed.text) == (201, "Danke ✅")
            with pytest.raises(ValueError, match="opens a page"):
                await phone.press(page)
    assert [(one.method, one.path) for one in town.requests] == [("POST", "/a/token")]


async def test_notifications_wait_until_they_are_looked_at_in_their_order(
    sink: PushSink, message: MakeMessage
) -> None:
    async with stand_in() as phone:
        for number in range(5):
            await sink.send(message(phone.endpoint("a"), body=str(number)))

        assert [(await phone.next()).message for _ in range(5)] == list("01234")


async def test_more_buttons_than_a_phone_shows_are_refused(
    sink: PushSink, message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinytown_notifiers.sinks.channels.MAX_BUTTONS", 9)
    buttons = tuple(Button(label=str(number), url="http://x.example") for number in range(4))
    async with stand_in() as phone:
        outcome = await sink.send(message(phone.endpoint(), buttons=buttons))

    assert isinstance(outcome, Failed)
    assert (outcome.permanent, outcome.status) == (True, 400)
    assert "only 3 actions" in outcome.reason


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{]", b"400"),
        (b"POST /t HTTP/1.1\r\nContent-Length: 1\r\n\r\n\xff", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nX: " + b"a" * 40_000, b"431"),
        (b"POST /t HTTP/1.1\r\nContent-Length: 2\r\nX-Priority: 5\r\n\r\nhi", b"200"),
    ],
)
async def test_whatever_it_hears_it_stays_polite(request_bytes: bytes, status: bytes) -> None:
    async with stand_in() as phone, await anyio.connect_tcp("127.0.0.1", phone.port) as stream:
        await stream.send(request_bytes)
        with anyio.fail_after(5):
            assert (await stream.receive()).split()[1] == status


async def test_rubbish_on_one_connection_leaves_the_phone_alive(
    sink: PushSink, message: MakeMessage
) -> None:
    async with stand_in() as phone:
        for rubbish in (b"\r\n\r\n", b"x\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
            async with await anyio.connect_tcp("127.0.0.1", phone.port) as stream:
                await stream.send(rubbish)
        await sink.send(message(phone.endpoint()))

        assert (await phone.next()).message == "Shall I?"


async def test_a_press_that_reaches_nobody_says_so() -> None:
    async with stand_in() as phone:
        port = phone.port
    button = PhoneButton(action="http", label="Yes", url=f"http://127.0.0.1:{port}/a/x")
    with pytest.raises(OSError, match="refused"):
        await phone.press(button)
