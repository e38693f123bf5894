"""`tt doctor`: what a town needs, checked line by line, with what to do about each trouble."""

from __future__ import annotations

import shlex
import shutil
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Final, Literal

import anyio
import click
import msgspec

from tinytown import __version__, settings
from tinytown.cli import connection, render
from tinytown.cli.client import TownClient
from tinytown.cli.desk import Example, json_option, print_json, run_async
from tinytown.cli.failures import FAILED, Failure
from tinytown.cli.text import plain
from tinytown.embedded import EmbeddedError, Quarters, find_program
from tinytown.models.task import AGENTS
from tinytown.settings import Settings, SettingsError

Verdict = Literal["ok", "note", "warning", "failed"]
_FG: Final = {"ok": "green", "note": "cyan", "warning": "yellow", "failed": "red"}
_VERSION_SECONDS: Final = 10.0  # a CLI that has not said its version by then hangs


class Finding(msgspec.Struct, frozen=True):
    """One line: what was looked at, how it is, and what to do."""

    what: str
    verdict: Verdict
    said: str


class Report(msgspec.Struct, frozen=True):
    """All of it, for programs."""

    ok: bool
    findings: list[Finding]
    settings: dict[str, str]


@click.command(cls=Example, example="tt doctor\ntt doctor --json")
@json_option
def doctor(*, as_json: bool) -> None:
    """Check what a town needs: settings, Redis, the townhall, git, coding CLIs, push addresses.

    `failed` lines make the exit code 1; `warning` and `note` do not.
    """
    try:
        config = settings.load()
    except SettingsError as error:
        findings = [Finding("settings", "failed", str(error))]
        shown: dict[str, str] = {}
    else:
        findings = run_async(lambda: _all(config))
        shown = {name: value for name, value in settings.describe(config) if value}
    ok = all(finding.verdict != "failed" for finding in findings)
    if as_json:
        print_json(msgspec.json.encode(Report(ok, findings, shown)))
    else:
        for finding in findings:
            mark = click.style(f"{finding.verdict:8}", fg=_FG[finding.verdict])
            render.say(f"{mark} {finding.what:12} {plain(finding.said)}")
    if not ok:
        raise click.exceptions.Exit(FAILED)


async def _all(config: Settings) -> list[Finding]:
    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    findings = [
        Finding("tinytown", "ok", f"{__version__} on Python {version}"),
        Finding("settings", "ok", "understood (tt doctor --json shows them)"),
        *_home(config),
        await _redis(config),
    ]
    findings += [finding async for finding in _town(config)]
    findings.append(await _git())
    findings += [await _agent(config, name) for name in AGENTS]
    findings += _phones(config)
    return findings


def _home(config: Settings) -> Iterator[Finding]:
    file = config.home / connection.FILE
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        yield Finding("home", "failed", f"{file}: {error.strerror}")
        return
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Finding("home", "warning", f"others can read {file}: chmod 600 {file}")
    else:
        yield Finding("home", "ok", f"{config.home}")


async def _redis(config: Settings) -> Finding:
    from tinytown.store.client import CannotConnect, check

    if config.redis_url is None:
        quarters = Quarters(config.home)
        try:
            program = await anyio.to_thread.run_sync(find_program)
        except EmbeddedError as error:
            return Finding("redis", "warning", f"`tt up` cannot run here: {error}")
        running = ", running" if quarters.socket.exists() else ""
        said = f"{program.product} {program.version} ({program.path}) under {config.home}{running}"
        return Finding("redis", "ok", said)
    try:
        facts = await check(config.redis_url, name="tt:doctor", wait_seconds=1)
    except CannotConnect as error:
        return Finding("redis", "failed", str(error))
    return Finding("redis", "ok", f"{facts.product} {facts.version or ''} at REDIS_URL")


async def _town(config: Settings) -> AsyncIterator[Finding]:
    """Ask the town in use how it is, and whether our key opens it."""
    try:
        chosen = connection.choose(config)
        known = bool(config.url or connection.read(config.home).url)
    except Failure as failure:
        yield Finding("town", "failed", failure.message)
        return
    async with TownClient(chosen, patience_seconds=0) as town:
        try:
            health = (await town.get("/health")).read(dict)
        except Failure as failure:
            verdict: Verdict = "failed" if known else "note"
            advice = "" if known else ": start one with `tt up`, or `tt connect URL`"
            yield Finding("town", verdict, f"{failure.message}{advice}")
            return
        yield Finding("town", "ok", f"tinytown {health.get('version')} at {chosen.url}")
        try:
            ready = await town.get("/ready")
            yield Finding("ready", "ok", ", ".join(ready.read(dict).get("checks", {})))
        except Failure as failure:
            yield Finding("ready", "failed", failure.message)
        try:
            await town.get("/v1/questions", {"limit": 1})
        except Failure as failure:
            yield Finding("key", "failed", failure.message)
        else:
            yield Finding("key", "ok", "it opens the town")


async def _git() -> Finding:
    said = await _version("git")
    if said is None:
        return Finding("git", "failed", "not installed: workers clone, commit and push with it")
    return Finding("git", "ok", said)


async def _agent(config: Settings, name: str) -> Finding:
    """Look for a coding CLI; only the chosen one has to be there."""
    chosen = name == config.agent
    missing: Verdict = "warning" if chosen else "note"
    if name == "command":
        if not config.agent_command:
            return Finding(name, missing, "TINYTOWN_AGENT_COMMAND is not set")
        program = shlex.split(config.agent_command)[0]
        if "/" not in program and shutil.which(program) is None:
            return Finding(name, "failed" if chosen else "warning", f"{program} is not on PATH")
        return Finding(name, "ok", f"{program}{' (chosen)' if chosen else ''}")
    said = await _version(name)
    if said is None:
        advice = ": workers on this machine cannot use it (TINYTOWN_AGENT)" if chosen else ""
        return Finding(name, missing, f"not installed{advice}")
    return Finding(name, "ok", f"{said}{' (chosen)' if chosen else ''}")


async def _version(program: str) -> str | None:
    """Ask a program for its version; None when it is not there or does not say."""
    path = shutil.which(program)
    if path is None:
        return None
    with anyio.move_on_after(_VERSION_SECONDS):
        try:
            done = await anyio.run_process([path, "--version"], check=False)
        except OSError:
            return None
        said = done.stdout.decode(errors="replace").strip()
        return said.splitlines()[0] if said else path
    return f"{path} (it does not say its version)"


def _phones(config: Settings) -> Iterator[Finding]:
    """Check the addresses of TINYTOWN_NOTIFY by their place: they are secrets."""
    if not config.notify:
        return
    from tinytown.egress import Egress, parse_allow
    from tinytown.errors import Invalid
    from tinytown_notifiers.sinks.push import PushSink

    egress = Egress(parse_allow(" ".join(config.egress_allow)))
    sink = PushSink(egress)  # it only looks at addresses: nothing is opened that needs closing
    for place, url in enumerate(config.notify, start=1):
        try:
            sink.validate(url)
        except Invalid as error:
            yield Finding("notify", "failed", f"entry {place}: {error.detail}")
        else:
            yield Finding("notify", "ok", f"entry {place} can be sent to")
