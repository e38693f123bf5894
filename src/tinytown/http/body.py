"""How bodies are read: JSON and nothing else, and whatever is wrong with it is the sender's 400."""

from __future__ import annotations

from typing import Any

from litestar import Request

from tinytown.errors import Invalid, UnsupportedMediaType


class TownRequest(Request[Any, Any, Any]):
    """A request that lets no body through which is not JSON."""

    async def json(self) -> Any:
        """Read the body; raises UnsupportedMediaType or Invalid."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in {"", "application/json"} and not kind.endswith("+json"):
            raise UnsupportedMediaType("send JSON, with `Content-Type: application/json`")
        try:
            return await super().json()
        except UnicodeDecodeError:
            raise Invalid("the body is not valid UTF-8") from None
        except RecursionError:
            raise Invalid("the body is nested too deeply") from None
