"""A crowd before a townhall: watchers of its events, and requests at a steady rate."""

from __future__ import annotations

import http.client
import itertools
import json
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Self

from tools.containers.ground import Failed

WATCHERS: Final = 200
PER_SECOND: Final = 50
SENDERS: Final = 10
"""Connections that the requests share, each kept open."""
BAD: Final = 300
SEEN: Final = b"event: mission.created"
# What one in ten requests is. Missions for later are written, told to every watcher and start no
# worker: it is the townhall that is weighed.
LATER: Final = {"goal": "weigh the townhall", "not_before": "2099-01-01T00:00:00Z"}
MIX: Final = (
    ("POST", "/v1/missions"),
    *(("GET", "/v1/missions?limit=20"),) * 3,
    *(("GET", "/v1/missions/{mission}"),) * 3,
    *(("GET", "/api/scaling"),) * 2,
    ("GET", "/ready"),
)


class Crowd:
    """Watches and asks until it is told to stop; use it as a context manager."""

    def __init__(self, port: int, key: str) -> None:
        """Gather before a town on this machine."""
        self._port = port
        self._key = {"Authorization": f"Bearer {key}"}
        self._over = threading.Event()
        self._book = threading.Lock()
        self._turn = itertools.count()
        self._begun = 0.0
        self._mission = ""
        self._threads: list[threading.Thread] = []
        self.seen = [0] * WATCHERS
        """How many missions each watcher has seen."""
        self.cut_off = 0
        """Watchers whose stream ended."""
        self.replies: Counter[int] = Counter()
        """Replies by their status; 0 = there was none."""
        self.created = 0

    def __enter__(self) -> Self:
        """Open the streams, then ask."""
        streams = [self._watch() for _ in range(WATCHERS)]
        with self._connection() as connection:
            self._ask(connection, *MIX[0])
        self._begun = time.monotonic()
        self._threads = [threading.Thread(target=self._read, args=(streams,))]
        self._threads += [threading.Thread(target=self._send) for _ in range(SENDERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Go."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def rate(self) -> float:
        """Say how many requests a second got a reply, so far."""
        return self.replies.total() / (time.monotonic() - self._begun)

    def caught_up(self) -> bool:
        """Tell whether every watcher has seen every mission."""
        return min(self.seen) >= self.created

    def check(self) -> None:
        """See that nobody was sent away; raises Failed."""
        wrong = {status: n for status, n in self.replies.items() if not 0 < status < BAD}
        if wrong:
            raise Failed(f"the crowd got {wrong} among {self.replies.total()} replies")
        if self.cut_off:
            raise Failed(f"{self.cut_off} of {WATCHERS} watchers were cut off")

    def _watch(self) -> socket.socket:
        """Open a stream of events."""
        stream = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        head = "".join(f"{name}: {value}\r\n" for name, value in self._key.items())
        stream.sendall(f"GET /v1/events HTTP/1.1\r\nHost: town\r\n{head}\r\n".encode())
        if not (reply := stream.recv(65536)).startswith(b"HTTP/1.1 200"):
            raise Failed(f"no stream of events: {reply[:80]!r}")
        return stream

    def _read(self, streams: list[socket.socket]) -> None:
        """Read all streams and count what they bring."""
        tails = [b""] * WATCHERS
        with selectors.DefaultSelector() as selector:
            for number, stream in enumerate(streams):
                selector.register(stream, selectors.EVENT_READ, number)
            while not self._over.is_set():
                for key, _ in selector.select(timeout=0.2):
                    number, data = key.data, b""
                    with suppress(OSError):
                        data = streams[number].recv(1 << 20)
                    if not data:
                        selector.unregister(streams[number])
                        self.cut_off += 1
                        continue
                    text = tails[number] + data
                    self.seen[number] += text.count(SEEN)
                    tails[number] = text[1 - len(SEEN) :]
        for stream in streams:
            stream.close()

    def _send(self) -> None:
        """Take turns with the others, each request at its time."""
        with self._connection() as connection:
            for turn in self._turn:
                due = self._begun + turn / PER_SECOND
                if self._over.wait(max(0.0, due - time.monotonic())):
                    return
                try:
                    status = self._ask(connection, *MIX[turn % len(MIX)])
                except (OSError, http.client.HTTPException):
                    status = 0
                    connection.close()
                with self._book:
                    self.replies[status] += 1

    def _ask(self, connection: http.client.HTTPConnection, method: str, path: str) -> int:
        body = json.dumps(LATER).encode() if method == "POST" else None
        headers = self._key | ({"Content-Type": "application/json"} if body else {})
        connection.request(method, path.format(mission=self._mission), body, headers)
        reply = connection.getresponse()
        text = reply.read()
        if reply.status == http.client.CREATED:
            with self._book:
                self._mission = json.loads(text)["id"]
                self.created += 1
        return reply.status

    @contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            yield connection
        finally:
            connection.close()
