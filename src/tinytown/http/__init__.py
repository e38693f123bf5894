"""The HTTP door: builds the application of one town; translates, decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar import Litestar, Request
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp

from tinytown.errors import TownError
from tinytown.http import events, health, missions, problems, questions
from tinytown.http.auth import Guard, actor_of
from tinytown.http.doorman import Doorman
from tinytown.http.idempotency import Replies
from tinytown.http.live import Frames, Streams
from tinytown.models.key import Actor
from tinytown.town import Town

__all__ = ["Door"]

BODY_BYTES = 512 * 1024
"""A goal of 64 KB takes 384 KB when a client escapes every byte of it."""


class Door:
    """The HTTP door of one town: `app` serves it, `close` ends what is open."""

    def __init__(
        self,
        town: Town,
        *,
        probe_key: str | None = None,
        checks: Mapping[str, health.Check] | None = None,
    ) -> None:
        """Build the routes; `checks` show up in /ready by name."""
        self.streams = Streams()
        self.vitals = health.Vitals(town, checks or {})
        frames = Frames()

        def provide_replies(request: Request[Actor, Any, Any]) -> Replies:
            return Replies(request, town)

        self.litestar = Litestar(
            route_handlers=[
                health.health,
                health.health_head,
                health.ready,
                health.ready_head,
                missions.routes(),
                questions.routes(),
                events.watch_events,
            ],
            guards=[Guard(town, probe_key)],
            dependencies={
                "town": Provide(lambda: town, sync_to_thread=False),
                "vitals": Provide(lambda: self.vitals, sync_to_thread=False),
                "frames": Provide(lambda: frames, sync_to_thread=False),
                "streams": Provide(lambda: self.streams, sync_to_thread=False),
                "actor": Provide(actor_of, sync_to_thread=False),
                "replies": Provide(provide_replies, sync_to_thread=False),
            },
            exception_handlers={
                TownError: problems.of_town,
                HTTPException: problems.of_http,
                Exception: problems.of_anything,
            },
            request_max_body_size=BODY_BYTES,
            logging_config=None,
            openapi_config=None,
        )
        self.app: ASGIApp = Doorman(self.litestar)

    def close(self) -> None:
        """Say "not ready" from now on and end every stream and long poll."""
        self.vitals.stopping = True
        self.streams.close()
