"""`tt` inside an agent's session: ask a person, tell progress, read what people wrote.

Exit codes of `tt ask`: 0 answered (or the default applies; standard error says which), 75 parked,
1 nobody answered or the question was withdrawn, 2 wrong use, 5 the worker cannot be reached.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

from tinytown_workers.desk_client import Call, DeskGone, DeskRefused, messages, seconds_of, words

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_EXITS: Final = {"answered": 0, "defaulted": 0, "parked": 75}
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 5
_EXAMPLE: Final = """example:
  tt ask "Which database?" --option postgres --option sqlite --default sqlite --deadline 2h
"""


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog="tt",
        description="Speak with people from inside an agent's session.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    ask = commands.add_parser(
        "ask",
        help="ask a person and wait for the answer",
        description="Ask a person a question and wait; prints the answer.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    ask.add_argument("text", help="the question, complete in itself")
    ask.add_argument(
        "--option", action="append", default=[], metavar="A", help="an answer to choose (up to 8)"
    )
    ask.add_argument(
        "--free-text", action="store_true", help="welcome other answers beside the options"
    )
    ask.add_argument("--default", metavar="A", help="applies when nobody answers in time")
    ask.add_argument(
        "--deadline", type=seconds_of, metavar="2h", help="how long to wait: 90, 90s, 15m, 2h, 1d"
    )
    ask.add_argument("--risk", choices=("low", "medium", "high"), default="low")
    ask.add_argument("--context", default="", help="what the person needs to know to decide")
    commands.add_parser("messages", help="print what people wrote to you")
    progress = commands.add_parser("progress", help="tell people how far you are")
    progress.add_argument("text")
    progress.add_argument("--percent", type=float)
    return parser


def main(argv: Sequence[str] | None = None, desk: str | None = None) -> int:
    """Run one command; `desk` is the session's TINYTOWN_DESK. Returns the exit code."""
    arguments = _parser().parse_args(argv)
    if not desk:
        print(  # noqa: T201 - a person reads it
            "tt: this works only inside an agent's session (TINYTOWN_DESK is not set)",
            file=sys.stderr,
        )
        return USAGE
    try:
        return _run(arguments, desk)
    except DeskRefused as error:
        print(f"tt: {error.detail}", file=sys.stderr)  # noqa: T201 - the same
        return USAGE if error.code == "invalid" else FAILED
    except DeskGone as error:
        print(f"tt: {error}; end your turn", file=sys.stderr)  # noqa: T201 - the same
        return UNREACHABLE


def _run(arguments: argparse.Namespace, desk: str) -> int:
    if arguments.command == "messages":
        call = Call(desk, "inbox")
    elif arguments.command == "progress":
        call = Call(desk, "progress", text=arguments.text, percent=arguments.percent)
    else:
        call = Call(desk, "ask", via="tt", ask=_question(arguments))
    reply: dict[str, Any] = call.wait(None) or {}
    code = 0
    if arguments.command == "ask":
        code = _EXITS.get(reply["outcome"], FAILED)
        plain = reply["outcome"] in ("answered", "defaulted")
        if plain:
            _say(str(reply.get("answer") or ""), sys.stdout)
        if reply["outcome"] != "answered":
            _say(words(reply), sys.stdout if code == _EXITS["parked"] else sys.stderr)
    if written := messages(reply):
        # Beside an answer they go to standard error: scripts read the answer alone.
        _say(written, sys.stderr if arguments.command == "ask" else sys.stdout)
    call.confirm()
    return code


def _question(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "text": arguments.text,
        "kind": "choice" if arguments.option else "text",
        "options": arguments.option,
        "free_text": arguments.free_text or not arguments.option,
        "default": arguments.default,
        "context": arguments.context,
        "risk": arguments.risk,
        "deadline_seconds": arguments.deadline,
    }


def _say(text: str, stream: Any) -> None:
    stream.buffer.write(text.encode("utf-8", "replace") + b"\n")
    stream.flush()


if __name__ == "__main__":
    # Not tinytown.settings: it would cost as much as everything else here together.
    code = main(desk=os.environ.get("TINYTOWN_DESK"))  # noqa: TID251
    sys.stdout.flush()
    sys.stderr.flush()
    # The agent waits for this process: taking the interpreter apart would cost it milliseconds.
    os._exit(code)
