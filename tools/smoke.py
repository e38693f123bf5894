"""Installs the built wheel as a stranger would, by plain pip in a fresh environment; starts it.

`town`: the whole town by its pins; the three commands answer `--help` and `--version` is ours.
`worker`: only the worker's pins and the wheel with --no-deps; the worker starts, the heavy
libraries are absent, and so nothing on its way could have imported them.

    python tools/smoke.py town worker
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
HEAVY: Final = (
    "litestar",
    "granian",
    "apprise",
    "httpx",
    "prometheus_client",
    "click",
    "rich",
    "uvloop",
)
COMMANDS: Final = {
    "town": (
        ("tt", "--help"),
        ("tt", "--version"),
        ("townhall", "--help"),
        ("tt-worker", "--help"),
        ("tt", "agent", "--help"),
        ("tt", "ask", "--help"),
    ),
    # An agent with only a shell asks through `tt ask`: it must work where only the worker is.
    "worker": (("tt-worker", "--help"), ("tt", "agent", "--help"), ("tt", "ask", "--help")),
}

TYPED: Final = """
import pathlib, tinytown, tinytown_notifiers, tinytown_workers
for package in tinytown, tinytown_notifiers, tinytown_workers:
    assert (pathlib.Path(package.__file__).parent / "py.typed").exists(), package
"""
# Every room of the worker can be entered with only the worker's pins, and a sealed session opened.
LIGHT: Final = """
import importlib, importlib.util, pkgutil, sys, tinytown_workers
from tinytown.vault import Vault
for module in pkgutil.walk_packages(tinytown_workers.__path__, "tinytown_workers."):
    importlib.import_module(module.name)
vault = Vault("a secret key of some length", "main")
assert vault.open_bytes(vault.seal_bytes(b"parked")) == b"parked"
found = [name for name in sys.argv[1:] if importlib.util.find_spec(name)]
assert not found, f"installed beside a worker: {found}"
"""


def run(*command: str | Path, where: Path | None = None) -> str:
    """Run a command, tell what it was when it fails, and give back what it printed."""
    shown = " ".join(str(part) for part in command)
    done = subprocess.run(
        command,
        cwd=where,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(f"smoke: `{shown}` exited {done.returncode}\n{done.stdout}\n")
        raise SystemExit(1)
    return done.stdout


def build_wheel(into: Path) -> Path:
    """Build sdist and wheel from it, as a release does, and find the wheel."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", into, ROOT)
    (wheel,) = into.glob("*.whl")
    return wheel


def fresh(where: Path, pins: str, wheel: Path) -> Path:
    """Make an environment with one file of pins and the wheel; give back its commands' folder."""
    venv.create(where, with_pip=True)
    pip = where / "bin" / "pip"
    run(pip, "install", "--quiet", "--require-hashes", "-r", ROOT / "requirements" / pins)
    run(pip, "install", "--quiet", "--no-deps", "--no-index", wheel)
    return where / "bin"


def smoke(kind: str, wheel: Path, scratch: Path) -> None:
    """Start the commands of one kind of machine and look at what is installed there."""
    commands = fresh(scratch / kind, f"{kind}.txt", wheel)
    for name, *arguments in COMMANDS[kind]:
        said = run(commands / name, *arguments, where=scratch)
        if not said.strip():
            raise SystemExit(f"smoke: `{name} {' '.join(arguments)}` said nothing")
    if kind == "town":
        # The worker leaves out on purpose what the wheel asks for; the town must not.
        run(commands / "pip", "check")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    said = run(commands / "python", "-c", "import tinytown; print(tinytown.__version__)").strip()
    if said != version:
        raise SystemExit(f"smoke: the wheel says {said}, pyproject says {version}")
    run(commands / "python", "-c", TYPED)
    if kind == "worker":
        run(commands / "python", "-c", LIGHT, *HEAVY)
    size = sum(f.stat().st_size for f in (scratch / kind / "lib").rglob("*") if f.is_file())
    sys.stdout.write(f"smoke: {kind} starts from the wheel ({size / 1e6:.0f} MB installed)\n")


def main() -> None:
    """Build once, then try each kind of machine that was named."""
    parser = argparse.ArgumentParser(description="Try the wheel in fresh environments.")
    parser.add_argument("kinds", nargs="+", choices=sorted(COMMANDS))
    kinds: list[str] = parser.parse_args().kinds
    with tempfile.TemporaryDirectory(prefix="tt-smoke-") as folder:
        scratch = Path(folder)
        wheel = build_wheel(scratch / "dist")
        for kind in kinds:
            smoke(kind, wheel, scratch)


if __name__ == "__main__":
    main()
