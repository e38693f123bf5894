"""The barest door on the same server: Litestar on Granian, one Redis call per request, no promise.

python -m bench.bare_door unix:///…/redis.sock      # prints its port
"""

from __future__ import annotations

import sys
from typing import Any

import anyio
from litestar import Litestar, Request, Response, post
from redis.asyncio import BlockingConnectionPool, Redis

from tinytown.http.listener import Listener


async def serve(url: str) -> None:
    """Serve until the process is ended."""
    pool = BlockingConnectionPool.from_url(
        url, max_connections=8, protocol=2, decode_responses=True
    )
    client = Redis.from_pool(pool)

    @post("/hooks/{source_id:str}", status_code=202)
    async def take(source_id: str, request: Request[Any, Any, Any]) -> Response[dict[str, str]]:
        body = await request.body()
        entry = await client.xadd(source_id, {"body": body}, maxlen=1000)
        return Response({"id": str(entry)})

    app = Litestar([take], openapi_config=None, logging_config=None)
    with Listener("127.0.0.1", 0) as listener:
        async with listener.serving(app):
            print(listener.port, flush=True)
            await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(serve, sys.argv[1], backend_options={"use_uvloop": True})
