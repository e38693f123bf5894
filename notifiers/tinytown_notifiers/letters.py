"""Event to the body of a webhook (pure): the same event makes the same bytes at every attempt.

Nothing is looked up: a body is made from its event alone, so what has changed since cannot change
it. How it is signed and sent is the sender's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tinytown.models.endpoint import Format, Payload
from tinytown.models.event import Event
from tinytown_notifiers import chats
from tinytown_notifiers.wording import Writer

BYTES: Final = 65_536
"""The largest body; receivers commonly refuse more, and nobody should need it to react."""
_NAME_BYTES: Final = 200
"""A longer identifier is not one of ours."""
_IDS: Final = ("question_id", "worker", "endpoint", "endpoint_id", "delivery", "source")
"""What a thin body keeps of an event's data: names under which the rest can be asked for."""
_JSON: Final = "application/json"
_CLOUDEVENTS: Final = "application/cloudevents+json"
_encoder: Final = msgspec.json.Encoder(order="deterministic")


def write(
    event: Event,
    *,
    format: Format,  # noqa: A002 - the word of the API
    payload: Payload,
    link: str | None,
    writer: Writer,
    endpoint_id: str,
) -> tuple[bytes, str]:
    """Write an event for one endpoint; gives the body, at most BYTES long, and its content type.

    `link` is where the event's subject can be read (`link_to`). The writer has the words and the
    answer links of the formats that people read.
    """
    content_type = _CLOUDEVENTS if format == "cloudevents" else _JSON
    if format in {"slack", "discord"}:
        note = chats.note(event, writer=writer, endpoint_id=endpoint_id, thin=payload == "thin")
        told = chats.slack(note) if format == "slack" else chats.discord(note)
        return _encoder.encode(told), content_type
    make = {"standard": _standard, "cloudevents": _cloudevent, "raw": _raw}[format]
    if payload == "full":
        body = _encoder.encode(make(event, event.data, {}))
        if len(body) <= BYTES:
            return body, content_type
    more: dict[str, Any] = {} if link is None else {"link": link}
    if payload == "full":
        more["truncated"] = True
    return _encoder.encode(make(event, _ids_of(event), more)), content_type


def link_to(public_url: str | None, event: Event) -> str | None:
    """Say where an event's subject can be read with an API key; None where nobody can come."""
    if not public_url:
        return None
    question = event.data.get("question_id")
    if isinstance(question, str) and _is_name(question):
        path = f"questions/{question}"
    elif event.mission_id is not None:
        path = f"missions/{event.mission_id}"
    else:
        path = {"worker": "workers", "source": "sources"}.get(
            event.type.partition(".")[0], "endpoints"
        )
    return f"{public_url.rstrip('/')}/v1/{path}"


def _ids_of(event: Event) -> dict[str, Any]:
    found = {name: event.data.get(name) for name in _IDS}
    return {name: id_ for name, id_ in found.items() if isinstance(id_, str) and _is_name(id_)}


def _is_name(text: str) -> bool:
    return text.isascii() and text.isprintable() and 0 < len(text) <= _NAME_BYTES


def _standard(event: Event, data: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Make the event object of the stream, of SSE and of everything else."""
    return {
        "id": event.id,
        "type": event.type,
        "timestamp": event.timestamp,
        "town": event.town,
        "mission_id": event.mission_id,
        "task_id": event.task_id,
        "data": data,
        **more,
    }


def _raw(event: Event, data: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Make the data alone; where it is thin or too big, the names of what it is about."""
    if data is event.data:
        return dict(data)
    about = {"mission_id": event.mission_id, "task_id": event.task_id}
    return {**{name: id_ for name, id_ in about.items() if id_}, **data, **more}


def _cloudevent(event: Event, data: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Make a CloudEvent 1.0 in structured mode; names of extensions are lower-case by its rules.

    A link is its `dataref`, the extension for data that is kept elsewhere.
    """
    about = {"missionid": event.mission_id, "taskid": event.task_id}
    subject = data.get("question_id") or event.task_id or event.mission_id
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": f"urn:tinytown:{event.town}",
        "type": event.type,
        **({"subject": subject} if isinstance(subject, str) and subject else {}),
        "time": event.timestamp,
        "datacontenttype": _JSON,
        **{name: id_ for name, id_ in about.items() if id_},
        **({"dataref": more["link"]} if "link" in more else {}),
        **({"truncated": True} if "truncated" in more else {}),
        "data": data,
    }
