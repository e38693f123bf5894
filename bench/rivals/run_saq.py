"""A task's life through saq: python run_saq.py PORT TASKS."""

import asyncio
import json
import sys
import time
from importlib.metadata import version
from typing import Any

from saq import Queue, Worker  # type: ignore[import-not-found]


async def noop(_: dict[str, Any]) -> None:
    """Do nothing."""


async def main(port: str, tasks: int) -> None:
    """Enqueue all, then let one worker drain them."""
    queue = Queue.from_url(f"redis://127.0.0.1:{port}/0")
    await queue.connect()
    begun = time.perf_counter()
    for _ in range(tasks):
        await queue.enqueue("noop")
    done = asyncio.Event()
    left = tasks

    async def count(_: dict[str, Any]) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    worker = Worker(queue, functions=[noop], concurrency=10, after_process=count)
    task = asyncio.create_task(worker.start())
    await done.wait()
    seconds = time.perf_counter() - begun
    await worker.stop()
    task.cancel()
    print(json.dumps({"version": version("saq"), "seconds": seconds}))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
