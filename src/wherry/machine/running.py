"""A machine as a process of this machine: started, waited for, ended, and never left behind.

The kernel kills it when this process dies, however that comes (PR_SET_PDEATHSIG). User-mode Linux has a process for
each of the guest's, which the kernel would leave behind: a guard, which the end of a pipe tells of it, kills them all.
The console is a socket to this process, so that it can be shown, written down and waited for at once.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from wherry.core.errors import ToolError, Unsupported, WherryError
from wherry.linux.process import close_from, set_parent_death_signal
from wherry.machine.qmp import Qmp

END_S = 10.0
"""How long a machine may take to end when it is told to."""
YOUNG_S = 60.0
"""A folder of this age may be one that is just being made."""
_TAIL_BYTES = 1000


class Running:
    """A machine that runs; a context that ends it.

    Args:
        words: the program and its arguments.
        hand_down: descriptors that it inherits; closed here once it runs.
        inherit: more of them, which stay the caller's.
        console: this side of its console's socket.
        qmp: this side of its machine protocol's; None where it has none.
        package: what brings the program.
        guarded: whether it has further processes, which must not outlive it.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        hand_down: Sequence[int],
        inherit: Sequence[int] = (),
        console: socket.socket,
        qmp: socket.socket | None = None,
        package: str = "",
        guarded: bool = False,
    ) -> None:
        self.words = tuple(words)
        self.console = console
        self.qmp = None if qmp is None else Qmp(qmp)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 closed in close
        try:
            self._process = subprocess.Popen(
                list(words),
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=(*hand_down, *inherit),
                preexec_fn=die_with_parent,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            self._errors.close()
            raise Unsupported(
                f"program not found: {words[0]}", hint=f"apt install {package}" if package else None
            ) from error
        finally:
            for fd in hand_down:
                os.close(fd)
        self._guard = Guard(self._process.pid) if guarded else None

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def poll(self) -> int | None:
        """Returns its exit status; None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Waits for its end; returns its exit status, or None when it still runs."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """Ends it at once. What it had completed of its writes stays; see `powercut` for what a real cut does."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        """Ends it: asked first, then killed."""
        if self.poll() is not None:
            return
        if self.qmp is not None:
            self.qmp.quit()
        else:
            self._process.send_signal(signal.SIGTERM)
        if self.wait(END_S) is None:
            self.kill()

    def complaint(self) -> str:
        """Returns the end of what the program itself printed, in one line."""
        size = os.fstat(self._errors.fileno()).st_size
        tail = os.pread(self._errors.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        return " | ".join(tail.decode(errors="replace").strip().splitlines())

    def check(self) -> None:
        """Looks whether the program ended well.

        Raises:
            ToolError: it did not; has what it said.
        """
        status = self.poll()
        if status:
            raise self.failure(status)

    def failure(self, status: int) -> WherryError:
        """Returns the error of a program that ended with a status."""
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        said = self.complaint()
        return ToolError(f"the machine {how}: {said or 'no message'}", where=shlex.join(self.words)[:300])

    def close(self) -> None:
        """Ends it and lets go of all that ties this process to it."""
        try:
            self.end()
        finally:
            self.console.close()
            if self.qmp is not None:
                self.qmp.close()
            self._errors.close()
            if self._guard is not None:
                self._guard.dismiss()

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Guard:
    """A process that kills a group of others when this process dies without having dismissed it.

    Args:
        group: the group's number.
    """

    def __init__(self, group: int) -> None:
        reader, self._writer = os.pipe2(os.O_CLOEXEC)
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.setsid()
                os.dup2(reader, 0)
                close_from(1)
                if not os.read(0, 1):
                    os.killpg(group, signal.SIGKILL)
            finally:
                os._exit(0)
        os.close(reader)

    def dismiss(self) -> None:
        """Ends it; the group lives on, if it does."""
        os.write(self._writer, b"x")
        os.close(self._writer)
        os.waitpid(self._pid, 0)


def die_with_parent() -> None:
    """Has the kernel kill a new process when the one that made it dies."""
    set_parent_death_signal(signal.SIGKILL)


def pair() -> tuple[socket.socket, int]:
    """Returns a connected pair of sockets: this side, and a descriptor for the machine's."""
    ours, theirs = socket.socketpair()
    return ours, theirs.detach()


PREFIX = "wherry-machine-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Gives a folder for what one machine needs, which goes with it.

    Those of processes that were killed are removed by the next one: a folder that nobody holds a lock on has no owner.
    """
    _remove_stale(Path(tempfile.gettempdir()))
    path = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = _lock(path)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)  # a folder for scratch must not hide what went wrong
        if lock is not None:
            os.close(lock)


def _lock(path: Path) -> int | None:
    """Returns a descriptor that holds the lock of a folder; None when somebody else has it, or it is not ours."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_uid == os.geteuid():
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
    except BlockingIOError:
        pass
    os.close(fd)
    return None


def _remove_stale(folder: Path) -> None:
    for path in folder.glob(f"{PREFIX}*"):
        # one that is new and not locked yet is left alone for as long as that takes
        if (fd := _lock(path)) is not None:
            if time.time() - os.fstat(fd).st_mtime > YOUNG_S:
                shutil.rmtree(path, ignore_errors=True)
            os.close(fd)
