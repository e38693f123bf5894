"""What end-to-end tests share: the real CLIs, and a model that follows its script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.model_server import ModelServer
from e2e.rig import installed_agents


@pytest.fixture(scope="session")
def agents_path() -> str:
    """Install the pinned CLIs once; returns the PATH entries that find them."""
    return installed_agents()


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """Lend a model server of one's own."""
    with ModelServer() as server:
        yield server
