"""The HTTP door: builds the application of one town; translates, decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from litestar import Litestar, Request
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.types import ASGIApp

from tinytown.errors import TownError
from tinytown.http import (
    answers,
    audit,
    deliveries,
    endpoints,
    events,
    health,
    hooks,
    metrics,
    missions,
    people,
    problems,
    questions,
    reference,
    scaling,
    sources,
)
from tinytown.http.auth import Guard, actor_of
from tinytown.http.body import TownRequest, refuse_unknown
from tinytown.http.doorman import Doorman
from tinytown.http.etags import Expected
from tinytown.http.idempotency import Replies
from tinytown.http.live import Frames, Streams
from tinytown.models.key import Actor
from tinytown.town import Town

__all__ = ["Door"]

BODY_BYTES: Final = 512 * 1024
"""A goal of 64 KB takes 384 KB when a client escapes every byte of it."""


class Door:
    """The HTTP door of one town: `app` serves it, `close` ends what is open."""

    def __init__(
        self,
        town: Town,
        *,
        out: endpoints.Post,
        probe_key: str | None = None,
        checks: Mapping[str, health.Check] | None = None,
        description: OpenAPIConfig | None = None,
    ) -> None:
        """Build the routes; `out` sends test messages, `checks` show up in /ready by name.

        `description` is for the one who writes the OpenAPI document (describing.py).
        """
        self.streams = Streams()
        self.vitals = health.Vitals(town, checks or {})
        meter = metrics.Meter(town)
        parts: dict[str, Any] = {
            "town": town,
            "out": out,
            "vitals": self.vitals,
            "meter": meter,
            "frames": Frames(),
            "streams": self.streams,
        }

        def provide_replies(request: Request[Actor, Any, Any]) -> Replies:
            return Replies(request, town)

        def provide_if_match(request: Request[Actor, Any, Any]) -> Expected:
            return Expected(request)

        self.litestar = Litestar(
            route_handlers=[
                health.routes(),
                metrics.metrics,
                scaling.town_signal,
                scaling.pool_signal,
                missions.routes(events.mission_events, events.mission_log),
                questions.routes(),
                events.watch_events,
                endpoints.routes(*deliveries.of_endpoints()),
                *deliveries.routes(),
                *people.routes(),
                sources.routes(),
                audit.routes(),
                hooks.receive_hook,
                answers.routes(),
                reference.problem_text,
                *([] if description else [reference.openapi]),
            ],
            guards=[Guard(town, probe_key)],
            dependencies={
                **{name: _hand_out(part) for name, part in parts.items()},
                "actor": Provide(actor_of, sync_to_thread=False),
                "replies": Provide(provide_replies, sync_to_thread=False),
                "if_match": Provide(provide_if_match, sync_to_thread=False),
            },
            exception_handlers={
                TownError: problems.of_town,
                HTTPException: problems.of_http,
                Exception: problems.of_anything,
            },
            request_class=TownRequest,
            before_request=refuse_unknown,
            request_max_body_size=BODY_BYTES,
            logging_config=None,
            # The framework would describe itself at the first request, for 0.1 s on the loop.
            openapi_config=description,
        )
        self.app: ASGIApp = Doorman(self.litestar, meter.observe, audit=audit.Auditor(town))

    def close(self) -> None:
        """Say "not ready" from now on and end every stream and long poll."""
        self.vitals.stopping = True
        self.streams.close()


def _hand_out(part: Any) -> Provide:
    return Provide(lambda: part, sync_to_thread=False)
