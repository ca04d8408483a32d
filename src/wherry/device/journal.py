"""The device's journal: one JSON object a line, in two files of bounded size, for ``wherry device log``.

``log/journal.jsonl`` is written; when it is full it becomes ``log/journal.1.jsonl``, in whose place it comes.
Lines are flushed but not synced: the journal is for people, the state for the machine. A full disk costs
lines, never the update.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wherry.core import jsonio
from wherry.core.errors import InvalidInput
from wherry.spec.codec import decode, encode

MAX_FILE_BYTES = 512 * 1024
MAX_TEXT_CHARS = 4000
_NAME = "journal.jsonl"
_OLD = "journal.1.jsonl"
_FOLLOW_POLL_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the journal. ``time_s`` is by the device's clock."""

    time_s: int
    event: str
    """An ``UpdateState``, or ``agent``, ``app``, ``hub``, ``clean``."""
    text: str
    revision: str | None = None
    assignment: int = 0
    extra: dict[str, object] = field(default_factory=dict)


class Journal:
    """The journal in one folder; `echo` is called with each line as well."""

    def __init__(self, folder: Path, echo: Callable[[Line], None] | None = None) -> None:
        self._folder = folder
        self._echo = echo

    def write(self, event: str, text: str, *, revision: str | None = None, assignment: int = 0) -> None:
        """Adds a line; a full disk or a missing folder loses it."""
        line = Line(
            time_s=int(time.time()), event=event, text=text[:MAX_TEXT_CHARS], revision=revision, assignment=assignment
        )
        if self._echo is not None:
            self._echo(line)
        data = jsonio.canonical(encode(line)) + b"\n"
        path = self._folder / _NAME
        try:
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size + len(data) > MAX_FILE_BYTES:
                os.replace(path, self._folder / _OLD)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                os.write(fd, data)
            finally:
                os.close(fd)
        except OSError:
            return

    def tail(self, count: int) -> list[Line]:
        """Returns the last `count` lines, the oldest first."""
        found: deque[Line] = deque(maxlen=max(0, count))
        for name in (_OLD, _NAME):
            found.extend(_read(self._folder / name))
        return list(found)

    def follow(self) -> Iterator[Line]:
        """Gives every line that is written from now on, without end."""
        path = self._folder / _NAME
        offset, inode = _size(path)
        while True:
            size, now_inode = _size(path)
            if now_inode != inode or size < offset:
                inode, offset = now_inode, 0
            if size > offset:
                with path.open("rb") as file:
                    file.seek(offset)
                    data = file.read(MAX_FILE_BYTES)
                complete = data[: data.rfind(b"\n") + 1]
                offset += len(complete)
                yield from _lines(complete)
            time.sleep(_FOLLOW_POLL_S)


def _size(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_size, status.st_ino


def _read(path: Path) -> Iterator[Line]:
    try:
        with path.open("rb") as file:
            yield from _lines(file.read(2 * MAX_FILE_BYTES))
    except FileNotFoundError:
        return


def _lines(data: bytes) -> Iterator[Line]:
    for raw in data.splitlines():
        try:
            yield decode(Line, jsonio.loads(raw))
        except InvalidInput:
            continue  # a line cut short by a power cut
