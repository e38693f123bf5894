"""The deploy guide on Fly, typed line by line, before a Machines API that runs workers."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import Eventually
from deploy.parts import ROOT
from fakes.machines import MachinesApi
from servers import free_port

GUIDE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
TOKEN = "fly-deploy-token"
ADDRESS = "https://tinytown.fly.dev"


def typed(chapter: str) -> str:
    """Read the commands under a heading."""
    found = re.search(rf"^##+ {chapter}\n.*?^```sh\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    assert found, chapter
    return found[1]


SHAPES = {
    "always on": typed("Fly"),
    # The other shape is another line in the place of the same.
    "asleep": re.sub(
        r"^fly deploy.*\n", typed("The townhall sleeps too"), typed("Fly"), flags=re.MULTILINE
    ),
}


class Fly:
    """An account on Fly: its API, its `fly`, and the machines' processes."""

    def __init__(self, home: Path, redis_url: str) -> None:
        self.home = home
        self.state = home / "fly.json"
        self.redis_url = redis_url
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.log = home / "log"
        self.api = MachinesApi(app="tinytown", token=TOKEN, run=self.run)
        (home / "bin").mkdir()
        script = f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/fakes/flyctl.py "$@"\n'
        (home / "bin" / "fly").write_text(script)
        (home / "bin" / "fly").chmod(0o755)
        self.path = f"{home / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"

    def remembered(self) -> Any:
        """What `fly` was told."""
        return json.loads(self.state.read_text())

    def run(self, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Boot a machine: the group's command with the secrets and what Fly sets itself."""
        known = self.remembered()
        group = environ["FLY_PROCESS_GROUP"]
        # What the account adds, and what a machine of one's own is for: a port and no network.
        place = {
            "PATH": self.path,
            "HOME": str(self.home),
            "FLY_APP_NAME": known["app"],
            "FLY_MACHINE_ID": "4d891",
            "TINYTOWN_FLY_API_URL": self.api.url,
            "TINYTOWN_HOME": str(self.home),
            "TINYTOWN_HOST": "127.0.0.1",
            "TINYTOWN_PORT": str(self.port),
            "TINYTOWN_IDLE_SECONDS": "0.3",
            "TINYTOWN_AGENT": "command",
            "TINYTOWN_AGENT_COMMAND": "cat",
        }
        with self.log.open("ab") as log:
            return subprocess.Popen(
                shlex.split(self.config()["processes"][group]),
                env={**environ, **known["secrets"], **place},
                stderr=log,
            )

    def config(self) -> Any:
        """Read what was deployed."""
        return self.remembered()["config"]

    def follow(self, lines: str) -> str:
        """Type the lines, with a Redis and an address of our own; stops at the first that fails."""
        key = "tt_0123456789abcdef0123456789abcdef"
        lines = (
            lines.replace('REDIS_URL="rediss://…"', f"REDIS_URL={self.redis_url}")
            .replace(ADDRESS, self.address)
            .replace('TINYTOWN_API_KEY="$(openssl rand -hex 24)"', f"TINYTOWN_API_KEY={key}")
            .replace('--key "…"', f"--key {key}")
            .replace('ANTHROPIC_API_KEY="…"', "ANTHROPIC_API_KEY=sk-none")
        )
        assert "…" not in lines, "a blank that nobody filled in"
        said = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", lines],
            cwd=ROOT,
            env={
                "PATH": self.path,
                "HOME": str(self.home),
                "FLY_STATE": str(self.state),
                "FLY_API_BASE": self.api.url,
                "FLY_TOKEN": TOKEN,
                "FLY_ADDRESS": self.address,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert said.returncode == 0, said.stdout + self.log.read_text()
        return said.stdout


@pytest.fixture
def account(home: Path, redis_url: str) -> Iterator[Fly]:
    account = Fly(home, redis_url)
    with account.api:
        yield account


@pytest.mark.timeout(120)
@pytest.mark.parametrize("shape", SHAPES)
async def test_who_follows_the_guide_has_a_town_that_wakes_and_sleeps(
    account: Fly, shape: str, eventually: Eventually
) -> None:
    account.follow(SHAPES[shape])
    machines = account.api.machines.values()
    workers = [m for m in machines if m.config["metadata"]["fly_process_group"] == "worker"]
    assert (len(workers), len(machines)) == (5, 6)

    def at_rest() -> bool:
        return all(each.state == "stopped" for each in workers)

    await eventually(at_rest, "the new machines find nothing to do", within_seconds=20)
    assert [each.exits for each in workers] == [[0]] * 5
    key = account.remembered()["secrets"]["TINYTOWN_API_KEY"]
    async with httpx.AsyncClient(
        base_url=account.address, headers={"Authorization": f"Bearer {key}"}, trust_env=False
    ) as client:
        made = await client.post("/v1/missions", json={"goal": "say it back"})
        assert made.status_code == 201

        async def completed() -> bool:
            return bool((await client.get(made.headers["location"])).json()["state"] == "completed")

        await eventually(completed, within_seconds=30)
    await eventually(at_rest, "the worker goes home", within_seconds=20)
    assert sorted(each.starts for each in workers) == [1, 1, 1, 1, 2], "one machine, woken once"
    assert {code for each in workers for code in each.exits} == {0}


def test_the_guide_names_every_secret_that_a_town_on_fly_needs() -> None:
    named = set(re.findall(r"^    ([A-Z_]+)=", typed("Fly"), re.MULTILINE))
    assert named == {
        "REDIS_URL",
        "TINYTOWN_API_KEY",
        "TINYTOWN_SECRET_KEY",
        "TINYTOWN_PUBLIC_URL",
        "FLY_API_TOKEN",
        "ANTHROPIC_API_KEY",
    }
