"""The `webhook` launcher: whoever listens there starts the workers that the signal misses."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import httpx
import msgspec

from tinytown import __version__, clock
from tinytown.launch import Ended, StartFailed, silence
from tinytown.launch.http import SECONDS, Unsure, ask, asked_to_wait
from tinytown.models.scaling import Signal, Start

_PREFIX: Final = "whsec_"


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Sign as Standard Webhooks v1 does; a secret `whsec_…` is base64, others are text."""
    key = secret.encode()
    if secret.startswith(_PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            key = secret.encode()
    text = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()


class WebhookLauncher:
    """Posts the signal; made by `webhook_launcher`."""

    name = "webhook"
    outlived = True

    def __init__(self, client: httpx.AsyncClient, url: str, secret: str | None) -> None:
        """Post to one URL, signed if there is a secret."""
        self._client = client
        self._url = url
        self._secret = secret

    async def start(self, starts: Sequence[Start], signal: Signal) -> dict[str, StartFailed]:
        """Post the signal once; its `start` is what is promised now, in all and for each pool.

        `webhook-id` names the first of the promises: a repeated delivery has the same.
        """
        try:
            await self._post(starts[0].id, msgspec.json.encode(signal))
        except Unsure:
            return {}  # it may have been heard: the promises keep their places until they lapse
        except StartFailed as failed:
            return {start.id: failed for start in starts}
        return {}

    async def ended(self) -> Ended:
        """Never: nobody tells us."""
        return await silence()

    async def _post(self, message_id: str, body: bytes) -> None:
        now = int(clock.unix_seconds())
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(now),
        }
        if self._secret:
            headers["webhook-signature"] = sign(self._secret, message_id, now, body)
        response = await ask(self._client, "POST", self._url, content=body, headers=headers)
        if response.is_success:
            return
        status = response.status_code
        if status in {429, 503}:
            wait = asked_to_wait(response, 5.0)
            raise StartFailed(f"HTTP {status}: not now", failed=False, again_seconds=wait)
        raise StartFailed(f"HTTP {status}")


@asynccontextmanager
async def webhook_launcher(url: str, secret: str | None) -> AsyncIterator[WebhookLauncher]:
    """Launch by posting to a URL; redirects are not followed: a POST would become a GET."""
    headers = {"user-agent": f"tinytown/{__version__}"}
    async with httpx.AsyncClient(timeout=SECONDS, headers=headers) as client:
        yield WebhookLauncher(client, url, secret)
