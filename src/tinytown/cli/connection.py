"""Which town `tt` talks to, and with which key: a file that only its owner can read.

The file remembers a key for each town it was ever connected to, so that `tt connect URL` alone
goes back to one of them. A key is only ever sent to the address it was stored for.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tinytown.cli.failures import USAGE, Failure
from tinytown.settings import Settings

FILE: Final = "connection.json"


class Connections(msgspec.Struct, frozen=True, kw_only=True):
    """The file: the town in use, and the keys by base URL."""

    url: str | None = None
    keys: dict[str, str] = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:
        """Show the towns, never a key."""
        return f"Connections(url={self.url!r}, keys={sorted(self.keys)!r})"


class Connection(msgspec.Struct, frozen=True):
    """One town as `tt` reaches it."""

    url: str
    key: str | None

    def __repr__(self) -> str:
        """Show the town, never the key."""
        return f"Connection(url={self.url!r})"


def base_url(text: str) -> str:
    """Read an address a person typed as a base URL; `town.example` means https.

    Raises Failure (usage) for what is none. Plain http is for this machine and private networks;
    it is accepted everywhere, because a key in a tunnel is as good as one over TLS.
    """
    text = text.strip()
    if "://" not in text:
        host = text.partition("/")[0].partition(":")[0]
        scheme = "http" if host in {"localhost", "127.0.0.1"} else "https"
        text = f"{scheme}://{text}"
    try:
        parts = urlsplit(text)
        wrong = parts.port == 0
    except ValueError:
        wrong = True
    if wrong or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Failure("the address should look like https://town.example", USAGE)
    if parts.username or parts.query or parts.fragment:
        raise Failure("the address may have no user, query or fragment", USAGE)
    return text.rstrip("/")


def read(home: Path) -> Connections:
    """Read the file; empty when there is none. Raises Failure when it cannot be understood."""
    file = home / FILE
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        return Connections()
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}") from None
    try:
        return msgspec.json.decode(raw, type=Connections)
    except msgspec.MsgspecError:
        raise Failure(f"{file} is damaged: remove it and run `tt connect` again") from None


def write(home: Path, connections: Connections) -> None:
    """Replace the file at once (never half of it), readable by its owner only."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(connections), indent=2) + b"\n"
    # mkstemp makes 0600 files.
    handle, name = tempfile.mkstemp(dir=home, prefix=f".{FILE}.")
    try:
        with os.fdopen(handle, "wb") as new:
            new.write(text)
        Path(name).replace(home / FILE)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def remember(home: Path, url: str, key: str) -> None:
    """Make a town the one in use, with its key."""
    write(home, Connections(url=url, keys=read(home).keys | {url: key}))


def choose(settings: Settings) -> Connection:
    """Decide which town is meant: the environment's, the connected one, the one on this machine."""
    known = read(settings.home)
    url = settings.url or known.url or f"http://{reachable(settings.host)}:{settings.port}"
    return Connection(url, settings.api_key or known.keys.get(url))


def reachable(host: str) -> str:
    """Turn an address to listen on into one to connect to, ready for a URL."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"[{host}]" if ":" in host else host
