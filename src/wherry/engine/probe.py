"""One run of a health check: a command in the container, its first output, its status, and a limit of time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from wherry.core.errors import WherryError
from wherry.engine.health import MAX_OUTPUT_BYTES
from wherry.engine.state import ProbeResult
from wherry.linux import process

TIMED_OUT = -1
"""The exit status of a probe that took too long, or that could not be run at all; docker's number."""


class Probe:
    """A health check that runs.

    Args:
        start: runs the command with the descriptors (stdin, stdout, stderr) and returns a child's id and pidfd.
        timeout_s: after which it is killed.
    """

    def __init__(self, start: Callable[[tuple[int, int, int]], tuple[int, int]], *, timeout_s: float) -> None:
        self._started_s = time.time()
        self.deadline_s = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self._output = b""
        self._pid = self._pidfd = -1
        self._exit_code: int | None = None
        self._read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            self._pid, self._pidfd = start((null, write_fd, write_fd))
        except WherryError as error:
            self._exit_code, self._output = TIMED_OUT, str(error).encode()
        finally:
            os.close(write_fd)
            os.close(null)

    @property
    def fds(self) -> tuple[int, ...]:
        """What to wait for."""
        return tuple(fd for fd in (self._read_fd, self._pidfd) if fd >= 0)

    def advance(self, fd: int) -> None:
        """Takes in what is ready on one of `fds`."""
        if fd == self._read_fd:
            try:
                data = os.read(fd, MAX_OUTPUT_BYTES)
            except BlockingIOError:
                return
            if data:
                self._output = (self._output + data)[:MAX_OUTPUT_BYTES]
            else:
                os.close(self._read_fd)
                self._read_fd = -1
        elif fd == self._pidfd:
            self._reap()

    def result(self, now_s: float) -> ProbeResult | None:
        """Returns the outcome; None while there is still time and none."""
        if self._exit_code is None and now_s >= self.deadline_s:
            self.close()
            self._exit_code = TIMED_OUT
            self._output = f"no answer within {self._timeout_s:g} s".encode()
        if self._exit_code is None:
            return None
        if self._read_fd >= 0:
            self.advance(self._read_fd)  # what it wrote last; a child that it left may hold the pipe open
        return ProbeResult(
            started_s=self._started_s,
            finished_s=time.time(),
            exit_code=self._exit_code,
            output=self._output.decode("utf-8", errors="replace"),
        )

    def close(self) -> None:
        """Kills the command if it still runs, and closes everything."""
        if self._pidfd >= 0:
            try:
                process.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._reap()
        if self._read_fd >= 0:
            os.close(self._read_fd)
            self._read_fd = -1

    def _reap(self) -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        if self._exit_code is None:
            self._exit_code = code if code >= 0 else 128 - code
        os.close(self._pidfd)
        self._pidfd = -1
