"""The images: built as compose wants them, and held to their budgets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tools.containers.engine import BASE
from tools.containers.ground import Failed, inspected, run, say, works

MB: Final = 1_000_000
# What an image may weigh above what it stands on. A worker stands on git as well: Debian's, with
# all that it needs, is 37 MB and more, and no worker can do without.
BUDGETS: Final = {"townhall": (BASE, 100 * MB), "worker": ("tinytown-ground", 15 * MB)}


def build() -> None:
    """Build what compose needs, and what the worker stands on; two at a time."""
    classic = {} if works("docker", "buildx", "version") else {"DOCKER_BUILDKIT": "0"}

    def make(name: str, file: str, target: str) -> None:
        stage = ["--target", target] if target else []
        source = ["--file", f"docker/{file}.Dockerfile", *stage]
        run("docker", "build", "--quiet", "--tag", name, *source, ".", env=classic)
        say(f"{name} is built")

    with ThreadPoolExecutor() as pool:
        townhall = pool.submit(make, "tinytown-townhall", "townhall", "")
        make("tinytown-ground", "worker", "ground")
        make("tinytown-worker", "worker", "worker")
        townhall.result()


def weigh() -> None:
    """Hold every image to its budget."""
    over = []
    for name, (ground, budget) in BUDGETS.items():
        image = inspected("image", f"tinytown-{name}")
        own = image["Size"] - inspected("image", ground)["Size"]
        whole = image["Size"] - inspected("image", BASE)["Size"]
        say(
            f"{name}: {own / MB:.1f} MB above {ground}, of {budget / MB:.0f} "
            f"({whole / MB:.1f} MB above {BASE}, {image['Size'] / MB:.0f} MB in all)"
        )
        if own > budget:
            over.append(name)
        if image["Config"]["User"] != "10001:10001":
            raise Failed(f"{name} does not run as 10001")
    if over:
        raise Failed(f"over the budget: {', '.join(over)}")
