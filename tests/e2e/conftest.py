"""What end-to-end tests share: the real CLIs, and a model that follows its script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from e2e.model_server import ModelServer
from e2e.rig import installed_agents
from e2e.street import Street, street
from repositories import git


@pytest.fixture(scope="session")
def agents_path() -> str:
    """Install the pinned CLIs once; returns the PATH entries that find them."""
    return installed_agents()


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """Lend a model server of one's own."""
    with ModelServer() as server:
        yield server


@pytest.fixture
async def town(tmp_path: Path, model: ModelServer, agents_path: str) -> AsyncIterator[Street]:
    """Open a town whose workers run the real CLIs."""
    async with street(tmp_path, model, path=agents_path) as opened:
        yield opened


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Make a bare repository with one commit."""
    bare, seed = tmp_path / "repo.git", tmp_path / "seed"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(bare))
    git(tmp_path, "clone", "-q", str(bare), str(seed))
    (seed / "README.md").write_text("# Garden\n")
    git(seed, "add", ".")
    git(seed, "commit", "-q", "-m", "Plant")
    git(seed, "push", "-q", "origin", "HEAD:main")
    return bare
