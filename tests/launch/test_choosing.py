"""Which launcher a town gets, and what it says when that one cannot work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinytown import settings
from tinytown.launch import CannotLaunch
from tinytown.launch.choosing import check, open_launcher
from tinytown.settings import SettingsError

REDIS = {"REDIS_URL": "redis://town.example:6379"}
FLY = {**REDIS, "TINYTOWN_LAUNCHER": "fly", "FLY_API_TOKEN": "secret", "FLY_APP_NAME": "town"}


async def base_url(environ: dict[str, str]) -> str:
    """Give the address that a town of this environment asks for machines."""
    config = settings.load(environ)
    async with open_launcher(config, environ, redis_url="redis://r") as launcher:
        return str(launcher._client.base_url)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"TINYTOWN_LAUNCHER": "process"}, "process"),
        ({**REDIS, "TINYTOWN_LAUNCHER": "docker"}, "docker"),
        (FLY, "fly"),
        ({"TINYTOWN_LAUNCHER": "webhook", "TINYTOWN_LAUNCHER_URL": "https://x.test/"}, "webhook"),
    ],
)
async def test_each_name_is_a_launcher(environ: dict[str, str], name: str) -> None:
    config = settings.load(environ)
    async with open_launcher(config, environ, redis_url="redis://r:6379") as launcher:
        assert launcher.name == name
        assert launcher.outlived == (name != "process")


def test_none_is_no_launcher() -> None:
    config = settings.load({})
    check(config)
    with pytest.raises(CannotLaunch):
        open_launcher(config, {}, redis_url="redis://r")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"TINYTOWN_LAUNCHER": "docker"}, "TINYTOWN_LAUNCHER=docker needs REDIS_URL"),
        (
            {**REDIS, "TINYTOWN_LAUNCHER": "fly"},
            "TINYTOWN_LAUNCHER=fly needs FLY_API_TOKEN and FLY_APP_NAME",
        ),
        (
            {"TINYTOWN_LAUNCHER": "webhook"},
            "TINYTOWN_LAUNCHER=webhook needs TINYTOWN_LAUNCHER_URL",
        ),
        (
            {"TINYTOWN_LAUNCHER_URL": "x.test/secret"},
            "TINYTOWN_LAUNCHER_URL: should be a URL such as https://scaler.example/wake",
        ),
        (
            {"TINYTOWN_LAUNCHER_ENV": "A=1"},
            "TINYTOWN_LAUNCHER_ENV=A=1: expected names of variables",
        ),
        (
            {"TINYTOWN_LAUNCHER_SECRET": "short"},
            "TINYTOWN_LAUNCHER_SECRET: should have 16 characters or more",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_named(environ: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings.load(environ)
    assert str(refused.value) == said


async def test_fly_is_asked_at_its_private_address_where_there_is_one() -> None:
    assert await base_url(FLY) == "https://api.machines.dev/v1/"
    inside = {**FLY, "FLY_MACHINE_ID": "148e"}
    assert await base_url(inside) == "http://_api.internal:4280/v1/"
    told = {**inside, "TINYTOWN_FLY_API_URL": "http://127.0.0.1:4280/v1/"}
    assert await base_url(told) == "http://127.0.0.1:4280/v1/"


def test_a_townhall_that_cannot_start_workers_says_so_in_one_line(home: Path) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "TINYTOWN_HOME": str(home),
        "TINYTOWN_LAUNCHER": "docker",
        "TINYTOWN_DOCKER_SOCKET": str(home / "none.sock"),
        **REDIS,
    }
    said = subprocess.run(
        [sys.executable, "-m", "tinytown.townhall"],
        env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 2
    assert said.stderr == (
        f"townhall: TINYTOWN_LAUNCHER=docker: there is no socket {home}/none.sock "
        "(TINYTOWN_DOCKER_SOCKET)\n"
    )
