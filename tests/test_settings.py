"""The environment becomes one struct, or one line that names every variable at fault."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytown.settings import (
    Secret,
    Settings,
    SettingsError,
    catalogue,
    describe,
    load,
    load_session,
    redis_url_problem,
)

PASSWORD = "correct-horse-battery"


def refused(**environ: str) -> str:
    """Load an environment that must be refused; give the one line."""
    with pytest.raises(SettingsError) as caught:
        load(environ)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_an_empty_environment_is_a_whole_town_on_one_machine() -> None:
    settings = load({"HOME": "/home/ada"})
    assert settings.redis_url is None
    assert settings.home == Path("/home/ada/.tinytown")
    assert settings.workspaces == Path("/home/ada/.tinytown/work")
    assert (settings.host, settings.port, settings.town) == ("127.0.0.1", 8080, "main")
    assert (settings.idle_seconds, settings.hold_seconds, settings.drain_seconds) == (60, 120, 25)
    assert (settings.max_workers, settings.launcher, settings.pool) == (5, "none", ("default",))


def test_every_name_of_the_contract_is_read() -> None:
    settings = load(
        {
            "REDIS_URL": "rediss://:pw@redis.example:6380/1",
            "TINYTOWN_HOME": "/srv/town",
            "TINYTOWN_TOWN": "blue",
            "TINYTOWN_HOST": "0.0.0.0",  # noqa: S104
            "PORT": "9000",
            "TINYTOWN_PUBLIC_URL": "https://town.example/",
            "TINYTOWN_API_KEY": "k" * 24,
            "TINYTOWN_SECRET_KEY": "s" * 32,
            "TINYTOWN_NOTIFY": "ntfy://topic\n  json://host/path ",
            "TINYTOWN_POOL": "coder, reviewer",
            "TINYTOWN_AGENT": "codex",
            "TINYTOWN_IDLE_SECONDS": "5",
            "TINYTOWN_HOLD_SECONDS": "6.5",
            "TINYTOWN_DRAIN_SECONDS": "7",
            "TINYTOWN_MAX_WORKERS": "8",
            "TINYTOWN_LAUNCHER": "fly",
            "FLY_API_TOKEN": "fo1_token",
            "FLY_APP_NAME": "my-town",
            "TINYTOWN_LOG": "json",
        }
    )
    assert settings == Settings(
        redis_url=Secret("rediss://:pw@redis.example:6380/1"),
        home=Path("/srv/town"),
        town="blue",
        host="0.0.0.0",  # noqa: S104
        port=9000,
        public_url="https://town.example",
        api_key=Secret("k" * 24),
        secret_key=Secret("s" * 32),
        notify=(Secret("ntfy://topic"), Secret("json://host/path")),
        pool=("coder", "reviewer"),
        agent="codex",
        idle_seconds=5,
        hold_seconds=6.5,
        drain_seconds=7,
        max_workers=8,
        launcher="fly",
        fly_api_token=Secret("fo1_token"),
        fly_app_name="my-town",
        log="json",
    )


def test_our_port_wins_over_the_platforms() -> None:
    assert load({"PORT": "1000", "TINYTOWN_PORT": "2000"}).port == 2000
    assert load({"PORT": "1000", "TINYTOWN_PORT": ""}).port == 1000


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("TINYTOWN_IDEL_SECONDS", "TINYTOWN_IDLE_SECONDS"),
        ("TINYTOWN_PUBLIC_ULR", "TINYTOWN_PUBLIC_URL"),
        ("tinytown_port", "TINYTOWN_PORT"),
        ("TINYTOWN_POOLS", "TINYTOWN_POOL"),
    ],
)
def test_a_misspelt_name_refuses_to_start_and_names_its_neighbour(typo: str, meant: str) -> None:
    assert refused(**{typo: "1"}) == f"{typo} is not a setting; did you mean {meant}?"


def test_a_misspelt_name_without_a_neighbour_is_still_named() -> None:
    assert refused(TINYTOWN_XYLOPHONE="1") == "TINYTOWN_XYLOPHONE is not a setting"


def test_an_empty_variable_is_an_unset_one() -> None:
    assert load({"TINYTOWN_API_KEY": "", "TINYTOWN_PORT": "  "}) == load({})


def test_what_an_agents_session_carries_is_known_and_changes_nothing() -> None:
    session = {
        "TINYTOWN_MISSION_ID": "mis_1",
        "TINYTOWN_TASK_ID": "tsk_1",
        "TINYTOWN_ATTEMPT": "2",
        "TINYTOWN_GOAL_FILE": "/tmp/goal",
        "TINYTOWN_DESK": "/tmp/desk",
        "TINYTOWN_TURN": "cookie",
    }
    assert load(session) == load({})
    assert load_session(session).desk == "/tmp/desk"
    assert load_session({}).mission_id is None


def test_all_mistakes_are_told_at_once_in_one_line() -> None:
    line = refused(
        TINYTOWN_PORT="99999",
        TINYTOWN_IDLE_SECONDS="soon",
        TINYTOWN_LOG="xml",
        TINYTOWN_NOTIFIER="maybe",
        TINYTOWN_POOL="a,B!",
    )
    assert line.split("; ") == [
        "TINYTOWN_PORT=99999: expected a whole number <= 65535",
        "TINYTOWN_NOTIFIER=maybe: expected on or off",
        "TINYTOWN_POOL=a,B!: expected names of a-z 0-9 _ -",
        "TINYTOWN_IDLE_SECONDS=soon: expected a number",
        "TINYTOWN_LOG=xml: expected one of json, console",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TINYTOWN_LEASE_SECONDS", "nan"),
        ("TINYTOWN_LEASE_SECONDS", "0"),
        ("TINYTOWN_TASK_SECONDS", "inf"),
        ("TINYTOWN_TASK_SECONDS", "-1"),
        ("TINYTOWN_MAX_ATTEMPTS", "0"),
        ("TINYTOWN_MAX_ATTEMPTS", "2.5"),
        ("TINYTOWN_BUDGET_USD", "0"),
        ("TINYTOWN_RETENTION_DAYS", "0"),
        ("TINYTOWN_TOWN", "Blue Town"),
        ("TINYTOWN_TOWN", "a" * 33),
        ("TINYTOWN_POOL", ","),
        ("TINYTOWN_POOL", "a,a"),
        ("TINYTOWN_PERMISSIONS", "yolo"),
        ("TINYTOWN_URL", "town.example"),
        ("TINYTOWN_PUBLIC_URL", "https://user:pw@town.example"),
        ("TINYTOWN_AGENT_COMMAND", "agent 'unclosed"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name: str, value: str) -> None:
    assert name in refused(**{name: value})


def test_settings_that_do_not_fit_each_other_are_refused() -> None:
    assert refused(TINYTOWN_AGENT="command") == (
        "TINYTOWN_AGENT=command needs TINYTOWN_AGENT_COMMAND"
    )
    assert refused(TINYTOWN_LAUNCHER="fly", FLY_APP_NAME="a") == (
        "TINYTOWN_LAUNCHER=fly needs REDIS_URL and FLY_API_TOKEN"
    )


@pytest.mark.parametrize(
    "environ",
    [
        {"TINYTOWN_API_KEY": PASSWORD},
        {"TINYTOWN_SECRET_KEY": PASSWORD[:9]},
        {"REDIS_URL": f"https://:{PASSWORD}@redis.example"},
        {"REDIS_URL": f"rediss://:{PASSWORD}@redis.example?ssl_cert_reqs=none"},
        {"REDIS_URL": f"redis://:{PASSWORD}#1@redis.example"},
        {"REDIS_URL": f"redis://:{PASSWORD}@redis.example?socket_timeout=60"},
        {"REDIS_URL": f"redis://:{PASSWORD}@redis.example/{PASSWORD}"},
        {"TINYTOWN_NOTIFY": f"ntfy://topic {PASSWORD}"},
    ],
)
def test_a_refusal_never_repeats_a_secret(environ: dict[str, str]) -> None:
    line = refused(**environ)
    assert next(iter(environ)) in line
    assert PASSWORD[:9] not in line


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost:6379/0",
        "redis://user:p%40ss@redis.example:6379/3",
        "redis://[::1]:6379",
        "rediss://redis.example?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required",
        "unix:///run/redis.sock?db=2",
        "unix://user:pw@/run/redis.sock",
    ],
)
def test_the_usual_redis_urls_are_accepted(url: str) -> None:
    assert redis_url_problem(url) is None


@given(st.text(max_size=80))
def test_any_redis_url_is_accepted_or_refused_with_a_sentence(url: str) -> None:
    problem = redis_url_problem(url)
    assert problem is None or re.match(r"(is|should|may|has) ", problem)


def test_certificate_checks_cannot_be_switched_off() -> None:
    for option in ("ssl_cert_reqs=none", "ssl_cert_reqs=optional", "ssl_check_hostname=false"):
        assert redis_url_problem(f"rediss://redis.example?{option}")


def test_a_secret_is_masked_and_cannot_be_encoded() -> None:
    settings = load({"REDIS_URL": f"redis://:{PASSWORD}@h", "TINYTOWN_GIT_TOKEN": PASSWORD})
    assert PASSWORD not in repr(settings)
    assert PASSWORD not in str(describe(settings))
    assert dict(describe(settings))["TINYTOWN_GIT_TOKEN"] == "•••"
    with pytest.raises(TypeError):
        msgspec.json.encode(settings.git_token)
    with pytest.raises(TypeError):
        msgspec.json.encode(settings)


def test_the_description_lists_every_variable_as_the_environment_would_write_it() -> None:
    shown = dict(describe(load({"HOME": "/h", "TINYTOWN_POOL": "a,b", "TINYTOWN_NOTIFIER": "off"})))
    assert shown["TINYTOWN_POOL"] == "a,b"
    assert shown["TINYTOWN_NOTIFIER"] == "off"
    assert shown["TINYTOWN_HOME"] == "/h/.tinytown"
    assert shown["REDIS_URL"] == ""
    again = load({name: value for name, value in shown.items() if value})
    assert dict(describe(again)) == shown


def test_every_setting_says_what_it_means_and_why_its_default() -> None:
    for setting in catalogue():
        assert setting.description.endswith((".", ")."))
        assert setting.why.endswith(".")
    assert {setting.field for setting in catalogue() if setting.secret} == {
        "redis_url",
        "api_key",
        "secret_key",
        "probe_key",
        "notify",
        "git_token",
        "fly_api_token",
        "launcher_url",
        "launcher_secret",
    }
