"""A real townhall on loopback, and `tt` as a person runs it: a process with its own environment."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from laptop import KEY, Laptop
from tinytown.settings import Secret, Settings
from tinytown.townhall import Townhall, running_townhall


@pytest.fixture
async def hall(redis_url: str, tmp_path: Path) -> AsyncIterator[Townhall]:
    """Run a townhall on the empty Redis."""
    config = Settings(
        redis_url=Secret(redis_url),
        port=0,
        api_key=Secret(KEY),
        home=tmp_path / "hall",
        egress_allow=("127.0.0.0/8",),
    )
    async with running_townhall(config) as hall:
        yield hall


@pytest.fixture
def away(tmp_path: Path) -> Laptop:
    """Lend a laptop that knows no town."""
    return Laptop(
        Path(sys.executable).with_name("tt"),
        {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "TINYTOWN_HOME": str(tmp_path / "laptop"),
            "TINYTOWN_PORT": "1",  # nobody listens there
        },
    )


@pytest.fixture
def tt(hall: Townhall, away: Laptop) -> Laptop:
    """Lend a laptop that is connected to the townhall."""
    return away.knowing(TINYTOWN_URL=hall.address, TINYTOWN_API_KEY=KEY)
