"""The papers of the house: what is written down must be what is true."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import tinytown
from house.tree import ROOT, files, place, rooms, strings
from tinytown import errors, settings
from tinytown.models.event import TYPES

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
PROJECT_SCRIPTS = PYPROJECT["project"]["scripts"]


def test_the_generated_pages_are_current() -> None:
    command = [sys.executable, str(ROOT / "tools" / "generate_docs.py"), "--check"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr


def test_every_problem_has_a_slug_of_its_own_and_a_place_to_read_about_it() -> None:
    slugs = [error.slug() for error in errors.tree()]
    page = (ROOT / "docs" / "problems.md").read_text(encoding="utf-8")
    assert len(slugs) > 20
    assert sorted(set(slugs)) == sorted(slugs)
    assert [slug for slug in slugs if f"\n## {slug}\n" not in page] == []


def test_every_error_says_what_it_is_with_a_status_that_fits() -> None:
    for error in errors.tree():
        assert error.__doc__, error.__name__
        assert error.title, error.__name__
        assert error.title != errors.TownError.title, f"{error.__name__} has no title of its own"
        assert 400 <= error.status <= 599, error.__name__
        (parent,) = error.__bases__
        assert issubclass(parent, errors.TownError), error.__name__
        assert parent is errors.TownError or error.status == parent.status, error.__name__


def test_every_setting_is_on_its_page() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    names = [name for setting in settings.catalogue() for name in setting.names]
    assert "TINYTOWN_PUBLIC_URL" in names
    assert [name for name in names if f"`{name}`" not in page] == []


def test_no_code_or_page_speaks_of_a_setting_that_does_not_exist() -> None:
    known = {name for setting in settings.catalogue() for name in setting.names}
    known |= {f"TINYTOWN_{name.upper()}" for name in settings.Session.__struct_fields__}
    spoken = re.compile(r"\bTINYTOWN_[A-Z_]+[A-Z]\b")
    found = {
        f"{place(path)}: {name}"
        for path in rooms(".py")
        for _, text in strings(path)
        for name in spoken.findall(text)
        if name not in known
    }
    found |= {
        f"{place(path)}: {name}"
        for path in files(".md", ".yml", ".toml", ".Dockerfile")
        for name in spoken.findall(path.read_text(encoding="utf-8"))
        if name not in known
    }
    assert not found


def test_the_version_is_the_same_everywhere() -> None:
    version = PYPROJECT["project"]["version"]
    assert tinytown.__version__ == version
    heading = re.search(r"^## \[(\d[^\]]*)\]", CHANGELOG, re.MULTILINE)
    assert heading, "the changelog names no version"
    assert heading[1] == version


def test_the_changelog_is_kept_in_its_order() -> None:
    allowed = ["Breaking", "Added", "Changed", "Fixed"]
    for release in re.split(r"^## ", CHANGELOG, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (\w+)$", release, re.MULTILINE)
        assert kinds == [kind for kind in allowed if kind in kinds], release.splitlines()[0]


def test_links_between_pages_lead_somewhere() -> None:
    found = []
    for path in files(".md"):
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
            if "://" in target or target.startswith(("#", "mailto:")):
                continue
            if not (path.parent / target.partition("#")[0]).exists():
                found.append(f"{place(path)} -> {target}")
    assert not found


def test_every_page_is_reached_from_the_front_door() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {place(path).removeprefix("docs/") for path in files(".md") if "docs" in path.parts}
    assert [page for page in sorted(pages - {"index.md"}) if f"({page})" not in index] == []


def test_decisions_are_numbered_without_gaps_and_say_what_they_cost() -> None:
    decisions = [path for path in files(".md") if path.parent.name == "decisions"]
    assert len(decisions) >= 8
    for number, path in enumerate(decisions, start=1):
        text = path.read_text(encoding="utf-8")
        assert path.name.startswith(f"{number:04}-"), place(path)
        assert text.startswith(f"# {number:04} "), place(path)
        for part in ("Status: ", "## Context", "## Decision", "## Consequences"):
            assert part in text, f"{place(path)} lacks {part!r}"


def test_every_event_type_is_named_in_one_file_only() -> None:
    """Elsewhere an event is emitted by a script or matched by a pattern that a person wrote."""
    kinds = set(TYPES)
    page = (ROOT / "docs" / "states.md").read_text(encoding="utf-8")
    assert [kind for kind in TYPES if f"`{kind}`" not in page] == []
    spoken = {
        kind
        for path in rooms(".lua")
        for kind in re.findall(r"emit\('([a-z.]+)'", path.read_text(encoding="utf-8"))
        if not kind.endswith(".")
    }
    assert spoken, "no script tells an event"
    assert spoken <= kinds


def test_each_console_script_leads_to_a_function() -> None:
    assert sorted(PROJECT_SCRIPTS) == ["townhall", "tt", "tt-worker"]
    for target in PROJECT_SCRIPTS.values():
        module, _, function = target.partition(":")
        code = f"import {module} as m; assert callable(m.{function})"
        done = subprocess.run(
            [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_each_recipe_of_the_justfile_can_be_read() -> None:
    just = Path(sys.executable).with_name("just")
    said = subprocess.run(
        [just, "--list", "--unsorted"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    for recipe in ("sync", "check", "test", "demo", "bench", "docs", "smoke", "lock"):
        assert f"\n    {recipe} " in said.stdout, recipe


def test_ci_runs_the_two_commands_of_the_readme_word_for_word() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    steps = [line.strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    commands = re.findall(r"^.*(?:tt demo|pytest -n 3)$", readme, re.MULTILINE)
    assert len(commands) == 2, "one line for a newcomer to see it work, one to run the tests"
    assert [command for command in commands if command not in steps] == []


def test_the_type_checker_looks_at_every_folder_with_python_in_it() -> None:
    folders = {place(path).split("/")[0] for path in files(".py")}
    assert set(PYPROJECT["tool"]["mypy"]["files"]) == folders
