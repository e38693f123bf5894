"""Sources from the laptop: added, tried, seen to work, rotated, removed."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from conftest import Eventually
from hooking import LABELED, SECRET, github, send
from laptop import Laptop
from tinytown.townhall import Townhall


async def test_the_life_of_a_source(tt: Laptop, hall: Townhall, eventually: Eventually) -> None:
    assert "tt source add github" in (await tt("source", "list")).err
    said = await tt("source", "add", "github", "--name", "ours", "--repository", "octo/*")
    name = said.out.strip()
    assert f"{hall.address}/hooks/{name}" in said.err
    secret = said.err.strip().rpartition(" ")[2]
    (listed,) = (await tt("source", "list", "--json")).json["items"]
    assert (listed["id"], listed["github"]["repositories"]) == (name, ["octo/*"])
    assert secret not in str(listed)
    async with httpx.AsyncClient(base_url=hall.address, trust_env=False) as service:
        reply = await send(service, {"id": name}, github("issues", LABELED, secret=secret))
        assert reply.status_code == 202

    async def routed() -> bool:
        return "routed" in (await tt("source", "hooks", "last")).out

    await eventually(routed)
    assert "start mission" in (await tt("source", "hooks", name)).out
    tried = await tt("source", "test", name, "--hook", "last")
    assert tried.out.startswith("issues.labeled would message (the thread octo/town#12 has an open")
    assert (await tt("source", "pause", name)).out == f"{name} is paused\n"
    assert (await tt("source", "resume", name, "--json")).json["state"] == "active"
    rotated = (await tt("source", "rotate", name, "--overlap", "1h", "--json")).json
    assert rotated["secret"] not in {None, secret}
    assert len(rotated["secrets"]) == 2
    assert "what is usual" in (await tt("source", "show", name)).out
    assert (await tt("source", "remove", name)).out == f"{name} is removed\n"
    await tt("source", "show", name, code=3)


async def test_a_rule_is_tried_on_a_pasted_payload(tt: Laptop, tmp_path: Path) -> None:
    rules, payload = tmp_path / "rules.json", tmp_path / "payload.json"
    rule = {"action": "start_mission", "with": {"goal": "Refund {{ payload.data.id }}"}}
    rules.write_text(json.dumps({**rule, "when": {"kind": "charge.disputed"}}))
    payload.write_text('{"type": "charge.disputed", "data": {"id": "ch_1"}}')
    said = await tt(
        "source", "add", "stripe", "--secret-stdin", "--rule", str(rules), stdin=SECRET.encode()
    )
    assert SECRET not in said.out + said.err
    found = await tt("source", "test", "last", str(payload))
    assert "charge.disputed would start mission" in found.out
    assert "goal:\nRefund ch_1" in found.out
    piped = await tt("source", "test", "last", "-", stdin=payload.read_bytes())
    assert piped.out == found.out
    payload.write_text('{"type": "charge.disputed"}')
    failed = await tt("source", "test", "last", str(payload), code=1)
    assert "it would fail: rule 1 needs payload.data.id" in failed.err
    await tt("source", "test", "last", code=2)
    await tt("source", "test", "last", "--hook", "last", code=2)


async def test_wrong_use_is_said_before_anything_is_sent(away: Laptop, tmp_path: Path) -> None:
    wrong = tmp_path / "rules.json"
    wrong.write_text('{"action": "explode"}')
    for arguments, why in (
        (("stripe", "--rule", str(wrong)), "explode"),
        (("stripe", "--follow-up"), "--follow-up is for github"),
        (("hmac", "--option", "header"), "not NAME=VALUE"),
        (("hmac", "--option", "colour=red"), "colour"),
        (("gitlab",), "gitlab"),
    ):
        said = await away("source", "add", *arguments, code=2)
        assert why in said.err
