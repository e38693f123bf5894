"""Endpoints from the laptop: added, tried, paused, removed; and what was sent to them."""

from __future__ import annotations

import anyio

from conftest import Eventually
from laptop import Laptop
from tinytown.townhall import Townhall
from tinytown_notifiers.standin import stand_in
from towns import hand, settle, start


async def test_the_life_of_an_endpoint(tt: Laptop) -> None:
    async with stand_in() as phone:
        said = await tt("endpoint", "add", phone.endpoint("my-secret-topic"), "--name", "phone")
        name = said.out.strip()
        (listed,) = (await tt("endpoint", "list", "--json")).json["items"]
        assert (listed["id"], listed["name"], listed["state"]) == (name, "phone", "active")
        assert "my-secret-topic" not in listed["url"]
        assert (await tt("endpoint", "test", name)).out.startswith("delivered in ")
        with anyio.fail_after(5):
            assert (await phone.next()).topic == "my-secret-topic"
        assert (await tt("endpoint", "pause", name)).out == f"{name} is disabled\n"
        assert (await tt("endpoint", "resume", "last", "--json")).json["state"] == "active"
        assert "name:" in (await tt("endpoint", "show", name)).out
        assert (await tt("endpoint", "remove", name)).out == f"{name} is removed\n"
    await tt("endpoint", "show", name, code=3)
    assert "nobody is told" in (await tt("endpoint", "list")).err


async def test_a_test_push_that_fails_is_a_failure(tt: Laptop) -> None:
    name = (await tt("endpoint", "add", "ntfy://127.0.0.1:9/nobody")).out.strip()
    said = await tt("endpoint", "test", name, code=1)
    assert said.err.startswith("tt: the test message failed: ")


async def test_an_address_nobody_can_send_to_is_wrong_use(tt: Laptop) -> None:
    await tt("endpoint", "add", "gopher://x/y", code=2)


async def test_only_events_that_exist_can_be_asked_for(away: Laptop) -> None:
    said = await away("endpoint", "add", "ntfy://x/y", "--events", "mission.eaten", code=2)
    assert "no event matches mission.eaten" in said.err


async def test_deliveries_tell_of_every_attempt(
    tt: Laptop, hall: Townhall, eventually: Eventually
) -> None:
    store = hall.town.store
    async with stand_in() as phone:
        arguments = ("--events", "mission.completed,mission.failed")
        name = (await tt("endpoint", "add", phone.endpoint(), *arguments)).out.strip()
        mission = await start(store)
        worker = await hand(store)
        await settle(store, await worker.take())
        with anyio.fail_after(5):
            assert "Done" in (await phone.next()).title

        async def recorded() -> bool:
            found = await store.deliveries.of_endpoint(name, cursor=None, limit=10)
            return [each.state.value for each in found[0]] == ["delivered"]

        await eventually(recorded)
        for command in (("endpoint", "deliveries", name), ("deliveries",)):
            (each,) = (await tt(*command, "--json")).json["items"]
            assert each["event"]["type"] == "mission.completed"
            assert each["event"]["mission_id"] == mission.id
            assert len(each["attempts"]) == 1
    assert (await tt("deliveries", "--dead")).err == "no deliveries\n"
    await tt("replay", "dlv_nothing", code=3)
