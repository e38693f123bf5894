"""A phone that has subscribed to a topic of the fake ntfy, and the thumb that presses."""

from __future__ import annotations

import http.client
import urllib.parse
from collections.abc import Callable

from fakes.ntfy import NtfyServer, Published


class Phone:
    """A phone subscribed to one topic: it shows what came and presses what a person presses."""

    def __init__(self, server: NtfyServer, topic: str) -> None:
        self._server, self._topic = server, topic

    @property
    def notifications(self) -> list[Published]:
        """What stands on the lock screen, oldest first."""
        return self._server.on(self._topic)

    def wait(self, count: int = 1) -> Published:
        """Wait for the n-th notification and return it."""
        return self._server.wait(count, self._topic)[count - 1]

    def press(self, notification: Published, label: str) -> tuple[int, str]:
        """Press an http button: really send its request; returns status and body of the reply."""
        button = next(action for action in notification.actions if action.label == label)
        assert button.action == "http", f"{label!r} opens a page, it does nothing by itself"
        parts = urllib.parse.urlsplit(button.url)
        connect: Callable[..., http.client.HTTPConnection] = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = connect(parts.hostname, parts.port, timeout=10)
        try:
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request(
                button.method or "POST", path, button.body.encode(), dict(button.headers)
            )
            reply = connection.getresponse()
            return reply.status, reply.read().decode(errors="replace")
        finally:
            connection.close()
