"""Deliveries to phones: gather what a message needs, word it, push it."""

from __future__ import annotations

import time
from functools import partial
from urllib.parse import urlsplit

from tinytown.errors import Unavailable
from tinytown.models.delivery import DueDelivery, Trial
from tinytown.models.endpoint import EndpointRecord
from tinytown.models.event import Event
from tinytown.store import Store
from tinytown.vault import Vault
from tinytown_notifiers.carrying import Verdict, found
from tinytown_notifiers.schedule import Schedule
from tinytown_notifiers.sinks import Delivered, Failed, Message, Outcome, Sink
from tinytown_notifiers.wording import Recipient, Writer


class Pusher:
    """Carries pushes through one sink, worded by one writer."""

    def __init__(
        self,
        store: Store,
        *,
        vault: Vault,
        writer: Writer,
        sink: Sink,
        schedule: Schedule,
        late_seconds: float,
    ) -> None:
        """Push for one town; after `late_seconds` of gathering an attempt is not made any more."""
        self._store = store
        self._vault = vault
        self._writer = writer
        self._sink = sink
        self._schedule = schedule
        self._late_seconds = late_seconds

    async def carry(self, delivery: DueDelivery, record: EndpointRecord) -> Verdict | None:
        """Push one event; None when Redis was away for so long that others may have pushed it."""
        began = time.monotonic()
        message = await self._word(delivery, record)
        if time.monotonic() - began > self._late_seconds:
            return None
        outcome = await self._sink.send(message) if isinstance(message, Message) else message
        return self._verdict(delivery, outcome)

    async def test(self, record: EndpointRecord) -> Trial:
        """Push the test message."""
        to = Recipient(endpoint_id=record.id, url=self._vault.open(record.url))
        outcome = await self._sink.send(self._writer.word_test(to))
        if isinstance(outcome, Delivered):
            return Trial(delivered=True, duration_seconds=outcome.duration_seconds)
        return Trial(
            delivered=False,
            duration_seconds=outcome.duration_seconds,
            status=outcome.status,
            reason=outcome.reason,
        )

    async def _word(self, delivery: DueDelivery, record: EndpointRecord) -> Message | Failed | None:
        """Gather what the message needs; None when there is nobody left to answer."""
        event, shelves = delivery.event, self._store
        try:
            url = self._vault.open(record.url)
        except Unavailable as error:
            return Failed(permanent=False, reason=error.detail)
        question = mission = None
        if isinstance(question_id := event.data.get("question_id"), str):
            question = await found(shelves, partial(shelves.questions.read, question_id))
        if event.type == "question.asked" and (question is None or question.state != "open"):
            return None
        if event.mission_id is not None and event.type.startswith("mission."):
            mission = await found(shelves, partial(shelves.missions.read, event.mission_id))
        to = Recipient(endpoint_id=record.id, url=url)
        about = await self._about(event)
        return self._writer.word(event, to, question=question, mission=mission, about=about)

    async def _about(self, event: Event) -> str:
        """Name the endpoint that news about endpoints are about, as its owner knows it."""
        told_of = event.data.get("endpoint")
        if not event.type.startswith(("endpoint.", "delivery.")) or not isinstance(told_of, str):
            return ""
        record = await found(self._store, partial(self._store.endpoints.read, told_of))
        if record is None:
            return told_of
        try:
            where = host_of(self._vault.open(record.url)) if record.kind == "webhook" else ""
        except Unavailable:
            where = ""
        return " at ".join(filter(None, (record.name, where))) or told_of

    def _verdict(self, delivery: DueDelivery, outcome: Outcome | None) -> Verdict:
        if outcome is None:
            return Verdict(said="obsolete", reason="the question is no longer open")
        if isinstance(outcome, Delivered):
            return Verdict(said="delivered")
        wait = None
        if not outcome.permanent:
            wait = self._schedule.wait(
                delivery.tried, retry_after_seconds=outcome.retry_after_seconds
            )
        reason = outcome.reason
        if wait is None and not outcome.permanent:
            reason = f"given up after attempt {delivery.attempt}: {outcome.reason}"
        return Verdict(
            said="dead" if wait is None else "retry",
            reason=reason,
            delay_seconds=wait or 0.0,
            status=outcome.status,
            error=outcome.reason,
        )


def host_of(url: str) -> str:
    """Say whose a webhook's address is, and no more of it."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
