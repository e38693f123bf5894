"""Seals secrets at rest with the operator's secret key: XChaCha20-Poly1305, key by HKDF-SHA256.

Without a secret key nothing is sealed: the key would have to lie beside what it protects.
Sealed text starts with `sealed:`; both forms can be read, so that a key may be introduced later.
"""

from __future__ import annotations

import base64
import hmac
from typing import Final

from tinytown.errors import Unavailable

_MARK: Final = "sealed:"


class Vault:
    """Seals and opens text and bytes for one town."""

    def __init__(self, secret_key: str | None, town: str) -> None:
        """Derive the sealing key; `None` seals nothing."""
        self._town = town.encode()
        self._key = None if secret_key is None else self._derive(secret_key)

    def seal(self, text: str) -> str:
        """Seal a secret text for storage."""
        if self._key is None:
            return text
        return _MARK + base64.urlsafe_b64encode(self._encrypt(text.encode())).decode()

    def open(self, text: str) -> str:
        """Open what `seal` wrote; raises Unavailable when the secret key is not the one."""
        if not text.startswith(_MARK):
            return text
        return self._decrypt(base64.urlsafe_b64decode(text.removeprefix(_MARK))).decode()

    def seal_bytes(self, raw: bytes) -> bytes:
        """Seal bytes for storage."""
        return raw if self._key is None else _MARK.encode() + self._encrypt(raw)

    def open_bytes(self, raw: bytes) -> bytes:
        """Open what `seal_bytes` wrote; raises Unavailable when the secret key is not the one."""
        mark = _MARK.encode()
        return self._decrypt(raw.removeprefix(mark)) if raw.startswith(mark) else raw

    def _encrypt(self, raw: bytes) -> bytes:
        from nacl.secret import Aead

        assert self._key is not None  # noqa: S101 - the callers have looked
        return bytes(Aead(self._key).encrypt(raw, self._town))

    def _decrypt(self, raw: bytes) -> bytes:
        if self._key is None:
            raise Unavailable("a stored secret is sealed: TINYTOWN_SECRET_KEY is not set")
        from nacl.exceptions import CryptoError
        from nacl.secret import Aead

        try:
            return bytes(Aead(self._key).decrypt(raw, self._town))
        except (CryptoError, ValueError):
            detail = "a stored secret was sealed with another TINYTOWN_SECRET_KEY, or is damaged"
            raise Unavailable(detail) from None

    def _derive(self, secret_key: str) -> bytes:
        # HKDF-SHA256 (RFC 5869), one block: extract with the town as salt, then expand.
        extracted = hmac.digest(self._town, secret_key.encode(), "sha256")
        return hmac.digest(extracted, b"tinytown vault v1\x01", "sha256")
