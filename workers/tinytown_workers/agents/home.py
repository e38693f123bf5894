"""Prepares what a CLI may know: a private home, a short list of variables, and its vendor's keys.

Nothing else of the worker's environment reaches an agent: not REDIS_URL, no key of the town.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tinytown_workers.agents.contract import AgentMissing, Turn

# What programs need to find their way; none of it is anybody's secret.
_HARMLESS: Final = (
    "PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TERM", "TMPDIR", "USER", "LOGNAME",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "http_proxy", "https_proxy", "no_proxy", "all_proxy",
)  # fmt: skip

_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_SECRET_CHARS: Final = 8  # masking anything shorter would spoil the text around it

# A login shell (codex runs `bash -lc`) throws PATH away; these files, read last, mend it.
_PROFILES: Final = (".profile", ".bash_profile", ".zprofile")


def private_home(turn: Turn) -> None:
    """Make the home, readable by its owner only, with profiles that keep `turn.bin` on PATH."""
    turn.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if turn.bin is None:
        return
    profile = f'PATH={shlex.quote(str(turn.bin))}:"$PATH"\nexport PATH\n'
    for name in _PROFILES:
        write(turn.home / name, profile)


def environment(turn: Turn, vendor: Iterable[str], switches: Mapping[str, str]) -> dict[str, str]:
    """Build the whole environment of a CLI: harmless names, its vendor's keys, our switches.

    `vendor` lists the names that belong to this CLI's maker; a name ending in `*` is a prefix.
    """
    env = {name: turn.inherited[name] for name in _HARMLESS if name in turn.inherited}
    env |= vendor_keys(turn, vendor)
    path = env.get("PATH") or _PATH
    env["PATH"] = path if turn.bin is None else f"{turn.bin}{os.pathsep}{path}"
    env["HOME"] = str(turn.home)
    for name, folder in (
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_DATA_HOME", ".local/share"),
        ("XDG_STATE_HOME", ".local/state"),
        ("XDG_CACHE_HOME", ".cache"),
    ):
        env[name] = str(turn.home / folder)
    # Ids of what it works on: handy for the agent's own scripts, and no secret.
    env["TINYTOWN_MISSION_ID"] = turn.mission_id
    env["TINYTOWN_TASK_ID"] = turn.task_id
    env["TINYTOWN_ATTEMPT"] = str(turn.attempt)
    env["GIT_TERMINAL_PROMPT"] = "0"  # nobody is there to type a password
    return env | dict(switches) | dict(turn.env)


def vendor_keys(turn: Turn, vendor: Iterable[str]) -> dict[str, str]:
    """Pick the vendor's variables out of the worker's environment."""
    names = tuple(vendor)
    prefixes = tuple(name[:-1] for name in names if name.endswith("*"))
    return {
        name: value
        for name, value in turn.inherited.items()
        if value and (name in names or (prefixes and name.startswith(prefixes)))
    }


def secrets_of(keys: Mapping[str, str]) -> tuple[str, ...]:
    """List the values that must be masked wherever the agent's words are shown."""
    telling = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "HEADERS")
    return tuple(
        value
        for name, value in keys.items()
        if len(value) >= _SECRET_CHARS and any(word in name.upper() for word in telling)
    )


def program(name: str, env: Mapping[str, str]) -> str:
    """Find a CLI on its own PATH; raises AgentMissing."""
    found = shutil.which(name, path=env["PATH"])
    if found is None:
        message = f"{name} is not installed on this worker"
        raise AgentMissing(message)
    return found


def write(path: Path, text: str) -> None:
    """Write a file that only its owner may read, making its folders; unchanged ones stay."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = text.encode()
    if path.is_file() and path.read_bytes() == data:
        return
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def borrow_login(turn: Turn, name: str) -> None:
    """Let the CLI use the login of the person whose machine this is, as a link.

    A link and not a copy: logins rotate when they are used, and a copy would log the person out.
    """
    if turn.login_home is None:
        return
    real, link = turn.login_home / name, turn.home / name
    if real.is_file() and not link.exists():
        link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(real)
