"""Git as the worker runs it: a token for its host only, no way around the clock."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from repositories import GitOverHttp, git, git_host
from tinytown_workers.git import Git, GitError, remote
from tinytown_workers.room import Room
from tinytown_workers.workspace import Plan, Workspace, WorkspaceFailed


@pytest.fixture
def host(origin: Path) -> Iterator[tuple[str, type[GitOverHttp]]]:
    with git_host(origin.parent) as (url, handler):
        yield f"{url}/{origin.name}", handler


async def test_the_token_reaches_its_host_and_nothing_else(
    room: Room, origin: Path, host: tuple[str, type[GitOverHttp]], tmp_path: Path
) -> None:
    url, handler = host
    handler.password = token = "t0ps3cret-t0ps3cret"
    spy = tmp_path / "spy"
    spy.mkdir()
    real = shutil.which("git")
    (spy / "git").write_text(f'#!/bin/sh\necho "$@" >> {spy}/said\nexec {real} "$@"\n')
    (spy / "git").chmod(0o755)
    task = Workspace(
        room,
        Plan(mission_id="mis_1", repo=url),
        git=Git(room.keep, path=f"{spy}:{os.environ['PATH']}"),
        token=token,
    )
    await task.prepare()
    (room.work / "x").touch()
    harvest = await task.harvest("work")
    assert harvest.pushed, harvest
    assert git(origin, "rev-parse", "tinytown/mis_1") == harvest.head
    assert "push" in (spy / "said").read_text()
    assert token not in (spy / "said").read_text()
    assert git(room.work, "remote", "get-url", "origin") == url
    assert not any(
        token.encode() in file.read_bytes() for file in room.path.rglob("*") if file.is_file()
    )


async def test_a_refused_token_is_never_shown(
    room: Room, host: tuple[str, type[GitOverHttp]]
) -> None:
    url, handler = host
    handler.password = "another"
    given = url.replace("http://", "http://x-access-token:wr0ngwr0ng@")
    with pytest.raises(WorkspaceFailed) as caught:
        await Workspace(
            room, Plan(mission_id="mis_1", repo=given), git=Git(room.keep, path=os.environ["PATH"])
        ).prepare()
    assert any(handler.seen)  # it was offered to its host
    assert "wr0ngwr0ng" not in str(caught.value)
    assert "uthentication failed" in str(caught.value)


async def test_git_that_takes_too_long_is_stopped_with_its_children(
    room: Room, tmp_path: Path, eventually: Callable[..., Awaitable[None]]
) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    pid = tmp_path / "pid"
    (fake / "git").write_text(f"#!/bin/sh\nsleep 60 & echo $! > {pid}; wait\n")
    (fake / "git").chmod(0o755)
    slow = Git(room.keep, path=f"{fake}:{os.environ['PATH']}", local_seconds=1.5)
    with pytest.raises(GitError, match=r"took longer than 1\.5 s"):
        await slow.local("status")
    child = int(pid.read_text())
    await eventually(lambda: not _alive(child), "git's child is gone")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("address", "url", "origin", "token"),
    [
        ("https://host/x.git", "https://host/x.git", "https://host", "T"),
        ("https://u:s3cret@host:8/x", "https://host:8/x", "https://host:8", "s3cret"),
        ("https://ghp_abc@host/x", "https://host/x", "https://host", "ghp_abc"),
        ("http://host/x", "http://host/x", "", ""),
        ("http://127.0.0.1:9/x", "http://127.0.0.1:9/x", "http://127.0.0.1:9", "T"),
        ("git@host:team/x.git", "git@host:team/x.git", "", ""),
        ("/srv/x.git", "/srv/x.git", "", ""),
    ],
)
def test_a_token_is_for_its_host_only_and_never_sent_in_clear(
    address: str, url: str, origin: str, token: str
) -> None:
    found = remote(address, "T")
    assert (found.url, found.origin, found.token) == (url, origin, token)
    assert not token or token not in repr(found).replace("Token", "")
