"""`tt` for tests: run as a process, its words and its exit code as a person would see them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import anyio
import msgspec
from anyio.abc import Process

KEY = "tt_tests_0123456789abcdefghij"


class Said(msgspec.Struct, frozen=True):
    """What a command said and how it ended."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        """Standard output as text."""
        return self.raw.decode()

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return msgspec.json.decode(self.raw)

    @property
    def lines(self) -> list[Any]:
        """Standard output as one JSON value a line."""
        return [msgspec.json.decode(line) for line in self.raw.splitlines()]


class Laptop:
    """Somebody's `tt`."""

    def __init__(self, program: Path, environ: dict[str, str]) -> None:
        self.program = program
        self.environ = environ

    @property
    def home(self) -> Path:
        """Its TINYTOWN_HOME."""
        return Path(self.environ["TINYTOWN_HOME"])

    def knowing(self, **environ: str) -> Laptop:
        """Make the same laptop with more in its environment."""
        return Laptop(self.program, self.environ | environ)

    async def __call__(self, *arguments: str, code: int = 0, stdin: bytes = b"") -> Said:
        """Run a command to its end and insist on its exit code."""
        with anyio.fail_after(25):
            done = await anyio.run_process(
                [str(self.program), *arguments], input=stdin, env=self.environ, check=False
            )
        said = Said(done.returncode, done.stdout, done.stderr.decode())
        assert said.code == code, f"tt {' '.join(arguments)}: {said}"
        return said

    @asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[Process]:
        """Run a command beside the test; it is killed if it still runs at the end."""
        command = [str(self.program), *arguments]
        async with await anyio.open_process(
            command, env=self.environ, stdin=PIPE, stdout=PIPE, stderr=PIPE
        ) as process:
            try:
                yield process
            finally:
                if process.returncode is None:
                    process.kill()
