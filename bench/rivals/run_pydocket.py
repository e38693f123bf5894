"""A task's life through pydocket: python run_pydocket.py PORT TASKS."""

import asyncio
import json
import sys
import time
from importlib.metadata import version

from docket import Docket, Worker  # type: ignore[import-not-found]


async def noop() -> None:
    """Do nothing."""


async def main(port: str, tasks: int) -> None:
    """Enqueue all, then let one worker drain them."""
    async with Docket(name="rival", url=f"redis://127.0.0.1:{port}/0") as docket:
        docket.register(noop)
        begun = time.perf_counter()
        for _ in range(tasks):
            await docket.add(noop)()
        async with Worker(docket, concurrency=10) as worker:
            await worker.run_until_finished()
    print(json.dumps({"version": version("pydocket"), "seconds": time.perf_counter() - begun}))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
