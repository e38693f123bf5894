"""The composition root as `tt up` uses it: services live in the hall, addresses are real."""

from __future__ import annotations

import socket
from pathlib import Path

import anyio
import httpx
import pytest

from halls import API_KEY
from tinytown.errors import StoreUnavailable
from tinytown.http.listener import CannotListen, Listener
from tinytown.settings import Secret, Settings
from tinytown.store.client import CannotConnect
from tinytown.townhall import Service, Townhall, cause_of, running_townhall

pytestmark = pytest.mark.timeout(60)


def config(redis_url: str | None, **more: object) -> Settings:
    """Make the settings of a town on any free port."""
    url = None if redis_url is None else Secret(redis_url)
    return Settings(redis_url=url, port=0, api_key=Secret(API_KEY), **more)  # type: ignore[arg-type]


class Guest:
    """A service that writes down what it lives through."""

    name = "guest"

    def __init__(self, hall: Townhall, story: list[str]) -> None:
        self.hall = hall
        self.story = story

    async def run(self) -> None:
        """Come, stay, and look at the store once more while leaving."""
        self.story.append("came")
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await self.hall.town.store.clockwork.ping()
                async with httpx.AsyncClient(trust_env=False) as client:
                    ready = await client.get(f"{self.hall.address}/ready")
            self.story.append(f"left while the town was {ready.json()['status']}")


async def test_services_come_after_the_doors_open_and_leave_before_they_close(
    redis_url: str,
) -> None:
    story: list[str] = []
    async with running_townhall(
        config(redis_url), services=[lambda hall: Guest(hall, story)]
    ) as hall:
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{hall.address}/ready")).json()["status"] == "ok"
        assert story == ["came"]
        assert hall.redis_url == redis_url
        assert hall.first_key is None
    assert story == ["came", "left while the town was stopping"]
    with pytest.raises(OSError, match="connection attempts failed"):
        await anyio.connect_tcp("127.0.0.1", int(hall.address.rpartition(":")[2]))


async def test_a_service_that_cannot_go_on_ends_the_hall_with_its_reason(redis_url: str) -> None:
    class Broken:
        name = "broken"

        async def run(self) -> None:
            raise StoreUnavailable("the guest is ill")

    def build(_: Townhall) -> Service:
        return Broken()

    with pytest.raises(BaseExceptionGroup) as caught:
        async with running_townhall(config(redis_url), services=[build]) as hall:
            await hall.finished()
    assert str(cause_of(caught.value)) == "the guest is ill"


async def test_a_hall_can_be_told_to_stop_from_inside(redis_url: str) -> None:
    async with running_townhall(config(redis_url)) as hall:
        hall.stop()
        with anyio.fail_after(5):
            await hall.finished()


async def test_a_town_without_redis_url_keeps_its_data_between_starts(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        settings = Settings(home=tmp_path / "home", port=0)
        async with running_townhall(settings) as hall:
            assert hall.redis_url.startswith("unix://")
            keys.append(hall.first_key)
    assert keys[0] is not None
    assert keys[1] is None, "the key of the first start is still there"


async def test_what_cannot_work_is_raised_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(home=tmp_path / "home", port=port)
        with pytest.raises(CannotListen, match=f"127.0.0.1:{port}: address already in use"):
            async with running_townhall(settings):
                raise AssertionError("it must not start")
    assert not (tmp_path / "home").exists()
    with pytest.raises(CannotConnect):
        async with running_townhall(config("unix:///nowhere/redis.sock")):
            raise AssertionError("it must not start")


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("::1", "[::1]"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104 - that it can be asked for is what is tested
    ],
)
async def test_every_kind_of_address_is_listened_on_and_shown(
    redis_url: str, host: str, shown: str
) -> None:
    async with running_townhall(config(redis_url, host=host)) as hall:
        assert hall.address.startswith(f"http://{shown}:")
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{hall.address}/health")).status_code == 200


async def test_a_listener_that_was_never_served_lets_go_of_its_port() -> None:
    with Listener("127.0.0.1", 0) as first:
        port = first.port
    with Listener("127.0.0.1", port) as second:
        assert second.port == port
