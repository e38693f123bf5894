"""Stands between the townhall and the engine: lets it start workers, and nothing else.

Whoever may use the engine's socket is root on its machine. So the townhall gets the gate's socket
instead, on which its `docker` launcher can create containers of one image in one network, walled in
whatever was asked for, and start, await and remove those it created.

    gate.py ENGINE_SOCKET OWN_SOCKET IMAGE NETWORK
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import socketserver
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

CREATE: Final = re.compile(r"/v1\.\d+/containers/create")
USE: Final = re.compile(r"/v1\.\d+/containers/([\w.-]+)(/start|/wait|)")
NAME: Final = re.compile(r"tinytown-[\w-]{1,100}")
LARGEST_BODY: Final = 1_000_000
# What a worker's container may be told, and in HostConfig; everything else is refused by name.
ASKED: Final = {"Image", "Env", "Labels", "StopTimeout", "HostConfig", "Volumes"}
HOST: Final = {
    "AutoRemove", "Memory", "MemorySwap", "PidsLimit", "RestartPolicy", "NetworkMode",
    "ReadonlyRootfs", "CapDrop", "SecurityOpt", "Tmpfs",
}  # fmt: skip
# Given whatever was asked; the launcher asks for the same, for engines without a gate.
ROOMS: Final[dict[str, Any]] = {"/work": {}}
WALLS: Final = {
    "ReadonlyRootfs": True,
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges"],
    "Tmpfs": {"/tmp": "exec", "/home/town": "uid=10001,gid=10001,mode=700"},
}


class Refused(Exception):
    """A request that is none of the launcher's; says why."""


class Gate(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens on its own socket; knows which containers were made through it."""

    daemon_threads = True

    def __init__(self, engine: str, own: str, image: str, network: str) -> None:
        """Listen; only what starts workers of this image in this network passes."""
        self.engine = engine
        self.image = image
        self.network = network
        self.made: set[str] = set()
        Path(own).unlink(missing_ok=True)
        super().__init__(own, Handler)
        os.chmod(own, 0o666)  # noqa: PTH101, S103 - the townhall is another user; see above

    def walled(self, body: Any) -> dict[str, Any]:
        """Check what is to be created, and put walls around it; raises Refused."""
        if not isinstance(body, dict) or not isinstance(body.get("HostConfig"), dict):
            raise Refused("that describes no container")
        host = body["HostConfig"]
        strange = sorted((body.keys() - ASKED) | (host.keys() - HOST))
        if strange:
            raise Refused(f"a worker needs no {', '.join(strange)}")
        if body.get("Image") != self.image:
            raise Refused(f"only {self.image} is started here")
        if host.get("NetworkMode") != self.network:
            raise Refused(f"workers are in the network {self.network}")
        if not isinstance(host.get("Memory"), int) or host["Memory"] <= 0:
            raise Refused("a worker has a limit of memory")
        return {**body, "Volumes": ROOMS, "HostConfig": {**host, **WALLS}}


class Handler(BaseHTTPRequestHandler):
    """One connection of the launcher."""

    protocol_version = "HTTP/1.1"
    server: Gate

    def do_POST(self) -> None:
        """Create, start or await."""
        self._pass_on()

    def do_DELETE(self) -> None:
        """Remove what could not be started."""
        self._pass_on()

    def log_message(self, form: str, *values: object) -> None:
        """Say on standard error who was refused; all else is in the engine's log."""

    def _pass_on(self) -> None:
        try:
            body = self._checked(self._read())
        except Refused as refused:
            print(f"gate: refused {self.command} {self.path}: {refused}", file=sys.stderr)
            self._answer(403, json.dumps({"message": str(refused)}).encode())
            return
        try:
            self._forward(body)
        except (OSError, http.client.HTTPException) as error:
            message = f"the engine does not answer: {error}"
            self._answer(502, json.dumps({"message": message}).encode())

    def _read(self) -> bytes:
        """Read what came with the request; raises Refused if that is too much."""
        length = self.headers.get("Content-Length") or "0"
        if (
            not length.isdecimal()
            or int(length) > LARGEST_BODY
            or self.headers["Transfer-Encoding"]
        ):
            self.close_connection = True
            raise Refused("that is too much for a worker")
        return self.rfile.read(int(length))

    def _checked(self, text: bytes) -> bytes:
        """Give what may be sent on; raises Refused."""
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        if self.command == "POST" and CREATE.fullmatch(parts.path):
            if query.keys() != {"name"} or not NAME.fullmatch(query["name"][0]):
                raise Refused("a worker's container is called tinytown-…")
            try:
                body = json.loads(text)
            except ValueError as error:
                raise Refused("that is no JSON") from error
            return json.dumps(self.server.walled(body)).encode()
        use = USE.fullmatch(parts.path)
        if use and (self.command == "POST") == bool(use[2]):
            if use[1] not in self.server.made:
                raise Refused(f"{use[1]} was not made here")
            return text
        raise Refused("a launcher does no such thing")

    def _forward(self, body: bytes) -> None:
        """Ask the engine, and pass its answer on as it comes: a wait's head long before its end."""
        engine = Engine(self.server.engine)
        try:
            engine.request(self.command, self.path, body, {"Content-Type": "application/json"})
            reply = engine.getresponse()
            if CREATE.fullmatch(urlsplit(self.path).path):
                text = reply.read()
                if reply.status == http.client.CREATED:
                    name = parse_qs(urlsplit(self.path).query)["name"][0]
                    self.server.made |= {json.loads(text)["Id"], name}
                self._answer(reply.status, text)
                return
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.headers.get("Content-Type", "application/json"))
            if reply.status in {http.client.NO_CONTENT, http.client.NOT_MODIFIED}:
                self.end_headers()
                return
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while part := reply.read1(65536):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        finally:
            engine.close()

    def _answer(self, status: int, text: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


class Engine(http.client.HTTPConnection):
    """HTTP to the engine's socket; a wait lasts as long as its worker."""

    def __init__(self, path: str) -> None:
        """Name the socket."""
        super().__init__("docker")
        self._path = path

    def connect(self) -> None:
        """Connect to it."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def main(arguments: list[str]) -> int:
    """Stand at the gate until told to go."""
    engine, own, image, network = arguments
    with Gate(engine, own, image, network) as gate:
        gate.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
