"""Bytes through another program, piece by piece: what goes in and what comes out are never held whole."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence

from wherry.core.errors import ToolError, Unsupported

_CHUNK_BYTES = 128 * 1024
_SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def through_program(args: Sequence[str], pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Gives what a program prints when it is fed `pieces`.

    It runs with an empty environment: ``GZIP`` and its like change what a compressor does.

    Raises:
        Unsupported: the program is not there.
        ToolError: it failed.
    """
    try:
        process = subprocess.Popen(
            list(args),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": _SAFE_PATH, "LC_ALL": "C"},
            bufsize=0,
        )
    except FileNotFoundError:
        raise Unsupported(f"program not found: {args[0]}", hint=f"install {args[0]}") from None
    feeder = _Feeder(process, pieces)
    feeder.start()
    try:
        assert process.stdout is not None  # noqa: S101 it is a pipe
        while piece := process.stdout.read(_CHUNK_BYTES):
            yield piece
        feeder.join()
        status = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        feeder.join()
        for file in (process.stdin, process.stdout):
            if file is not None:
                file.close()
    if feeder.error is not None:
        raise feeder.error
    if status:
        raise ToolError(f"exit status {status}", where=" ".join(args))


class _Feeder(threading.Thread):
    """Writes to a program's standard input."""

    def __init__(self, process: subprocess.Popen[bytes], pieces: Iterable[bytes]) -> None:
        super().__init__(daemon=True)
        self._stdin = process.stdin
        self._pieces = pieces
        self.error: BaseException | None = None

    def run(self) -> None:
        """Feeds it to the end."""
        assert self._stdin is not None  # noqa: S101 it is a pipe
        try:
            for piece in self._pieces:
                view = memoryview(piece)
                while view:
                    view = view[self._stdin.write(view) or 0 :]
        except BrokenPipeError:
            pass  # its exit status says why
        except BaseException as error:  # noqa: BLE001 handed to the reader
            self.error = error
        finally:
            try:
                self._stdin.close()
            except BrokenPipeError:
                pass
