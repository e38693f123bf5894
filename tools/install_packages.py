"""Installs the pinned npm packages that tests hold ours against, and prints where they stand.

The reference library of Standard Webhooks, Octokit's signatures and its collection of real GitHub
payloads. Pins, cache and Node are as in tools/install_agents.py.

    .venv/bin/python -m tools.install_packages          # into .cache/packages
    PACKAGES_CACHE=/srv/packages .venv/bin/python -m tools.install_packages
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tools.install_agents import ROOT, InstallError, installed

PINS: Final = ROOT / "tools" / "packages"


def install(environ: Mapping[str, str]) -> Path:
    """Install them unless they stand there; returns the folder for NODE_PATH, `node_modules`."""
    cache = Path(environ.get("PACKAGES_CACHE") or ROOT / ".cache" / "packages")
    return installed(cache, environ, PINS) / "node_modules"


def main() -> int:
    """Install into $PACKAGES_CACHE (default .cache/packages) and print the folder."""
    try:
        sys.stdout.write(f"npm packages: {install(os.environ)}\n")
    except InstallError as error:
        sys.stderr.write(f"install_packages: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
