"""The client's type as the shelves see it."""

from __future__ import annotations

from typing import Any, TypeAlias

Client: TypeAlias = Any
"""A `redis.asyncio.Redis`. Its stubs type every reply as the union of all protocols' shapes; ours
is fixed (RESP2, text), and records.py gives each reply its real type."""
