"""The fake ntfy holds ntfy's contract: driven by plain HTTP, as its documentation shows."""

from __future__ import annotations

import http.client
import json

import pytest

from fakes.ntfy import NtfyServer
from fakes.ntfy_actions import NtfyError, parse_actions
from fakes.phone import Phone
from fakes.web import Recorder


def request(
    server: NtfyServer, path: str, body: bytes = b"", method: str = "POST", **headers: str
) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, body, named)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def test_a_message_by_put_with_headers(ntfy: NtfyServer) -> None:
    status, _ = request(
        ntfy,
        "/backups?click=https://x.example",
        b"Remote access",
        "PUT",
        Title="=?UTF-8?B?R3LDvMOfZSDinIU=?=",
        Priority="urgent",
        Tags="warning,skull",
        Actions="view, Open portal, https://home.example/, clear=true",
    )

    assert status == 200
    (got,) = ntfy.on("backups")
    assert (got.title, got.message, got.priority) == ("Grüße ✅", "Remote access", 5)
    assert (got.tags, got.click) == (["warning", "skull"], "https://x.example")
    assert (got.actions[0].label, got.actions[0].clear) == ("Open portal", True)


def test_a_message_as_json(ntfy: NtfyServer) -> None:
    told = {"topic": "phone", "message": "Hi", "priority": 4, "actions": [{"action": "view"}]}
    status, error = request(ntfy, "/", json.dumps(told).encode())
    assert (status, error["code"]) == (400, 40018), "label is missing"

    told["actions"] = [{"action": "http", "label": "Go", "url": "http://x.example"}]
    assert request(ntfy, "/", json.dumps(told).encode())[0] == 200
    assert ntfy.on("phone")[0].priority == 4


@pytest.mark.parametrize(
    ("path", "body", "headers", "code"),
    [
        ("/bad%20topic", b"x", {}, 40009),
        ("/phone", b"x", {"Priority": "loud"}, 40007),
        ("/phone", b"\xff", {}, 40011),
        ("/phone", b"x", {"Actions": "view, a, http://x; " * 4}, 40018),
        ("/", b"no json", {}, 40017),
        ("/", b'{"topic":"a"}' + b" " * 9_000, {}, 41303),
    ],
)
def test_errors_are_ntfys_own(
    ntfy: NtfyServer, path: str, body: bytes, headers: dict[str, str], code: int
) -> None:
    status, error = request(ntfy, path, body, **headers)

    assert (status, error["code"]) == (code // 100, code)
    assert ntfy.published == []


def test_who_may_not_write_is_told_so() -> None:
    with NtfyServer(users={"me": "secret"}) as server:
        assert request(server, "/phone", b"x")[0] == 403
        assert request(server, "/phone", b"x", Authorization="Bearer tk_wrong")[0] == 401
        assert request(server, "/phone", b"x", Authorization="Basic bWU6c2VjcmV0")[0] == 200


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ('http, "Look, \\"ma\\"; ok", http://x; view, b, http://y', ['Look, "ma"; ok', "b"]),
        ("action=http, label='a, b', url=http://x, method=put, clear=yes", ["a, b"]),
        ('[{"action":"view","label":"\\u2705","url":"http://x"}]', ["✅"]),
    ],
)
def test_both_ways_to_write_buttons_are_understood(text: str, labels: list[str]) -> None:
    assert [action.label for action in parse_actions(text)] == labels


@pytest.mark.parametrize(
    "text",
    ["http, a", "fly, a, http://x", 'view, "a, http://x', "view, a, http://x, y, z", "[{]"],
)
def test_what_is_no_button_is_an_error(text: str) -> None:
    with pytest.raises(NtfyError):
        parse_actions(text)


def test_a_press_on_the_phone_really_performs_its_request(ntfy: NtfyServer) -> None:
    with Recorder(body=b"thanks") as town:
        link = f"{town.address}/a/token"
        request(ntfy, "/phone", b"?", Actions=f"http, Yes, {link}, body=x; view, Page, {link}")
        phone = Phone(ntfy, "phone")
        shown = phone.wait()

        assert phone.press(shown, "Yes") == (200, "thanks")
        assert [(one.method, one.path, one.body) for one in town.requests] == [
            ("POST", "/a/token", b"x")
        ]
        with pytest.raises(AssertionError, match="opens a page"):
            phone.press(shown, "Page")
