"""Decides how a turn ended, and never by the exit code alone.

CLIs have been seen to exit 0 after an API error, after SIGTERM and with their work undone, so a
turn is done only if nothing stopped it, its last event says so, its words are no API error in
disguise, and the exit agrees.
"""

from __future__ import annotations

import re
import signal
from typing import Final

from tinytown_workers.agents.contract import Verdict
from tinytown_workers.agents.events import TurnEnded, Usage
from tinytown_workers.agents.text import last_lines
from tinytown_workers.process import Exit, Why

_API_ERROR: Final = re.compile(r"^\[?API Error")
REASON_CHARS: Final = 2_000  # a stack trace's useful end

_STOPPED: Final[dict[Why, str]] = {
    "idle": "{name} gave no sign of life and was stopped after {seconds:.0f} s in all",
    "overtime": "{name} used up its time and was stopped after {seconds:.0f} s",
    "flooded": "{name} wrote more output than anybody could read and was stopped",
    "budget": "{name} spent its budget and was stopped",
    "stopped": "{name} was stopped",
}


def judge(
    name: str,
    ended: Exit,
    last_word: TurnEnded | None,
    *,
    summary: str,
    session_id: str | None,
    usage: Usage,
) -> Verdict:
    """Weigh the clocks, the CLI's last word and its exit, in this order."""
    spoken = (last_word.summary if last_word else "") or summary
    return Verdict(
        ok=not (reason := _fault(name, ended, last_word, spoken)),
        summary=spoken,
        reason=reason[:REASON_CHARS],
        session_id=session_id,
        usage=usage,
        exit=ended,
    )


def stopped(name: str, ended: Exit) -> str:
    """Say why the worker itself ended the program; empty if it did not."""
    return _STOPPED.get(ended.why, "").format(name=name, seconds=ended.seconds)


def describe_exit(ended: Exit) -> str:
    """Name an exit for people: `with code 3`, `by SIGKILL`."""
    if ended.code is None:
        return "without a code"
    if ended.code >= 0:
        return f"with code {ended.code}"
    try:
        return f"by {signal.Signals(-ended.code).name}"
    except ValueError:
        return f"by signal {-ended.code}"


def _fault(name: str, ended: Exit, last_word: TurnEnded | None, spoken: str) -> str:
    if reason := stopped(name, ended):
        return reason
    words = last_lines(ended.stderr_tail, REASON_CHARS // 2)
    appendix = f": {words}" if words else ""
    if last_word is None:
        return f"{name} ended {describe_exit(ended)} in the middle of its turn{appendix}"
    if not last_word.ok:
        return last_word.reason or last_word.summary or words or f"{name} reported a failure"
    if _API_ERROR.match(spoken):
        return spoken
    # A CLI that said its last word and then would not leave was made to; that is no failure.
    if ended.why == "exited" and ended.code != 0:
        return f"{name} said that it was done, but ended {describe_exit(ended)}{appendix}"
    return ""
