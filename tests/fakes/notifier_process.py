"""A notifier in a process of its own, to be killed: `python notifier_process.py <redis url>`."""

from __future__ import annotations

import sys

import anyio

from tinytown.egress import Egress, parse_allow
from tinytown.links import AnswerLinks
from tinytown.store import open_store
from tinytown.vault import Vault
from tinytown_notifiers import Notifier, Rules
from tinytown_notifiers.sinks.push import PushSink
from tinytown_notifiers.wording import Writer


async def main(url: str) -> None:
    links = AnswerLinks(town="main", keys=["a secret long enough to sign with"])
    async with open_store(url, town="main", name="doomed") as store:
        notifier = Notifier(
            store,
            vault=Vault(None, "main"),
            writer=Writer(public_url="https://town.example", links=links),
            sink=PushSink(Egress(parse_allow("127.0.0.1"))),
            rules=Rules(lease_seconds=1),
        )
        await notifier.run()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
