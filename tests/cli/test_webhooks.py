"""Programs from the laptop: added, changed, rotated, tried, told again; and one on this machine."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from standardwebhooks.webhooks import Webhook

from conftest import Eventually
from fakes.web import Recorder
from laptop import KEY, Laptop
from tinytown import standard_webhooks
from tinytown.settings import Secret, Settings
from tinytown.townhall import Townhall, running_townhall
from towns import start


def secret_in(words: str) -> str:
    """Find the secret that a command told."""
    return words.partition("shown only now: ")[2].split()[0]


async def test_a_program_is_added_with_all_its_wishes_and_told_its_secret_once(
    tt: Laptop,
) -> None:
    with Recorder() as program:
        said = await tt(
            *("endpoint", "add", f"{program.address}/hidden", "--name", "board"),
            *("--events", "mission.*,question.asked", "--label", "team=blue"),
            *("--format", "cloudevents", "--payload", "thin", "--header", "X-Team: blue"),
            *("--in-flight", "2", "--rate", "5", "--schedule", "5s,1m,2h", "--fifo"),
        )
        name = said.out.strip()
        secret = secret_in(said.err)
        read = (await tt("endpoint", "show", name, "--json")).json
        assert (read["kind"], read["format"], read["payload"]) == (
            *("webhook", "cloudevents", "thin"),
        )
        assert (read["filter"]["labels"], read["fifo"]) == ({"team": "blue"}, True)
        assert (read["schedule_seconds"], read["rate_per_second"]) == ([5, 60, 7200], 5)
        assert read["headers"] == {"X-Team": "***"}
        tried = await tt("endpoint", "test", name)
        assert "status 200" in tried.out
        [asked] = program.requests
        Webhook(secret).verify(asked.body.decode(), asked.headers)
        shown = await tt("endpoint", "show", name)
        for words in (shown.out, (await tt("endpoint", "list")).out):
            assert "hidden" not in words
            assert secret not in words
        assert "x-team" in shown.out.lower()


async def test_a_secret_of_ones_own_comes_by_standard_input_and_is_not_told(tt: Laptop) -> None:
    secret = standard_webhooks.new_secret("v1a")
    said = await tt(
        *("endpoint", "add", "http://127.0.0.1:9/", "--secret", "-"), stdin=secret.encode()
    )
    assert secret not in said.err
    assert str(standard_webhooks.public_key(secret)) in said.err


async def test_what_contradicts_itself_is_wrong_use(tt: Laptop, away: Laptop) -> None:
    await away("endpoint", "add", "ntfy://x/y", "--webhook", "--kind", "push", code=2)
    await away("endpoint", "add", "http://x.example", "--header", "no-colon", code=2)
    await away("endpoint", "add", "http://x.example", "--schedule", "soon", code=2)
    said = await tt("endpoint", "add", "ntfy://127.0.0.1/topic", "--format", "slack", code=2)
    assert "only a webhook has format" in said.err
    await tt("endpoint", "add", "https://10.0.0.1/", code=2)


async def test_changes_keep_what_is_not_named_and_are_refused_when_stale(tt: Laptop) -> None:
    name = (
        await tt(
            "endpoint", "add", "http://127.0.0.1:9/", "--header", "X-A: a", "--header", "X-B: b"
        )
    ).out.strip()
    said = await tt("endpoint", "change", name, "--header", "X-C: c", "--header", "X-A:", "--json")
    assert sorted(said.json["headers"]) == ["X-B", "X-C"]
    changed = (await tt("endpoint", "change", "last", "--events", "mission.*", "--json")).json
    assert (changed["events"], sorted(changed["headers"])) == (["mission.*"], ["X-B", "X-C"])
    await tt("endpoint", "change", name, "--name", "x", "--if-match", '"old"', code=4)
    await tt("endpoint", "change", name, code=2)
    await tt("endpoint", "remove", name, "--if-match", '"old"', code=4)


async def test_a_rotated_secret_is_told_once_and_the_old_one_ends(tt: Laptop) -> None:
    added = await tt("endpoint", "add", "http://127.0.0.1:9/", "--webhook")
    said = await tt("endpoint", "rotate", "last", "--overlap", "2h")
    assert secret_in(said.err) != secret_in(added.err)
    shown = (await tt("endpoint", "show", added.out.strip())).out
    assert "ends in 2 h" in shown or "ends in 1 h" in shown
    pair = await tt("endpoint", "rotate", "last", "--signing", "v1a", "--overlap", "0", "--json")
    assert (len(pair.json["secrets"]), pair.json["secret"]) == (1, None)


async def test_what_was_given_up_is_counted_before_it_is_sent_again(
    tt: Laptop, hall: Townhall, eventually: Eventually
) -> None:
    with Recorder(status=400, headers={"webhook-delivery": "abort-message"}) as program:
        arguments = ("--events", "mission.created")
        name = (await tt("endpoint", "add", program.address, *arguments)).out.strip()
        for _ in range(3):
            await start(hall.town.store)

        async def dead() -> bool:
            asked = await tt("deliveries", "--dead", "--endpoint", name, "--json")
            return len(asked.json["items"]) == 3

        await eventually(dead)
        program.status, program.headers = 200, {}
        await tt("replay", code=2)
        await tt("replay", "dlv_1", "--all", code=2)
        asked = await tt("replay", "--endpoint", name, "--since", "1h", code=2)
        assert "3 given up: say --yes" in asked.err
        before = len(program.requests)
        [one, *_] = (await tt("deliveries", "--dead", "--json")).json["items"]
        assert (await tt("replay", one["id"])).out == f"{one['id']} is due\n"
        begun = await tt("replay", "--endpoint", name, "--since", "1h", "--yes")
        assert "2 given up" in begun.err
        await eventually(lambda: len(program.requests) == before + 3)
        [replay] = (await tt("replays", "--json")).json["items"]
        assert (replay["id"], replay["done"]) == (begun.out.strip(), 2)
        assert begun.out.strip() in (await tt("replays")).out
        assert (await tt("replay", one["id"])).out == f"{one['id']} is due\n", "what was delivered"
        nothing = await tt("replay", "--all")
        assert "nothing to send again" in nothing.err


async def test_an_endpoint_recovers_what_it_missed(
    tt: Laptop, hall: Townhall, eventually: Eventually
) -> None:
    with Recorder() as program:
        name = (await tt("endpoint", "add", program.address, "--events", "mission.created")).out
        name = name.strip()
        await tt("endpoint", "pause", name)
        for _ in range(2):
            await start(hall.town.store)
        await tt("endpoint", "recover", name, "--since", "1h", "--yes", code=4)
        await tt("endpoint", "resume", name)
        counted = await tt("endpoint", "recover", name, "--since", "1h", "--dry-run", "--yes")
        assert (counted.out, program.requests) == ("0 given up, 2 never sent\n", [])
        assert (await tt("replays", "--json")).json["items"] == []
        said = await tt("endpoint", "recover", name, "--since", "1h", "--yes", "--json")
        assert (said.json["endpoint_id"], said.json["missing"]) == (name, True)
        await eventually(lambda: len(program.requests) == 2)


async def test_a_mission_calls_back(tt: Laptop, eventually: Eventually) -> None:
    with Recorder() as program:
        said = await tt("mission", "start", "do it", "--callback", f"{program.address}/hidden")
        secret = secret_in(said.err)
        await tt("mission", "cancel", said.out.strip())
        await eventually(lambda: program.requests)
        [asked] = program.requests
        Webhook(secret).verify(asked.body.decode(), asked.headers)
        assert secret not in (await tt("mission", "show", "last", "--json")).out
        callback = f"end_{said.out.strip()[4:]}"
        assert "mission.canceled" in (await tt("endpoint", "deliveries", callback)).out


async def listener(process: Process) -> str:
    """Wait until a listening command says that it listens; its endpoint's id."""
    assert process.stderr is not None
    words = BufferedByteReceiveStream(process.stderr)
    with anyio.fail_after(15):
        said = (await words.receive_until(b" hears ", 10_000)).decode()
    return said.split()[-1]


async def test_somebody_sees_a_delivery_arrive_in_their_terminal(
    tt: Laptop, hall: Townhall
) -> None:
    async with tt.running("endpoint", "listen", "--events", "mission.*", "--json") as process:
        name = await listener(process)
        await tt("endpoint", "test", name)
        mission = await start(hall.town.store)
        assert process.stdout is not None
        lines = BufferedByteReceiveStream(process.stdout)
        came: list[Any] = []
        with anyio.fail_after(15):
            while len(came) < 2:
                came.append(msgspec.json.decode(await lines.receive_until(b"\n", 100_000)))
        assert [each["verified"] for each in came] == [True, True]
        assert [each["body"]["type"] for each in came] == ["ping", "mission.created"]
        assert came[1]["body"]["mission_id"] == mission.id
        process.send_signal(signal.SIGINT)
        with anyio.fail_after(10):
            assert await process.wait() == 0
    assert (await tt("endpoint", "list", "--json")).json["items"] == []


async def test_a_delivery_in_the_terminal_is_one_readable_line(tt: Laptop, hall: Townhall) -> None:
    arguments = ("--signing", "v1a", "--count", "1", "--events", "mission.created")
    async with tt.running("endpoint", "listen", *arguments) as process:
        await listener(process)
        await start(hall.town.store)
        assert process.stdout is not None
        with anyio.fail_after(15):
            line = (
                await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 9_999)
            ).decode()
            assert await process.wait() == 0
        assert "mission.created" in line
        assert "  verified  " in line


async def test_a_town_that_may_not_call_this_machine_says_what_to_set(
    away: Laptop, redis_url: str, tmp_path: Path
) -> None:
    config = Settings(redis_url=Secret(redis_url), port=0, api_key=Secret(KEY), home=tmp_path)
    async with running_townhall(config) as hall:
        tt = away.knowing(TINYTOWN_URL=hall.address, TINYTOWN_API_KEY=KEY)
        said = await tt("endpoint", "listen", code=1)
        assert "TINYTOWN_EGRESS_ALLOW=127.0.0.1" in said.err


async def test_a_town_elsewhere_cannot_call_this_machine(away: Laptop) -> None:
    far = away.knowing(TINYTOWN_URL="https://town.example", TINYTOWN_API_KEY=KEY)
    said = await far("endpoint", "listen", code=2)
    assert "tunnel" in said.err
