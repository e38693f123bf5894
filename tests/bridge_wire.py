"""The raw end of an MCP bridge's pipes, for tests that speak to it line by line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream


class Wire:
    """A bridge that runs, and its pipes."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._in = process.stdin
        self._out = BufferedByteReceiveStream(process.stdout)

    async def throw(self, data: bytes) -> None:
        await self._in.send(data)

    async def send(self, method: str, number: Any = None, **params: Any) -> None:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        if number is not None:
            message["id"] = number
        if params:
            message["params"] = params
        await self.throw(json.dumps(message).encode() + b"\n")

    async def receive(self) -> Any:
        with anyio.fail_after(10):
            return json.loads(await self._out.receive_until(b"\n", 10_000_000))

    async def ask(self, method: str, number: Any = 1, **params: Any) -> Any:
        await self.send(method, number, **params)
        return await self.receive()

    async def ask_human(self, number: Any = 1, **arguments: Any) -> None:
        await self.send("tools/call", number, name="ask_human", arguments=arguments)


@asynccontextmanager
async def wired(*command: str) -> AsyncIterator[Wire]:
    async with await anyio.open_process(
        command, env={}, stderr=subprocess.DEVNULL, cwd="/"
    ) as process:
        yield Wire(process)
        process.kill()


def text_of(answer: Any) -> str:
    return str(answer["result"]["content"][0]["text"])
