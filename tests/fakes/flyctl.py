"""`fly`, as much of it as docs/deploy.md tells a person to type; it talks to a Machines API.

Started as a program. What it remembers between two commands (Fly's side of things) is a JSON file.

    FLY_STATE=FILE FLY_API_BASE=URL FLY_ADDRESS=URL FLY_TOKEN=… python flyctl.py apps create town
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

STATE: Final = Path(os.environ["FLY_STATE"])
# fly.toml's words for a restart policy, and the API's.
POLICIES: Final = {"always": "always", "on-failure": "on-failure", "never": "no"}


def ask(method: str, path: str, body: Any = None) -> Any:
    """Send one request, again where Fly asks for patience."""
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{os.environ['FLY_API_BASE']}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {os.environ['FLY_TOKEN']}"},
        method=method,
    )
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - loopback
                return json.load(reply)
        except urllib.error.HTTPError as error:
            if error.code != 429:
                raise
            time.sleep(1.1)  # one a second is allowed, and asking sooner counts


def groups(state: dict[str, Any]) -> list[str]:
    """List the process group of each machine."""
    found = ask("GET", f"/apps/{state['app']}/machines")
    return [each["config"]["metadata"]["fly_process_group"] for each in found]


def one_more(state: dict[str, Any], group: str) -> None:
    """Create a machine of a group, as the configuration says; it is created started."""
    config = state["config"]
    of_group = [each for each in config["restart"] if group in each["processes"]]
    machine = {
        "env": {**config["env"], "FLY_PROCESS_GROUP": group},
        "init": {"cmd": shlex.split(config["processes"][group])},
        "metadata": {"fly_process_group": group},
        "restart": {"policy": POLICIES[of_group[0]["policy"]]},
    }
    body = {"region": config["primary_region"], "config": machine}
    ask("POST", f"/apps/{state['app']}/machines", body)


def deploy(state: dict[str, Any], config: Path) -> None:
    """Release: one machine for each group that has none."""
    state["config"] = tomllib.loads(config.read_text(encoding="utf-8"))
    STATE.write_text(json.dumps(state))  # machines boot with it
    assert state["config"]["app"] == state["app"], "no such app"
    there = groups(state)
    for group in state["config"]["processes"]:
        if group not in there:
            one_more(state, group)
    for path in (state["config"]["http_service"]["checks"][0]["path"], *checks(state["config"])):
        wait_for(f"{os.environ['FLY_ADDRESS']}{path}")


def checks(config: dict[str, Any]) -> list[str]:
    """List the paths of the checks that only a deploy waits for."""
    return [check["path"] for check in config["checks"].values()]


def wait_for(url: str) -> None:
    """Wait until a check passes."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - loopback
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def main(arguments: list[str]) -> None:
    """Do what a person typed."""
    state: dict[str, Any] = json.loads(STATE.read_text()) if STATE.exists() else {"secrets": {}}
    match arguments:
        case ["apps", "create", name]:
            state["app"] = name
        case ["redis", "create"]:
            pass  # the person has one
        case ["tokens", "create", "deploy", "--expiry", duration]:
            assert re.fullmatch(r"\d+h", duration)
            sys.stdout.write(os.environ["FLY_TOKEN"])
        case ["secrets", "set", "--stage", *pairs]:
            state["secrets"] |= dict(pair.split("=", 1) for pair in pairs)
        case ["deploy", "--ha=false"]:
            deploy(state, Path("fly.toml"))
        case ["deploy", "--ha=false", "--config", config, "."]:
            deploy(state, Path(config))
        case ["scale", "count", wanted, "--yes"]:
            group, _, count = wanted.partition("=")
            for _ in range(int(count) - groups(state).count(group)):
                one_more(state, group)
        case _:
            sys.exit(f"fly: the guide should not say: {shlex.join(arguments)}")
    STATE.write_text(json.dumps(state))


if __name__ == "__main__":
    main(sys.argv[1:])
