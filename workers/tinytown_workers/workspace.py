"""A task's repository: a fresh clone on the mission's branch, and what the agent left, harvested.

Two repositories stand in the room. `keep.git` is the worker's: it fetches, commits, pushes. `work`
is the agent's, cloned from it. Whatever an agent does to `work` (its configuration, hooks,
locks, even deleting `.git`), only files and commits travel back.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from tinytown_workers import git as git_tool
from tinytown_workers import snapshot
from tinytown_workers.git import Git, GitError, Remote
from tinytown_workers.room import Room
from tinytown_workers.snapshot import IDENTITY

PATCH_BYTES: Final = 1024 * 1024  # what a person can still read, and Redis still carries lightly
BUNDLE_BYTES: Final = 8 * 1024 * 1024  # the work of a task without a repository, kept in Redis
_PUSH_TRIES: Final = 3  # sibling tasks of one mission may push at the same moment
_MISSION: Final = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")
# What git itself forbids in names of refs, and what rev-parse would read as an expression.
_BAD_REF: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/]|[/.]$|\.lock$")
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")
# The first commit of a mission without a repository is the same on every worker, so that the
# bundles of its tasks fit together.
_ZERO_HOUR: Final = "2000-01-01T00:00:00Z"


class WorkspaceFailed(Exception):
    """The workspace could not be prepared; the text says why, without secrets."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a task starts from.

    `bundles` carry the work of earlier tasks where no remote does (see `Workspace.bundle`).
    """

    mission_id: str
    repo: str | None = None
    ref: str | None = None
    bundles: tuple[bytes, ...] = ()
    base: str | None = None
    """The commit the task began at, where it goes on from a checkpoint (the last bundle)."""


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The workspace stands: on `branch`, at commit `base`; `notes` are worth telling."""

    branch: str
    base: str
    notes: tuple[str, ...] = ()


class Harvest(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent made of it. `head == base` means that nothing changed.

    `patch` is valid UTF-8 and applies to `base`; a truncated one ends after a whole file.
    `push_error` without `pushed` means that the work is in the patch (and bundle) only; with
    it, that `branch` is another one than planned and why.
    """

    branch: str
    base: str
    head: str
    commits: int = 0
    files_changed: int = 0
    insertions: int = 0
    deletions: int = 0
    patch: str = ""
    patch_truncated: bool = False
    pushed: bool = False
    push_error: str | None = None
    notes: tuple[str, ...] = ()


class Workspace:
    """The repositories of one task in its room."""

    def __init__(self, room: Room, plan: Plan, *, git: Git, token: str = "") -> None:
        """Use `git` (made for `room.keep`); `token` is for https remotes without their own."""
        if not _MISSION.fullmatch(plan.mission_id):
            raise ValueError(f"{plan.mission_id!r} cannot name a branch")
        self.branch: Final = f"tinytown/{plan.mission_id}"
        self._room = room
        self._plan = plan
        self._git = git
        self._token = token
        self._remote: Remote | None = None
        self._fork: str | None = None  # where the mission left the remote's history
        self._base = ""
        self._start = ""  # where the agent goes on: the base, or a checkpoint after it
        self._beside: list[str] = []  # branches with earlier work that conflicts
        self._seen = ""  # where the branch stood at the remote when we looked; "" = nowhere

    async def prepare(self) -> Ready:
        """Make both repositories; raises `WorkspaceFailed`."""
        notes: list[str] = []
        try:
            if self._plan.repo is not None:
                self._remote = git_tool.remote(self._plan.repo, self._token)
            await self._git.local("init", "--quiet", "--bare", "--template=", self._room.keep)
            snapshot.exclude_litter(self._room.keep)
            if self._remote is None:
                start = await self._first_commit()
            else:
                start = await self._fetch(self._remote)
            for number, bundle in enumerate(self._plan.bundles, 1):
                start = await self._unbundle(number, bundle, start, notes)
            self._start = self._base = start
            if self._plan.base is not None:
                self._base = await self._commit_of(self._plan.base) or start
            await self._open_work()
        except (GitError, ValueError) as error:
            raise WorkspaceFailed(str(error)) from None
        return Ready(branch=self.branch, base=self._base, notes=tuple(notes))

    async def harvest(
        self, message: str, *, before_push: Callable[[], Awaitable[None]] | None = None
    ) -> Harvest:
        """Commit what is left over under `message`, make the patch, push the branch.

        `before_push` runs right before each push; what it raises (a lost lease) stops the
        push and comes out here. Raises `WorkspaceFailed` only when nothing could be read.
        """
        notes: list[str] = []
        try:
            head = await snapshot.gather(self._git, self._room, self._base, message, notes)
            await self._git.local("update-ref", f"refs/heads/{self.branch}", head)
            harvest = await self._measure(head)
        except GitError as error:
            raise WorkspaceFailed(f"the agent's work cannot be read: {error}") from None
        if self._remote is not None and head != self._base:
            harvest = await self._push(self._remote, harvest, before_push)
        return msgspec.structs.replace(harvest, notes=tuple(notes))

    async def pack(self, message: str, limit_bytes: int = BUNDLE_BYTES) -> tuple[str, bytes] | None:
        """Commit what is there under `message`; returns the base and the work since as a bundle.

        The bundle is empty where there is no work yet; None when it is larger than the limit.
        """
        head = await snapshot.gather(self._git, self._room, self._base, message, [])
        await self._git.local("update-ref", f"refs/heads/{self.branch}", head)
        if head in (self._base, self._fork):
            return self._base, b""
        packed = await self.bundle(limit_bytes)
        return None if packed is None else (self._base, packed)

    async def bundle(self, limit_bytes: int = BUNDLE_BYTES) -> bytes | None:
        """Pack what the mission's branch has beyond the remote's history, after `harvest`.

        None when there is nothing, or more than `limit_bytes`.
        """
        without = [f"^{self._fork}"] if self._fork else []
        try:
            packed = await self._git.local(
                "bundle", "create", "--quiet", "-", f"refs/heads/{self.branch}", *without,
                limit_bytes=limit_bytes,
            )  # fmt: skip
        except GitError:
            return None
        return None if packed.truncated else packed.stdout

    async def _first_commit(self) -> str:
        tree = await self._git.text("mktree")
        made = await self._git.local(
            "commit-tree", tree, "-m", "Begin",
            extra={**IDENTITY, "GIT_AUTHOR_DATE": _ZERO_HOUR, "GIT_COMMITTER_DATE": _ZERO_HOUR},
        )  # fmt: skip
        return made.stdout.decode().strip()

    async def _fetch(self, remote: Remote) -> str:
        await self._git.remotely(
            remote, "fetch", "--quiet", "--no-write-fetch-head", "--", remote.url,
            "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*",
        )  # fmt: skip
        start = await self._resolve(remote)
        self._fork = start
        self._seen = await self._commit_of(f"refs/heads/{self.branch}")
        # Work of an earlier task of this mission, or of an earlier attempt: build on it.
        return self._seen or start or await self._first_commit()

    async def _resolve(self, remote: Remote) -> str | None:
        """Find the commit that `ref` means at the remote; None when the remote is empty."""
        ref = self._plan.ref
        if ref is None:
            said = await self._git.remotely(remote, "ls-remote", "--", remote.url, "HEAD")
            head = said.stdout.decode("ascii", "replace").partition("\t")[0].strip()
            return head or None
        if _BAD_REF.search(ref):
            raise ValueError(f"{ref!r} cannot name a branch, tag or commit")
        for candidate in (f"refs/heads/{ref}", f"refs/tags/{ref}"):
            if found := await self._commit_of(candidate):
                return found
        if _COMMIT.fullmatch(ref) and (found := await self._commit_of(ref)):
            return found
        if ref.startswith("refs/") or _COMMIT.fullmatch(ref):
            # Pull requests and commits that no branch reaches, where the host serves them.
            await self._git.remotely(
                remote, "fetch", "--quiet", "--no-write-fetch-head", "--", remote.url,
                f"+{ref}:refs/tinytown/ref",
            )  # fmt: skip
            return await self._commit_of("refs/tinytown/ref")
        raise ValueError(f"the repository has no branch, tag or commit {ref!r}")

    async def _commit_of(self, name: str) -> str:
        """Return the commit a name means here, or "" when it means none."""
        return await self._git.text(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}",
            good=(0, 1, 128),
        )  # fmt: skip

    async def _unbundle(self, number: int, bundle: bytes, start: str, notes: list[str]) -> str:
        file = self._room.path / f"earlier-{number}.bundle"
        file.write_bytes(bundle)
        tip = f"refs/tinytown/earlier/{number}"
        try:
            await self._git.local(
                "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", file,
                f"+refs/heads/{self.branch}:{tip}",
            )  # fmt: skip
        except GitError as error:
            raise GitError(f"the work of an earlier task cannot be applied: {error}") from None
        finally:
            file.unlink()
        united = await self._unite(start, await self._commit_of(tip))
        if united is None:
            beside = f"tinytown-earlier/{number}"
            await self._git.local("update-ref", f"refs/heads/{beside}", tip)
            self._beside.append(beside)
            notes.append(f"the work of an earlier task conflicts; it is on branch {beside}")
        return united or start

    async def _unite(self, ours: str, theirs: str) -> str | None:
        """Return a commit that has both; None when they conflict."""
        common = await self._git.text("merge-base", ours, theirs, good=(0, 1))
        if common in (ours, theirs):
            return theirs if common == ours else ours
        merged = await self._git.local(
            "merge-tree", "--write-tree", "--allow-unrelated-histories", ours, theirs, good=(0, 1)
        )
        if merged.code != 0:
            return None
        tree = merged.stdout.decode().split()[0]
        made = await self._git.local(
            "commit-tree", tree, "-p", theirs, "-p", ours, "-m", f"Merge into {self.branch}",
            extra=IDENTITY,
        )  # fmt: skip
        return made.stdout.decode().strip()

    async def _open_work(self) -> None:
        await self._git.local("update-ref", f"refs/heads/{self.branch}", self._start)
        await self._git.local(
            "clone", "--quiet", "--template=", "--branch", self.branch, "--",
            self._room.keep, self._room.work,
        )  # fmt: skip
        work = Git(self._room.work / ".git", path=self._git.path)
        for name in self._beside:
            await work.local("branch", "--no-track", name, f"origin/{name}")
        if self._remote is None:
            await work.local("remote", "remove", "origin")
        else:
            await work.local("remote", "set-url", "origin", self._remote.url)
            await work.local("branch", "--unset-upstream", self.branch)

    async def _measure(self, head: str) -> Harvest:
        if head == self._base:
            return Harvest(branch=self.branch, base=self._base, head=head)
        stat = await self._git.text("diff", "--shortstat", self._base, head)
        counts = {
            word.rstrip("s"): int(number)
            for number, word in re.findall(r"(\d+) (file|insertion|deletion)", stat)
        }
        patch, truncated = await snapshot.patch(self._git, self._base, head, PATCH_BYTES)
        return Harvest(
            branch=self.branch,
            base=self._base,
            head=head,
            commits=int(await self._git.text("rev-list", "--count", f"{self._base}..{head}")),
            files_changed=counts.get("file", 0),
            insertions=counts.get("insertion", 0),
            deletions=counts.get("deletion", 0),
            patch=patch,
            patch_truncated=truncated,
        )

    async def _push(
        self,
        remote: Remote,
        harvest: Harvest,
        before_push: Callable[[], Awaitable[None]] | None,
    ) -> Harvest:
        """Push with a lease on what was seen; unite with siblings that were faster."""
        head, branch, seen, trouble = harvest.head, self.branch, self._seen, None
        for _ in range(_PUSH_TRIES):
            if before_push is not None:
                await before_push()
            try:
                await self._git.remotely(
                    remote, "push", "--quiet", "--no-verify",
                    f"--force-with-lease=refs/heads/{branch}:{seen}", "--", remote.url,
                    f"{head}:refs/heads/{branch}",
                )  # fmt: skip
            except GitError as error:
                trouble = str(error)
            else:
                self._seen = seen if branch != self.branch else head
                return msgspec.structs.replace(
                    harvest,
                    branch=branch,
                    head=head,
                    pushed=True,
                    push_error=None if branch == self.branch else trouble,
                )
            try:
                there = await self._branch_at(remote)
                if there in ("", seen):
                    break  # it did not move: the remote refuses for another reason
                united = await self._unite(head, there)
            except GitError:
                break
            if united is None:
                trouble = f"conflicts with what another task pushed to {self.branch}"
                branch, seen = f"{self.branch}.{self._room.task_id}", ""
            else:
                head, seen = united, there
        return msgspec.structs.replace(harvest, push_error=trouble)

    async def _branch_at(self, remote: Remote) -> str:
        """Fetch the mission's branch as it stands at the remote now; "" when it is not there."""
        name = f"refs/heads/{self.branch}"
        said = await self._git.remotely(remote, "ls-remote", "--", remote.url, name)
        if not said.stdout.strip():
            return ""
        await self._git.remotely(
            remote, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", remote.url,
            f"+{name}:refs/tinytown/there",
        )  # fmt: skip
        return await self._commit_of("refs/tinytown/there")
