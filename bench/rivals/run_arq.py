"""A task's life through arq: python run_arq.py PORT TASKS."""

import asyncio
import json
import sys
import time
from importlib.metadata import version
from typing import Any

from arq import create_pool  # type: ignore[import-not-found]
from arq.connections import RedisSettings  # type: ignore[import-not-found]
from arq.worker import Worker  # type: ignore[import-not-found]


async def noop(_: dict[str, Any]) -> None:
    """Do nothing."""


async def main(port: int, tasks: int) -> None:
    """Enqueue all, then let one worker drain them."""
    settings = RedisSettings(port=port)
    pool = await create_pool(settings)
    begun = time.perf_counter()
    for _ in range(tasks):
        await pool.enqueue_job("noop")
    worker = Worker(
        functions=[noop],
        redis_settings=settings,
        burst=True,
        handle_signals=False,
        max_jobs=10,
        poll_delay=0.01,
        keep_result=60,
    )
    await worker.async_run()
    seconds = time.perf_counter() - begun
    assert worker.jobs_complete == tasks
    await worker.close()
    print(json.dumps({"version": version("arq"), "seconds": seconds}))


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
