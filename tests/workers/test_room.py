"""One directory per task: made empty, owned by one attempt, gone afterwards."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tinytown_workers.room import Room, open_room, sweep


async def test_a_room_left_by_a_killed_worker_is_cleared(tmp_path: Path) -> None:
    root = tmp_path / "root"
    async with open_room(root, "tsk_1") as held:
        (root / "notes").mkdir()  # somebody else's directory
        old = root / "tsk_0"
        (old / "work").mkdir(parents=True)
        (old / ".tinytown-owner").write_text("a dead worker")
        assert await sweep(root) == 1
        assert held.path.is_dir()
        assert sorted(path.name for path in root.iterdir()) == ["notes", "tsk_1"]
    assert sorted(path.name for path in root.iterdir()) == ["notes"]


async def test_a_ghost_never_removes_the_room_of_the_next_attempt(tmp_path: Path) -> None:
    root = tmp_path / "root"
    async with open_room(root, "tsk_1") as ghost:
        (ghost.path / "old").touch()
        async with open_room(root, "tsk_1") as taken:
            assert not (taken.path / "old").exists()
            (taken.path / "new").touch()
            # Here the ghost would end first.
            async with open_room(root, "tsk_2"):
                assert (taken.path / "new").exists()
    assert list(root.iterdir()) == []


async def test_a_ghost_that_ends_first_leaves_the_new_room_alone(tmp_path: Path) -> None:
    root = tmp_path / "root"
    ghost = open_room(root, "tsk_1")
    await ghost.__aenter__()
    async with open_room(root, "tsk_1") as taken:
        (taken.path / "new").touch()
        await ghost.__aexit__(None, None, None)
        assert (taken.path / "new").exists()


async def test_hostile_trees_are_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    async with open_room(tmp_path / "root", "tsk_1") as room:
        room.work.mkdir()
        (room.work / "link").symlink_to(outside)
        (room.work / "closed").mkdir()
        (room.work / "closed" / "file").touch()
        (room.work / "closed").chmod(0)
        script = (
            "cd "
            + str(room.work)
            + "; i=0; while [ $i -lt 1500 ]; do mkdir d && cd d; i=$((i+1)); done"
        )
        await anyio.run_process(["sh", "-c", script])
    assert (outside / "precious").exists()
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "", ".", "a/b", "tsk 1", "-rf"])
def test_a_task_cannot_name_another_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a directory"):
        Room(tmp_path, name)
