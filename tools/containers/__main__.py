"""Builds the images and proves them: within their budgets, and a mission in containers that die.

    python3 -m tools.containers images           build both, weigh them
    python3 -m tools.containers test             the town in containers of 256 MB, things killed
    python3 -m tools.containers test --short     the mission, the way home, a worker told to stop

Needs docker with compose, and Python alone. Three variables help where one of them is missing:

    START_ENGINE=1     as root: where no engine answers, run one of our own (Debian's, which is
                       installed if need be) and end it afterwards
    ENGINE_HOME=DIR    where that one keeps what it built (/var/lib/tinytown-engine)
    BASE_IMAGES=CMD    a command that makes stand-ins of base images that cannot be pulled

Exit codes: 0 all is well, 1 it is not, 77 this machine cannot run containers at all (one line says
why).
"""

from __future__ import annotations

import argparse
import sys
from typing import Final

from tools.containers.engine import CannotHere, bases, engine
from tools.containers.ground import Failed, say
from tools.containers.images import build, weigh
from tools.containers.scenes import test

NOT_RUN: Final = 77


def main() -> int:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(prog="containers", description="Build the images, prove them.")
    parser.add_argument("what", choices=("images", "test"))
    parser.add_argument("--short", action="store_true", help="without kills, crowds and crontabs")
    asked = parser.parse_args()
    try:
        with engine():
            bases()
            build()
            weigh()
            if asked.what == "test":
                test(short=asked.short)
    except CannotHere as why:
        print(f"\n!!! containers: NOT RUN: {why}\n", file=sys.stderr)
        return NOT_RUN
    except Failed as failure:
        print(f"containers: {failure}", file=sys.stderr)
        return 1
    say("all is well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
