"""Seals the payloads that bring the town's own answer links back to it (pure).

A tap in Slack comes with the whole message: each button's token, not only the one that was tapped.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tinytown.models.source import SourceRecord
from tinytown.vault import Vault

_ECHOES: Final = frozenset({"slack"})


def sealed(vault: Vault, source: SourceRecord, payload: bytes) -> bytes:
    """Make a payload (JSON) ready to be stored: as it is, or as one sealed text."""
    if source.scheme not in _ECHOES:
        return payload
    return msgspec.json.encode(vault.seal(payload.decode()))


def opened(vault: Vault, source: SourceRecord, payload: Any) -> Any:
    """Give back what was stored; raises Unavailable when the secret key is not the one."""
    if source.scheme not in _ECHOES or not isinstance(payload, str):
        return payload
    return msgspec.json.decode(vault.open(payload))
