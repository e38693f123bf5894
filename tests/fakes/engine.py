"""A container engine on a unix socket: as much of Docker's API as starting workers takes."""

from __future__ import annotations

import json
import socketserver
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


@dataclass
class Container:
    """One container, and the process that stands for it."""

    id: str
    name: str
    config: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def environment(self) -> dict[str, str]:
        """Its environment, as a dictionary."""
        return dict(each.split("=", 1) for each in self.config.get("Env", ()))


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False


class Engine:
    """The engine; use it as a context manager."""

    def __init__(
        self,
        socket: Path,
        *,
        run: Callable[[Mapping[str, str]], subprocess.Popen[bytes]],
        images: tuple[str, ...] = ("tinytown-worker",),
    ) -> None:
        self.socket = socket
        self.containers: dict[str, Container] = {}
        """Every container ever made, by its id."""
        self.removed: list[str] = []
        self.refuses_start = ""
        self._run = run
        self._images = images
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def address_string(self) -> str:
                return "socket"

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - base's name
                """Say nothing."""

            def _take(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                url = urlsplit(self.path)
                parts = url.path.strip("/").split("/")[1:]
                if parts[-1] == "wait":
                    self._wait(parts[1])
                    return
                status, value = engine.answer(self.command, parts, parse_qs(url.query), body)
                raw = b"" if value is None else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def _wait(self, container: str) -> None:
                """Send the head at once and the code at the end, as Docker does."""
                found = engine.containers[container]
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.flush()
                found.ended.wait()
                code = found.process.wait() if found.process else 0
                raw = json.dumps({"StatusCode": code}).encode()
                self.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n0\r\n\r\n")

            do_GET = do_POST = do_DELETE = _take  # noqa: N815 - the base's names

        self._server = _Server(str(socket), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for container in self.containers.values():
            if container.process is not None and container.process.poll() is None:
                container.process.kill()
                container.process.wait()
            container.ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(
        self, method: str, parts: list[str], query: dict[str, list[str]], body: bytes
    ) -> tuple[int, Any]:
        """Answer one request."""
        match method, parts:
            case "POST", ["containers", "create"]:
                config = json.loads(body)
                if config["Image"] not in self._images:
                    return 404, {"message": f"No such image: {config['Image']}:latest"}
                made = Container(f"{len(self.containers):064x}", query["name"][0], config)
                self.containers[made.id] = made
                return 201, {"Id": made.id, "Warnings": []}
            case "POST", ["containers", name, "start"]:
                found = next(each for each in self.containers.values() if each.name == name)
                if self.refuses_start:
                    return 500, {"message": self.refuses_start}
                found.process = self._run(found.environment)
                threading.Thread(target=self._watch, args=(found, found.process)).start()
                return 204, None
            case "DELETE", ["containers", id_]:
                self.removed.append(id_)
                self.containers[id_].ended.set()
                return 204, None
            case _:
                return 404, {"message": "page not found"}

    def _watch(self, container: Container, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        container.ended.set()
