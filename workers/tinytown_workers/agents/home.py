"""Adds what a CLI needs to the surroundings the sandbox made: its files and its vendor's keys.

Of the worker's own environment only two short lists ever pass: what programs need to reach the
network, and the names that belong to the CLI's maker. Not REDIS_URL, no key of the town.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tinytown_workers.agents.contract import AgentMissing, Turn

# How to get out of this network, and whom to trust there.
_NETWORK: Final = (
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT",
)  # fmt: skip

_TELLING: Final = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "HEADERS")
_SECRET_CHARS: Final = 8  # masking anything shorter would spoil the text around it


def environment(turn: Turn, vendor: Iterable[str], switches: Mapping[str, str]) -> dict[str, str]:
    """Build the whole environment of a CLI; what the sandbox decided stands above all else."""
    network = {name: turn.inherited[name] for name in _NETWORK if name in turn.inherited}
    quiet = {"GIT_TERMINAL_PROMPT": "0"}  # nobody is there to type a password
    return network | vendor_keys(turn, vendor) | quiet | dict(switches) | dict(turn.env)


def vendor_keys(turn: Turn, vendor: Iterable[str]) -> dict[str, str]:
    """Pick the vendor's variables out of the worker's environment; `NAME_*` is a prefix."""
    names = tuple(vendor)
    prefixes = tuple(name[:-1] for name in names if name.endswith("*"))
    return {
        name: value
        for name, value in turn.inherited.items()
        if value and (name in names or (prefixes and name.startswith(prefixes)))
    }


def secrets_of(keys: Mapping[str, str]) -> tuple[str, ...]:
    """List the values that must be masked wherever the agent's words are shown."""
    return tuple(
        value
        for name, value in keys.items()
        if len(value) >= _SECRET_CHARS and any(word in name.upper() for word in _TELLING)
    )


def program(name: str, env: Mapping[str, str]) -> str:
    """Find a CLI on its own PATH; raises AgentMissing."""
    found = shutil.which(name, path=env["PATH"])
    if found is None:
        message = f"{name} is not installed on this worker"
        raise AgentMissing(message)
    return found


def write(path: Path, text: str) -> None:
    """Write a file that only its owner may read, making its folders; never through a link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text.encode())


def borrow_login(turn: Turn, name: str) -> None:
    """Let the CLI use the login of the person whose machine this is, as a link.

    A link and not a copy: logins rotate when they are used, and a copy would log the person out.
    """
    if turn.login_home is None:
        return
    real, link = turn.login_home / name, turn.home / name
    if real.is_file() and not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(real)
