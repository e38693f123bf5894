"""Connecting: which town, which key, and who may read them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from laptop import KEY, Laptop
from tinytown.cli import connection
from tinytown.cli.failures import Failure
from tinytown.settings import Secret, Settings
from tinytown.townhall import Townhall
from towns import ask, hand, start


async def test_connect_checks_and_remembers_for_its_owner_only(
    away: Laptop, hall: Townhall
) -> None:
    said = await away("connect", hall.address, "--key", KEY)
    assert f"connected to the town main at {hall.address}" in said.out
    file = away.home / "connection.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(away.home.stat().st_mode) == 0o700
    await away("mission", "list")


async def test_a_known_town_needs_no_key_again(away: Laptop, hall: Townhall) -> None:
    await away("connect", hall.address, stdin=f"{KEY}\n".encode())
    await away("connect", hall.address)
    assert KEY in (away.home / "connection.json").read_text()


async def test_a_wrong_key_is_not_remembered(away: Laptop, hall: Townhall) -> None:
    await away("connect", hall.address, "--key", "tt_wrong_0123456789abcdef", code=1)
    assert not (away.home / "connection.json").exists()


async def test_a_key_that_may_only_answer_is_a_good_key(
    tt: Laptop, away: Laptop, hall: Townhall
) -> None:
    key = (await tt("keys", "create", "thumb", "--scope", "answer")).out.strip()
    said = await away("connect", hall.address, "--key", key)
    assert said.out.startswith("connected to the town at ")
    store = hall.town.store
    await start(store)
    worker = await hand(store)
    _, question = await ask(store, await worker.take(), "Red?")
    assert (await away("answer", question, "yes")).out == "answered: yes\n"


async def test_somebody_who_was_never_connected_is_told_what_to_do(away: Laptop) -> None:
    said = await away("mission", "list", code=5)
    assert "tt up" in said.err
    assert said.err.count("\n") == 1


async def test_a_misspelt_setting_is_named(away: Laptop) -> None:
    said = await away.knowing(TINYTOWN_HOMME="x")("mission", "list", code=2)
    assert "TINYTOWN_HOMME" in said.err


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("town.example", "https://town.example"),
        ("localhost:8080", "http://localhost:8080"),
        ("127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://10.0.0.1:8080", "http://10.0.0.1:8080"),
        (" https://town.example/base/ ", "https://town.example/base"),
    ],
)
def test_an_address_is_read_as_a_person_means_it(typed: str, url: str) -> None:
    assert connection.base_url(typed) == url


@pytest.mark.parametrize(
    "typed", ["ftp://x", "https://", "https://me:pw@x", "http://x?y", "http://x:99999", "http://["]
)
def test_an_address_that_is_none_is_refused(typed: str) -> None:
    with pytest.raises(Failure) as refused:
        connection.base_url(typed)
    assert refused.value.exit_code == 2


def test_a_key_is_only_sent_where_it_belongs(tmp_path: Path) -> None:
    connection.remember(tmp_path, "https://one.example", "key-one")
    connection.remember(tmp_path, "https://two.example", "key-two")
    chosen = connection.choose(Settings(home=tmp_path))
    assert (chosen.url, chosen.key) == ("https://two.example", "key-two")
    chosen = connection.choose(Settings(home=tmp_path, url="https://one.example"))
    assert (chosen.url, chosen.key) == ("https://one.example", "key-one")
    chosen = connection.choose(Settings(home=tmp_path, url="https://three.example"))
    assert (chosen.url, chosen.key) == ("https://three.example", None)
    chosen = connection.choose(Settings(home=tmp_path, api_key=Secret("given")))
    assert chosen.key == "given"


def test_no_key_is_ever_shown_by_accident(tmp_path: Path) -> None:
    connection.remember(tmp_path, "https://one.example", "key-one")
    shown = repr(connection.read(tmp_path)) + repr(connection.choose(Settings(home=tmp_path)))
    assert "key-one" not in shown


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "connection.json").write_text("{")
    with pytest.raises(Failure, match="tt connect"):
        connection.read(tmp_path)


async def test_the_doctor_finds_a_healthy_town(tt: Laptop) -> None:
    said = await tt("doctor", "--json")
    verdicts = {each["what"]: each["verdict"] for each in said.json["findings"]}
    assert said.json["ok"]
    for what in ("settings", "redis", "town", "ready", "key", "git"):
        assert verdicts[what] == "ok", said.out
    assert said.json["settings"]["TINYTOWN_API_KEY"] != KEY


async def test_the_doctor_names_each_trouble(away: Laptop) -> None:
    sick = away.knowing(
        REDIS_URL="redis://127.0.0.1:9/0",
        TINYTOWN_URL="http://127.0.0.1:9",
        TINYTOWN_NOTIFY="ntfy://ok/topic gopher://no/where",
    )
    said = await sick("doctor", code=1)
    failed = [line for line in said.out.splitlines() if line.startswith("failed")]
    assert [line.split()[1] for line in failed] == ["redis", "town", "notify"]
    assert "entry 2" in failed[-1]
    said = await away.knowing(TINYTOWN_PORT="many")("doctor", code=1)
    assert "TINYTOWN_PORT" in said.out
