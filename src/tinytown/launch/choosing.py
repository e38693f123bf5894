"""Chooses the launcher that `TINYTOWN_LAUNCHER` names, and says first what is missing for it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final

from tinytown.launch import CannotLaunch, Launcher
from tinytown.launch.environment import container_environment
from tinytown.settings import Settings

# Only Fly's own machines have it, and only they reach the private address.
_ON_FLY: Final = "FLY_MACHINE_ID"


def check(config: Settings) -> None:
    """Make sure that the chosen launcher can work here; raises CannotLaunch with one line.

    What settings can contradict each other is said by `settings.load` already.
    """
    if config.launcher == "docker":
        from tinytown.launch.docker import check_socket

        check_socket(config.docker_socket)


def open_launcher(
    config: Settings, environ: Mapping[str, str], *, redis_url: str, log: int | None = None
) -> AbstractAsyncContextManager[Launcher]:
    """Open the chosen launcher, whose workers find the store at `redis_url`.

    `environ` is the town's environment; `log` takes the log lines of child processes. Only what is
    chosen is imported: a town without workers of its own needs no HTTP client.
    """
    match config.launcher:
        case "process":
            from tinytown.launch.process import process_launcher

            return process_launcher(
                environ,
                redis_url=redis_url,
                town=config.town,
                drain_seconds=config.drain_seconds,
                log=log,
            )
        case "docker":
            from tinytown.launch.docker import Shape, docker_launcher

            def environment(pool: str) -> dict[str, str]:
                return container_environment(
                    environ,
                    redis_url=redis_url,
                    town=config.town,
                    pool=pool,
                    more=config.launcher_env,
                )

            shape = Shape(
                image=config.worker_image,
                town=config.town,
                network=config.worker_network,
                memory_mb=config.worker_memory_mb,
            )
            return docker_launcher(config.docker_socket, shape, environment)
        case "fly":
            from tinytown.launch.fly import PRIVATE_URL, PUBLIC_URL, fly_launcher

            return fly_launcher(
                config.fly_api_url or (PRIVATE_URL if environ.get(_ON_FLY) else PUBLIC_URL),
                app=config.fly_app_name or "",
                token=config.fly_api_token or "",
                create=config.fly_create,
            )
        case "webhook":
            from tinytown.launch.webhook import webhook_launcher

            return webhook_launcher(config.launcher_url or "", config.launcher_secret)
        case "none":
            raise CannotLaunch("TINYTOWN_LAUNCHER=none starts nobody")
