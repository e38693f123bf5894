"""How attempts went, written down together: all that end while one writes are the next to write.

A busy notifier ends dozens of attempts in the time of one round trip. Each by itself would cost it
as much processor time as the request to the receiver did.
"""

from __future__ import annotations

from functools import partial

import anyio

from tinytown.store import Store
from tinytown.store.deliveries import Ended


class _Page:
    """What is written in one breath; `known` is None until it is, or if that failed."""

    def __init__(self) -> None:
        self.lines: list[Ended] = []
        self.known: list[bool | None] | None = None
        self.closed = anyio.Event()


class Recorder:
    """Writes for all attempts of one notifier."""

    def __init__(self, store: Store) -> None:
        """Write into one store, however long it is away."""
        self._store = store
        self._line = anyio.Lock()
        self._page: _Page | None = None

    async def record(self, ended: Ended) -> bool:
        """Write how an attempt went; False when another notifier has taken over, or it is gone."""
        page = self._page
        if page is None:
            page = self._page = _Page()
            page.lines.append(ended)
            await self._write_page(page)
            mine = 0
        else:
            mine = len(page.lines)
            page.lines.append(ended)
            await page.closed.wait()
        if page.known is None:  # whoever it was about: what cannot be written harms no other
            [known] = await self._write([ended])
            return bool(known)
        return bool(page.known[mine])

    async def _write_page(self, page: _Page) -> None:
        """Write it as soon as the one before is written; until then others join."""
        try:
            async with self._line:
                self._page = None
                page.known = await self._write(page.lines)
        except Exception:
            if len(page.lines) == 1:
                raise
        finally:
            if self._page is page:
                self._page = None
            page.closed.set()

    async def _write(self, lines: list[Ended]) -> list[bool | None]:
        record = partial(self._store.deliveries.record_all, lines)
        return await self._store.patience.keep_trying("record", record)
