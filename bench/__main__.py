"""Measures what was promised and prints the table: `python -m bench [part…] [--write]`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import anyio

from bench.deliveries import deliveries
from bench.engines import engines
from bench.footprint import footprint
from bench.ground import Row
from bench.growth import growth
from bench.hooks import hooks
from bench.latency import latency_rows
from bench.lifecycle import lifecycle
from bench.scaling import scaling
from bench.webhooks import webhooks

PARTS: dict[str, Callable[[], Awaitable[list[Row]]]] = {
    "lifecycle": lifecycle,
    "engines": engines,
    "latency": latency_rows,
    "footprint": footprint,
    "growth": growth,
    "hooks": hooks,
    "scaling": scaling,
    "webhooks": webhooks,
    "deliveries": deliveries,
}
PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


def table(rows: list[Row]) -> str:
    """Write the rows as a table."""
    marks = {True: "yes", False: "**no**", None: ""}
    lines = ["| what | promised | found | kept |", "|---|---|---|---|"]
    lines += [f"| {row.what} | {row.promised} | {row.found} | {marks[row.kept]} |" for row in rows]
    return "\n".join(lines)


def machine() -> str:
    """Say on what it was measured."""
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.release().partition('-')[0]},"
        f" Python {platform.python_version()}, load {load:.1f} at the start"
    )


async def measure(names: list[str]) -> list[Row]:
    """Run the parts one after another."""
    rows = []
    for name in names:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        found = await PARTS[name]()
        print(table(found), file=sys.stderr, flush=True)
        rows += found
    return rows


def main() -> None:
    """Measure, print, and write the page if asked to; exit 1 when a promise is not kept."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which (default: all)")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    arguments = parser.parse_args()
    where = machine()
    rows = anyio.run(measure, list(arguments.parts or PARTS))
    text = table(rows)
    print(f"{where}\n\n{text}")
    if arguments.write:
        day = datetime.now(UTC).date()
        before, _, _ = PAGE.read_text(encoding="utf-8").partition("<!-- measured -->")
        page = f"{before}<!-- measured -->\nMeasured on {day}: {where}.\n\n{text}\n"
        PAGE.write_text(page, encoding="utf-8")
    sys.exit(any(row.kept is False for row in rows))


if __name__ == "__main__":
    main()
