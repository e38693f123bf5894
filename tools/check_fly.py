"""Checks a fly.toml without an account: what `fly config validate --strict` would, and more.

    python tools/check_fly.py fly.toml deploy/fly/suspend.toml

Fly's own check needs a login and the network, and its public JSON schema accepts unknown sections
and knows neither `restart` nor `checks`. The rules here are those of flyctl's validation, its
warnings taken for errors, and what this repository alone can know: that the Dockerfile is there.
"""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

Table: TypeAlias = Mapping[str, Any]
Problems: TypeAlias = Iterator[str]


def words(text: str) -> frozenset[str]:
    """Split a list of names."""
    return frozenset(text.split())


TOP: Final = words(
    "app primary_region kill_signal kill_timeout swap_size_mb console_command experimental build "
    "deploy env processes mounts http_service services checks files host_dedication_id "
    "machine_config container machine_checks restart vm statics metrics"
)
KEYS: Final = {
    "build": words(
        "builder args buildpacks image settings builtin dockerfile ignorefile build-target compose "
        "compression compression_level"
    ),
    "deploy": words(
        "strategy max_unavailable wait_timeout release_command release_command_timeout "
        "release_command_vm seed_command"
    ),
    "http_service": words(
        "internal_port force_https auto_stop_machines auto_start_machines min_machines_running "
        "processes concurrency tls_options http_options checks machine_checks"
    ),
    "check": words(
        "port type interval timeout grace_period method path protocol tls_skip_verify "
        "tls_server_name headers processes"
    ),
    "concurrency": words("type hard_limit soft_limit"),
    "vm": words(
        "size memory processes cpu_kind cpus memory_mb max_memory_mb gpus gpu_kind "
        "host_dedication_id persist_rootfs kernel_args"
    ),
    "restart": words("policy retries processes"),
    "metrics": words("port path https processes"),
}
STRATEGIES: Final = words("canary rolling immediate bluegreen")
POLICIES: Final = words("always on-failure never")
SIGNALS: Final = words("SIGINT SIGTERM SIGQUIT SIGUSR1 SIGUSR2 SIGKILL SIGSTOP")
LONGEST_KILL_SECONDS: Final = 300
LONGEST_CHECK_SECONDS: Final = 60
SHORTEST_INTERVAL_SECONDS: Final = 2  # of a check of the machine; a service's may have 1
UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+")


def seconds(value: Any) -> float | None:
    """Read a duration as Go writes it, or a number of seconds; None if it is neither."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str) or not DURATION.fullmatch(value):
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", value)
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def problems(config: Table, folder: Path) -> list[str]:
    """List everything that is wrong with a configuration which stands in `folder`."""
    groups = tuple(config.get("processes", {})) or ("app",)
    found = [
        problem
        for check in (unknown_keys, general, build, deploy, services, checks, machines)
        for problem in check(config)
    ]
    found += membership(config, groups)
    found += files(config, folder)
    return found


def unknown_keys(config: Table) -> Problems:
    """Find what Fly would silently pass over: misspelt keys and sections."""
    yield from strangers(config, TOP, "the top level")
    for section in ("build", "deploy", "http_service", "restart", "vm", "metrics"):
        for table in tables(config, section):
            yield from strangers(table, KEYS[section], f"[{section}]")
    for name, table in config.get("checks", {}).items():
        yield from strangers(table, KEYS["check"], f"[checks.{name}]")
    service = config.get("http_service", {})
    yield from strangers(service.get("concurrency", {}), KEYS["concurrency"], "concurrency")
    for table in service.get("checks", ()):
        yield from strangers(table, KEYS["check"], "[[http_service.checks]]")


def strangers(table: Table, known: frozenset[str], place: str) -> Problems:
    """Name the keys of a table that are not known there."""
    yield from (f"{place} has no key {key!r}" for key in table if key not in known)


def tables(config: Table, section: str) -> list[Table]:
    """Give a section that may stand once or several times as a list."""
    found = config.get(section, [])
    return [found] if isinstance(found, Mapping) else list(found)


def general(config: Table) -> Problems:
    """Check what stands at the top level, and the commands."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", str(config.get("app", ""))):
        yield "app is missing or no name"
    if config.get("kill_signal", "SIGINT") not in SIGNALS:
        yield f"kill_signal {config['kill_signal']!r} is none that Fly sends"
    if "kill_timeout" in config:
        wait = seconds(config["kill_timeout"])
        if wait is None or not 0 < wait <= LONGEST_KILL_SECONDS:
            yield f"kill_timeout must be a duration of at most {LONGEST_KILL_SECONDS} s"
    for name, value in config.get("env", {}).items():
        if not isinstance(value, str):
            yield f"env.{name} must be text"
    commands = {f"processes.{group}": line for group, line in config.get("processes", {}).items()}
    commands["console_command"] = config.get("console_command", "")
    commands["deploy.release_command"] = config.get("deploy", {}).get("release_command", "")
    for place, line in commands.items():
        try:
            shlex.split(line)
        except ValueError as error:
            yield f"{place} cannot be split as a shell would: {error}".lower()


def build(config: Table) -> Problems:
    """Check that there is one way to build."""
    ways = words("builder builtin image dockerfile compose") & config.get("build", {}).keys()
    if len(ways) > 1:
        yield f"build knows more than one way: {', '.join(sorted(ways))}"


def deploy(config: Table) -> Problems:
    """Check the strategy."""
    strategy = config.get("deploy", {}).get("strategy", "rolling")
    if strategy not in STRATEGIES:
        yield f"deploy.strategy {strategy!r} is none of {', '.join(sorted(STRATEGIES))}"
    if strategy == "canary" and config.get("mounts"):
        yield "deploy.strategy canary cannot be used with mounts"


def services(config: Table) -> Problems:
    """Check what is reached from outside."""
    service = config.get("http_service")
    if service is None:
        return
    if not is_port(service.get("internal_port", 8080)):
        yield "http_service.internal_port is no port"
    if service.get("auto_stop_machines", "off") not in {"off", "stop", "suspend"}:
        yield "http_service.auto_stop_machines is off, stop or suspend"
    fewest = service.get("min_machines_running", 0)
    if not isinstance(fewest, int) or isinstance(fewest, bool) or fewest < 0:
        yield "http_service.min_machines_running is no number of machines"
    limits = service.get("concurrency", {})
    if limits.get("type", "connections") not in {"connections", "requests"}:
        yield "concurrency.type is connections or requests"
    if limits.get("soft_limit", 20) > limits.get("hard_limit", limits.get("soft_limit", 20)):
        yield "concurrency.soft_limit is above the hard limit"
    for check in service.get("checks", ()):
        yield from times(check, "http_service.checks", shortest=1)
        if not str(check.get("path", "/")).startswith("/"):
            yield "http_service.checks: a path starts with /"


def checks(config: Table) -> Problems:
    """Check the checks of the machines."""
    for name, check in config.get("checks", {}).items():
        place = f"checks.{name}"
        if check.get("type") not in {"http", "tcp"}:
            yield f"{place}.type is http or tcp"
        if not is_port(check.get("port")) and not (
            check.get("port") is None and "http_service" in config
        ):
            yield f"{place}.port is missing or no port"
        if check.get("type") == "http" and not str(check.get("path", "")).startswith("/"):
            yield f"{place}.path must start with /"
        yield from times(check, place, shortest=SHORTEST_INTERVAL_SECONDS)


def times(check: Table, place: str, *, shortest: float) -> Problems:
    """Check the durations of a check."""
    for key, least in (("interval", shortest), ("timeout", 1), ("grace_period", 0)):
        if key not in check:
            continue
        value = seconds(check[key])
        if value is None:
            yield f"{place}.{key} is no duration"
        elif not least <= value <= LONGEST_CHECK_SECONDS:
            yield f"{place}.{key} must be {least:g} to {LONGEST_CHECK_SECONDS} s"


def machines(config: Table) -> Problems:
    """Check sizes, restarts and where metrics are."""
    for restart in tables(config, "restart"):
        policy = restart.get("policy")
        if policy not in POLICIES:
            yield f"restart.policy {policy!r} is none of {', '.join(sorted(POLICIES))}"
    for vm in tables(config, "vm"):
        if not re.fullmatch(r"(shared-cpu|performance)-\d+x", vm.get("size", "shared-cpu-1x")):
            yield f"vm.size {vm['size']!r} is neither shared-cpu-Nx nor performance-Nx"
        memory = vm.get("memory", "256mb")
        if not re.fullmatch(r"\d+|\d+ ?(mb|gb|MB|GB)", str(memory)):
            yield f"vm.memory {memory!r} is no size"
    for metrics in tables(config, "metrics"):
        if not is_port(metrics.get("port")):
            yield "metrics.port is missing or no port"
        if not str(metrics.get("path", "/")).startswith("/"):
            yield "metrics.path must start with /"


def membership(config: Table, groups: tuple[str, ...]) -> Problems:
    """Check that each section names groups that exist, and that none is served twice."""
    named: list[tuple[str, Table]] = [
        (section, table)
        for section in ("http_service", "restart", "vm", "metrics")
        for table in tables(config, section)
    ]
    named += [(f"checks.{name}", table) for name, table in config.get("checks", {}).items()]
    for section, table in named:
        for group in table.get("processes", ()):
            if group not in groups:
                yield f"{section} names the group {group!r}, which does not exist"
        must = section == "http_service" and "processes" in config
        if must and not table.get("processes"):
            yield "http_service must say which of the processes it is for"
    for section in ("vm", "restart"):
        seen = [
            group for table in tables(config, section) for group in table.get("processes", groups)
        ]
        for group in sorted({group for group in seen if seen.count(group) > 1}):
            yield f"{section} is given more than once for {group}"


def files(config: Table, folder: Path) -> Problems:
    """Check that the Dockerfile, its stage and its arguments exist; its path starts at fly.toml."""
    section = config.get("build", {})
    if "dockerfile" not in section:
        return
    path = folder / section["dockerfile"]
    if not path.is_file():
        yield f"build.dockerfile: there is no {section['dockerfile']} beside this file"
        return
    text = path.read_text(encoding="utf-8")
    stage = section.get("build-target")
    if stage and not re.search(rf"^FROM .* AS {re.escape(stage)}$", text, re.MULTILINE):
        yield f"build.build-target: the Dockerfile has no stage {stage!r}"
    for name in section.get("args", {}):
        if not re.search(rf"^ARG {re.escape(name)}\b", text, re.MULTILINE):
            yield f"build.args: the Dockerfile takes no {name}"


def is_port(value: Any) -> bool:
    """Tell whether a value can be a port."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536


def main(arguments: list[str], say: Callable[[str], object] = sys.stdout.write) -> int:
    """Check files; 0 if all are well."""
    failed = False
    for name in arguments or ["fly.toml"]:
        path = Path(name)
        found = problems(tomllib.loads(path.read_text(encoding="utf-8")), path.parent)
        failed = failed or bool(found)
        say("".join(f"{name}: {problem}\n" for problem in found) or f"{name}: ok\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
