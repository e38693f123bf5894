"""The house on another machine: nothing tracked may speak of this one, and every pin must hold."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from house.tree import ROOMS, ROOT, files, lines, parsed, place

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# Spelled in halves, so that this file does not find itself.
REGISTRIES = re.compile(
    "|".join(
        (
            "index" + "-url",
            "extra-" + "index",
            "find" + "-links",
            r"registry *= *[\"']?http",
            r"deb https?://",
            r"https?://[a-z0-9.-]*(" + "|".join(("py" + "pi", "npm" + "js", "pythonhosted")) + ")",
        )
    )
)
PINS = {path.stem: path for path in (ROOT / "requirements").glob("*.txt")}


def requirements(path: Path) -> dict[str, str]:
    """Read a file of pins: name -> version."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", path.read_text(), re.MULTILINE))


def test_no_tracked_file_names_a_registry() -> None:
    found = [
        spot
        for spot, line in lines()
        if REGISTRIES.search(line) and not spot.startswith(("README.md", "docs/"))
    ]
    assert not found, "name packages, never hosts"


def test_no_tracked_file_names_a_path_of_this_machine() -> None:
    homes = {str(ROOT), str(Path.home()) + "/.", "/" + "root/", "/" + "tmp/tt/"}
    found = [spot for spot, line in lines() if any(home in line for home in homes)]
    assert not found


def test_there_are_pins_for_each_kind_of_machine() -> None:
    assert sorted(PINS) == ["development", "town", "worker"]


@pytest.mark.parametrize("kind", sorted(PINS))
def test_every_pin_has_an_exact_version_and_hashes(kind: str) -> None:
    text = PINS[kind].read_text(encoding="utf-8")
    blocks = re.findall(r"^(\S.*(?:\n[ \t]+.*)*)", text, re.MULTILINE)
    assert len(blocks) >= 5
    for block in blocks:
        assert re.match(r"[a-z0-9][a-z0-9._-]*==\S+", block), block
        assert "--hash=sha256:" in block, block


def test_all_machines_run_the_same_versions() -> None:
    largest = requirements(PINS["development"])
    for kind in ("town", "worker"):
        pins = requirements(PINS[kind])
        assert {name: largest.get(name) for name in pins} == pins, kind


def test_the_pins_cover_what_the_project_asks_for() -> None:
    wanted = {re.split(r"[<>=!~ \[;]", text)[0] for text in PYPROJECT["project"]["dependencies"]}
    assert wanted <= requirements(PINS["town"]).keys()
    groups = PYPROJECT["dependency-groups"]
    assert set(groups["worker"]) <= wanted
    assert set(groups["worker"]) <= requirements(PINS["worker"]).keys()
    assert {*wanted, *groups["development"]} <= requirements(PINS["development"]).keys()


def test_a_worker_installs_only_what_it_needs() -> None:
    """Small on purpose: what is not installed is not loaded, and a cold worker starts sooner."""
    assert sorted(requirements(PINS["worker"])) == [
        "anyio",
        "async-timeout",
        "cffi",
        "hiredis",
        "idna",
        "msgspec",
        "pycparser",
        "pynacl",
        "redis",
        "typing-extensions",
    ]


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("agents", ["@anthropic-ai/claude-code", "@openai/codex"]),
        (
            "packages",
            ["@octokit/webhooks-examples", "@octokit/webhooks-methods", "standardwebhooks"],
        ),
    ],
)
def test_what_comes_from_npm_is_pinned_exactly_and_by_hash(folder: str, names: list[str]) -> None:
    pins = ROOT / "tools" / folder
    wanted = json.loads((pins / "package.json").read_text(encoding="utf-8"))["dependencies"]
    locked = json.loads((pins / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert sorted(wanted) == names
    for name, version in wanted.items():
        assert locked[f"node_modules/{name}"]["version"] == version
    for name, package in locked.items():
        assert not name or package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name


def test_nothing_tracked_is_large_or_binary() -> None:
    large = {place(path): path.stat().st_size for path in files() if path.stat().st_size > 300_000}
    assert not large


def test_every_library_that_is_imported_is_asked_for_by_name() -> None:
    """What only happens to be there, because something else brought it, is gone one day."""
    asked = {re.split(r"[<>=!~ \[;]", text)[0] for text in PYPROJECT["project"]["dependencies"]}
    tools = asked | set(PYPROJECT["dependency-groups"]["development"])
    brought_by = packages_distributions()
    ours = {"tinytown", "tinytown_notifiers", "tinytown_workers"}
    found = set()
    for path in files(".py"):
        room = place(path).split("/")[0]
        for node in ast.walk(parsed(path)):
            for module in imported(node):
                known = asked if room in ROOMS else tools
                names = {name.lower().replace("_", "-") for name in brought_by.get(module, ())}
                if names and not names & known and module not in ours:
                    found.add(f"{place(path)}: {module}")
    assert not found
    assert "msgspec" in brought_by


def imported(node: ast.AST) -> list[str]:
    """Name the top packages that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module.partition(".")[0]]
    return []
