"""The audit's shelf: lines are added and read, never changed."""

from __future__ import annotations

from tinytown.models.audit import AuditLine
from tinytown.store import records
from tinytown.store.faults import store_errors
from tinytown.store.keys import Keyring
from tinytown.store.scripts import Scripts
from tinytown.store.wire import Client


class Audit:
    """Writes and reads the audit log of one town."""

    def __init__(self, client: Client, keys: Keyring, scripts: Scripts) -> None:
        """Work on one town's audit."""
        self._client = client
        self._stream = keys("audit")
        self._scripts = scripts

    async def write(
        self, *, actor: str, verb: str, object_id: str, result: str, request_id: str
    ) -> None:
        """Add a line."""
        await self._scripts.run(
            "write_audit",
            actor=actor,
            verb=verb,
            object=object_id,
            result=result,
            reason="",
            request=request_id,
        )

    async def page(self, *, cursor: str | None, limit: int) -> tuple[list[AuditLine], str | None]:
        """Read lines, newest first; the cursor is the last line of the page before."""
        newest = f"({cursor}" if cursor else "+"
        with store_errors():
            rows = await self._client.xrevrange(self._stream, max=newest, count=limit + 1)
        lines = [_line(id_, records.pairs(fields)) for id_, fields in rows[:limit]]
        return lines, lines[-1].id if len(rows) > limit else None


def _line(id_: str, fields: dict[str, str]) -> AuditLine:
    return AuditLine(
        id=id_,
        at=records.must(fields["at"]),
        actor=fields["actor"],
        verb=fields["verb"],
        object=fields["object"],
        result=fields["result"],
        reason=fields["reason"] or None,
        request_id=fields["request"] or None,
    )
