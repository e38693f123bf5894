"""What became of an attempt: the agent's verdict, the harvest of its workspace, in one value."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from tinytown.models.mission import Result
from tinytown.models.task import Claim
from tinytown.redact import redact
from tinytown_workers.agents import Usage, Verdict
from tinytown_workers.workspace import Harvest, Workspace, WorkspaceFailed

SUMMARY_BYTES: Final = 4_000
"""The longest summary or reason: what a phone shows, and what an event carries."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an attempt.

    `again` is a reason to put the task back on the docket instead of settling it; `parked` says
    that it has left this worker already and waits for a person.
    """

    completed: bool = False
    summary: str = ""
    reason: str = ""
    result: Result = Result()
    patch: bytes = b""
    bundle: bytes = b""
    again: str = ""
    parked: bool = False


async def collect(
    workspace: Workspace,
    verdict: Verdict,
    claim: Claim,
    usage: Usage,
    *,
    before_push: Callable[[], Awaitable[None]],
) -> Attempt:
    """Collect the work, also of a failed attempt: what was done must not be lost.

    `before_push` raises LeaseLost when the task is somebody else's by now.
    """
    message = f"{claim.title or claim.name}\n\nMission: {claim.mission_id}"
    try:
        harvest = await workspace.harvest(message, before_push=before_push)
    except WorkspaceFailed as failed:
        return Attempt(reason=short(str(failed)), result=_result(usage, None))
    bundle = None
    if claim.leads and claim.repo is None:
        bundle = await workspace.bundle()
        if bundle is None and harvest.head != harvest.base:
            reason = "the work is too large to be handed to the next task"
            return Attempt(reason=reason, result=_result(usage, harvest))
    summary = short(verdict.summary)
    if harvest.push_error:
        summary = short(f"{summary}\n\n(push: {harvest.push_error})".strip())
    return Attempt(
        completed=verdict.ok,
        summary=summary,
        reason=short(verdict.reason),
        result=msgspec.structs.replace(_result(usage, harvest), summary=summary),
        patch=harvest.patch.encode(),
        bundle=bundle or b"",
    )


def _result(usage: Usage, harvest: Harvest | None) -> Result:
    """Sum up usage and harvest for the store."""
    result = Result(
        cost_usd=usage.cost_usd,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
    )
    if harvest is None:
        return result
    return msgspec.structs.replace(
        result,
        branch=harvest.branch,
        base=harvest.base,
        head=harvest.head,
        pushed=harvest.pushed,
        files_changed=harvest.files_changed,
        patch_truncated=harvest.patch_truncated,
    )


def short(text: str) -> str:
    """Bound a text from an agent, by bytes, at a character."""
    text = redact(text)
    raw = text.encode("utf-8", "replace")
    if len(raw) <= SUMMARY_BYTES:
        return raw.decode()
    return raw[: SUMMARY_BYTES - 4].decode("utf-8", "ignore") + " …"
