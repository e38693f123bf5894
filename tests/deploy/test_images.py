"""The Dockerfiles and compose.yml: what can be known of them without an engine.

`just container-test` builds and runs them; these keep them honest between two such runs.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from deploy.parts import ROOT, documents, run
from tinytown import settings

DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
COMPOSE: Any = documents(DOCKER / "compose.yml")[0]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
AGENTS = sorted(path.name for path in (DOCKER / "agents").iterdir())


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.stem)
def dockerfile(request: pytest.FixtureRequest) -> str:
    """Read each Dockerfile."""
    path: Path = request.param
    return path.read_text(encoding="utf-8")


def last_stage(text: str) -> str:
    """Cut out what becomes the image."""
    return text[text.rindex("\nFROM ") :]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_hadolint_finds_nothing(path: Path) -> None:
    said = run("hadolint", "--failure-threshold", "style", path)
    assert said.returncode == 0, said.stdout


def test_the_shell_scripts_are_clean_and_posix() -> None:
    scripts = [*DOCKER.glob("*.sh"), ROOT / "deploy" / "poll.sh"]
    assert len(scripts) == 3
    for script in scripts:
        assert script.read_text(encoding="utf-8").startswith("#!/bin/sh\n")
    said = run("shellcheck", "--shell=sh", *scripts)
    assert said.returncode == 0, said.stdout


def test_compose_fits_the_specification() -> None:
    said = run(
        "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DOCKER / "compose.yml"
    )
    assert said.returncode == 0, said.stdout


def test_an_image_builds_with_every_builder(dockerfile: str) -> None:
    """No syntax line and no mounts: those need BuildKit, and a hub to fetch its frontend from."""
    assert "# syntax=" not in dockerfile
    assert "--mount" not in dockerfile
    assert "--chmod" not in dockerfile


def test_an_image_runs_as_nobody_in_particular_behind_an_init(dockerfile: str) -> None:
    final = last_stage(dockerfile)
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert 'ENTRYPOINT ["tini", "--"]' in final
    assert final.index("USER ") > final.index("COPY --from=build /town /town")


def test_an_image_tells_its_version_and_health(dockerfile: str) -> None:
    final = last_stage(dockerfile)
    version = PYPROJECT["project"]["version"]
    assert f'org.opencontainers.image.version="{version}"' in final
    assert 'org.opencontainers.image.licenses="MIT"' in final
    assert re.search(r"^HEALTHCHECK ", final, re.MULTILINE)


def test_no_secret_has_a_way_into_a_layer(dockerfile: str) -> None:
    taken = re.findall(r"^(?:ARG|ENV|    )\s*([A-Z_]{3,})=?", dockerfile, re.MULTILINE)
    assert {"BASE"} <= set(taken)
    assert not [name for name in taken if re.search("KEY|TOKEN|SECRET|PASSWORD|URL", name)]


def test_only_what_is_named_reaches_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*", "everything stays out unless it is named"
    named = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert all((ROOT / name).exists() for name in named)
    copied = {
        source.rstrip("/")
        for path in DOCKERFILES
        for source in re.findall(r"^COPY (?!--from)(.+) \S+$", path.read_text(), re.MULTILINE)
        for source in source.split()
    }
    reached = {
        name for name in copied if any(name == to or name.startswith(to + "/") for to in named)
    }
    assert copied == reached


def test_the_build_backend_is_pinned_with_all_it_needs() -> None:
    """Hash-checked like the rest; the build fails for a name that is missing, this one sooner."""
    script = (DOCKER / "build.sh").read_text(encoding="utf-8")
    named = re.search(r'only "([a-z -]+)" requirements/development\.txt', script)
    assert named
    pins = (ROOT / "requirements" / "development.txt").read_text(encoding="utf-8")
    asked_by_hatchling = {
        block.partition("==")[0]
        for block in re.findall(r"^(\S.*(?:\n[ \t]+.*)*)", pins, re.MULTILINE)
        if re.search(r"\bhatchling$", block, re.MULTILINE)
    }
    assert asked_by_hatchling | {"hatchling"} <= set(named[1].split())


def test_what_the_images_leave_out_is_pinned_and_imported_by_nothing_of_ours() -> None:
    script = (DOCKER / "build.sh").read_text(encoding="utf-8")
    found = re.search(r"on = !/\^\(([a-z|-]+)\)==/", script)
    assert found
    pins = (ROOT / "requirements" / "town.txt").read_text(encoding="utf-8")
    for name in found[1].split("|"):
        assert re.search(rf"^{name}==", pins, re.MULTILINE), f"{name} is not pinned any more"
    left_out = [*found[1].split("|"), "cffi"]
    blocked = ", ".join(repr(name.replace("-", "_")) for name in left_out)
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys(({blocked},)))\n"  # importing any of them now fails
        "import tinytown.townhall, apprise, rich.console, rich.table, rich.live\n"
        "import tinytown_workers.__main__, nacl.secret\n"
        "from tinytown.cli.root import tt, _COMMANDS\n"
        "assert all(tt.get_command(None, name) for name in _COMMANDS)\n"
    )
    said = run("python", "-I", "-c", code)
    assert said.returncode == 0, said.stderr


def asked_for(agent: str) -> dict[str, str]:
    """Read what is installed for a CLI: its own package, or the programs of the two platforms."""
    text = (DOCKER / "agents" / agent / "package.json").read_text(encoding="utf-8")
    package = json.loads(text)
    return {**package.get("dependencies", {}), **package.get("optionalDependencies", {})}


@pytest.mark.parametrize("agent", AGENTS)
def test_a_coding_cli_is_pinned_for_both_architectures_by_hash(agent: str) -> None:
    text = (DOCKER / "agents" / agent / "package-lock.json").read_text(encoding="utf-8")
    locked = json.loads(text)["packages"]
    for name, version in asked_for(agent).items():
        assert locked[f"node_modules/{name}"]["version"] == version
    packages = {each for each in locked if each}
    for cpu in ("x64", "arm64"):
        assert any(re.search(f"linux-{cpu}(-baseline)?$", each) for each in packages), cpu
    for each in packages:
        assert locked[each]["integrity"].startswith("sha512-"), each
        assert "resolved" not in locked[each], each


def test_npm_would_take_the_locks_as_they_are() -> None:
    """`npm ci` refuses a lock that lacks what a package asks for, optional or not."""
    for agent in AGENTS:
        text = (DOCKER / "agents" / agent / "package-lock.json").read_text(encoding="utf-8")
        locked = json.loads(text)["packages"]
        for name, package in locked.items():
            for needed in {
                **package.get("dependencies", {}),
                **package.get("optionalDependencies", {}),
            }:
                assert f"node_modules/{needed}" in locked, f"{agent}: {name} wants {needed}"


def test_the_image_has_the_clis_that_the_tests_drive_in_the_same_versions() -> None:
    tested = json.loads((ROOT / "tools" / "agents" / "package.json").read_text())["dependencies"]
    baked = {name: version for agent in AGENTS for name, version in asked_for(agent).items()}
    assert AGENTS == ["claude", "codex", "opencode"]
    assert {name: baked.get(name) for name in tested} == tested


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_can_do_nothing_it_need_not(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_services_start_in_order_and_a_worker_that_went_home_stays_there() -> None:
    services = COMPOSE["services"]
    healthy = {"condition": "service_healthy"}
    assert services["townhall"]["depends_on"] == {"redis": healthy, "gate": healthy}
    assert services["worker"]["depends_on"] == {"townhall": healthy}
    assert services["redis"]["healthcheck"]
    assert services["gate"]["healthcheck"]
    assert "/ready" in str(services["townhall"]["healthcheck"]["test"])
    assert services["worker"]["restart"] == "on-failure"
    assert services["townhall"]["mem_limit"] == "256m"


def test_only_the_gate_sees_the_engine_and_it_sees_nothing_else() -> None:
    with_socket = [name for name, each in COMPOSE["services"].items() if "SOCKET" in str(each)]
    assert sorted(with_socket) == ["gate", "townhall"]
    gate, townhall = COMPOSE["services"]["gate"], COMPOSE["services"]["townhall"]
    assert gate["network_mode"] == "none"
    assert not any("docker.sock" in volume for volume in townhall["volumes"])
    *_, image, network = gate["command"]
    told = townhall["environment"]
    assert image == told["TINYTOWN_WORKER_IMAGE"] == COMPOSE["services"]["worker"]["image"]
    assert network == told["TINYTOWN_WORKER_NETWORK"] == COMPOSE["networks"]["default"]["name"]
    assert gate["command"][4] == told["TINYTOWN_DOCKER_SOCKET"]
    assert [name for name, each in COMPOSE["services"].items() if each.get("user") == "0:0"] == [
        "gate"
    ]


def test_redis_keeps_what_it_was_told_and_forgets_nothing_when_full() -> None:
    command = COMPOSE["services"]["redis"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert COMPOSE["services"]["redis"]["volumes"] == ["redis:/data"]


@pytest.mark.parametrize("name", ["townhall", "worker"])
def test_what_compose_sets_is_what_the_programs_read(name: str) -> None:
    known = {each for setting in settings.catalogue() for each in setting.names}
    environment = COMPOSE["services"][name]["environment"]
    ours = {each for each in environment if each.startswith(("TINYTOWN_", "REDIS_", "FLY_"))}
    assert ours <= known
    defaults = {
        each: re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", str(environment[each])) for each in ours
    }
    assert settings.load(defaults).redis_url == "redis://redis:6379/0"


@pytest.mark.parametrize("name", ["townhall", "worker"])
def test_a_service_has_time_to_hand_back_before_it_is_killed(name: str) -> None:
    grace = int(COMPOSE["services"][name]["stop_grace_period"].removesuffix("s"))
    assert grace > settings.load({}).drain_seconds
