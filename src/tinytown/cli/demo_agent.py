"""The agent of `tt demo`: a small program that does what a coding CLI does, with real tools.

It reads its goal from standard input, works in the git repository it was put into, runs the
project's own check, asks a person through `tt ask`, and commits. It knows nothing of Redis, of the
town's address or of any key: only what every agent has.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from tinytown import clock

GOAL: Final = """\
The greeting is misspelt, and nobody decided how it should end.
Fix the spelling, ask how it should end, and make check.py pass.
"""
QUESTION: Final = "How should the greeting end?"
OPTIONS: Final = ("!", ".")
FILE: Final = "greeting.py"
CHECK: Final = "check.py"
BEFORE: Final = '''"""Greets people."""


def greeting(name: str) -> str:
    return f"Helo, {name}"
'''
CHECKING: Final = f'''"""Fails until the greeting is right."""

from greeting import greeting

said = greeting("Ada")
assert said.startswith("Hello, Ada"), f"misspelt: {{said!r}}"
assert said[-1] in {OPTIONS!r}, f"nobody decided how it ends: {{said!r}}"
print(f"check: {{said!r}} is right")
'''
CONTINUED: Final = "answer heard at"
"""What the log says, with Unix milliseconds, at the moment the agent goes on."""


def main() -> int:
    """Do the goal in the current directory; exit 0 when the project's check passes."""
    goal = sys.stdin.read()
    if goal != GOAL:
        _say(f"this is not my goal: {goal!r}")
        return 1
    if _run("git", "rev-parse", "--is-inside-work-tree").strip() != "true":
        _say("this is no git repository")
        return 1
    file = Path(FILE)
    file.write_text(file.read_text().replace("Helo", "Hello"))
    _say(f"fixed the spelling in {FILE}")
    said = _check()
    _say(said)
    if "nobody decided" not in said:
        return 1
    options = [part for option in OPTIONS for part in ("--option", option)]
    answer = _run("tt", "ask", QUESTION, *options, "--context", "check.py accepts both.").strip()
    _say(f"{CONTINUED} {round(clock.unix_seconds() * 1000)}: {answer}")
    if answer not in OPTIONS:
        return 1
    file.write_text(file.read_text().replace("{name}", "{name}" + answer))
    said = _check()
    _say(said)
    if "is right" not in said:
        return 1
    _run("git", "commit", "--quiet", "--all", "--message", f"Greet properly, ending in {answer!r}")
    _say(f"The greeting is spelt right and ends in {answer!r}; {CHECK} passes.")
    return 0


def _check() -> str:
    """Run the project's check; the last line it says, whichever way it ends."""
    done = subprocess.run(
        [sys.executable, "-B", CHECK], capture_output=True, text=True, check=False
    )
    return (done.stdout + done.stderr).strip().splitlines()[-1]


def _run(*command: str) -> str:
    """Run a tool as an agent would, on its own PATH; ends the agent when the tool fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        _say(f"{command[0]} {command[1]} ended with {done.returncode}")
        sys.exit(1)
    return done.stdout


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
