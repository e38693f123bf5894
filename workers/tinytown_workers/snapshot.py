"""What lies in a workspace when the agent is gone becomes one commit in the worker's repository.

Nothing of the agent's repository is trusted but its objects: files are read with the worker's
own index, commits come by fetch. Oversized files stay behind and are named.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from tinytown_workers.git import Git, GitError
from tinytown_workers.room import Room

FILE_BYTES: Final = 50 * 1024 * 1024  # hosts warn from 50 MiB on and refuse at 100
FILES: Final = 20_000  # more new or changed files than that is somebody's cache
_NESTED: Final = 3  # repositories inside repositories inside the workspace
_NAMED: Final = 20  # files that are named in the notes; beyond, a count
# What no one means to commit but agents leave behind where nobody wrote a .gitignore.
IDENTITY: Final = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "tinytown"), ("EMAIL", "tinytown@localhost"))
}
"""Who signs what the worker commits."""
_LITTER: Final = (
    "node_modules/", "__pycache__/", "*.pyc", ".venv/", ".pytest_cache/", ".mypy_cache/",
    ".ruff_cache/", ".DS_Store",
)  # fmt: skip


def exclude_litter(keep: Path) -> None:
    """Teach the worker's repository what is never committed unless it is tracked already."""
    (keep / "info").mkdir(exist_ok=True)
    (keep / "info" / "exclude").write_text("\n".join(_LITTER) + "\n")


async def gather(git: Git, room: Room, base: str, message: str, notes: list[str]) -> str:
    """Return the commit that holds all the agent left: its own commits, then the rest.

    Raises `GitError` when the files cannot be read at all.
    """
    if not _is_real_directory(room.work):
        notes.append("the agent removed or replaced its workspace; nothing of it was taken")
        return base
    parent = await _agents_head(git, room, base, notes)
    index = room.path / "index"
    await git.local("read-tree", parent, index=index)
    left_out: list[str] = []
    tree = await _write_tree(git, room.work, index, left_out, _NESTED)
    if left_out:
        more = len(left_out) - _NAMED
        notes.append(
            "not committed: " + ", ".join(left_out[:_NAMED]) + (f" and {more} more" * (more > 0))
        )
    if tree == await git.text("rev-parse", f"{parent}^{{tree}}"):
        return parent
    made = await git.local(
        "commit-tree", tree, "-p", parent, "-F", "-",
        stdin=message.encode("utf-8", "replace"), extra=IDENTITY,
    )  # fmt: skip
    return made.stdout.decode().strip()


async def patch(git: Git, base: str, head: str, limit_bytes: int) -> tuple[str, bool]:
    """Make the patch from `base` to `head`: always UTF-8, cut between files past the limit."""
    text, truncated = await _diff(git, base, head, limit_bytes)
    try:
        return text.decode(), truncated
    except UnicodeDecodeError:
        pass
    # Some file is in another encoding: git writes every file as a binary patch then, in ASCII.
    attributes = git.directory / "info" / "attributes"
    attributes.write_text("* -diff\n")
    try:
        text, truncated = await _diff(git, base, head, limit_bytes)
    finally:
        attributes.unlink()
    return text.decode("utf-8", "replace"), truncated


async def _diff(git: Git, base: str, head: str, limit_bytes: int) -> tuple[bytes, bool]:
    made = await git.local(
        "diff", "--binary", "--full-index", "--no-ext-diff", "--no-textconv", "--no-color",
        base, head, limit_bytes=limit_bytes,
    )  # fmt: skip
    if not made.truncated:
        return made.stdout, False
    end = made.stdout.rfind(b"\ndiff --git ") + 1
    return made.stdout[:end], True


async def _agents_head(git: Git, room: Room, base: str, notes: list[str]) -> str:
    """Fetch the agent's own commits; without a usable repository of its own they are lost."""
    try:
        await git.local(
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--",
            room.work / ".git", "+HEAD:refs/tinytown/agent",
        )  # fmt: skip
        head = await git.text("rev-parse", "--verify", "refs/tinytown/agent^{commit}")
        related = await git.text("merge-base", base, head, good=(0, 1))
    except GitError as error:
        notes.append(f"the agent's repository cannot be read, its files were taken: {error}")
        return base
    if not related:
        notes.append("the agent started another history; its files were taken, not its commits")
        return base
    return head


async def _write_tree(git: Git, work: Path, index: Path, left_out: list[str], depth: int) -> str:
    """Bring the index up to date with the files of `work` and write its tree."""
    listed = await git.local(
        "ls-files", "-z", "--others", "--modified", "--deleted", "--exclude-standard",
        work=work, index=index,
    )  # fmt: skip
    taken: list[bytes] = []
    gone: list[bytes] = []
    nested: list[bytes] = []
    modules = await _submodules(git, work)
    for name in dict.fromkeys(filter(None, listed.stdout.split(b"\0"))):
        path = name.rstrip(b"/")
        if name != path and path not in modules:
            nested.append(name)
        elif not _is_inside(work, path):
            gone.append(path)
        elif len(taken) >= FILES:
            left_out.append(name.decode("utf-8", "replace"))
        elif trouble := _trouble(work, path):
            left_out.append(f"{name.decode('utf-8', 'replace')} ({trouble})")
        else:
            taken.append(path)
    for names, how in ((taken, ("--add", "--remove", "--replace")), (gone, ("--force-remove",))):
        if names:
            await git.local(
                "update-index", *how, "-z", "--stdin",
                work=work, index=index, stdin=b"\0".join([*names, b""]),
            )  # fmt: skip
    for number, name in enumerate(nested):
        inside = work / os.fsdecode(name)
        if depth == 0 or not _is_real_directory(inside):
            left_out.append(f"{name.decode('utf-8', 'replace')} (a repository of its own)")
            continue
        # Made by `git init` in a subfolder: its files belong to the work, its history does not.
        other = index.with_name(f"{index.name}-{number}")
        await git.local("read-tree", "--empty", index=other)
        tree = await _write_tree(git, inside, other, left_out, depth - 1)
        await git.local("read-tree", f"--prefix={os.fsdecode(name)}", tree, work=work, index=index)
    return await git.text("write-tree", index=index)


async def _submodules(git: Git, work: Path) -> frozenset[bytes]:
    """Name the paths that the workspace declares as submodules."""
    file = work / ".gitmodules"
    if file.is_symlink() or not file.is_file():
        return frozenset()
    try:
        said = await git.local(
            "config", "-z", "--file", file, "--get-regexp", r"^submodule\..*\.path$", good=(0, 1)
        )
    except GitError:
        return frozenset()
    return frozenset(
        entry.partition(b"\n")[2] for entry in said.stdout.split(b"\0") if b"\n" in entry
    )


def _trouble(work: Path, name: bytes) -> str:
    """Say why a file cannot be committed; links are never followed."""
    try:
        found = (work / os.fsdecode(name)).lstat()
    except FileNotFoundError:
        return ""  # deleted: that is a change too
    except OSError as error:
        return error.strerror or "unreadable"
    if stat.S_ISREG(found.st_mode):
        too_large = found.st_size > FILE_BYTES
        return f"{found.st_size / 1024 / 1024:.0f} MiB" if too_large else ""
    if stat.S_ISLNK(found.st_mode) or stat.S_ISDIR(found.st_mode):
        return ""
    return "not a file"


def _is_inside(work: Path, name: bytes) -> bool:
    """Tell whether a path is reached without passing a link (a folder may have become one)."""
    parents = Path(os.fsdecode(name)).parents
    return not any((work / parent).is_symlink() for parent in parents)


def _is_real_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False
