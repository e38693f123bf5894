"""Git, run by the worker: no prompts, nobody's configuration, no hooks, no odd transports.

A repository is written by strangers and then by an agent, so nothing in it may decide what our
git does. The token, where there is one, lives in the environment of the git processes that talk
to its host, never in an argument, a URL, a file or an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from tinytown.redact import redact
from tinytown_workers import tool

_LOCAL_SECONDS: Final = 120.0  # adding a large tree on a slow disk
_REMOTE_SECONDS: Final = 600.0  # cloning a large repository over a slow line
_OUTPUT_BYTES: Final = 64 * 1024 * 1024  # names of a million files
_HELPER: Final = (
    '!f() { test "$1" = get || exit 0; '
    'echo "username=$HELPER_USER"; echo "password=$HELPER_PASSWORD"; }; f'
)
_BASE_CONFIG: Final = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("commit.gpgSign", "false"),
    ("tag.gpgSign", "false"),
    ("credential.helper", ""),
    ("fetch.recurseSubmodules", "false"),
    ("submodule.recurse", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("init.defaultBranch", "main"),
    ("advice.detachedHead", "false"),
    ("protocol.ext.allow", "never"),
    ("core.quotePath", "false"),
)
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class GitError(Exception):
    """Git could not do it; the text is git's own last words, without secrets."""


class Remote(msgspec.Struct, frozen=True):
    """A repository's address without credentials, and who may use them where."""

    url: str
    user: str = ""
    token: str = ""
    origin: str = ""  # scheme://host[:port] the token is for; empty = none is sent

    def __repr__(self) -> str:
        """Show the address; the token never."""
        return f"Remote({self.url!r})"


def remote(address: str, token: str = "") -> Remote:
    """Read a mission's `repo`: https, ssh, git or file URL, `host:path`, or an absolute path.

    Credentials inside the URL are taken out of it and used as the token. Raises ValueError
    with a sentence for addresses that git would read as options or run as programs.
    """
    if not address or address != address.strip() or not address.isprintable():
        raise ValueError("the repository's address is empty or holds blank or control characters")
    if address.startswith("-") or "::" in address.split("/", 1)[0]:
        raise ValueError("the repository's address would be read as an option or a program")
    if address.startswith("/"):
        return Remote(address)
    if "://" not in address:
        if re.fullmatch(r"(?:[\w.-]+@)?[A-Za-z0-9][\w.-]*:(?!-)[^:].*", address):
            return Remote(address)
        raise ValueError("the repository is neither a URL nor host:path nor an absolute path")
    parts = urlsplit(address)
    if parts.scheme not in {"https", "http", "ssh", "git", "file"}:
        raise ValueError(f"repositories are not fetched over {parts.scheme}")
    if (parts.hostname or "").startswith("-"):
        raise ValueError("the repository's host would be read as an option")
    if parts.scheme not in {"https", "http"}:
        return Remote(address)
    host = parts.netloc.rpartition("@")[2]
    origin = f"{parts.scheme}://{host}"
    secret = unquote(parts.password or parts.username or "") or token
    user = unquote(parts.username or "") if parts.password else "x-access-token"
    if parts.scheme == "http" and (parts.hostname or "") not in _LOOPBACK:
        # A token is never sent in clear over a network.
        return Remote(address.replace(parts.netloc, host, 1))
    return Remote(address.replace(parts.netloc, host, 1), user, secret, origin if secret else "")


class Git:
    """Runs git in one repository of the worker's, with the environment above and no other."""

    def __init__(
        self,
        directory: Path,
        *,
        path: str = os.defpath,
        network: Mapping[str, str] | None = None,
        local_seconds: float = _LOCAL_SECONDS,
        remote_seconds: float = _REMOTE_SECONDS,
    ) -> None:
        """Use the repository `directory`; `path` is where the git program is looked up.

        `network` is what the way to the remote needs: proxies and certificate authorities.
        """
        self.directory: Final = directory
        self.path: Final = path
        self._network = dict(network or {})
        self._local_seconds = local_seconds
        self._remote_seconds = remote_seconds

    async def local(
        self,
        *arguments: str | Path,
        work: Path | None = None,
        index: Path | None = None,
        stdin: bytes = b"",
        extra: Mapping[str, str] | None = None,
        good: tuple[int, ...] = (0,),
        limit_bytes: int = _OUTPUT_BYTES,
    ) -> tool.Finished:
        """Run git on this machine only; `GitError` unless it ends with a good code or was cut."""
        env = self._environment(None) | dict(extra or {})
        if index is not None:
            env["GIT_INDEX_FILE"] = str(index)
        where: list[str | Path] = [f"--git-dir={self.directory}"]
        if work is not None:
            where.append(f"--work-tree={work}")
        with _telling():
            finished = await tool.run(
                ["git", *where, *arguments],
                env=env,
                cwd=work or Path("/"),
                stdin=stdin,
                timeout_seconds=self._local_seconds,
                limit_bytes=limit_bytes,
            )
        return _judged(finished, good)

    async def text(
        self, *arguments: str | Path, index: Path | None = None, good: tuple[int, ...] = (0,)
    ) -> str:
        """Run git locally and return what it printed, stripped."""
        finished = await self.local(*arguments, index=index, good=good)
        return finished.stdout.decode("utf-8", "replace").strip()

    async def remotely(self, target: Remote, *arguments: str | Path) -> tool.Finished:
        """Run git against a remote, with its token if it has one; raises `GitError`."""
        with _telling():
            finished = await tool.run(
                ["git", f"--git-dir={self.directory}", *arguments],
                env=self._environment(target),
                cwd=Path("/"),
                timeout_seconds=self._remote_seconds,
                limit_bytes=_OUTPUT_BYTES,
            )
        return _judged(finished, (0,), (target.token,))

    def _environment(self, target: Remote | None) -> dict[str, str]:
        config = list(_BASE_CONFIG)
        env = {
            "PATH": self.path,
            "HOME": "/nonexistent",
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "SSH_ASKPASS_REQUIRE": "never",
            "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_EDITOR": "true",
            "GIT_PAGER": "cat",
        }
        if target is not None:
            env |= self._network
            # ssh asks nobody; keys come from the worker's agent or home, which git needs for it.
            env["GIT_SSH_COMMAND"] = "ssh -oBatchMode=yes -oStrictHostKeyChecking=accept-new"
            if target.origin:
                config.append((f"credential.{target.origin}.helper", _HELPER))
                env["HELPER_USER"] = target.user
                env["HELPER_PASSWORD"] = target.token
        env["GIT_CONFIG_COUNT"] = str(len(config))
        for number, (name, value) in enumerate(config):
            env[f"GIT_CONFIG_KEY_{number}"] = name
            env[f"GIT_CONFIG_VALUE_{number}"] = value
        return env


@contextmanager
def _telling() -> Iterator[None]:
    """Turn the ways in which git does not even end into `GitError`."""
    try:
        yield
    except tool.TooSlow as error:
        raise GitError(str(error)) from None
    except FileNotFoundError:
        raise GitError("git is not installed on this worker") from None


def _judged(
    finished: tool.Finished, good: tuple[int, ...], secrets: tuple[str, ...] = ()
) -> tool.Finished:
    if finished.code not in good and not finished.truncated:
        said = _last_words(finished.stdout + b"\n" + finished.stderr, secrets)
        raise GitError(said or f"git ended with {finished.code}")
    return finished


def _last_words(said: bytes, secrets: tuple[str, ...]) -> str:
    """The end of what git said: short, on one line, without secrets."""
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:", "!"))]
    text = "; ".join((telling or [line for line in lines if line])[-4:])
    return redact("".join(letter for letter in text if letter.isprintable()), secrets)[:600]
