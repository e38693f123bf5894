"""A task's repository: cloned fresh, harvested whole, pushed without hurting its siblings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from repositories import git
from tinytown_workers import workspace
from tinytown_workers.git import Git
from tinytown_workers.room import Room, open_room
from tinytown_workers.workspace import Harvest, Plan, Workspace, WorkspaceFailed


def space(room: Room, repo: Path | str | None, **plan: object) -> Workspace:
    plan = {"mission_id": "mis_1", "repo": None if repo is None else str(repo), **plan}
    return Workspace(room, Plan(**plan), git=Git(room.keep, path=os.environ["PATH"]))  # type: ignore[arg-type]


async def test_a_clone_stands_on_the_missions_branch(room: Room, origin: Path) -> None:
    ready = await space(room, origin).prepare()
    assert ready.branch == "tinytown/mis_1"
    assert ready.base == git(origin, "rev-parse", "main")
    assert git(room.work, "branch", "--show-current") == "tinytown/mis_1"
    assert git(room.work, "status", "--porcelain") == ""
    assert (room.work / "README").read_text() == "hello again\n"
    assert git(room.work, "remote", "get-url", "origin") == str(origin)
    assert "origin/side" in git(room.work, "branch", "-r")


@pytest.mark.parametrize("ref", ["main", "side", "v1", "{first}", "{short}", "refs/heads/side"])
async def test_a_ref_may_be_a_branch_a_tag_or_a_commit(room: Room, origin: Path, ref: str) -> None:
    first = git(origin, "rev-parse", "side")
    named = ref.format(first=first, short=first[:10])
    ready = await space(room, origin, ref=named).prepare()
    assert ready.base == (git(origin, "rev-parse", "main") if ref == "main" else first)


@pytest.mark.parametrize(
    ("repo", "ref", "reason"),
    [
        ("/nowhere/at/all", None, "does not appear to be a git repository"),
        ("--upload-pack=touch /tmp/x", None, "read as an option"),
        ("ext::sh -c id", None, "read as an option or a program"),
        ("ftp://host/repo", None, "not fetched over ftp"),
        ("ssh://-oProxyCommand=id/x", None, "read as an option"),
        ("repo", None, "neither a URL"),
        ("https://host/x\nurl", None, "control characters"),
        ("ORIGIN", "nope", "no branch, tag or commit 'nope'"),
        ("ORIGIN", "--output=/tmp/x", "cannot name"),
        ("ORIGIN", "main..side", "cannot name"),
        ("ORIGIN", "main@{1}", "cannot name"),
        ("ORIGIN", "0" * 40, "not our ref"),
    ],
)
async def test_what_cannot_be_cloned_says_why(
    room: Room, origin: Path, repo: str, ref: str | None, reason: str
) -> None:
    with pytest.raises(WorkspaceFailed, match=reason):
        await space(room, str(origin) if repo == "ORIGIN" else repo, ref=ref).prepare()


async def test_leftovers_are_committed_by_the_worker_and_pushed(room: Room, origin: Path) -> None:
    task = space(room, origin)
    ready = await task.prepare()
    (room.work / "README").write_text("changed\n")
    (room.work / "new ü\n.txt").write_text("new\n")
    (room.work / "src" / "a.txt").unlink()
    (room.work / "run.sh").write_text("#!/bin/sh\n")
    (room.work / "run.sh").chmod(0o755)
    harvest = await task.harvest("Fix the bug\n\nfor good")
    assert (harvest.commits, harvest.files_changed) == (1, 4)
    assert (harvest.insertions, harvest.deletions) == (3, 2)
    assert harvest.pushed
    assert harvest.push_error is None
    assert harvest.notes == ()
    assert git(origin, "rev-parse", "tinytown/mis_1") == harvest.head
    assert git(origin, "log", "-1", "--format=%an|%s|%b", "tinytown/mis_1") == (
        "tinytown|Fix the bug|for good"
    )
    assert git(origin, "rev-parse", "main") == ready.base
    assert git(origin, "ls-tree", "tinytown/mis_1", "run.sh").startswith("100755")


async def test_the_patch_applies_to_the_base(room: Room, origin: Path, tmp_path: Path) -> None:
    task = space(room, origin)
    await task.prepare()
    (room.work / "README").write_text("changed\n")
    (room.work / "image.png").write_bytes(bytes(range(256)))
    (room.work / "latin.txt").write_bytes("caf\xe9\n".encode("latin-1"))
    harvest = await task.harvest("work")
    (tmp_path / "it.patch").write_text(harvest.patch)
    git(origin, "apply", "--index", str(tmp_path / "it.patch"))
    assert git(origin, "write-tree") == git(origin, "rev-parse", "tinytown/mis_1^{tree}")


async def test_the_agents_own_commits_are_kept(room: Room, origin: Path) -> None:
    task = space(room, origin)
    await task.prepare()
    (room.work / "one").write_text("1")
    git(room.work, "add", "-A")
    git(room.work, "commit", "-qm", "by the agent")
    (room.work / "two").write_text("2")
    harvest = await task.harvest("the rest")
    assert (harvest.commits, harvest.files_changed) == (2, 2)
    assert git(origin, "log", "--format=%an %s", f"{harvest.base}..{harvest.head}") == (
        "tinytown the rest\nAgent by the agent"
    )


async def test_nothing_done_is_nothing_pushed(room: Room, origin: Path) -> None:
    task = space(room, origin)
    await task.prepare()
    harvest = await task.harvest("work")
    assert harvest.head == harvest.base
    assert (harvest.commits, harvest.patch, harvest.pushed) == (0, "", False)
    assert "tinytown" not in git(origin, "branch")


async def test_a_long_patch_is_cut_between_files_and_says_so(
    room: Room, origin: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(workspace, "PATCH_BYTES", 2000)
    task = space(room, origin)
    await task.prepare()
    (room.work / "a").write_text("short\n")
    (room.work / "b").write_text("long\n" * 1000)
    harvest = await task.harvest("work")
    assert harvest.patch_truncated
    assert harvest.files_changed == 2
    (tmp_path / "it.patch").write_text(harvest.patch)
    git(origin, "apply", "--index", str(tmp_path / "it.patch"))
    assert git(origin, "diff", "--cached", "--name-only") == "a"


async def test_a_later_task_builds_on_the_earlier_one(tmp_path: Path, origin: Path) -> None:
    heads = []
    for number in (1, 2):
        async with open_room(tmp_path / "root", f"tsk_{number}") as room:
            task = space(room, origin)
            ready = await task.prepare()
            (room.work / f"{number}").touch()
            harvest = await task.harvest(f"task {number}")
            assert harvest.pushed
            assert harvest.files_changed == 1
            heads.append((ready.base, harvest.head))
    assert heads[1][0] == heads[0][1]
    assert git(origin, "rev-list", "--count", "main..tinytown/mis_1") == "2"


async def test_tasks_side_by_side_are_united(tmp_path: Path, origin: Path) -> None:
    async with (
        open_room(tmp_path / "w1", "tsk_1") as one,
        open_room(tmp_path / "w2", "tsk_2") as two,
    ):
        spaces = [space(one, origin), space(two, origin)]
        for number, (room, task) in enumerate(zip((one, two), spaces, strict=True)):
            await task.prepare()
            (room.work / f"file{number}").touch()
        harvests = [await task.harvest("work") for task in spaces]
    assert [(h.pushed, h.push_error, h.branch) for h in harvests] == [
        (True, None, "tinytown/mis_1")
    ] * 2
    assert "file0\nfile1" in git(origin, "ls-tree", "--name-only", "tinytown/mis_1")


async def test_tasks_that_conflict_are_pushed_side_by_side(tmp_path: Path, origin: Path) -> None:
    async with (
        open_room(tmp_path / "w1", "tsk_1") as one,
        open_room(tmp_path / "w2", "tsk_2") as two,
    ):
        spaces = [space(one, origin), space(two, origin)]
        for number, (room, task) in enumerate(zip((one, two), spaces, strict=True)):
            await task.prepare()
            (room.work / "README").write_text(f"mine {number}\n")
        harvests = [await task.harvest("work") for task in spaces]
    assert harvests[1].pushed
    assert harvests[1].branch == "tinytown/mis_1.tsk_2"
    assert "conflicts" in (harvests[1].push_error or "")
    assert git(origin, "show", "tinytown/mis_1:README") == "mine 0"
    assert git(origin, "show", "tinytown/mis_1.tsk_2:README") == "mine 1"


async def test_an_agent_that_rewrites_history_is_still_pushed(tmp_path: Path, origin: Path) -> None:
    harvests: list[Harvest] = []
    for number in (1, 2):
        async with open_room(tmp_path / "root", f"tsk_{number}") as room:
            task = space(room, origin)
            await task.prepare()
            (room.work / "x").write_text(str(number))
            git(room.work, "add", "-A")
            git(room.work, "commit", "-q", *(["--amend"] if number == 2 else []), "-m", "x")
            harvests.append(await task.harvest("work"))
    assert all(harvest.pushed for harvest in harvests)
    assert git(origin, "rev-list", "--count", "main..tinytown/mis_1") == "1"
    assert git(origin, "show", "tinytown/mis_1:x") == "2"


async def test_a_remote_that_refuses_is_reported_and_the_patch_is_there(
    room: Room, origin: Path
) -> None:
    hook = origin / ".git" / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho protected by policy >&2\nexit 1\n")
    hook.chmod(0o755)
    task = space(room, origin)
    await task.prepare()
    (room.work / "x").write_text("x\n")
    harvest = await task.harvest("work")
    assert not harvest.pushed
    assert "protected by policy" in (harvest.push_error or "")
    assert "+x" in harvest.patch
    assert await task.bundle()


async def test_a_lost_lease_stops_the_push(room: Room, origin: Path) -> None:
    task = space(room, origin)
    await task.prepare()
    (room.work / "x").touch()

    async def lost() -> None:
        raise RuntimeError("lease lost")

    with pytest.raises(RuntimeError, match="lease lost"):
        await task.harvest("work", before_push=lost)
    assert "tinytown" not in git(origin, "branch")


async def test_without_a_repository_work_travels_in_bundles(tmp_path: Path) -> None:
    bundles: list[bytes] = []
    for number in range(3):
        async with open_room(tmp_path / "root", f"tsk_{number}") as room:
            # Tasks 0 and 1 know nothing of each other; task 2 depends on both.
            given = tuple(bundles) if number == 2 else ()
            task = space(room, None, bundles=given)
            ready = await task.prepare()
            if number == 2:
                assert sorted(p.name for p in room.work.iterdir()) == [".git", "0", "1"]
            assert git(room.work, "remote") == ""
            (room.work / str(number)).touch()
            harvest = await task.harvest("work")
            assert (harvest.files_changed, harvest.pushed, harvest.push_error) == (1, False, None)
            packed = await task.bundle()
            assert packed is not None
            bundles.append(packed)
            assert ready.notes == ()


async def test_bundles_that_conflict_leave_one_beside_and_say_so(tmp_path: Path) -> None:
    bundles: list[bytes] = []
    for number in range(2):
        async with open_room(tmp_path / "root", f"tsk_{number}") as room:
            task = space(room, None)
            await task.prepare()
            (room.work / "x").write_text(str(number))
            await task.harvest("work")
            packed = await task.bundle()
            assert packed is not None
            bundles.append(packed)
    async with open_room(tmp_path / "root", "tsk_3") as room:
        ready = await space(room, None, bundles=tuple(bundles)).prepare()
        assert "tinytown-earlier/2" in ready.notes[0]
        assert (room.work / "x").read_text() == "0"
        assert git(room.work, "show", "tinytown-earlier/2:x") == "1"


async def test_a_bundle_past_its_bound_is_none_and_a_broken_one_is_refused(
    tmp_path: Path,
) -> None:
    async with open_room(tmp_path / "root", "tsk_1") as room:
        task = space(room, None)
        await task.prepare()
        (room.work / "x").write_bytes(os.urandom(20_000))
        await task.harvest("work")
        assert await task.bundle(limit_bytes=10_000) is None
        packed = await task.bundle()
        assert packed is not None
    async with open_room(tmp_path / "root", "tsk_2") as room:
        with pytest.raises(WorkspaceFailed, match="earlier task cannot be applied"):
            await space(room, None, bundles=(packed[:-500],)).prepare()


async def test_an_empty_remote_begins_with_a_first_commit(room: Room, tmp_path: Path) -> None:
    bare = tmp_path / "empty.git"
    git(tmp_path, "init", "-q", "--bare", str(bare))
    task = space(room, bare)
    await task.prepare()
    (room.work / "x").touch()
    harvest = await task.harvest("work")
    assert harvest.pushed
    assert git(bare, "ls-tree", "--name-only", "tinytown/mis_1") == "x"
