"""What of the townhall's environment a worker gets (pure).

A child process on the same machine gets everything but the town's own secrets. A container gets
only what is named: what a worker reads itself, what coding CLIs log in with, and what the operator
lists in `TINYTOWN_LAUNCHER_ENV`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

# What the townhall may know and a worker need not: it neither answers for the town nor pushes.
# The secret key is not among them: it opens what another worker parked.
_NOT_FOR_WORKERS: Final = frozenset(
    {
        "TINYTOWN_API_KEY",
        "TINYTOWN_PROBE_KEY",
        "TINYTOWN_NOTIFY",
        "TINYTOWN_LAUNCHER_SECRET",
        "TINYTOWN_LAUNCHER_URL",
        "FLY_API_TOKEN",
    }
)
_OWN: Final = tuple(
    f"TINYTOWN_{name}"
    for name in (
        "AGENT", "AGENT_COMMAND", "MODEL", "PERMISSIONS", "GIT_TOKEN", "BUDGET_USD",
        "TASK_SECONDS", "SILENCE_SECONDS", "IDLE_SECONDS", "HOLD_SECONDS", "DRAIN_SECONDS",
        "LEASE_SECONDS", "SECRET_KEY", "LOG",
    )
)  # fmt: skip
"""Settings that a worker reads; places (`HOME`, `WORK_DIR`) are the image's own."""
_LOGINS: Final = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CODEX_API_KEY",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
)
_NETWORK: Final = tuple(
    spelt for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY") for spelt in (name, name.lower())
)


def worker_environment(
    environ: Mapping[str, str], *, redis_url: str, town: str, pool: str
) -> dict[str, str]:
    """Build the environment of a worker: the town's, without its secrets, for one pool."""
    kept = {name: value for name, value in environ.items() if name not in _NOT_FOR_WORKERS}
    return kept | {"REDIS_URL": redis_url, "TINYTOWN_TOWN": town, "TINYTOWN_POOL": pool}


def container_environment(
    environ: Mapping[str, str], *, redis_url: str, town: str, pool: str, more: Iterable[str] = ()
) -> dict[str, str]:
    """Build the environment of a worker elsewhere: only what is on the list."""
    allowed = {*_OWN, *_LOGINS, *_NETWORK, *more} - _NOT_FOR_WORKERS
    kept = {name: environ[name] for name in sorted(allowed) if environ.get(name)}
    return kept | {"REDIS_URL": redis_url, "TINYTOWN_TOWN": town, "TINYTOWN_POOL": pool}
