"""What the tests of the deploy files share: reading the files, and the tools that check them."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


@cache
def tool(name: str) -> ModuleType:
    """Load a script of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # for what looks its own module up, as NamedTuple does
    spec.loader.exec_module(module)
    return module


def documents(path: Path) -> list[Any]:
    """Read all documents of a YAML file."""
    return [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]


def program(name: str) -> str:
    """Find a program: one of the pins, or of the machine; its absence fails the test."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is not installed: tools/setup installs it"
    return found


def run(*command: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program in the repository."""
    return subprocess.run(
        [program(str(command[0])), *map(str, command[1:])],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def containers(document: Any) -> list[Any]:
    """Find the containers of a workload, wherever its pod's template stands."""
    if isinstance(document, dict):
        found = list(document.get("containers", ()))
        return found + [each for value in document.values() for each in containers(value)]
    if isinstance(document, list):
        return [each for value in document for each in containers(value)]
    return []
