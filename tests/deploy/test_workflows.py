"""The workflows: what runs them is elsewhere, what they may do and whose code they run is here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from deploy.parts import ROOT, documents, run

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> Path:
    """Name each workflow."""
    path: Path = request.param
    return path


def jobs(path: Path) -> dict[str, Any]:
    """Read the jobs of a workflow."""
    found: dict[str, Any] = documents(path)[0]["jobs"]
    return found


def test_there_is_one_for_changes_and_one_for_releases() -> None:
    assert [path.stem for path in WORKFLOWS] == ["ci", "release"]


def test_it_fits_the_public_schema(workflow: Path) -> None:
    said = run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", workflow)
    assert said.returncode == 0, said.stdout


def test_whose_code_it_runs_is_fixed_by_digest_and_said_in_words(workflow: Path) -> None:
    used = re.findall(r"uses: (.+)$", workflow.read_text(encoding="utf-8"), re.MULTILINE)
    assert used
    for each in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each), each


def test_the_same_action_is_the_same_everywhere() -> None:
    digests: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for name, digest in re.findall(r"uses: ([\w/-]+)@(.+)$", path.read_text(), re.MULTILINE):
            digests.setdefault(name, set()).add(digest)
    assert {name: found for name, found in digests.items() if len(found) > 1} == {}


def test_it_may_read_and_a_job_asks_for_what_it_needs_besides(workflow: Path) -> None:
    assert documents(workflow)[0]["permissions"] == {"contents": "read"}
    writing = {
        name: sorted(scope for scope, may in job["permissions"].items() if may == "write")
        for name, job in jobs(workflow).items()
        if "permissions" in job
    }
    if workflow.stem == "ci":
        assert writing == {}
    else:
        assert writing == {
            "packages": ["attestations", "id-token"],
            "image": ["packages"],
            "tag": ["attestations", "id-token", "packages"],
            "release": ["contents"],
        }


def test_no_job_runs_for_ever_or_keeps_the_token_in_the_clone(workflow: Path) -> None:
    for name, job in jobs(workflow).items():
        assert 0 < job["timeout-minutes"] <= 90, name
        for step in job["steps"]:
            if str(step.get("uses", "")).startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, name


def test_no_step_pastes_a_text_from_outside_into_a_shell(workflow: Path) -> None:
    """`${{ … }}` in a script is pasted before the shell reads it; in `env` it is only a value."""
    for job in jobs(workflow).values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), step


def test_changes_are_asked_what_every_machine_asks() -> None:
    steps = jobs(WORKFLOWS[0])
    assert {"run": "bash .ci/run"} in steps["checks"]["steps"]
    ran = " ".join(step.get("run", "") for step in steps["containers"]["steps"])
    assert "tools.containers images" in ran
    assert "tools.containers test" in ran


def test_a_release_is_checked_first_and_has_both_architectures_and_its_papers() -> None:
    found = jobs(WORKFLOWS[1])
    assert found["packages"]["needs"] == found["image"]["needs"] == "checks"
    assert set(found["release"]["needs"]) == {"version", "packages", "tag"}
    matrix = found["image"]["strategy"]["matrix"]
    assert matrix["cpu"] == ["amd64", "arm64"]
    assert matrix["image"] == found["tag"]["strategy"]["matrix"]["image"]
    for row in matrix["include"]:
        assert (ROOT / row["dockerfile"]).is_file()
        assert not row["agents"] or (ROOT / "docker" / "agents" / row["agents"]).is_dir()
    build = next(step for step in found["image"]["steps"] if step.get("id") == "build")
    assert build["with"]["sbom"] is True
    assert build["with"]["provenance"] == "mode=max"
