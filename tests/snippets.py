"""The programs that pages tell their readers to run, taken from the page as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio

from house.tree import ROOT
from packages import node, node_modules
from servers import free_port

_PROGRAM = re.compile(
    r"^<!-- ([a-z_]+\.[a-z]+) -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
GO_CACHE = Path(os.environ.get("GOCACHE") or ROOT / ".cache" / "go")


def programs(page: str) -> dict[str, str]:
    """Read the programs of a page: what stands in a block under a comment with a file's name."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return {name: code for name, _, code in _PROGRAM.findall(text)}


def written(page: str, name: str, folder: Path) -> list[str | Path]:
    """Put a program into a folder as a reader would; gives the command that runs it."""
    path = folder / name
    path.write_text(programs(page)[name], encoding="utf-8")
    if path.suffix == ".py":
        return [sys.executable, path]
    if path.suffix == ".mjs":
        (folder / "node_modules").symlink_to(node_modules())
        return [node(), path]
    binary = path.with_suffix("")
    # Without modules and without C: what is on the machine is enough, whichever Go it has.
    quiet = {"GO111MODULE": "off", "GOPROXY": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    environ = {**os.environ, **quiet, "GOCACHE": str(GO_CACHE)}
    commands: list[list[str | Path]] = [["go", "vet", path], ["go", "build", "-o", binary, path]]
    for command in commands:
        built = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr
    return [binary]


class Receiver:
    """A receiver that runs, and what it prints."""

    def __init__(self, url: str, process: subprocess.Popen[str]) -> None:
        self.url = url
        self._process = process

    def line(self) -> str:
        """Wait for the next line it prints."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def running(command: list[str | Path], secret: str, *, port: int = 0) -> Iterator[Receiver]:
    """Run a receiver with a secret until the block ends; it must still be there then."""
    port = port or free_port()
    environ = {**os.environ, "WEBHOOK_SECRET": secret, "PORT": str(port)}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=said, text=True
        )
        try:
            yield Receiver(f"http://127.0.0.1:{port}/hooks", process)
            ended = process.poll()
            said.seek(0)
            assert ended is None, said.read()
        finally:
            process.kill()
            process.communicate()


async def listens(receiver: Receiver) -> None:
    """Wait until a receiver takes connections."""
    port = int(receiver.url.split(":")[2].split("/")[0])
    with anyio.fail_after(20):
        while True:
            try:
                stream = await anyio.connect_tcp("127.0.0.1", port)
            except OSError:
                await anyio.sleep(0.01)
            else:
                await stream.aclose()
                return
