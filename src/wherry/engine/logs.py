"""What a container printed, kept with a limit: docker's json-file lines, rotated by size and count.

::

    log/container.log         the newest; one JSON object a line: {"log": "text\\n", "stream": "stdout", "time": ...}
    log/container.log.1 ...   older ones, the highest number the oldest

Bytes that are not UTF-8 survive (as lone surrogates, U+DC80 to U+DCFF). A line is written when it is complete, or
when it reaches ``MAX_LINE_BYTES``; then ``log`` has no newline at its end (``logwriter.py``). Readers need no lock.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from wherry.engine.logwriter import FILE_NAME, MAX_LINE_BYTES

_MAX_RECORD_BYTES = 8 * MAX_LINE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One line, or a piece of a very long one."""

    time_s: float
    stream: str
    """``stdout`` or ``stderr``."""
    data: bytes
    """With its newline, if it had one."""


def parse_time(text: str) -> float:
    """Returns the time that ``format_time`` wrote, or that a person wrote as RFC 3339.

    Raises:
        ValueError: it is not one.
    """
    from datetime import datetime

    head, _, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    zone = rest[len(digits) :]
    if not rest:
        head, zone = (head[:-1], "Z") if head.endswith("Z") else (head, "")
    moment = datetime.fromisoformat(head + (zone.replace("Z", "+00:00") or "+00:00"))
    return moment.timestamp() + (int(digits) / 10 ** len(digits) if digits else 0.0)


def read_logs(
    folder: str | os.PathLike[str],
    *,
    follow: bool = False,
    tail: int | None = None,
    since_s: float | None = None,
    alive: Callable[[], bool] = lambda: False,
    wait: Callable[[], None] = lambda: None,
) -> Iterator[LogEntry]:
    """Gives a container's log, the oldest line first.

    Args:
        folder: the container's ``log`` folder.
        follow: whether to wait for more while `alive`.
        tail: only that many of the lines that are there already; None gives all.
        since_s: only what is newer, in seconds since 1970.
        alive: tells whether more may come.
        wait: comes back when there may be more, or `alive` may have changed.
    """
    files = _open_files(folder)
    last: BinaryIO | None = None
    try:
        entries = (entry for file in files for entry in _entries(file) if since_s is None or entry.time_s >= since_s)
        yield from entries if tail is None else deque(entries, maxlen=tail)
        if not follow:
            return
        last = files.pop() if files else None
        while True:
            # asked before reading, so that what was written before the end is read after it
            more = alive()
            for file in _open_files(folder, after=last):
                if last is not None:
                    yield from (entry for entry in _entries(last) if since_s is None or entry.time_s >= since_s)
                    last.close()
                last = file
            if last is not None:
                yield from (entry for entry in _entries(last) if since_s is None or entry.time_s >= since_s)
            if not more:
                return
            wait()
    finally:
        for file in files:
            file.close()
        if last is not None:
            last.close()


def _open_files(folder: str | os.PathLike[str], after: BinaryIO | None = None) -> list[BinaryIO]:
    """Opens the files of a log, the oldest first; with `after` only those that are newer than that one.

    Opens the newest first: a rotation meanwhile shows one file twice, which is seen by its inode, and loses none.
    """
    stop = _inode(after) if after is not None else None
    found: list[BinaryIO] = []
    seen: set[tuple[int, int]] = set()
    number = missing = 0
    while missing < 2:  # one gap may be a rotation between two of its renames
        path = f"{os.fspath(folder)}/{FILE_NAME}" if number == 0 else f"{os.fspath(folder)}/{FILE_NAME}.{number}"
        number += 1
        try:
            file = open(path, "rb")  # noqa: SIM115 closed by the caller
        except FileNotFoundError:
            missing += 1
            continue
        if _inode(file) == stop:
            file.close()
            break
        if _inode(file) in seen:
            file.close()
            continue
        seen.add(_inode(file))
        found.append(file)
    return found[::-1]


def _inode(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino


def _entries(file: BinaryIO) -> Iterator[LogEntry]:
    """Gives the complete lines from where the file stands; leaves it before one that is not complete."""
    while True:
        place = file.tell()
        line = file.readline(_MAX_RECORD_BYTES)
        if not line.endswith(b"\n"):
            if len(line) >= _MAX_RECORD_BYTES:
                continue  # no record of ours is that long
            file.seek(place)
            return
        try:
            value = json.loads(line)
            yield LogEntry(
                time_s=parse_time(value["time"]),
                stream=str(value["stream"]),
                data=value["log"].encode("utf-8", errors="surrogateescape"),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # a power cut left zeros or half a line; what follows is whole again
