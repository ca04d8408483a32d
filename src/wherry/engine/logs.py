"""What a container printed, kept with a limit: docker's json-file lines, rotated by size and count.

::

    log/container.log         the newest; one JSON object a line: {"log": "text\\n", "stream": "stdout", "time": ...}
    log/container.log.1 ...   older ones, the highest number the oldest

Bytes that are not UTF-8 survive (as lone surrogates, U+DC80 to U+DCFF). A line is written when it is complete, or
when it reaches ``MAX_LINE_BYTES``; then ``log`` has no newline at its end. A full disk loses lines and never stops
the container: the loss is counted, and told in the log once there is room again. One writer, the monitor; readers
need no lock.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from wherry.engine.spec import LogLimits

FILE_NAME = "container.log"
MAX_LINE_BYTES = 16 * 1024
"""As docker splits them; a line in the file is at most six times as long, by JSON's escapes, plus its frame."""
_MAX_RECORD_BYTES = 8 * MAX_LINE_BYTES
_FOLLOW_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One line, or a piece of a very long one."""

    time_s: float
    stream: str
    """``stdout`` or ``stderr``."""
    data: bytes
    """With its newline, if it had one."""


class LogWriter:
    """Writes the log of one container.

    Args:
        folder: the container's ``log`` folder.
        limits: how much is kept.
    """

    def __init__(self, folder: Path, limits: LogLimits) -> None:
        self._path = folder / FILE_NAME
        self._limits = limits
        self._partial = {"stdout": b"", "stderr": b""}
        self._lost = 0
        self._fd = -1
        self._size = 0
        self._open()

    def write(self, stream: str, data: bytes) -> None:
        """Adds what the container printed just now."""
        text = self._partial[stream] + data
        now = time.time()
        start = 0
        while True:
            end = text.find(b"\n", start)
            if end < 0 or end - start >= MAX_LINE_BYTES:
                if len(text) - start < MAX_LINE_BYTES:
                    break
                end = start + MAX_LINE_BYTES - 1
            self._record(stream, text[start : end + 1], now)
            start = end + 1
        self._partial[stream] = text[start:]

    def close(self) -> None:
        """Writes what is left of unfinished lines, and closes the file."""
        for stream, rest in self._partial.items():
            if rest:
                self._record(stream, rest, time.time())
        self._partial = {"stdout": b"", "stderr": b""}
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _record(self, stream: str, line: bytes, now: float) -> None:
        record = _format(stream, line, now)
        if self._size and self._size + len(record) > self._limits.max_bytes:
            self._rotate()
        if self._lost:
            notice = _format("stderr", f"wherry: {self._lost} lines lost, the disk was full\n".encode(), now)
            if not self._append(notice):
                self._lost += 1
                return
            self._lost = 0
        if not self._append(record):
            self._lost += 1

    def _append(self, record: bytes) -> bool:
        if self._fd < 0 and not self._open():
            return False
        written = 0
        try:
            while written < len(record):
                written += os.write(self._fd, record[written:])
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS):
                raise
            if written:
                os.ftruncate(self._fd, self._size)  # half a record would be unreadable
            return False
        self._size += len(record)
        return True

    def _open(self) -> bool:
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            self._size = os.fstat(self._fd).st_size
        except OSError:
            self._fd = -1
            return False
        return True

    def _rotate(self) -> None:
        os.close(self._fd)
        self._fd = -1
        try:
            if self._limits.files == 1:
                self._path.unlink()
            else:
                for number in range(self._limits.files - 1, 0, -1):
                    older = self._path.with_name(f"{FILE_NAME}.{number}")
                    newer = self._path if number == 1 else self._path.with_name(f"{FILE_NAME}.{number - 1}")
                    if newer.exists():
                        newer.replace(older)
        except OSError:
            pass  # the file grows over its limit rather than lines being lost
        self._open()


def _format(stream: str, line: bytes, now: float) -> bytes:
    text = json.dumps(line.decode("utf-8", errors="surrogateescape"))
    return f'{{"log":{text},"stream":"{stream}","time":"{format_time(now)}"}}\n'.encode()


def format_time(time_s: float) -> str:
    """Returns a time as RFC 3339 with nanoseconds in UTC, as docker writes it."""
    whole = int(time_s)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{stamp}.{int((time_s - whole) * 1e9):09d}Z"


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
    folder: Path,
    *,
    follow: bool = False,
    tail: int | None = None,
    since_s: float | None = None,
    alive: Callable[[], bool] = lambda: False,
) -> Iterator[LogEntry]:
    """Gives a container's log, the oldest line first.

    Args:
        folder: the container's ``log`` folder.
        follow: whether to wait for more while `alive`.
        tail: only that many of the lines that are there already; None gives all.
        since_s: only what is newer, in seconds since 1970.
        alive: tells whether more may come.
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
            time.sleep(_FOLLOW_POLL_S)
    finally:
        for file in files:
            file.close()
        if last is not None:
            last.close()


def _open_files(folder: Path, after: BinaryIO | None = None) -> list[BinaryIO]:
    """Opens the files of a log, the oldest first; with `after` only those that are newer than that one.

    Opens the newest first: a rotation meanwhile shows one file twice, which is seen by its inode, and loses none.
    """
    stop = _inode(after) if after is not None else None
    found: list[BinaryIO] = []
    seen: set[tuple[int, int]] = set()
    number = missing = 0
    while missing < 2:  # one gap may be a rotation between two of its renames
        path = folder / (FILE_NAME if number == 0 else f"{FILE_NAME}.{number}")
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
