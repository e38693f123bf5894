"""What the types of the settings cannot say: what a value must look like, and what fits what."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from tinytown.settings.fields import Settings

_FLOORS: Final = {"api_key": 24, "secret_key": 16, "probe_key": 8, "launcher_secret": 16}
# What may follow `?` in REDIS_URL. Anything else (time-outs, retries, protocol, "ssl_cert_reqs=
# none") would quietly replace the client's own policy, so it is refused by name.
_REDIS_OPTIONS: Final = frozenset(
    {"db", "username", "password", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"}
)


def redis_url_problem(url: str) -> str | None:
    """Say what is wrong with a Redis URL, without repeating it; None if nothing is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is not a URL (a password with special characters must be percent-encoded)"
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    local = parts.scheme == "unix"
    refused = sorted(options.keys() - _REDIS_OPTIONS - {"ssl_cert_reqs"})
    database = options.get("db") or ("" if local else parts.path.strip("/"))
    wrong = {
        "should start with redis://, rediss:// or unix://": (
            parts.scheme not in {"redis", "rediss", "unix"}
        ),
        "should name an absolute path: unix:///run/redis.sock": (
            local and not parts.path.startswith("/")
        ),
        "should name a host: redis://host:6379/0": (
            not local and (not parts.hostname or port == 0)
        ),
        "may not switch off certificate checks (ssl_cert_reqs); name the CA in ssl_ca_certs": (
            options.get("ssl_cert_reqs", "required") != "required"
        ),
        f"has options the town sets itself: {', '.join(refused)}": bool(refused),
        "should end with the number of a database: redis://host:6379/0": (
            bool(database) and not database.isdigit()
        ),
    }
    return next((text for text, is_wrong in wrong.items() if is_wrong), None)


def value_problem(field: str, value: Any) -> str | None:
    """Check what a type cannot say; the text never repeats the value."""
    floor = _FLOORS.get(field, 0)
    if len(str(value)) < floor:
        return f"should have {floor} characters or more"
    check = _CHECKS.get(field)
    return check(value) if check else None


def _base_url_problem(url: str) -> str | None:
    """Check an address that paths are appended to."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        return "should be a base URL such as https://town.example"
    if parts.query or parts.fragment or "@" in parts.netloc:
        return "should have no user, query or fragment"
    return None


def _hook_url_problem(url: str) -> str | None:
    """Check an address that is posted to as it is; it may be a secret."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "should be a URL such as https://scaler.example/wake"
    return "should have no fragment" if parts.fragment else None


def _notify_problem(urls: tuple[str, ...]) -> str | None:
    """Name the first entry that cannot be an Apprise URL, by its place."""
    for place, url in enumerate(urls, start=1):
        if "://" not in url:
            return f"entry {place} is not an Apprise URL"
    return None


def _allow_problem(networks: tuple[str, ...]) -> str | None:
    """Name the first entry that is no network."""
    from tinytown.egress import parse_allow  # 3 ms that a worker need not pay

    try:
        parse_allow(" ".join(networks))
    except ValueError as error:
        return str(error)
    return None


def _command_problem(command: str) -> str | None:
    """Check that a shell could split the command line."""
    try:
        shlex.split(command)
    except ValueError as error:
        return f"a shell could not split this ({error})".lower()
    return None


_CHECKS: Final[dict[str, Callable[[Any], str | None]]] = {
    "redis_url": redis_url_problem,
    "public_url": _base_url_problem,
    "url": _base_url_problem,
    "fly_api_url": _base_url_problem,
    "launcher_url": _hook_url_problem,
    "notify": _notify_problem,
    "egress_allow": _allow_problem,
    "agent_command": _command_problem,
}


def contradictions(settings: Settings) -> list[str]:
    """Name the settings that do not fit each other."""
    problems = []
    if settings.agent == "command" and not settings.agent_command:
        problems.append("TINYTOWN_AGENT=command needs TINYTOWN_AGENT_COMMAND")
    needs: dict[str, dict[str, str | None]] = {
        # Containers and machines elsewhere cannot reach the embedded server's socket.
        "docker": {"REDIS_URL": settings.redis_url},
        "fly": {
            "REDIS_URL": settings.redis_url,
            "FLY_API_TOKEN": settings.fly_api_token,
            "FLY_APP_NAME": settings.fly_app_name,
        },
        "webhook": {"TINYTOWN_LAUNCHER_URL": settings.launcher_url},
    }
    missing = [name for name, value in needs.get(settings.launcher, {}).items() if not value]
    if missing:
        problems.append(f"TINYTOWN_LAUNCHER={settings.launcher} needs {' and '.join(missing)}")
    if len(set(settings.pool)) < len(settings.pool):
        problems.append("TINYTOWN_POOL names a pool twice")
    return problems
