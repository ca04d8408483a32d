"""``wherry completion``: the shell's own completion script, made by click."""

from __future__ import annotations

import click

from wherry.cli.main import PROGRAM

_HOW = {
    "bash": "wherry completion bash > /etc/bash_completion.d/wherry",
    "zsh": "wherry completion zsh > /usr/local/share/zsh/site-functions/_wherry",
    "fish": "wherry completion fish > /etc/fish/completions/wherry.fish",
}


@click.command(
    epilog="\b\nExamples:\n" + "\n".join(f"  {line}" for line in _HOW.values()) + '\n  eval "$(wherry completion bash)"'
)
@click.argument("shell", type=click.Choice(list(_HOW)))
def completion(shell: str) -> None:
    """Print the completion script for bash, zsh or fish."""
    from click.shell_completion import get_completion_class

    from wherry.cli.root import COMPLETION_VARIABLE, cli

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    print(found(cli, {}, PROGRAM, COMPLETION_VARIABLE).source())
