"""A checkpoint: what another worker needs to go on where this one stopped.

The CLI's session files (relative to its private home), the work as a git bundle, and what was
asked. Compressed, bounded, and sealed where the operator set a secret key: it holds a person's
code and an agent's transcript.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from tinytown.errors import TownError
from tinytown.vault import Vault
from tinytown_workers.agents import Usage
from tinytown_workers.asking import Asked

CHECKPOINT_BYTES: Final = 8 * 1024 * 1024
"""The largest checkpoint: several fit into the smallest managed Redis (30 MB)."""
_UNPACKED_BYTES: Final = 128 * 1024 * 1024
"""More than this is not a checkpoint of ours: transcripts compress about ten to one."""


class Unreadable(Exception):
    """This checkpoint cannot be restored; the text says why."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where an attempt stopped."""

    agent: str
    session_id: str | None
    files: dict[str, bytes]
    """The CLI's session files, by their path below its home."""
    bundle: bytes
    """The work so far, committed; empty when there is none."""
    base: str
    """The commit the task began at."""
    asked: tuple[Asked, ...] = ()
    usage: Usage = Usage()
    """Of the task so far."""
    spent: Usage = Usage()
    """Of this session, which may not be the task's first."""
    told: tuple[str, ...] = ()
    """The ids of people's messages that the session has heard."""


def pack(checkpoint: Checkpoint, vault: Vault) -> bytes | None:
    """Write a checkpoint for the store; None when it is larger than CHECKPOINT_BYTES."""
    raw = msgspec.msgpack.encode(checkpoint)
    if len(raw) > _UNPACKED_BYTES:
        return None
    packed = vault.seal_bytes(zlib.compress(raw, 6))
    return packed if len(packed) <= CHECKPOINT_BYTES else None


def unpack(packed: bytes, vault: Vault) -> Checkpoint:
    """Read a checkpoint; raises Unreadable for one that is damaged, foreign or sealed otherwise."""
    try:
        reader = zlib.decompressobj()
        raw = reader.decompress(vault.open_bytes(packed), _UNPACKED_BYTES)
        if not reader.eof:
            message = "it is cut, or too large"
            raise Unreadable(message)
        return msgspec.msgpack.decode(raw, type=Checkpoint)
    except (zlib.error, msgspec.MsgspecError) as damage:
        raise Unreadable(f"it is damaged: {damage}") from None
    except TownError as sealed:
        raise Unreadable(sealed.detail) from None


def read_files(home: Path, files: Sequence[Path]) -> dict[str, bytes]:
    """Read the session files below a home; links and whatever lies elsewhere stay behind."""
    found = {}
    for file in files:
        if file.is_symlink() or not file.resolve().is_relative_to(home.resolve()):
            continue
        found[file.relative_to(home).as_posix()] = file.read_bytes()
    return found


def write_files(home: Path, files: dict[str, bytes]) -> None:
    """Put session files back into a fresh home; raises Unreadable for a path that leads out."""
    for name, content in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise Unreadable(f"it holds a file outside the home: {name}")
        target = home / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o600)
