"""What a RUN, CMD, ENTRYPOINT or HEALTHCHECK executes: arguments, with the shell before them where one is needed.

Source: Dockerfile reference, "Shell and exec form", "SHELL", "Here-Documents".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wherry.image.dockerfile.lines import heredoc_head
from wherry.image.dockerfile.syntax import Command, ExecForm, Run

DEFAULT_SHELL = ("/bin/sh", "-c")
SCRIPT_FOLDER = "/dev/pipes"
"""Where docker puts a heredoc that is a program of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a RUN executes."""

    args: tuple[str, ...]
    file_name: str = ""
    """A file that has to be in `SCRIPT_FOLDER`, executable, while it runs; "" for none."""
    file_content: str = ""


def with_shell(command: Command, shell: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the arguments of a command; those of a shell's begin with `shell`, by default ``/bin/sh -c``."""
    if isinstance(command, ExecForm):
        return command.args
    return (*(shell or DEFAULT_SHELL), command.text)


def run_script(run: Run, shell: Sequence[str] = ()) -> Script:
    """Returns what a RUN executes, its heredocs put where they belong.

    One heredoc that is all of the command is a script for the shell, or a program when it begins with ``#!``. In any
    other command heredocs are the shell's own, and it is given their lines.
    """
    if isinstance(run.command, ExecForm) or not run.heredocs:
        return Script(args=with_shell(run.command, shell))
    before = tuple(shell or DEFAULT_SHELL)
    text = run.command.text
    first = run.heredocs[0]
    if len(run.heredocs) == 1 and heredoc_head(text) is not None:
        if not first.content.startswith("#!"):
            return Script(args=(*before, first.content))
        path = f"{SCRIPT_FOLDER}/{first.name}"
        if "/" not in first.name and first.name not in (".", ".."):
            return Script(args=(*before, path), file_name=first.name, file_content=first.content)
    return Script(args=(*before, text + "".join(f"\n{heredoc.lines}{heredoc.name}" for heredoc in run.heredocs)))
