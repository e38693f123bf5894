"""What an agent leaves behind becomes one commit, whatever state it left it in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from repositories import git
from tinytown_workers import snapshot
from tinytown_workers.git import Git
from tinytown_workers.room import Room
from tinytown_workers.workspace import Plan, Workspace


def space(room: Room, repo: Path) -> Workspace:
    plan = Plan(mission_id="mis_1", repo=str(repo))
    return Workspace(room, plan, git=Git(room.keep, path=os.environ["PATH"]))


def _lock(work: Path) -> None:
    (work / ".git" / "index.lock").touch()
    (work / "left").write_text("x")


def _detach(work: Path) -> None:
    git(work, "checkout", "-q", "--detach")
    (work / "left").write_text("x")
    git(work, "add", "-A")
    git(work, "commit", "-qm", "detached")


def _delete_git(work: Path) -> None:
    (work / "left").write_text("x")
    subprocess.run(["rm", "-rf", work / ".git"], check=True)


def _begin_anew(work: Path) -> None:
    _delete_git(work)
    git(work, "init", "-q")
    git(work, "add", "-A")
    git(work, "commit", "-qm", "a new world")


def _break_objects(work: Path) -> None:
    (work / "left").write_text("x")
    (work / ".git" / "HEAD").write_text("nonsense")


def _nest(work: Path) -> None:
    (work / "app").mkdir()
    git(work / "app", "init", "-q")
    (work / "app" / "left").write_text("x")
    git(work / "app", "add", "-A")
    git(work / "app", "commit", "-qm", "inner")
    (work / "left").write_text("x")


def _git_file(work: Path) -> None:
    (work / ".git").rename(work.parent / "elsewhere.git")
    (work / ".git").write_text(f"gitdir: {work.parent}/elsewhere.git")
    (work / "left").write_text("x")


@pytest.mark.parametrize(
    "tamper",
    [_lock, _detach, _delete_git, _begin_anew, _break_objects, _nest, _git_file],
    ids=lambda tamper: tamper.__name__.strip("_"),
)
async def test_no_state_of_the_agents_repository_loses_its_files(
    room: Room, origin: Path, tamper: Callable[[Path], None]
) -> None:
    task = space(room, origin)
    await task.prepare()
    tamper(room.work)
    harvest = await task.harvest("work")
    assert harvest.pushed, harvest
    assert git(origin, "show", f"{harvest.head}:left") == "x"
    assert git(origin, "show", f"{harvest.head}:README") == "hello again"
    if tamper is _nest:
        assert git(origin, "show", f"{harvest.head}:app/left") == "x"


async def test_repository_configuration_and_hooks_of_the_agent_never_run(
    room: Room, origin: Path, tmp_path: Path
) -> None:
    task = space(room, origin)
    await task.prepare()
    touched = tmp_path / "touched"
    program = room.work / "evil.sh"
    program.write_text(f"#!/bin/sh\ntouch {touched}\ncat\n")
    program.chmod(0o755)
    hooks = room.work / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for hook in (
        "pre-commit",
        "post-commit",
        "pre-push",
        "reference-transaction",
        "post-index-change",
    ):
        (hooks / hook).write_text(f"#!/bin/sh\ntouch {touched}\n")
        (hooks / hook).chmod(0o755)
    for name in (
        "core.fsmonitor", "diff.external", "filter.x.clean", "core.sshCommand",
        "uploadpack.packObjectsHook", "credential.helper", "diff.x.textconv",
    ):  # fmt: skip
        git(room.work, "config", name, str(program))
    git(room.work, "config", "url.ext::sh.insteadOf", str(origin))
    git(room.work, "config", "remote.origin.pushurl", "/nowhere")
    (room.work / ".gitattributes").write_text("* filter=x diff=x\n")
    (room.work / "README").write_text("changed\n")
    harvest = await task.harvest("work")
    assert harvest.pushed, harvest
    assert not touched.exists()


async def test_oversized_files_stay_behind_and_are_named(
    room: Room, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "FILE_BYTES", 3 * 1024 * 1024)
    task = space(room, origin)
    await task.prepare()
    with (room.work / "core.dump").open("wb") as file:
        file.truncate(5 * 1024 * 1024)
    (room.work / "small").write_text("x")
    os.mkfifo(room.work / "pipe")
    harvest = await task.harvest("work")
    assert harvest.files_changed == 1
    assert harvest.notes == ("not committed: core.dump (5 MiB)",)


async def test_thousands_of_new_files_are_bounded(
    room: Room, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "FILES", 10)
    task = space(room, origin)
    await task.prepare()
    for number in range(40):
        (room.work / f"{number:02}").touch()
    harvest = await task.harvest("work")
    assert harvest.files_changed == 10
    assert harvest.notes[0].endswith("and 10 more")


async def test_litter_is_not_committed(room: Room, origin: Path) -> None:
    task = space(room, origin)
    await task.prepare()
    (room.work / "node_modules" / "x").mkdir(parents=True)
    (room.work / "node_modules" / "x" / "index.js").touch()
    (room.work / ".gitignore").write_text("*.log\n")
    (room.work / "debug.log").touch()
    harvest = await task.harvest("work")
    assert git(origin, "diff", "--name-only", harvest.base, harvest.head) == ".gitignore"


async def test_links_out_of_the_workspace_are_stored_as_links(
    room: Room, origin: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text("secret")
    task = space(room, origin)
    await task.prepare()
    (room.work / "passwd").symlink_to("/etc/passwd")
    (room.work / "src" / "a.txt").unlink()
    (room.work / "src").rmdir()
    (room.work / "src").symlink_to(outside)  # a folder became a link to somewhere else
    harvest = await task.harvest("work")
    listing = git(origin, "ls-tree", "-r", harvest.head)
    assert "120000" in next(line for line in listing.splitlines() if line.endswith("passwd"))
    assert "120000" in next(line for line in listing.splitlines() if line.endswith("src"))
    assert "secret" not in harvest.patch


@pytest.mark.parametrize("link", [True, False])
async def test_a_workspace_that_became_something_else_is_not_read(
    room: Room, origin: Path, tmp_path: Path, *, link: bool
) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("secret")
    task = space(room, origin)
    await task.prepare()
    room.work.rename(tmp_path / "moved")
    if link:
        room.work.symlink_to(tmp_path / "private")
    harvest = await task.harvest("work")
    assert harvest.head == harvest.base
    assert "replaced its workspace" in harvest.notes[0]


async def test_a_declared_submodule_stays_a_submodule(
    room: Room, origin: Path, tmp_path: Path
) -> None:
    task = space(room, origin)
    await task.prepare()
    git(
        room.work,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(origin),
        "lib",
    )
    harvest = await task.harvest("work")
    assert git(origin, "ls-tree", harvest.head, "lib").startswith("160000 commit")
