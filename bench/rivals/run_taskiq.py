"""A task's life through taskiq-redis: python run_taskiq.py PORT TASKS."""

import asyncio
import json
import sys
import time
from importlib.metadata import version

from taskiq.api import run_receiver_task  # type: ignore[import-not-found]
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker  # type: ignore[import-not-found]


async def main(port: str, tasks: int) -> None:
    """Enqueue all, then let one worker drain them."""
    url = f"redis://127.0.0.1:{port}/0"
    results: RedisAsyncResultBackend = RedisAsyncResultBackend(url, result_ex_time=60)
    broker = RedisStreamBroker(url).with_result_backend(results)
    left = tasks
    done = asyncio.Event()

    @broker.task  # type: ignore[untyped-decorator]
    async def noop() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    await broker.startup()
    begun = time.perf_counter()
    for _ in range(tasks):
        await noop.kiq()
    broker.is_worker_process = True
    receiver = asyncio.create_task(run_receiver_task(broker, max_async_tasks=10))
    await done.wait()
    seconds = time.perf_counter() - begun
    receiver.cancel()
    print(json.dumps({"version": version("taskiq-redis"), "seconds": seconds}))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
