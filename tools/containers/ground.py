"""What everything about containers stands on: running programs, waiting, telling."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
WAIT_SECONDS: Final = 120
_BEGUN: Final = time.monotonic()


class Failed(Exception):
    """Something is not as it must be; one line, and what a program last said."""


def say(text: str) -> None:
    """Tell what happens, with the seconds since the start."""
    print(f"{time.monotonic() - _BEGUN:7.1f} s  {text}", flush=True)


def run(*command: str, env: dict[str, str] | None = None) -> str:
    """Run a program in the checkout; its output, or Failed with its last lines."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-20:])
        raise Failed(f"`{shlex.join(command)}` failed ({done.returncode}):\n{tail}")
    return done.stdout.strip()


def works(*command: str) -> bool:
    """Tell whether a program is there and succeeds."""
    found = shutil.which(command[0])
    return bool(found) and not subprocess.run(command, capture_output=True, check=False).returncode


def inspected(kind: str, name: str) -> Any:
    """Read what the engine knows of an image or a container."""
    return json.loads(run("docker", kind, "inspect", name))[0]


def until(
    holds: Callable[[], object], missed: str, seconds: float = WAIT_SECONDS, pause: float = 0.2
) -> None:
    """Wait for something to hold."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(f"{missed} (not within {seconds:.0f} s)")
        time.sleep(pause)
