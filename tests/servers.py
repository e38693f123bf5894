"""Real redis-servers for tests: started on a socket or a loopback port, and hurt on request."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import Self


def free_port() -> int:
    """Find a loopback port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class RedisServer:
    """One redis-server in a temporary directory, without persistence unless asked.

    `options` are redis-server's own arguments without the dashes: `maxmemory="1mb"`. With `tcp` it
    listens on a loopback port, with `tls_port` (an option) on that one, else on a unix socket.
    """

    def __init__(
        self,
        *,
        tcp: bool = False,
        persist: bool = False,
        program: str = "redis-server",
        **options: str | int,
    ) -> None:
        # Short on purpose: a socket's path may have 107 bytes (104 on macOS).
        self.directory = Path(tempfile.mkdtemp(prefix="tt-", dir="/tmp"))
        self.socket = self.directory / "s"
        self.port = free_port() if tcp else 0
        self.persist = persist
        self.program = program
        self.options = {name.replace("_", "-"): str(value) for name, value in options.items()}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What REDIS_URL would be."""
        if self.port:
            return f"redis://127.0.0.1:{self.port}/0"
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it and wait until it accepts connections (not until it has loaded its data)."""
        arguments = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "save": "",
            "appendonly": "yes" if self.persist else "no",
            "logfile": str(self.directory / "log"),
            **self.options,
        }
        flat = [part for name, value in arguments.items() for part in (f"--{name}", value)]
        self.process = subprocess.Popen([self.program, *flat], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 15
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"redis-server did not start:\n{self.log()}")
            time.sleep(0.01)

    def _listens(self) -> bool:
        """Try to connect, to every place where it will listen."""
        places: list[tuple[int, str | tuple[str, int]]] = [(socket.AF_UNIX, str(self.socket))]
        if self.port:
            places.append((socket.AF_INET, ("127.0.0.1", self.port)))
        for family, place in places:
            with socket.socket(family) as probe:
                probe.settimeout(1)
                try:
                    probe.connect(place)
                except OSError:
                    return False
        return True

    def send(self, *parts: str) -> str:
        """Send one command of words without spaces and give back the reply as it came."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10)
            line.connect(str(self.socket))
            line.sendall(" ".join(parts).encode() + b"\r\n")
            return line.recv(65536).decode()

    def log(self) -> str:
        """Read the server's log."""
        file = self.directory / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def freeze(self) -> None:
        """Stop it as a suspended machine stops: connections stay, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, in order or (SIGKILL) not; its directory stays for `start`."""
        if self.process is None:
            return
        self.thaw()
        self.process.send_signal(how)
        self.process.wait(timeout=15)
        self.process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop(signal.SIGKILL)
        rmtree(self.directory, ignore_errors=True)
