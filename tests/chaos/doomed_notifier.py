"""A notifier for a storm: a process of its own, to be killed at any moment, with real senders.

python tests/chaos/doomed_notifier.py REDIS_URL LEASE_SECONDS
"""

from __future__ import annotations

import sys

import anyio

from fakes.letters import LOOPBACK
from fakes.notifying import WRITER
from tinytown.store import Limits, open_store
from tinytown.vault import Vault
from tinytown_notifiers import Notifier, Rules
from tinytown_notifiers.sinks.push import PushSink
from tinytown_notifiers.sinks.webhook import SenderRules, WebhookSender

# A storm lasts for seconds: what a town measures in half minutes is shorter here, nothing is off.
QUICK = Limits(breaker_ms=200, breaker_ceiling_ms=1_000)


async def main(url: str, lease_seconds: float) -> None:
    """Plan and deliver until killed."""
    async with open_store(
        url, town="main", name="tt:doomed", limits=QUICK, max_connections=4, wait_seconds=20
    ) as store:
        notifier = Notifier(
            store,
            vault=Vault(None, "main"),
            writer=WRITER,
            sink=PushSink(LOOPBACK),
            sender=WebhookSender(
                LOOPBACK, rules=SenderRules(total_seconds=lease_seconds / 2, connect_seconds=0.5)
            ),
            rules=Rules(lease_seconds=lease_seconds, look_seconds=0.3, orphan_seconds=0.5),
        )
        await notifier.run()


if __name__ == "__main__":
    redis_url, lease = sys.argv[1:]
    anyio.run(main, redis_url, float(lease))
