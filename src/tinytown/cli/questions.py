"""`tt questions` and `tt answer`: what the agents want to know, and what you say."""

from __future__ import annotations

import click

from tinytown import clock
from tinytown.cli import render
from tinytown.cli.client import TownClient, decode
from tinytown.cli.desk import (
    Example,
    completes,
    full_id,
    json_option,
    print_json,
    print_list,
    town_command,
)
from tinytown.cli.text import ago, until
from tinytown.models.question import Answer, Question


@click.command(cls=Example, example="tt questions\ntt questions --json")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@json_option
@town_command
async def questions(town: TownClient, limit: int, *, as_json: bool) -> None:
    """List the open questions, the one that waits longest first."""
    items = await town.pages("/v1/questions", {"state": "open"}, limit=limit)
    if as_json:
        print_list(items)
        return
    now = clock.now()
    rows = [
        (
            each.id,
            ago(each.asked_at, now),
            until(each.expires_at, now),
            each.risk,
            each.text,
            " | ".join(each.options),
        )
        for each in (decode(item, Question) for item in items)
    ]
    head = ("question", "asked", "expires", "risk", "text", "options")
    render.table(head, rows, empty="nobody asks anything")


@click.command(cls=Example, example="tt answer qst_01kah… postgres\ntt answer last yes")
@click.argument("question_id", metavar="QUESTION", shell_complete=completes("question"))
@click.argument("answer")
@json_option
@town_command
async def answer(town: TownClient, question_id: str, answer: str, *, as_json: bool) -> None:
    """Answer a QUESTION; the first answer wins.

    QUESTION is an id, the beginning or the end of an open one's, or `last`. Exit code 4: it is
    answered already; the message says by whom and when.
    """
    whole = await full_id(town, "question", question_id)
    reply = await town.post(f"/v1/questions/{whole}/answer", Answer(answer=answer))
    if as_json:
        print_json(reply.body)
    else:
        render.say(f"answered: {reply.read(Question).answer}")
