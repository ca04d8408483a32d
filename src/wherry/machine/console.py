"""A machine's serial console: shown, written down, and waited for.

Time limits are on progress: a guest that goes on printing is alive, however slow this machine is. The text that is
waited for is looked for in the bytes as they come, across pieces, with colours and other escape sequences left out.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Callable

from wherry.core.errors import Timeout, ToolError

MAX_KEPT_CHARS = 256 * 1024
"""The end of the console that is kept for errors and for tests."""
READ_BYTES = 65536
_ESCAPES = re.compile(rb"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[()][0-9A-B]|[=>78cDEHM])")
_MAX_ESCAPE_BYTES = 256
_PANIC = "Kernel panic - not syncing"


def plain(data: bytes) -> bytes:
    """Returns what a console printed without escape sequences and carriage returns."""
    return _ESCAPES.sub(b"", data).replace(b"\r", b"")


class Text:
    """What a console printed, as text, as it comes: the end of it is kept."""

    def __init__(self) -> None:
        self.kept = ""
        self.dropped = 0
        """How many characters before `kept` are no longer there."""
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Takes in more; an escape sequence or a character that is not complete yet waits for its end."""
        data = self._rest + data
        at = max(data.rfind(b"\x1b"), len(data) - 4)
        held = data[at:] if at >= 0 and len(data) - at <= _MAX_ESCAPE_BYTES and _incomplete(data[at:]) else b""
        self._rest = held
        self.kept += plain(data[: len(data) - len(held)]).decode(errors="replace")
        spare = len(self.kept) - MAX_KEPT_CHARS
        if spare > 0:
            self.kept = self.kept[spare:]
            self.dropped += spare


def _incomplete(data: bytes) -> bool:
    if data[:1] == b"\x1b":
        return _ESCAPES.match(data) is None
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False


class Console:
    """The console of a machine, for tests and scripts.

    Args:
        connection: this side of its socket; stays the caller's.
        also: called with each piece as it comes.
    """

    def __init__(self, connection: socket.socket, also: Callable[[bytes], None] | None = None) -> None:
        self._socket = connection
        self._also = also
        self._text = Text()
        self._seen = 0
        self.over = False
        """Whether the machine has closed it."""

    @property
    def text(self) -> str:
        """The end of what it printed, without escape sequences."""
        return self._text.kept

    def send(self, text: str) -> None:
        """Types something; a line needs its end."""
        self._socket.settimeout(None)
        self._socket.sendall(text.encode())

    def read(self, timeout_s: float) -> bytes:
        """Returns what comes next; b"" when nothing came in time or the machine has closed it."""
        if not select.select([self._socket], [], [], max(0.0, timeout_s))[0]:
            return b""
        try:
            data = self._socket.recv(READ_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            self.over = True
            return b""
        self._text.feed(data)
        if self._also is not None:
            self._also(data)
        return data

    def wait_for(self, text: str, *, idle_s: float = 60.0, limit_s: float | None = None) -> str:
        """Waits until a text comes, from where the last wait ended.

        Args:
            text: what is waited for.
            idle_s: how long the console may be silent.
            limit_s: how long it may take in all; None sets no limit, as long as something comes.

        Returns:
            All that was printed up to it.

        Raises:
            Timeout: it did not come; has the end of what did.
            ToolError: the machine ended.
        """
        begun = heard = time.monotonic()
        while True:
            start = max(0, self._seen - self._text.dropped)
            at = self.text.find(text, start)
            if at >= 0:
                self._seen = self._text.dropped + at + len(text)
                return self.text[start : at + len(text)]
            now = time.monotonic()
            if now - heard > idle_s or (limit_s is not None and now - begun > limit_s):
                raise Timeout(f"{text!r} did not come on the console; its end is: {self.tail()}")
            if self.over:
                raise ToolError(f"the machine ended before {text!r} came; the console's end is: {self.tail()}")
            if self.read(min(1.0, idle_s)):
                heard = time.monotonic()

    def tail(self, lines: int = 5) -> str:
        """Returns the last lines, in one."""
        return tail_of(self.text, lines)


def tail_of(text: str, lines: int = 5) -> str:
    """Returns the last lines of a console, in one: those before a panic, whose registers tell a user nothing."""
    said = text.strip().splitlines()
    panics = [number for number, line in enumerate(said) if _PANIC in line]
    return " | ".join(said[: panics[-1] + 1][-lines:] if panics else said[-lines:])
