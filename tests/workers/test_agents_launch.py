"""How agents are started: what they get to know, what they never may, and where it is written."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2e.rig import KEYS, PERSON, TOWN_SECRETS, Rig
from tinytown_workers.agents import RULES, AgentMissing, Turn, agent_named
from tinytown_workers.process import Launch

CLIS = ("claude", "codex", "opencode", "gemini")
OWN_KEY = {
    "claude": "ANTHROPIC_API_KEY",
    "codex": "OPENAI_API_KEY",
    "gemini": "GEMINI_API_KEY",
}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Lend a rig whose CLIs are there but do nothing."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for cli in CLIS:
        (shelf / cli).write_text("#!/bin/sh\n")
        (shelf / cli).chmod(0o755)
    return Rig(tmp_path / "town", None, path=str(shelf))


def written(turn: Turn) -> dict[str, str]:
    """Read every file below the home."""
    return {
        str(path.relative_to(turn.home)): path.read_text()
        for path in turn.home.rglob("*")
        if path.is_file()
    }


def server_of(cli: str, turn: Turn, launch: Launch) -> dict[str, Any]:
    """Find the MCP server as the CLI will."""
    files = written(turn)
    match cli:
        case "claude":
            flag = launch.argv[launch.argv.index("--mcp-config") + 1]
            found = json.loads(flag)["mcpServers"]["town"]
        case "codex":
            found = tomllib.loads(files[".codex/config.toml"])["mcp_servers"]["town"]
        case "opencode":
            found = json.loads(files[".config/opencode/opencode.json"])["mcp"]["town"]
        case _:
            found = json.loads(files[".gemini/settings.json"])["mcpServers"]["town"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("cli", CLIS)
class TestEveryLaunch:
    def test_the_prompt_goes_in_unchanged_and_not_by_argument(self, cli: str, rig: Rig) -> None:
        prompt = "--help\n-p\0\N{ZERO WIDTH JOINER}\r\n  \ttrailing \n"
        launch = agent_named(cli).launch(rig.turn(cli, prompt))
        assert launch.stdin == prompt.encode()
        assert not any("--help" in argument for argument in launch.argv)
        assert launch.cwd == rig.room.work

    def test_no_secret_of_the_town_is_anywhere(self, cli: str, rig: Rig) -> None:
        turn = rig.turn(cli, "go")
        launch = agent_named(cli).launch(turn)
        everything = "\n".join([*launch.argv, *launch.env.values(), *written(turn).values()])
        for name, value in TOWN_SECRETS.items():
            assert value not in everything
            assert name not in launch.env

    def test_only_its_own_vendors_keys_pass_and_are_known_as_secrets(
        self, cli: str, rig: Rig
    ) -> None:
        launch = agent_named(cli).launch(rig.turn(cli, "go"))
        keys = {name for name in KEYS if name in launch.env}
        assert keys == {OWN_KEY[cli]} if cli in OWN_KEY else keys == set(KEYS)
        assert {KEYS[name] for name in keys} == set(launch.secrets)

    def test_the_keys_are_in_no_file_and_no_argument(self, cli: str, rig: Rig) -> None:
        turn = rig.turn(cli, "go")
        launch = agent_named(cli).launch(turn)
        everything = "\n".join([*launch.argv, *written(turn).values()])
        assert not any(key in everything for key in KEYS.values())

    def test_the_sandbox_decides_where_home_and_path_are(self, cli: str, rig: Rig) -> None:
        turn = rig.turn(cli, "go")
        turn = msgspec.structs.replace(
            turn, inherited={**turn.inherited, "HOME": "/root", "PATH": "/evil", "LD_PRELOAD": "x"}
        )
        launch = agent_named(cli).launch(turn)
        assert {name: launch.env[name] for name in turn.env} == dict(turn.env)
        assert "LD_PRELOAD" not in launch.env

    def test_the_way_out_of_the_network_is_shown(self, cli: str, rig: Rig) -> None:
        turn = rig.turn(cli, "go")
        network = {"HTTPS_PROXY": "http://proxy:3128", "NODE_EXTRA_CA_CERTS": "/etc/ca.pem"}
        turn = msgspec.structs.replace(turn, inherited={**turn.inherited, **network})
        assert network.items() <= agent_named(cli).launch(turn).env.items()

    def test_the_person_can_be_asked_and_takes_all_the_time_they_need(
        self, cli: str, rig: Rig
    ) -> None:
        turn = rig.turn(cli, "go")
        launch = agent_named(cli).launch(turn)
        server = server_of(cli, turn, launch)
        command = server["command"]
        started = command if isinstance(command, list) else [command, *server["args"]]
        assert started[-1] == str(PERSON)
        assert (server.get("env") or server["environment"])["PERSON_ANSWER"] == "blue"
        week = 7 * 24 * 3600
        assert week in {
            int(launch.env.get("MCP_TOOL_TIMEOUT", 0)) // 1000,
            server.get("tool_timeout_sec"),
            server.get("timeout", 0) // 1000,
        }

    def test_a_session_is_gone_on_with_by_its_id(self, cli: str, rig: Rig) -> None:
        first = agent_named(cli).launch(rig.turn(cli, "go"))
        again = agent_named(cli).launch(rig.turn(cli, "more", resume="ses-1234"))
        assert "ses-1234" in again.argv
        assert not any("resume" in argument for argument in first.argv)

    def test_standing_orders_reach_it_beside_the_prompt(self, cli: str, rig: Rig) -> None:
        turn = rig.turn(cli, "go", rules=RULES)
        launch = agent_named(cli).launch(turn)
        assert launch.stdin == b"go"
        texts = [*launch.argv, *written(turn).values()]
        assert any("ask_human" in text and "Silence" in text for text in texts)

    def test_what_it_writes_only_its_owner_can_read(self, cli: str, rig: Rig) -> None:
        turn = rig.turn(cli, "go", rules=RULES)
        before = set(turn.home.rglob("*"))
        agent_named(cli).launch(turn)
        for path in [path for path in set(turn.home.rglob("*")) - before if path.is_file()]:
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0

    def test_a_link_planted_in_its_home_is_not_followed(self, cli: str, rig: Rig) -> None:
        turn = rig.turn(cli, "go", rules=RULES)
        precious = rig.room.path / "precious"
        precious.write_text("keep me")
        agent_named(cli).launch(turn)
        for path in [path for path in turn.home.rglob("*") if path.is_file()]:
            path.unlink()
            path.symlink_to(precious)
        agent_named(cli).launch(turn)
        assert precious.read_text() == "keep me"

    def test_a_missing_one_is_named(self, cli: str, rig: Rig) -> None:
        turn = rig.turn(cli, "go")
        bare = msgspec.structs.replace(turn, env={**turn.env, "PATH": str(rig.room.bin)})
        with pytest.raises(AgentMissing, match=f"^{cli} is not installed on this worker$"):
            agent_named(cli).launch(bare)

    def test_its_repr_shows_no_key(self, cli: str, rig: Rig) -> None:
        turn = rig.turn(cli, "go")
        shown = repr(turn) + repr(agent_named(cli).launch(turn))
        assert not any(key in shown for key in (*KEYS.values(), *TOWN_SECRETS.values()))


class TestPermissions:
    def test_claude_asks_a_person_where_it_is_told_to(self, rig: Rig) -> None:
        asking = agent_named("claude").launch(rig.turn("claude", "go", permissions="ask")).argv
        assert asking[asking.index("--permission-prompt-tool") + 1] == "mcp__town__approve"
        assert asking[asking.index("--permission-mode") + 1] == "acceptEdits"
        free = agent_named("claude").launch(rig.turn("claude", "go")).argv
        assert "--permission-prompt-tool" not in free
        assert free[free.index("--permission-mode") + 1] == "bypassPermissions"
        assert "mcp__town__approve" in free[free.index("--disallowedTools") + 1]

    @pytest.mark.parametrize(
        ("permissions", "sandbox"), [("ask", "workspace-write"), ("bypass", "danger-full-access")]
    )
    def test_codex_stays_in_its_sandbox_unless_the_worker_is_one(
        self, rig: Rig, permissions: Any, sandbox: str
    ) -> None:
        turn = rig.turn("codex", "go", permissions=permissions)
        agent_named("codex").launch(turn)
        config = tomllib.loads(written(turn)[".codex/config.toml"])
        assert config["sandbox_mode"] == sandbox
        assert config["approval_policy"] == "never"

    def test_opencode_has_no_shell_where_it_would_have_to_ask(self, rig: Rig) -> None:
        turn = rig.turn("opencode", "go", permissions="ask")
        agent_named("opencode").launch(turn)
        config = json.loads(written(turn)[".config/opencode/opencode.json"])
        assert config["permission"]["bash"] == "deny"
        assert config["permission"]["edit"] == "allow"

    def test_gemini_has_no_shell_where_it_would_have_to_ask(self, rig: Rig) -> None:
        argv = agent_named("gemini").launch(rig.turn("gemini", "go", permissions="ask")).argv
        assert argv[argv.index("--approval-mode") + 1] == "auto_edit"


class TestVendors:
    def test_a_clouds_keys_pass_only_to_one_that_uses_the_cloud(self, rig: Rig) -> None:
        turn = rig.turn("claude", "go")
        aws = {"AWS_SECRET_ACCESS_KEY": "aws-secret-0123456789", "AWS_REGION": "eu-west-1"}
        without = msgspec.structs.replace(turn, inherited={**turn.inherited, **aws})
        assert not aws.keys() & agent_named("claude").launch(without).env.keys()
        told = {**turn.inherited, **aws, "CLAUDE_CODE_USE_BEDROCK": "1"}
        launch = agent_named("claude").launch(msgspec.structs.replace(turn, inherited=told))
        assert aws.items() <= launch.env.items()
        assert "aws-secret-0123456789" in launch.secrets

    def test_a_claude_around_the_worker_does_not_leak_into_the_one_within(self, rig: Rig) -> None:
        turn = rig.turn("claude", "go")
        around = {"CLAUDECODE": "1", "CLAUDE_CODE_SESSION_ID": "x", "CLAUDE_CODE_SSE_PORT": "1"}
        turn = msgspec.structs.replace(turn, inherited={**turn.inherited, **around})
        assert not around.keys() & agent_named("claude").launch(turn).env.keys()

    def test_codex_speaks_to_openai_itself_unless_told_otherwise(self, rig: Rig) -> None:
        turn = rig.turn("codex", "go")
        plain = {"OPENAI_API_KEY": KEYS["OPENAI_API_KEY"]}
        turn = msgspec.structs.replace(turn, inherited=plain)
        launch = agent_named("codex").launch(turn)
        assert "model_provider" not in tomllib.loads(written(turn)[".codex/config.toml"])
        assert launch.env["CODEX_API_KEY"] == KEYS["OPENAI_API_KEY"]

    @pytest.mark.parametrize(
        ("cli", "login"),
        [
            ("claude", ".claude/.credentials.json"),
            ("codex", ".codex/auth.json"),
            ("gemini", ".gemini/oauth_creds.json"),
            ("opencode", ".local/share/opencode/auth.json"),
        ],
    )
    def test_a_persons_own_login_is_shared_by_link_where_there_is_no_key(
        self, rig: Rig, tmp_path: Path, cli: str, login: str
    ) -> None:
        real = tmp_path / "person" / login
        real.parent.mkdir(parents=True)
        real.write_text("{}")
        turn = rig.turn(cli, "go", inherited={}, login_home=tmp_path / "person")
        agent_named(cli).launch(turn)
        link = turn.home / login
        assert link.is_symlink()
        assert link.samefile(real)

    @pytest.mark.parametrize("cli", ["claude", "codex", "gemini"])
    def test_a_key_needs_no_login(self, rig: Rig, tmp_path: Path, cli: str) -> None:
        for login in (".claude/.credentials.json", ".codex/auth.json", ".gemini/oauth_creds.json"):
            (tmp_path / "person" / login).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "person" / login).write_text("{}")
        turn = rig.turn(cli, "go", login_home=tmp_path / "person")
        agent_named(cli).launch(turn)
        assert not any(path.is_symlink() for path in turn.home.rglob("*"))

    @pytest.mark.parametrize(
        ("given_model", "keys", "named"),
        [
            ("openai/gpt-5", ("ANTHROPIC_API_KEY",), "openai/gpt-5"),
            ("opus", ("ANTHROPIC_API_KEY",), "anthropic/opus"),
            ("gpt-5", ("OPENAI_API_KEY",), "openai/gpt-5"),
            ("local", ("OPENAI_API_KEY", "OPENAI_BASE_URL"), "compatible/local"),
        ],
    )
    def test_opencode_gets_models_with_their_provider(
        self, rig: Rig, given_model: str, keys: tuple[str, ...], named: str
    ) -> None:
        inherited = dict.fromkeys(keys, "http://127.0.0.1:9/v1")
        turn = rig.turn("opencode", "go", model=given_model, inherited=inherited)
        argv = agent_named("opencode").launch(turn).argv
        assert argv[argv.index("--model") + 1] == named


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rules=st.text(), answer=st.text(st.characters(exclude_categories=["Cs"])))
def test_codex_reads_its_config_back_as_it_was_meant(rig: Rig, rules: str, answer: str) -> None:
    try:
        rules.encode()
    except UnicodeEncodeError:
        return
    turn = rig.turn("codex", "go", rules=rules, person={"PERSON_ANSWER": answer})
    agent_named("codex").launch(turn)
    config = tomllib.loads((turn.home / ".codex" / "config.toml").read_text())
    assert config.get("developer_instructions", "") == rules
    assert config["mcp_servers"]["town"]["env"]["PERSON_ANSWER"] == answer


def test_the_shelf_of_stub_clis_is_really_used(rig: Rig) -> None:
    launch = agent_named("claude").launch(rig.turn("claude", "go"))
    assert os.access(launch.argv[0], os.X_OK)
    assert Path(launch.argv[0]).name == "claude"
