"""A container's standard streams, as its keeper holds them: pipes, or one pseudo-terminal for all three."""

from __future__ import annotations

import os

from wherry.linux.terminal import set_window_size
from wherry.runtime.task import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

END_OF_INPUT = b"\x04"
"""What a terminal takes for the end of input (VEOF, termios(3))."""
READ_BYTES = 32 * 1024


class Streams:
    """The two sides of a container's streams for one run; exactly one of the two ways is open.

    Args:
        tty: one pseudo-terminal; else pipes.
        stdin_open: whether the container can be written to; else it reads the end of file at once.
    """

    def __init__(self, *, tty: bool, stdin_open: bool) -> None:
        self.outputs: dict[int, str] = {}
        """Descriptor to read from -> ``stdout`` or ``stderr``."""
        self.stdin_fd = -1
        self.master_fd = -1
        self.child: tuple[int, int, int] | None = None
        """What becomes 0, 1 and 2 in the container; None with a terminal, which is made in there."""
        self._stdin_open = stdin_open
        self._pending: list[bytes] = []
        self._closing = False
        if tty:
            return
        if stdin_open:
            stdin, self.stdin_fd = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self.stdin_fd, False)
        else:
            stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        err_read, err_write = os.pipe2(os.O_CLOEXEC)
        self.child = (stdin, out_write, err_write)
        for fd, name in ((out_read, "stdout"), (err_read, "stderr")):
            os.set_blocking(fd, False)
            self.outputs[fd] = name

    @property
    def backlog(self) -> bool:
        """Whether input is waiting that the container has not taken yet."""
        return bool(self._pending)

    @classmethod
    def taken_on(cls, held: Mapping[str, int], *, stdin_open: bool) -> Streams:
        """Returns the streams of a container that runs, from what another process held of them (`held`)."""
        streams = cls(tty=True, stdin_open=stdin_open)
        if "tty" in held:
            streams.take_terminal(held["tty"])
        for name in ("stdout", "stderr"):
            if name in held:
                streams.outputs[held[name]] = name
        if "stdin" in held:
            streams.stdin_fd = held["stdin"]
        return streams

    def held(self) -> dict[str, int]:
        """Returns what the container hangs on, by name, for another process to hold as well."""
        if self.master_fd >= 0:
            return {"tty": self.master_fd}
        found = {name: fd for fd, name in self.outputs.items()}
        return found if self.stdin_fd < 0 else {**found, "stdin": self.stdin_fd}

    def close_child_side(self) -> None:
        """Closes what only the container is to hold; without this, its end would never be seen."""
        for fd in self.child or ():
            os.close(fd)
        self.child = None

    def take_terminal(self, master_fd: int) -> None:
        """Takes the master side of the terminal that was made for the container."""
        self.master_fd = master_fd
        self.outputs[master_fd] = "stdout"
        self.stdin_fd = master_fd if self._stdin_open else -1
        os.set_blocking(master_fd, False)

    def read(self, fd: int) -> bytes | None:
        """Returns what the container wrote; b"" at the end of the stream, None when there is nothing just now."""
        try:
            return os.read(fd, READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""  # EIO: the last process with the terminal is gone

    def feed(self, data: bytes) -> None:
        """Gives the container input."""
        if self.stdin_fd >= 0 and not self._closing:
            self._pending.append(data)
            self.flush()

    def end_input(self) -> None:
        """Lets the container read the end of file, after what is waiting; at a terminal, once."""
        if self.master_fd >= 0:
            self.feed(END_OF_INPUT)
        else:
            self._closing = True
            self.flush()

    def flush(self) -> None:
        """Hands on as much waiting input as the container takes."""
        while self._pending:
            data = self._pending.pop(0)
            try:
                written = os.write(self.stdin_fd, data)
            except BlockingIOError:
                self._pending.insert(0, data)
                return
            except OSError:  # EPIPE, EIO: nobody reads it any more
                self._pending.clear()
                self._closing = self.master_fd < 0
                break
            if written < len(data):
                self._pending.insert(0, data[written:])
        if self._closing and self.stdin_fd >= 0 and self.stdin_fd != self.master_fd:
            os.close(self.stdin_fd)
            self.stdin_fd = -1

    def resize(self, rows: int, columns: int) -> None:
        """Sets the terminal's size; its foreground processes get SIGWINCH from the kernel."""
        if self.master_fd >= 0:
            set_window_size(self.master_fd, rows=rows, columns=columns)

    def close_output(self, fd: int) -> None:
        """Forgets a stream that has ended."""
        del self.outputs[fd]
        if fd != self.master_fd:
            os.close(fd)

    def close(self) -> None:
        """Closes all that is open."""
        for fd in {*self.outputs, *(self.child or ()), self.stdin_fd, self.master_fd} - {-1}:
            os.close(fd)
        self.outputs.clear()
        self.child = None
        self.stdin_fd = self.master_fd = -1


def stdio_of(fds: tuple[int, int, int] | None) -> Stdio | None:
    """Returns the three descriptors as the runtime takes them."""
    return None if fds is None else Stdio(stdin_fd=fds[0], stdout_fd=fds[1], stderr_fd=fds[2])
