"""A person's side of a container: the terminal in raw mode, what is typed, what is shown, the keys that leave.

Used by a command that has the container in the foreground, and by one that is attached to a container of the
supervisor's (``attach.py``); both are event loops.
"""

from __future__ import annotations

import os
import select
from errno import EIO, EPIPE

from wherry.core.errors import WherryError
from wherry.engine.keep import Sink
from wherry.engine.loop import IN, OUT
from wherry.engine.wire import DETACH_KEYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from wherry.engine.loop import Loop

READ_BYTES = 32 * 1024
_PIPE_BUF = 4096
"""A pipe that is ready takes that much without waiting (pipe(7)); so does a terminal, or it takes a part."""


class Detached(Exception):
    """The person left the terminal; the container goes on."""


class DetachFilter:
    """Finds the detach keys in what is typed, also when they come in several reads.

    Args:
        keys: the sequence; none never leaves.
    """

    def __init__(self, keys: bytes = DETACH_KEYS) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Returns what is to be sent on, and whether the person wants to leave."""
        if not self._keys:
            return data, False
        data = self._held + data
        self._held = b""
        place = data.find(self._keys)
        if place >= 0:
            return data[:place], True
        for length in range(min(len(self._keys) - 1, len(data)), 0, -1):
            if data.endswith(self._keys[:length]):
                self._held = data[-length:]
                return data[:-length], False
        return data, False


def parse_detach_keys(text: str) -> bytes:
    """Returns the keys that docker's notation means: ``ctrl-p,ctrl-q``, ``a``, ``ctrl-@``, ``ctrl-[`` ...

    Raises:
        InvalidInput: it means none.
    """
    from wherry.core.errors import InvalidInput

    found = bytearray()
    for word in text.split(",") if text else ():
        key = word[5:] if word.lower().startswith("ctrl-") else word
        if len(key) == 1 and key.isascii() and key == word:
            found.append(ord(key))
        elif len(key) == 1 and key.upper() in "@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_":
            found.append(ord(key.upper()) & 0x1F)
        else:
            raise InvalidInput(f"--detach-keys: not a key: {word!r}", hint="write it as ctrl-p,ctrl-q or a,b")
    return bytes(found)


class RawTerminal:
    """Hands every key on as it is while its block runs, and puts the terminal back after it.

    Args:
        fd: the person's terminal; None, or what is none, is left alone.
    """

    def __init__(self, fd: int | None) -> None:
        self._fd = fd if fd is not None and os.isatty(fd) else None

    def __enter__(self) -> None:
        if self._fd is None:
            return
        import termios  # a library of its own, for those who have a terminal

        self._before: list[Any] = termios.tcgetattr(self._fd)
        mode = termios.tcgetattr(self._fd)
        # cfmakeraw(3)
        mode[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
            | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
        )  # fmt: skip
        mode[1] &= ~termios.OPOST
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSANOW, mode)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._fd is not None:
            import termios

            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)


def window_of(fd: int) -> tuple[int, int]:
    """Returns a terminal's rows and columns; 24 and 80 where it has none."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return 24, 80
    return min(size.lines, 0xFFFF), min(size.columns, 0xFFFF)


def write_all(fd: int, data: bytes) -> None:
    """Writes everything, also to a descriptor that does not block."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])


class Screen(Sink):
    """Where a container's output is shown: this process's own descriptors; a slow reader holds the container up.

    Nothing waits, so that signals and times are served meanwhile: only what is surely taken is written at once. What a
    descriptor does not take any more goes to the log alone.

    Args:
        loop: what it waits on.
        stdout_fd: for output.
        stderr_fd: for errors.
        resume: called when there is room again.
        unread: called with the stream when a pipe has no reader any more (EPIPE).
    """

    def __init__(
        self,
        loop: Loop,
        stdout_fd: int,
        stderr_fd: int,
        resume: Callable[[], None],
        unread: Callable[[str], None] | None = None,
    ) -> None:
        self._loop, self._resume, self._unread = loop, resume, unread
        self.lost: WherryError | None = None
        """Why not everything could be shown, as on a full disk."""
        self._fds = {"stdout": stdout_fd, "stderr": stderr_fd}
        self._outbox: list[tuple[int, bytes]] = []
        self._closed: set[int] = set()

    @property
    def busy(self) -> bool:  # type: ignore[override]
        """Whether something is still to be shown."""
        return bool(self._outbox)

    def send(self, stream: str, data: bytes) -> None:
        """Shows it, now or when there is room."""
        fd = self._fds[stream]
        if fd not in self._closed:
            self._outbox.append((fd, data))
            if len(self._outbox) == 1:
                self._flush()

    def _flush(self) -> None:
        while self._outbox:
            fd, data = self._outbox[0]
            rest = self._write(fd, data)
            if rest:
                self._outbox[0] = (fd, rest)
                self._loop.watch(fd, lambda _, fd=fd: self._on_room(fd), OUT)  # type: ignore[misc]
                return
            del self._outbox[0]

    def _write(self, fd: int, data: bytes) -> bytes:
        """Writes as much as is taken at once; returns the rest."""
        poller = select.poll()
        poller.register(fd, select.POLLOUT)
        view = memoryview(data)
        while view and poller.poll(0):
            try:
                view = view[os.write(fd, view[:_PIPE_BUF]) :]
            except BlockingIOError:
                break
            except OSError as error:
                self._closed.add(fd)
                self._on_loss(fd, error)
                return b""
        return bytes(view)

    def _on_loss(self, fd: int, error: OSError) -> None:
        if error.errno == EPIPE:
            if self._unread is not None:
                for stream in [name for name, own in self._fds.items() if own == fd]:
                    self._unread(stream)
        elif error.errno != EIO:  # EIO: the terminal was hung up, and SIGHUP is on its way
            from wherry.core.durable import map_os_error

            self.lost = map_os_error(error, "not all that the command printed could be written")

    def _on_room(self, fd: int) -> None:
        self._loop.forget(fd)
        self._flush()
        if not self._outbox:
            self._resume()


class Keyboard:
    """What a person types, or a program writes, for a container.

    Args:
        loop: what it waits on.
        fd: where it comes from: a terminal, a pipe, a file.
        feed: given each piece; b"" at the end.
        leave: called when the detach keys were typed; what was typed before them has been fed.
        keys: the filter; None: none.
    """

    def __init__(
        self,
        loop: Loop,
        fd: int,
        *,
        feed: Callable[[bytes], None],
        leave: Callable[[], None],
        keys: DetachFilter | None,
    ) -> None:
        self._loop, self._fd = loop, fd
        self._feed, self._leave, self._keys = feed, leave, keys
        self._over = False

    def listen(self, wanted: bool = True) -> None:
        """Reads on, or not."""
        if self._over:
            return
        if not wanted:
            self._loop.forget(self._fd)
            return
        try:
            self._loop.watch(self._fd, lambda _: self._read(), IN)
        except PermissionError:  # a regular file, which is always ready
            self._loop.after(0, self._read)

    def _read(self) -> None:
        if self._over:
            return
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # the terminal was hung up
        if not data:
            self.close()
            self._feed(b"")
            return
        leave = False
        if self._keys is not None:
            data, leave = self._keys.feed(data)
        if data:
            self._feed(data)
        if leave:
            self.close()
            self._leave()
        elif not self._over:
            self.listen()

    def close(self) -> None:
        """Reads no more."""
        self._over = True
        self._loop.forget(self._fd)


def failed(text: str) -> WherryError:
    """Returns the error of a connection that broke off."""
    return WherryError(text, hint="`wherry ps -a` shows the container")
