"""Records what the real CLIs write, for the conformance tests; run it when their pins change.

In `tests/`, with the CLIs to record on PATH:

    python -m e2e.record_streams claude codex opencode gemini

Each recording holds the CLI's version, the exit code and every line of standard output, with the
paths of the machine replaced.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio

from e2e.model_server import ModelServer, script
from e2e.rig import Rig
from tinytown_workers.agents import agent_named
from tinytown_workers.lines import Line
from tinytown_workers.process import Stream, supervise

STREAMS = Path(__file__).resolve().parent.parent / "workers" / "streams"

ASK = {"tool": "ask_human", "with": {"question": "Which colour?", "options": ["red", "blue"]}}
SCENARIOS: dict[str, tuple[str, str]] = {
    "done": ("", script({"shell": "echo one > a.txt"}, ASK, {"say": "It is {result}"})),
    "stumbled": ("", script({"shell": "echo lost; exit 3"}, {"say": "It failed."})),
    "failed": ("/err/401", script({"say": "never said"})),
}


async def record(cli: str, scenario: str) -> dict[str, Any]:
    """Run one CLI through one scenario and keep its output."""
    base, prompt = SCENARIOS[scenario]
    lines: list[str] = []

    async def keep(stream: Stream, line: Line) -> None:
        if stream == "stdout":
            lines.append(line.data.decode())

    with tempfile.TemporaryDirectory() as folder, ModelServer() as model:
        rig = Rig(Path(folder), model, path=os.environ["PATH"])
        turn = rig.turn(cli, prompt, base=base)
        launch = agent_named(cli).launch(turn)
        ended = await supervise(launch, keep)
        found = Path(launch.argv[0]).resolve().parents[2]
        places = (
            (str(rig.room.work), "/town/tree"),
            (str(rig.room.path), "/town/task"),
            (str(found), "/town/agents"),
        )
    said = await anyio.run_process([launch.argv[0], "--version"])
    for real, shown in (*places, (model.url, "http://127.0.0.1:1")):
        lines = [line.replace(real, shown) for line in lines]
        lines = [line.replace(slug(real), slug(shown)) for line in lines]
    return {"version": said.stdout.decode().strip(), "exit": ended.code, "stdout": lines}


def slug(path: str) -> str:
    """Name a path as some CLIs name their folders."""
    return re.sub(r"[^A-Za-z0-9]", "-", path)


async def main(clis: list[str]) -> None:
    """Record all scenarios of these CLIs."""
    STREAMS.mkdir(exist_ok=True)
    for cli in clis:
        for scenario in SCENARIOS:
            kept = await record(cli, scenario)
            path = STREAMS / f"{cli}-{scenario}.json"
            path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
            sys.stdout.write(f"{path.name}: exit {kept['exit']}, {len(kept['stdout'])} lines\n")


if __name__ == "__main__":
    anyio.run(main, sys.argv[1:])
