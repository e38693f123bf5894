"""`just container-test` where there is nothing to run containers with: it says what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from deploy.parts import ROOT


def images(**more: str) -> subprocess.CompletedProcess[str]:
    """Ask for the images on a machine whose engine, if there is one, nobody finds."""
    return subprocess.run(
        [sys.executable, "-m", "tools.containers", "images"],
        cwd=ROOT,
        env={**os.environ, "DOCKER_HOST": "unix:///nowhere", "START_ENGINE": "", **more},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_engine_that_is_missing_is_a_failure() -> None:
    said = images()
    assert said.returncode == 1
    assert said.stderr == (
        "containers: no docker engine answers; START_ENGINE=1 runs one (as root)\n"
    )


def test_a_machine_that_can_run_none_says_so_loudly(home: Path) -> None:
    """As root: without namespaces there are no containers, whatever is installed."""
    (home / "unshare").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    (home / "unshare").chmod(0o755)
    said = images(START_ENGINE="1", PATH=f"{home}:{os.environ['PATH']}")
    assert said.returncode == 77
    why = "root may not make namespaces on this machine"
    if os.geteuid() != 0:
        why = "no docker engine answers, and only root can run one"
    assert said.stderr == f"\n!!! containers: NOT RUN: {why}\n\n"
