"""What ``run`` and ``exec`` of ``wherry runtime`` do around a process: descriptors, terminals, signals, its end."""

from __future__ import annotations

import fcntl
import os
import select

from wherry.core.errors import InvalidInput, UsageError, WherryError
from wherry.linux import signals
from wherry.runtime import channel
from wherry.runtime.task import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.cli.arguments import Arguments
    from wherry.cli.runtime_notify import Notify
    from wherry.runtime.spec import Process

MAX_PRESERVED = 256
_FIRST_FD = 3
_CHUNK_BYTES = 32 * 1024
_NOT_FORWARDED = (signals.SIGKILL, signals.SIGSTOP, signals.SIGCHLD, signals.SIGWINCH)
_FAULTS = frozenset((4, 5, 7, 8, 11, 13, 31))
"""Signals of this process's own mistakes, and SIGPIPE; they say nothing to the container."""
_STOPPED_BY = 128


def standard_fds() -> Stdio:
    """Returns this process's own standard descriptors."""
    return Stdio(stdin_fd=0, stdout_fd=1, stderr_fd=2)


def preserved_fds(found: Arguments, warn: Callable[[str], None]) -> tuple[tuple[int, ...], int]:
    """Returns (the descriptors to hand down, how many of them are listening sockets by LISTEN_FDS).

    One that the caller has not opened is -1, so that the others keep their numbers; `warn` is told. What this process
    has opened itself is closed on exec, and by that is told from what it was given.

    Raises:
        UsageError: they are too many.
    """
    word = os.environ.get("LISTEN_FDS", "")
    listening = int(word) if word.isdecimal() and len(word) < 4 and _is_for_us() else 0
    count = found.number("preserve-fds") + listening
    if not 0 <= count <= MAX_PRESERVED:
        raise UsageError(f"--preserve-fds takes 0 to {MAX_PRESERVED}, not {count}")
    fds = tuple(fd if _was_given(fd) else -1 for fd in range(_FIRST_FD, _FIRST_FD + count))
    if -1 in fds:
        missing = [fd for fd, given in enumerate(fds, start=_FIRST_FD) if given < 0]
        warn(f"--preserve-fds, LISTEN_FDS: {_ranges(missing)} are not open and are left out")
    return fds, listening


def _was_given(fd: int) -> bool:
    try:
        return not fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    except OSError:
        return False


def _ranges(numbers: list[int]) -> str:
    """Returns rising numbers as text: ``3-5, 7``."""
    firsts = [number for number in numbers if number - 1 not in numbers]
    lasts = [number for number in numbers if number + 1 not in numbers]
    return ", ".join(
        f"{first}-{last}" if first < last else f"{first}" for first, last in zip(firsts, lasts, strict=True)
    )


def _is_for_us() -> bool:
    return os.environ.get("LISTEN_PID", str(os.getpid())) == str(os.getpid())


def check_terminal(process: Process, socket: str, *, detached: bool) -> None:
    """Refuses a terminal that nobody would hold, and a socket for a terminal that is not made.

    Raises:
        InvalidInput: it is so.
    """
    if process.terminal and detached and not socket:
        raise InvalidInput("process.terminal: a terminal of a detached process needs --console-socket")
    if socket and not process.terminal:
        raise InvalidInput("--console-socket: the process has no terminal", hint="set process.terminal")


def send_console(path: str, master: int) -> None:
    """Sends a terminal's master side to who holds it from now on, and closes it here."""
    try:
        channel.send_to(path, b"/dev/ptmx", master)
    except OSError as error:
        raise WherryError(f"cannot send the terminal: {error.strerror}", where=path) from None
    finally:
        os.close(master)


def write_pid_file(path: str, pid: int) -> None:
    """Writes a process id so that nobody reads half of it."""
    directory, _, name = path.rpartition("/")
    temporary = f"{directory}/.{name}" if directory else f".{name}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, b"%d" % pid)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except OSError as error:
        raise WherryError(f"cannot write the pid file: {error.strerror}", where=path) from None


class Console:
    """This process's terminal, joined to a container's until `close`."""

    def __init__(self, master: int) -> None:
        self.master = master
        self._saved: list[object] | None = None
        if os.isatty(0):
            import termios
            import tty

            self._saved = termios.tcgetattr(0)
            tty.setraw(0)
            self.resize()

    def resize(self) -> None:
        """Gives the container's terminal the size of this one."""
        from wherry.linux.terminal import set_window_size, window_size

        try:
            rows, columns = window_size(0)
            set_window_size(self.master, rows=rows, columns=columns)
        except OSError:
            pass  # the standard input is none, or was closed

    def close(self) -> None:
        """Gives this terminal its settings back."""
        if self._saved is not None:
            import termios

            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)  # type: ignore[arg-type]  # what tcgetattr gave
            self._saved = None
        if self.master >= 0:
            os.close(self.master)
            self.master = -1


class Signals:
    """Signals to this process, kept for the container from now on."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in range(1, 65):
            if number == signals.SIGWINCH or (number not in _NOT_FORWARDED and number not in _FAULTS):
                try:
                    signals.signal(number, _nothing)
                except (OSError, ValueError):
                    pass  # 32 and 33 are the C library's
        signals.set_wakeup_fd(writing, warn_on_full_buffer=False)


def wait_for(pid: int, pidfd: int, console: Console | None, kept: Signals, notify: Notify | None = None) -> int:
    """Stays with a child until its end: hands on signals, what is typed and printed at a terminal, and its being ready.

    Returns:
        its exit status; 128 and the number for a signal.
    """
    waiting = select.poll()
    waiting.register(kept.reading, select.POLLIN)
    waiting.register(pidfd, select.POLLIN)
    if console is not None:
        waiting.register(console.master, select.POLLIN)
        waiting.register(0, select.POLLIN)
    if notify is not None:
        waiting.register(notify.fileno(), select.POLLIN)
    ended = False
    while not ended:
        for fd, _ in waiting.poll():
            if fd == kept.reading:
                _hand_on(os.read(kept.reading, 64), pid, console)
            elif fd == pidfd:
                ended = True
            elif notify is not None and fd == notify.fileno():
                if notify.take():
                    waiting.unregister(fd)
            elif console is not None:
                _copy(fd, console, waiting)
    if console is not None:
        _drain(console)
    if notify is not None:
        notify.take()  # it may have said so and ended at once
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else _STOPPED_BY - code


def _nothing(*_: object) -> None:
    """Is what a signal's handler does; the number comes by the wake-up descriptor."""


def _hand_on(numbers: bytes, pid: int, console: Console | None) -> None:
    for number in numbers:
        if number == signals.SIGWINCH:
            if console is not None:
                console.resize()
            continue
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def _copy(fd: int, console: Console, waiting: select.poll) -> None:
    source, target = (console.master, 1) if fd == console.master else (0, console.master)
    try:
        data = os.read(source, _CHUNK_BYTES)
    except OSError:
        data = b""
    if not data:
        waiting.unregister(fd)
        if source == 0:
            try:
                os.write(console.master, b"\x04")
            except OSError:
                pass
        return
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def _drain(console: Console) -> None:
    """Prints what is left of a container's output."""
    left = select.poll()
    left.register(console.master, select.POLLIN)
    while any(event & select.POLLIN for _, event in left.poll(0)):
        try:
            data = os.read(console.master, _CHUNK_BYTES)
        except OSError:
            return
        if not data:
            return
        os.write(1, data)
