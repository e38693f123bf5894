"""The tree of `tt` commands; each is loaded when it is used, so that `tt --help` is quick."""

from __future__ import annotations

import importlib
from typing import Any, Final

import click

from tinytown import __version__

# Name -> where it is, and its sentence for the list (a test compares it with the command's own).
_COMMANDS: Final[dict[str, tuple[str, str, str]]] = {
    "up": ("tinytown.cli.up:up", "Begin", "Run a whole town on this machine."),
    "demo": ("tinytown.cli.demo:demo", "Begin", "See a whole mission from nothing to nothing."),
    "connect": ("tinytown.cli.connect:connect", "Begin", "Remember which town to talk to."),
    "doctor": ("tinytown.cli.doctor:doctor", "Begin", "Check what a town needs, line by line."),
    "completion": (
        "tinytown.cli.completion:completion",
        "Begin",
        "Print what makes the Tab key work in your shell.",
    ),
    "mission": (
        "tinytown.cli.outcome:mission",
        "Missions",
        "Start missions and see them through.",
    ),
    "questions": (
        "tinytown.cli.questions:questions",
        "Missions",
        "List the open questions, the one that waits longest first.",
    ),
    "answer": (
        "tinytown.cli.questions:answer",
        "Missions",
        "Answer a QUESTION; the first answer wins.",
    ),
    "status": (
        "tinytown.cli.status:status",
        "The town",
        "Show open missions, questions, workers and endpoints on one page.",
    ),
    "events": ("tinytown.cli.looking:events", "The town", "Print what happened in the town."),
    "workers": (
        "tinytown.cli.looking:workers",
        "The town",
        "List the workers that live or left within the hour.",
    ),
    "scaling": (
        "tinytown.cli.looking:scaling",
        "The town",
        "Say how many workers the town wants, and why.",
    ),
    "endpoint": (
        "tinytown.cli.listening:endpoint",
        "The town",
        "Say which phones and programs hear of missions and questions.",
    ),
    "deliveries": (
        "tinytown.cli.deliveries:deliveries",
        "The town",
        "List deliveries of all endpoints, newest first.",
    ),
    "replay": ("tinytown.cli.deliveries:replay", "The town", "Send a delivery again."),
    "replays": (
        "tinytown.cli.deliveries:replays",
        "The town",
        "List the latest replays and how far each is, newest first.",
    ),
    "source": (
        "tinytown.cli.sources:source",
        "The town",
        "Say which services' webhooks start, steer and answer missions.",
    ),
    "keys": ("tinytown.cli.keys:keys", "The town", "Make, list and revoke the town's keys."),
    "agent": ("tinytown.cli.processes:agent", "Processes", "Run one worker (as tt-worker)."),
    "notifier": (
        "tinytown.cli.processes:notifier",
        "Processes",
        "Run the notifier alone, beside a townhall with TINYTOWN_NOTIFIER=off.",
    ),
    "ask": (
        "tinytown.cli.processes:ask",
        "Inside an agent's session",
        "Ask a person a question and wait; prints the answer.",
    ),
    "messages": (
        "tinytown.cli.processes:messages",
        "Inside an agent's session",
        "Print what people wrote to you.",
    ),
    "progress": (
        "tinytown.cli.processes:progress",
        "Inside an agent's session",
        "Tell people how far you are.",
    ),
}


class Town(click.Group):
    """The root: knows the names, loads a command when it is called for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the commands in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load a command."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        found = getattr(importlib.import_module(module), name)
        if not isinstance(found, click.Command):
            message = f"{module}:{name} is no command"
            raise TypeError(message)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands by what they are for, without loading one."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, (_, group, sentence) in _COMMANDS.items():
            groups.setdefault(group, []).append((name, sentence))
        for group, rows in groups.items():
            with formatter.section(group):
                formatter.write_dl(rows)


def _exit_codes() -> str:
    return (
        "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 conflict, 5 unreachable.\n\n"
        "\b\nExample:\n"
        "  tt up                                        # a town on this machine\n"
        '  tt mission start "Fix the typo" --repo .     # in another terminal\n'
        "  tt mission watch last"
    )


@click.group(
    cls=Town,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_exit_codes(),
)
@click.version_option(__version__, prog_name="tt")
def tt() -> None:
    """Start a mission from your laptop, close it, answer from the lock screen."""


def run(arguments: list[str] | None = None, **extra: Any) -> None:
    """Run `tt`; ends the process with the command's exit code."""
    tt.main(args=arguments, prog_name="tt", **extra)
