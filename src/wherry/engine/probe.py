"""One run of a health check: a command in the container, its first output, its status, and a limit of time."""

from __future__ import annotations

import os
import time

from wherry.core.errors import WherryError
from wherry.engine.health import MAX_OUTPUT_BYTES
from wherry.engine.records import ProbeResult
from wherry.engine.signals import SIGKILL
from wherry.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.engine.loop import Loop

TIMED_OUT = -1
"""The exit status of a probe that took too long, or that could not be run at all; docker's number."""


class Probe:
    """A health check that runs.

    Args:
        loop: waits for it.
        start: runs the command with the descriptors (stdin, stdout, stderr) and returns a child's id and pidfd.
        timeout_s: after which it is killed.
        done: called once with the outcome, unless it is closed before.
    """

    def __init__(
        self,
        loop: Loop,
        start: Callable[[tuple[int, int, int]], tuple[int, int]],
        *,
        timeout_s: float,
        done: Callable[[ProbeResult], None],
    ) -> None:
        self._loop, self._done = loop, done
        self._started_s = time.time()
        self._timeout_s = timeout_s
        self._output = b""
        self._pid = self._pidfd = -1
        self._read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            self._pid, self._pidfd = start((null, write_fd, write_fd))
        except WherryError as error:
            self._output = str(error).encode()
        finally:
            os.close(write_fd)
            os.close(null)
        if self._pidfd < 0:
            self._timer = loop.after(0, lambda: self._finish(TIMED_OUT))
            return
        loop.watch(self._read_fd, lambda _: self._read())
        loop.watch(self._pidfd, lambda _: self._on_end())
        self._timer = loop.after(timeout_s, self._on_timeout)

    def _read(self) -> None:
        try:
            data = os.read(self._read_fd, MAX_OUTPUT_BYTES)
        except BlockingIOError:
            return
        if data:
            self._output = (self._output + data)[:MAX_OUTPUT_BYTES]
        else:
            self._loop.forget(self._read_fd)

    def _on_end(self) -> None:
        code = self._reap()
        self._read()  # what it wrote last; a child that it left may hold the pipe open
        self._finish(code)

    def _on_timeout(self) -> None:
        self._kill()
        self._output = f"no answer within {self._timeout_s:g} s".encode()
        self._finish(TIMED_OUT)

    def _finish(self, exit_code: int) -> None:
        self.close()
        self._done(
            ProbeResult(
                started_s=self._started_s,
                finished_s=time.time(),
                exit_code=exit_code,
                output=self._output.decode("utf-8", errors="replace"),
            )
        )

    def close(self) -> None:
        """Kills the command if it still runs, and closes everything; nothing is told any more."""
        self._timer.cancel()
        self._kill()
        if self._read_fd >= 0:
            self._loop.forget(self._read_fd)
            os.close(self._read_fd)
            self._read_fd = -1

    def _kill(self) -> None:
        if self._pidfd >= 0:
            try:
                process.pidfd_send_signal(self._pidfd, SIGKILL)
            except ProcessLookupError:
                pass
            self._reap()

    def _reap(self) -> int:
        self._loop.forget(self._pidfd)
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        os.close(self._pidfd)
        self._pidfd = -1
        return code if code >= 0 else 128 - code
