"""A program whose output is read while it runs: an argument list, no shell, ended with the block that reads it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from wherry.core.errors import Unsupported

_PIECE_BYTES = 1024 * 1024
_MAX_SAID_BYTES = 16 * 1024
_GRACE_S = 5.0
"""Between asking a program to end and ending it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a program ended."""

    status: int
    """Its exit status; negative: the signal that ended it."""
    said: str
    """The end of what it wrote to standard error."""


class Running:
    """A program whose output is read while it runs; see `streamed`."""

    def __init__(self, process: subprocess.Popen[bytes], errors: BinaryIO) -> None:
        self._process, self._errors = process, errors
        assert process.stdout is not None  # noqa: S101 it was asked for
        self.output: BinaryIO = cast(BinaryIO, process.stdout)
        """Its standard output."""

    def finish(self) -> Finished:
        """Waits for its end; what is left of its output is read and dropped."""
        if not self.output.closed:
            while self.output.read(_PIECE_BYTES):
                pass
        status = self._process.wait()
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _MAX_SAID_BYTES))
        return Finished(status=status, said=self._errors.read().decode(errors="replace").strip())


@contextmanager
def streamed(args: Sequence[str], *, hint: str | None = None) -> Iterator[Running]:
    """Runs a program and gives its output as it comes. It is ended when the block ends before it.

    Args:
        args: the program and its arguments; never a shell string. Its standard input is empty.
        hint: what to do when the program is missing.

    Raises:
        Unsupported: the program is not there.
    """
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                list(args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, bufsize=0
            )
        except FileNotFoundError as error:
            raise Unsupported(f"program not found: {args[0]}", hint=hint) from error
        running = Running(process, errors)
        try:
            yield running
        finally:
            running.output.close()
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(_GRACE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
