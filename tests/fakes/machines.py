"""A Machines API on loopback, as strict as Fly's, whose machines may run real workers.

Its paths and fields are those of Fly's OpenAPI file (2024-01, superfly/fly-openapi-sdk); what that
file leaves out is Fly's documentation: the token, one request a second for each action of a
machine with a burst of three (429), and 412 for a machine that cannot be started as it is.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

BURST: Final = {"get": 10}
RATE: Final = {"get": 5.0}
STARTABLE: Final = {"stopped", "suspended", "failed"}
Reply = tuple[int, Any]


@dataclass
class Machine:
    """One machine, and the process that stands for what runs in it."""

    id: str
    state: str = "stopped"
    region: str = "fra"
    config: dict[str, Any] = field(default_factory=dict)
    starts: int = 0
    process: subprocess.Popen[bytes] | None = None
    exits: list[int] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        """Write it as the API does."""
        return {
            "id": self.id,
            "name": f"name-of-{self.id}",
            "state": self.state,
            "region": self.region,
            "instance_id": f"01{self.id}",
            "private_ip": "fdaa::1",
            "config": self.config,
            "created_at": "2026-11-22T21:00:00Z",
            "updated_at": "2026-11-22T21:00:00Z",
        }


class MachinesApi:
    """The server; use it as a context manager."""

    def __init__(
        self,
        *,
        app: str = "town",
        token: str = "fly-token",
        run: Callable[[Mapping[str, str]], subprocess.Popen[bytes]] | None = None,
    ) -> None:
        self.app, self.token = app, token
        self.machines: dict[str, Machine] = {}
        self.asked: list[tuple[str, str]] = []
        """Every request as (action, machine id or ""), also those that were refused."""
        self.trouble: deque[tuple[str, str | int]] = deque()
        """What goes wrong next, in order: (action, status | "nonsense" | "nothing" | "lost"):
        `nothing` does nothing and hangs up, `lost` does it and hangs up."""
        self.retry_after = ""
        self._run = run
        self._lock = threading.RLock()
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}
        self._watchers: list[threading.Thread] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - base's name
                """Say nothing."""

            def _take(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                reply = api.answer(
                    self.command, self.path, self.headers.get("Authorization", ""), body
                )
                if reply is None:
                    self.close_connection = True
                    return
                status, value = reply
                raw = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                if status == 429 and api.retry_after:
                    self.send_header("Retry-After", api.retry_after)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = _take  # noqa: N815 - the base's names

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        for machine in self.machines.values():
            if machine.process is not None and machine.process.poll() is None:
                machine.process.kill()
        for watcher in self._watchers:
            watcher.join()

    @property
    def url(self) -> str:
        """The base URL with its version."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def add(
        self, id_: str, *, state: str = "stopped", group: str = "worker", **config: Any
    ) -> Machine:
        """Scale up by one machine."""
        config.setdefault("metadata", {"fly_process_group": group})
        machine = self.machines[id_] = Machine(id_, state, config=config)
        return machine

    def started(self) -> list[str]:
        """Name each machine once for every time it was really started."""
        return [machine.id for machine in self.machines.values() for _ in range(machine.starts)]

    # What is answered -------------------------------------------------------------------------

    def answer(self, method: str, path: str, authorization: str, body: bytes) -> Reply | None:
        """Answer one request; None hangs up."""
        url = urlsplit(path)
        parts = url.path.strip("/").split("/")
        with self._lock:
            action, machine_id = self._action(method, parts)
            self.asked.append((action, machine_id))
            if authorization != f"Bearer {self.token}":
                return 401, {"error": "unauthorized"}
            if parts[:2] != ["v1", "apps"] or parts[2:3] != [self.app]:
                return 404, {"error": "app not found"}
            if not self._may(action, machine_id):
                return 429, {"error": "rate limit exceeded"}
            how: str | int = ""
            if self.trouble and self.trouble[0][0] == action:
                how = self.trouble.popleft()[1]
            if isinstance(how, int):
                return how, {"error": "unable to do that"}
            if how == "nonsense":
                return 200, b"<html>it works</html>"
            if how == "nothing":
                return None
            reply = self._do(action, machine_id, parse_qs(url.query), body)
            return None if how == "lost" else reply

    def _action(self, method: str, parts: list[str]) -> tuple[str, str]:
        match method, parts[3:]:
            case "GET", ["machines"]:
                return "list", ""
            case "POST", ["machines"]:
                return "create", ""
            case "GET", ["machines", id_]:
                return "get", id_
            case "POST", ["machines", id_, "start"]:
                return "start", id_
            case _:
                return "unknown", ""

    def _may(self, action: str, machine_id: str) -> bool:
        """Keep the limits: a bucket of tokens for each action of a machine."""
        most, rate = BURST.get(action, 3), RATE.get(action, 1.0)
        now = time.monotonic()
        tokens, at = self._buckets.get((action, machine_id), (float(most), now))
        tokens = min(most, tokens + (now - at) * rate)
        self._buckets[action, machine_id] = (max(0.0, tokens - 1), now)
        return tokens >= 1

    def _do(self, action: str, machine_id: str, query: dict[str, list[str]], body: bytes) -> Reply:
        if action == "list":
            return 200, [
                machine.shown() for machine in self.machines.values() if _fits(machine, query)
            ]
        if action == "create":
            asked = json.loads(body)
            machine = self.add(f"made{len(self.machines)}", **asked["config"])
            machine.region = asked.get("region", "fra")
            self._begin(machine)
            return 200, machine.shown()
        found = self.machines.get(machine_id)
        if found is None:
            return 404, {"error": "machine not found"}
        if action == "get":
            return 200, found.shown()
        if action == "start":
            before = found.state
            if before in {"started", "starting"}:
                return 200, {"previous_state": before}
            if before not in STARTABLE:
                return 412, {"error": "unable to start machine from current state"}
            self._begin(found)
            return 200, {"previous_state": before}
        return 404, {"error": "not found"}

    # What runs --------------------------------------------------------------------------------

    def _begin(self, machine: Machine) -> None:
        machine.starts += 1
        machine.state = "started"
        if self._run is None:
            return
        machine.process = self._run(machine.config.get("env") or {})
        watcher = threading.Thread(target=self._watch, args=(machine, machine.process))
        watcher.start()
        self._watchers.append(watcher)

    def _watch(self, machine: Machine, process: subprocess.Popen[bytes]) -> None:
        """Stop a machine whose process has ended, as the restart policy `on-failure` does at 0."""
        code = process.wait()
        with self._lock:
            machine.exits.append(code)
            machine.state = "stopped"


def _fits(machine: Machine, query: dict[str, list[str]]) -> bool:
    """Filter a list by metadata, as the API does."""
    metadata = machine.config.get("metadata") or {}
    return all(
        metadata.get(name.removeprefix("metadata.")) in values
        for name, values in query.items()
        if name.startswith("metadata.")
    )
