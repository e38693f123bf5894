"""Writes the OpenAPI document (a tool's work; the townhall serves the file).

Routes come from the framework, shapes from msgspec: it reads the bodies and knows them exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.routes import HTTPRoute

import tinytown
from tinytown.http import health, lists, missions, problems, reference
from tinytown.http.auth import PROBE
from tinytown.models.audit import AuditLine
from tinytown.models.delivery import Delivery, NewReplay, Recovery, Replay, ReplayCount, Trial
from tinytown.models.endpoint import (
    Endpoint,
    EndpointPatch,
    EndpointWithSecret,
    NewEndpoint,
    NewSecret,
)
from tinytown.models.hook import StoredHook, Taken
from tinytown.models.key import CreatedKey, Key, NewKey
from tinytown.models.mission import Mission, StartedMission, StartMission
from tinytown.models.question import Answer, Question
from tinytown.models.scaling import Signal
from tinytown.models.source import (
    DryRun,
    NewSource,
    NewSourceSecret,
    Preview,
    Source,
    SourcePatch,
    SourceWithSecret,
)
from tinytown.models.worker import Worker

_ABOUT: Final = (
    "Start a coding mission, close the laptop, answer its questions from the phone.\n\n"
    "Times are RFC 3339 UTC, durations end in `_seconds`, errors are `application/problem+json` "
    "(RFC 9457). Lists are `{items, next_cursor}`: pass `next_cursor` on as `?cursor=`. Every POST "
    "that creates takes an `Idempotency-Key`: the same key and body get the same reply for 24 h. "
    "Every reply carries `X-Request-Id`; send one and it is used."
)
_TAGS: Final = {
    "missions": "What a person wants done.",
    "questions": "What waits for a person.",
    "answer links": "The page behind a push; the address is the proof.",
    "events": "What happened, live.",
    "endpoints": "Phones and programs that want to hear.",
    "deliveries": "What was sent to whom.",
    "replays": "Many deliveries made due again.",
    "workers": "Who works here.",
    "keys": "Who may do what.",
    "sources": "Services whose webhooks do something here.",
    "hooks": "Where those services send them; the signature is the proof.",
    "audit": "Who changed what.",
    "scaling": "How many workers are wanted.",
    "probes": "What machines ask.",
    "reference": "What the door says about itself.",
}
_SHAPES: Final = (
    StartMission, StartedMission, Mission, missions.MissionResult, missions.NewMessage,
    lists.MissionPage, lists.EventPage, lists.LogPage, Question, Answer, lists.QuestionPage,
    NewEndpoint, EndpointPatch, Endpoint, EndpointWithSecret, NewSecret, Trial,
    lists.EndpointPage, NewReplay, Recovery, Replay, ReplayCount, lists.ReplayPage,
    Delivery, lists.DeliveryPage, Worker, lists.WorkerPage, NewKey, CreatedKey, Key, lists.KeyPage,
    NewSource, SourcePatch, NewSourceSecret, Source, SourceWithSecret, lists.SourcePage, DryRun,
    Preview, Taken, StoredHook, lists.HookPage, AuditLine, lists.AuditPage,
    Signal, health.Health, health.Readiness, problems.Problem, reference.Kind,
)  # fmt: skip
_TEXT: Final = {"schema": {"type": "string"}}
_NOISE: Final = {"deprecated": False, "allowEmptyValue": False, "allowReserved": False}
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key and body get the same reply, for 24 h; quoted or bare.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_IF_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The `ETag` of the record as it was read; 412 when it is another by now.",
    "schema": {"type": "string", "pattern": r'^(\*|"[!#-~]{1,64}")$'},
}
_LAST_EVENT_ID: Final = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The `id` of the last event that was heard.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,16}(-[0-9]{1,9})?$"},
}


def config() -> OpenAPIConfig:
    """Describe the document to the framework; nothing of its own pages is served."""
    return OpenAPIConfig(
        title="tinytown",
        version=tinytown.__version__,
        description=_ABOUT,
        components=Components(
            security_schemes={"key": SecurityScheme(type="http", scheme="bearer")}
        ),
        render_plugins=[],
        use_handler_docstrings=True,
    )


def document(app: Litestar) -> str:
    """Write the OpenAPI document of an application that was built `described`."""
    written = msgspec.json.encode(app.openapi_schema.to_schema())
    schema: dict[str, Any] = msgspec.json.decode(written)
    schema["info"]["license"] = {"name": "MIT", "identifier": "MIT"}
    schema["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items()]
    schema["security"] = [{"key": []}]
    _, shapes = msgspec.json.schema_components(_SHAPES, ref_template="#/components/schemas/{name}")
    schema["components"]["schemas"] = dict(sorted(shapes.items()))
    for handler, operation in _operations(app, schema):
        _correct(handler, operation)
    return msgspec.json.format(msgspec.json.encode(_quiet(schema)), indent=2).decode() + "\n"


def _operations(
    app: Litestar, schema: dict[str, Any]
) -> Iterator[tuple[HTTPRouteHandler, dict[str, Any]]]:
    """Pair every handler with what the framework wrote about it."""
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            continue
        for method, (handler, _) in route.route_handler_map.items():
            operation = schema["paths"].get(route.path_format, {}).get(method.lower())
            if operation is not None:
                yield handler, operation


def _correct(handler: HTTPRouteHandler, operation: dict[str, Any]) -> None:
    """Add what the framework cannot know, and take back what it only guessed."""
    arguments = handler.parsed_fn_signature.parameters
    _say_who_may(handler.opt.get("scope"), operation)
    parameters = operation.setdefault("parameters", [])
    for parameter in parameters:
        parameter["schema"] = _present(parameter["schema"])
    if "if_match" in arguments:
        parameters.append(_IF_MATCH)
    if "replies" in arguments:
        parameters.append(_IDEMPOTENCY_KEY)
    if "after" in arguments:
        parameters.append(_LAST_EVENT_ID)
    replies = operation["responses"]
    guessed = replies.get("400", {}).get("content", {})
    if guessed and problems.MEDIA_TYPE not in guessed:
        del replies["400"]
    _say_in_which_form(operation["operationId"], replies, str(handler.media_type))


def _say_who_may(scope: str | None, operation: dict[str, Any]) -> None:
    if scope is None:
        operation["security"] = []
    elif scope == PROBE:
        operation["security"] = [{}, {"key": []}]
    else:
        operation["description"] += f"\n\nScope: `{scope}`."


def _say_in_which_form(name: str, replies: dict[str, Any], media_type: str) -> None:
    if name in {"open_answer_link", "answer_by_link"}:
        for reply in replies.values():
            reply["content"]["text/html"] = _TEXT
    elif name in {"watch_events", "metrics"}:
        replies["200"]["content"] = {media_type: _TEXT}
    elif name == "read_result":
        replies["200"]["content"]["text/x-patch"] = _TEXT
    elif name in {"read_mission_events", "read_mission_log"}:
        replies["200"]["content"]["text/event-stream"] = _TEXT
        replies["204"] = {"description": "The stream is over, and all of it was heard"}


def _present(schema: dict[str, Any]) -> dict[str, Any]:
    """Describe a parameter that was sent: left out, it is null; sent, it never is."""
    options = [each for each in schema.pop("oneOf", []) if each != {"type": "null"}]
    return {**schema, **(options[0] if options else {})}


def _quiet(value: Any) -> Any:
    """Leave out what says nothing."""
    if isinstance(value, list):
        return [_quiet(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _quiet(each)
        for name, each in value.items()
        if not (name in _NOISE and each is False)
        and not (name in {"headers", "parameters"} and not each)
    }
