"""Seals secrets at rest with the operator's secret key (AES-256-GCM, key by HKDF-SHA256).

Without a secret key nothing is sealed: the key would have to lie beside what it protects.
Sealed text starts with `sealed:`; both forms can be read, so that a key may be introduced later.
"""

from __future__ import annotations

import base64
import secrets
from typing import Final

from tinytown.errors import Unavailable

_MARK: Final = "sealed:"
_NONCE_BYTES: Final = 12


class Vault:
    """Seals and opens text for one town."""

    def __init__(self, secret_key: str | None, town: str) -> None:
        """Derive the sealing key; `None` seals nothing."""
        self._town = town.encode()
        self._key = None if secret_key is None else self._derive(secret_key)

    def seal(self, text: str) -> str:
        """Seal a secret for storage."""
        if self._key is None:
            return text
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(self._key).encrypt(nonce, text.encode(), self._town)
        return _MARK + base64.urlsafe_b64encode(nonce + sealed).decode()

    def open(self, text: str) -> str:
        """Open what was sealed; raises Unavailable when the secret key is not the one."""
        if not text.startswith(_MARK):
            return text
        if self._key is None:
            raise Unavailable("a stored secret is sealed: TINYTOWN_SECRET_KEY is not set")
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        raw = base64.urlsafe_b64decode(text.removeprefix(_MARK))
        try:
            plain = AESGCM(self._key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], self._town)
        except InvalidTag:
            detail = "a stored secret was sealed with another TINYTOWN_SECRET_KEY"
            raise Unavailable(detail) from None
        return plain.decode()

    def _derive(self, secret_key: str) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        kdf = HKDF(hashes.SHA256(), length=32, salt=self._town, info=b"tinytown vault v1")
        return kdf.derive(secret_key.encode())
