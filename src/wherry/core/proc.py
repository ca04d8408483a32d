"""The one way to run another program: an argument list, no shell, the whole command line in the error."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from wherry.core.errors import Timeout, ToolError, Unsupported

_TAIL_CHARS = 600


def run(
    args: Sequence[str],
    *,
    stdin: bytes | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    check: bool = True,
    hint: str | None = None,
    before_exec: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Runs a program to its end and returns what it printed.

    Args:
        args: the program and its arguments; never a shell string.
        stdin: bytes for its standard input; None gives it an empty one.
        cwd: its working directory.
        env: its whole environment; None hands down this process's.
        timeout_s: after which it is killed.
        check: whether a non-zero exit status is an error.
        hint: what to do when the program is missing.
        before_exec: called in the new process before the program; whatever it raises, the program does not run.

    Raises:
        Unsupported: the program is not there.
        ToolError: it failed (with `check`).
        Timeout: it took too long.
    """
    try:
        done = subprocess.run(
            list(args),
            input=stdin if stdin is not None else b"",
            capture_output=True,
            cwd=cwd,
            env=None if env is None else dict(env),
            timeout=timeout_s,
            check=False,
            preexec_fn=before_exec,
        )
    except subprocess.SubprocessError as error:
        if isinstance(error, subprocess.TimeoutExpired):
            raise Timeout(f"no end after {timeout_s:g} s", where=shlex.join(args)) from error
        raise ToolError("the process could not be set up as it should be", where=shlex.join(args)) from error
    except FileNotFoundError as error:
        raise Unsupported(
            f"program not found: {args[0]}", hint=hint or "see `wherry doctor` for how to get it"
        ) from error
    if check and done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[-_TAIL_CHARS:].replace("\n", " | ")
        raise ToolError(f"exit status {done.returncode}: {said or 'no message'}", where=shlex.join(args))
    return done
