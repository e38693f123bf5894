"""Holds an event's data against the catalogue, more strictly than any reader should."""

from __future__ import annotations

import msgspec

from tinytown.models.catalogue import CATALOGUE
from tinytown.models.event import Event


def differences(event: Event) -> str:
    """Say in what an event differs from what its type may say; empty for one that is as written.

    What the shape does not know is lost on the way there and back, so it shows as a difference.
    """
    entry = CATALOGUE[event.type]
    try:
        known = msgspec.convert(event.data, entry.data)
    except msgspec.ValidationError as error:
        return f"{event.type}: {error} in {event.data}"
    again = msgspec.json.decode(msgspec.json.encode(known))
    return "" if again == event.data else f"{event.type}: told {event.data}, known {again}"
