"""The first two minutes of docs/webhooks.md, lived through: a newcomer sees a delivery arrive."""

from __future__ import annotations

import json
import re
from pathlib import Path

from halls import HallProcess
from house.tree import ROOT
from servers import free_port
from snippets import listens, running, written


def page() -> str:
    return (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")


async def test_a_newcomer_sees_a_delivery_arrive(redis_url: str, tmp_path: Path) -> None:
    [told] = re.findall(r"-d '(\{.*?\})'", page())
    [allow] = re.findall(r"TINYTOWN_EGRESS_ALLOW=(\S+) tt up", page())
    port = free_port()
    asked = json.loads(told.replace("127.0.0.1:9000", f"127.0.0.1:{port}"))

    with HallProcess(redis_url, TINYTOWN_EGRESS_ALLOW=allow) as hall:
        async with hall.client() as client:
            made = await client.post("/v1/endpoints", json=asked)
            assert made.status_code == 201, made.text
            endpoint = made.json()
            command = written("webhooks.md", "receive.py", tmp_path)
            with running(command, endpoint["secret"], port=port) as receiver:
                await listens(receiver)

                trial = await client.post(f"/v1/endpoints/{endpoint['id']}/test")
                assert trial.json()["delivered"] is True, trial.text
                assert receiver.line() == f"ping {trial.json()['webhook_id']}"

                mission = await client.post("/v1/missions", json={"goal": "Say hello"})
                assert mission.status_code == 201, mission.text
                assert receiver.line().startswith("mission.created evt_")

            shown = await client.get(f"/v1/endpoints/{endpoint['id']}")
            assert endpoint["secret"] not in shown.text, "it is shown once"
        assert hall.stop() == 0
