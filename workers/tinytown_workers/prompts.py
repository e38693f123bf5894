"""What an agent is told: the goal byte for byte, and what belongs to it (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from tinytown.models.question import Ask, OutcomeKind
from tinytown.models.task import Claim, Message
from tinytown.store.questions import Outcome


def opening(claim: Claim) -> str:
    """Write the first prompt: the goal alone, or with the part of it that is this task.

    A mission with one task and no messages gives exactly its goal.
    """
    parts = [claim.goal]
    if claim.instructions:
        parts.append(f"# Your task: {claim.name}\n\n{claim.instructions}")
    if claim.messages:
        parts.append("# What people have said since\n\n" + said(claim.messages))
    return "\n\n".join(parts)


def said(messages: Sequence[Message]) -> str:
    """List people's sentences."""
    return "\n".join(f"- {message.by} ({message.at}): {message.text}" for message in messages)


def going_on(*, answers: Sequence[str], messages: Sequence[Message] = ()) -> str:
    """Write the prompt that resumes a session, here or on another worker."""
    stopped = "Your worker was stopped and this is another one. Go on with your task."
    parts = [*(answers or (stopped,))]
    if messages:
        parts.append("# What people have said since\n\n" + said(messages))
    return "\n\n".join(parts)


def anew(claim: Claim, answers: Sequence[str], *, work: bool) -> str:
    """Write the first prompt of a session that takes over from a lost one.

    `work` says whether what the lost one did lies in the workspace.
    """
    parts = [opening(claim)]
    if work:
        parts.append(
            "# Where this stands\n\nAn earlier session of yours worked on this. "
            "What it did lies in the workspace: look at it, and go on from there."
        )
    if answers:
        parts.append("# What was asked and answered before\n\n" + "\n\n".join(answers))
    return "\n\n".join(parts)


def follow_up(messages: Sequence[Message]) -> str:
    """Write the prompt of a turn that brings sentences the agent has not heard."""
    return f"While you worked, people wrote to you. Take it into account:\n\n{said(messages)}"


def late_answer(ask: Ask, outcome: Outcome) -> str:
    """Write the prompt of a turn that brings the answer to a question that was left open."""
    asked = f"You asked: {ask.text}\n\n"
    if ask.kind == "approval" and outcome.kind is OutcomeKind.ANSWERED:
        return (
            f"{asked}{outcome.by} answered: {outcome.answer}\n\n"
            "Go on with your task. If it was allowed, do it now: you will not be asked again."
        )
    match outcome.kind:
        case OutcomeKind.ANSWERED:
            return f"{asked}{outcome.by} answered: {outcome.answer}\n\nGo on with your task."
        case OutcomeKind.DEFAULTED:
            return (
                f"{asked}Nobody answered in time; the default applies: {outcome.answer}\n\n"
                "Go on with your task."
            )
        case OutcomeKind.NO_ANSWER:
            return (
                f"{asked}Nobody answered in time. Silence is not consent: go on without it if "
                "you can, else end and say what is missing."
            )
        case OutcomeKind.WITHDRAWN:
            return f"{asked}The question was withdrawn. End your turn."
