"""Other services' hooks against whole townhalls: GitHub's real payloads, kills, and crowds."""

from __future__ import annotations

import copy
import signal
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from conftest import Eventually
from halls import HallProcess
from hands import workers
from hooking import LABELED, add_source, github, issue, latest, send
from packages import github_examples
from repositories import git
from tinytown.store import Store
from towns import open_town

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """Lend a look behind the counter."""
    async with open_town(redis_url) as store:
        yield store


def example(event: str, **fits: Any) -> dict[str, Any]:
    """Take one of GitHub's real payloads, to be changed at will."""
    for payload in github_examples()[event]:
        if all(payload.get(name) == value for name, value in fits.items()):
            return copy.deepcopy(payload)
    raise LookupError(event, fits)


async def counted(http: httpx.AsyncClient) -> dict[str, int]:
    """Read how many hooks came to what."""
    found = {}
    for line in (await http.get("/metrics")).text.splitlines():
        if line.startswith("tinytown_hooks_total{"):
            found[line.split('"')[1]] = int(float(line.split()[-1]))
    return found


async def test_all_of_githubs_real_payloads_are_taken_and_none_breaks_anything(
    redis_url: str, store: Store, eventually: Eventually
) -> None:
    with HallProcess(redis_url) as hall:
        async with hall.client() as http:
            open_to_all = {
                "author_associations": ["OWNER", "MEMBER", "COLLABORATOR", "CONTRIBUTOR", "NONE"],
                "label": "bug",
                "mention": "You",
            }
            sources = [
                await add_source(http, "github"),
                await add_source(http, "github", github=open_to_all),
            ]
            sent = 0
            for event, examples in github_examples().items():
                for payload in examples:
                    for source in sources:
                        reply = await send(http, source, github(event, payload))
                        assert reply.status_code == 202, (event, reply.text)
                        sent += 1
            assert sent > 600

            async def none_waits() -> bool:
                return await store.hooks.waiting() == 0

            await eventually(none_waits, within_seconds=30)
            await anyio.sleep(1.1)  # numbers are a second old at most
            found = await counted(http)
            assert found["stored"] == sent
            assert found["routed"] + found["ignored"] == sent, "none is dead"
            assert found["routed"] >= 1, "the open one obeys somebody"
            missions = (await http.get("/v1/missions?limit=100")).json()["items"]
            assert len(missions) >= 1
            assert all(mission["labels"]["repository"] for mission in missions)
    assert not [line for line in hall.log if line["level"] in {"error", "warning"}]


def upstream(folder: Path) -> str:
    """Make a repository that missions can clone and push to."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "master")
    (folder / "README").write_text("hello\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    git(folder, "config", "receive.denyCurrentBranch", "ignore")
    return f"file://{folder}"


async def test_a_real_payload_drives_a_mission_and_its_branch_a_follow_up(
    redis_url: str, store: Store, eventually: Eventually, tmp_path: Path
) -> None:
    payload = example("issues", action="labeled")
    name = payload["repository"]["full_name"]
    # The one thing that is not as GitHub sent it: where the repository can be cloned from here.
    payload["repository"]["clone_url"] = upstream(tmp_path / "hosts" / name)
    rules = {"label": payload["label"]["name"], "follow_up": True}
    rules["author_associations"] = [payload["issue"]["author_association"]]
    agent = 'cat > goal.txt; echo "$TINYTOWN_MISSION_ID" > seen.txt; echo done'
    with HallProcess(redis_url) as hall, workers(redis_url, tmp_path) as crew:
        crew.start(agent)
        async with hall.client() as http:
            source = await add_source(http, "github", github=rules)
            assert (await send(http, source, github("issues", payload))).status_code == 202

            async def completed(number: int) -> Any:
                items = (await http.get("/v1/missions?state=completed")).json()["items"]
                return len(items) == number and items

            await eventually(lambda: completed(1), within_seconds=40)
            [mission] = await completed(1)
            assert mission["title"].startswith(f"{name}#{payload['issue']['number']}: ")
            branch = f"tinytown/{mission['id']}"
            there = tmp_path / "hosts" / name
            goal = git(there, "show", f"{branch}:goal.txt")
            assert goal.strip() == mission["goal"].strip(), "it reached the agent as it is"
            assert payload["issue"]["body"].splitlines()[0] in goal

            run = example("check_run", action="completed")
            run["repository"] = payload["repository"]
            run["check_run"]["check_suite"]["head_branch"] = branch
            run["check_run"]["conclusion"] = "failure"
            await send(http, source, github("check_run", run))
            await eventually(lambda: completed(2), within_seconds=40)
            follow_up = next(m for m in await completed(2) if m["id"] != mission["id"])
            assert follow_up["ref"] == branch
            seen = git(there, "show", f"tinytown/{follow_up['id']}:seen.txt").strip()
            assert seen == follow_up["id"]
            log = (await http.get(f"/v1/missions/{mission['id']}/log")).json()["items"]
            assert f"{follow_up['id']} goes on" in log[-1]["entry"]["text"]


async def test_fifty_of_one_delivery_at_two_townhalls_start_one_mission(
    redis_url: str, store: Store, eventually: Eventually
) -> None:
    hook = github("issues", LABELED)
    found: list[bool] = []
    with HallProcess(redis_url) as one, HallProcess(redis_url) as two:
        async with one.client() as http, two.client() as other:
            source = await add_source(http, "github")

            async def post(client: httpx.AsyncClient) -> None:
                reply = await send(client, source, hook)
                assert reply.status_code == 202
                found.append(reply.json()["duplicate"])

            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(post, other if number % 2 else http)

            async def routed() -> bool:
                return bool((await latest(http, source))["state"] == "routed")

            await eventually(routed)
            missions = (await http.get("/v1/missions")).json()["items"]
    assert sorted(found) == [False] + [True] * 49
    assert len(missions) == 1


async def test_a_townhall_killed_between_storing_and_routing_loses_and_doubles_nothing(
    redis_url: str, store: Store, eventually: Eventually
) -> None:
    """Killed in full flow, again and again: every 202 is one mission in the end, never two."""
    taken: list[str] = []
    numbers = count(1)
    sources: list[dict[str, Any]] = []

    async def flow(client: httpx.AsyncClient) -> None:
        while True:
            payload = issue(action="labeled", label={"name": "tinytown"}, number=next(numbers))
            try:
                reply = await send(client, sources[0], github("issues", payload))
            except httpx.TransportError:
                return
            assert reply.status_code == 202
            taken.append(reply.json()["id"])

    left: list[int] = []
    kills = 6
    for kill in range(kills):
        with HallProcess(redis_url) as hall:
            async with hall.client() as http:
                if not sources:
                    sources.append(await add_source(http, "github"))
                async with anyio.create_task_group() as group:
                    for _ in range(8):
                        group.start_soon(flow, http)
                    before = len(taken)
                    await eventually(lambda least=before + 5 + 7 * kill: len(taken) > least)
                    hall.process.send_signal(signal.SIGKILL)
        left.append(await store.hooks.waiting())
    assert any(left), "nothing was on its way at any kill"
    with HallProcess(redis_url):

        async def none_waits() -> bool:
            return await store.hooks.waiting() == 0

        await eventually(none_waits, within_seconds=30)
    missions = []
    cursor = None
    while True:
        page, cursor = await store.missions.page(state=None, label=None, cursor=cursor, limit=100)
        missions += [mission.id for mission in page]
        if cursor is None:
            break
    wanted = {hook.replace("hok_", "mis_") for hook in taken}
    assert wanted <= set(missions), "every hook that was taken became its mission"
    # At a kill, one per sender may have been stored without its sender hearing so.
    assert len(missions) == len(set(missions)) <= len(wanted) + 8 * kills
