"""fly.toml in both shapes: against the public schema, against flyctl's rules, for its sense."""

from __future__ import annotations

import copy
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.conftest import Validate
from deploy.parts import ROOT, program, run, tool
from tinytown import settings
from tinytown.settings import Settings

SHAPES = [ROOT / "fly.toml", ROOT / "deploy" / "fly" / "suspend.toml"]
check_fly = tool("check_fly")


def read(path: Path) -> dict[str, Any]:
    """Read a configuration."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(params=SHAPES, ids=lambda path: path.name)
def shape(request: pytest.FixtureRequest) -> Path:
    """Name each of the two."""
    path: Path = request.param
    return path


@pytest.mark.schemas
def test_it_fits_the_public_schema(shape: Path, validate: Validate) -> None:
    assert validate("fly.json", read(shape)) == []


def test_it_passes_our_own_strict_check(shape: Path) -> None:
    assert check_fly.problems(read(shape), shape.parent) == []


def test_the_check_runs_as_a_command() -> None:
    said = run("python", "tools/check_fly.py", *SHAPES)
    assert said.returncode == 0, said.stdout
    assert said.stdout.count(": ok\n") == 2


def test_a_broken_file_fails_the_command_and_is_explained(tmp_path: Path) -> None:
    broken = tmp_path / "fly.toml"
    broken.write_text((ROOT / "fly.toml").read_text().replace("on-failure", "on-fail"))
    said = run("python", "tools/check_fly.py", broken)
    assert said.returncode == 1
    assert "restart.policy 'on-fail'" in said.stdout
    assert "there is no docker/worker.Dockerfile" in said.stdout


def move(config: dict[str, Any], old: str, new: str) -> None:
    """Misspell a key."""
    config[new] = config.pop(old)


MUTATIONS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a misspelt section": (lambda c: move(c, "checks", "check"), "no key 'check'"),
    "a misspelt key of a service": (
        lambda c: move(c["http_service"], "auto_stop_machines", "autostop"),
        "no key 'autostop'",
    ),
    "a misspelt key of a check": (
        lambda c: move(c["checks"]["ready"], "grace_period", "grace"),
        "no key 'grace'",
    ),
    "a misspelt key of a service's check": (
        lambda c: move(c["http_service"]["checks"][0], "path", "url"),
        "no key 'url'",
    ),
    "a misspelt limit": (
        lambda c: move(c["http_service"]["concurrency"], "soft_limit", "soft"),
        "no key 'soft'",
    ),
    "a misspelt key of a machine": (lambda c: move(c["vm"][0], "memory", "ram"), "no key 'ram'"),
    "a misspelt restart": (
        lambda c: move(c["restart"][1], "policy", "when"),
        "restart.policy None is none of",
    ),
    "a misspelt key of the build": (
        lambda c: move(c["build"], "build-target", "target"),
        "no key 'target'",
    ),
    "a misspelt key of metrics": (lambda c: move(c["metrics"][0], "path", "url"), "no key 'url'"),
    "no name": (lambda c: c.pop("app"), "app is missing"),
    "a signal nobody sends": (lambda c: c.update(kill_signal="TERM"), "kill_signal 'TERM'"),
    "a grace longer than Fly gives": (lambda c: c.update(kill_timeout="301s"), "kill_timeout"),
    "a grace without a unit": (lambda c: c.update(kill_timeout="40"), "kill_timeout"),
    "a number in the environment": (lambda c: c["env"].update(A=1), "env.A must be text"),
    "a command no shell can split": (
        lambda c: c["processes"].update(worker="tt 'agent"),
        "processes.worker cannot be split",
    ),
    "two ways to build": (lambda c: c["build"].update(image="x"), "more than one way"),
    "a Dockerfile that is not there": (
        lambda c: c["build"].update(dockerfile="docker/fly.Dockerfile"),
        "there is no docker/fly.Dockerfile",
    ),
    "a stage that is not there": (
        lambda c: c["build"].update({"build-target": "fly"}),
        "no stage 'fly'",
    ),
    "an argument nobody takes": (lambda c: c["build"]["args"].update(AGENT="x"), "takes no AGENT"),
    "an unknown strategy": (lambda c: c.update(deploy={"strategy": "all"}), "deploy.strategy"),
    "a canary with volumes": (
        lambda c: c.update(deploy={"strategy": "canary"}, mounts={"source": "a"}),
        "cannot be used with mounts",
    ),
    "a service for nobody": (
        lambda c: c["http_service"].pop("processes"),
        "must say which of the processes",
    ),
    "a service for a stranger": (
        lambda c: c["http_service"].update(processes=["town"]),
        "the group 'town', which does not exist",
    ),
    "a port that is none": (
        lambda c: c["http_service"].update(internal_port=80_800),
        "internal_port is no port",
    ),
    "half a stop": (
        lambda c: c["http_service"].update(auto_stop_machines="maybe"),
        "auto_stop_machines is",
    ),
    "a negative number of machines": (
        lambda c: c["http_service"].update(min_machines_running=-1),
        "min_machines_running",
    ),
    "a soft limit above the hard one": (
        lambda c: c["http_service"]["concurrency"].update(soft_limit=300),
        "above the hard limit",
    ),
    "another kind of limit": (
        lambda c: c["http_service"]["concurrency"].update(type="people"),
        "concurrency.type",
    ),
    "a path of a service's check without a slash": (
        lambda c: c["http_service"]["checks"][0].update(path="health"),
        "a path starts with /",
    ),
    "a service's check that never gives up": (
        lambda c: c["http_service"]["checks"][0].update(timeout="2m"),
        "timeout must be",
    ),
    "a check of another type": (
        lambda c: c["checks"]["ready"].update(type="https"),
        "type is http or tcp",
    ),
    "a check every second": (
        lambda c: c["checks"]["ready"].update(interval="1s"),
        "interval must be 2 to 60 s",
    ),
    "a check that waits too long": (
        lambda c: c["checks"]["ready"].update(timeout="61s"),
        "timeout must be 1 to 60 s",
    ),
    "a duration in words": (
        lambda c: c["checks"]["ready"].update(grace_period="soon"),
        "grace_period is no duration",
    ),
    "a check of no port": (lambda c: c["checks"]["ready"].update(port="http"), "port is missing"),
    "a check of no path": (
        lambda c: c["checks"]["ready"].update(path="ready"),
        "path must start with /",
    ),
    "a policy of the API": (
        lambda c: c["restart"][0].update(policy="no"),
        "restart.policy 'no'",
    ),
    "a restart of a stranger": (
        lambda c: c["restart"][0].update(processes=["web"]),
        "restart names the group 'web'",
    ),
    "two restarts of one group": (
        lambda c: c["restart"].append({"policy": "never", "processes": ["worker"]}),
        "restart is given more than once for worker",
    ),
    "two machines for one group": (
        lambda c: c["vm"].append({"memory": "1gb", "processes": ["townhall"]}),
        "vm is given more than once for townhall",
    ),
    "a machine nobody sells": (
        lambda c: c["vm"][0].update(size="tiny-1x"),
        "vm.size 'tiny-1x'",
    ),
    "memory in words": (lambda c: c["vm"][0].update(memory="much"), "vm.memory 'much'"),
    "metrics without a port": (lambda c: c["metrics"][0].pop("port"), "metrics.port"),
    "metrics without a slash": (
        lambda c: c["metrics"][0].update(path="metrics"),
        "metrics.path must start",
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_every_single_mistake_is_found(mutation: str) -> None:
    spoil, expected = MUTATIONS[mutation]
    config = copy.deepcopy(read(ROOT / "fly.toml"))
    spoil(config)
    assert any(expected in problem for problem in check_fly.problems(config, ROOT))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15s", 15), ("1m30s", 90), ("500ms", 0.5), (5, 5), ("1.5h", 5400), ("", None), ("5", None)],
)
def test_durations_are_read_as_go_writes_them(text: Any, seconds: float | None) -> None:
    assert check_fly.seconds(text) == seconds


def test_the_environment_is_what_the_programs_read(shape: Path) -> None:
    environ = {
        **read(shape)["env"],
        "REDIS_URL": "rediss://:password@redis.example:6379/0",
        "FLY_API_TOKEN": "token",
        "FLY_APP_NAME": "tinytown",
    }
    config = settings.load(environ)
    assert config.launcher == "fly"
    assert config.host == "0.0.0.0"  # noqa: S104 - Fly's proxy comes from outside the machine


def test_the_machines_get_the_time_that_a_worker_needs_to_hand_back(shape: Path) -> None:
    assert check_fly.seconds(read(shape)["kill_timeout"]) >= Settings().drain_seconds + 10


def test_an_idle_worker_stays_stopped_and_the_townhall_comes_back(shape: Path) -> None:
    policies = {table["processes"][0]: table["policy"] for table in read(shape)["restart"]}
    assert policies["worker"] == "on-failure"
    assert policies["townhall"] != "never"


def test_the_first_shape_never_stops_the_townhall_the_second_may_suspend_it() -> None:
    always, sleeping = (read(path)["http_service"] for path in SHAPES)
    assert (always["auto_stop_machines"], always["min_machines_running"]) == ("off", 1)
    assert (sleeping["auto_stop_machines"], sleeping["min_machines_running"]) == ("suspend", 0)


def test_both_shapes_are_one_town() -> None:
    first, second = (read(path) for path in SHAPES)
    for config in (first, second):
        config["build"].pop("dockerfile")
        config["http_service"].pop("auto_stop_machines")
        config["http_service"].pop("min_machines_running")
        config.pop("restart")
    assert first == second


def test_the_commands_of_the_groups_are_programs_of_ours(shape: Path) -> None:
    lines = read(shape)["processes"]
    assert lines == {"townhall": "townhall", "worker": "tt agent"}
    for line in lines.values():
        assert program(shlex.split(line)[0])
