"""`tt completion SHELL`: what makes the Tab key know commands, options and ids."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from tinytown.cli.desk import Example
from tinytown.cli.failures import FAILED, Failure

_SHELLS: Final = ("bash", "zsh", "fish")


@click.command(
    cls=Example,
    example="""
    tt completion bash >> ~/.bashrc
    tt completion zsh >> ~/.zshrc
    tt completion fish > ~/.config/fish/completions/tt.fish
    """,
)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes the Tab key work in your shell: commands, options, and ids of the town."""
    kind = get_completion_class(shell)
    if kind is None:
        raise Failure(f"there is no completion for {shell}", FAILED)
    root = context.find_root().command
    try:
        click.echo(kind(root, {}, "tt", "_TT_COMPLETE").source())
    except RuntimeError as error:  # bash older than 4.4
        raise Failure(str(error), FAILED) from None
