"""Which processes descend from which, and whether they still live (a zombie does not)."""

from __future__ import annotations

import msgspec
import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own


class Relative(msgspec.Struct, frozen=True):
    """A process as it was when we looked; its start time tells it from a later one of its id."""

    pid: int
    since: float
    name: str
    command: str


def family_of(pid: int) -> list[Relative]:
    """List every process below this one."""
    found = []
    for each in psutil.Process(pid).children(recursive=True):
        try:
            with each.oneshot():
                command = " ".join(each.cmdline())
                found.append(Relative(each.pid, each.create_time(), each.name(), command))
        except psutil.NoSuchProcess:
            continue
    return found


def living(family: list[Relative]) -> list[Relative]:
    """List those that still live."""
    return [each for each in family if _lives(each)]


def _lives(relative: Relative) -> bool:
    try:
        process = psutil.Process(relative.pid)
        return (
            bool(process.create_time() == relative.since)
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False
