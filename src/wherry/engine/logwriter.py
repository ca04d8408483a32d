"""What a container prints, written to its log: docker's json-file lines, rotated by size and count (see ``logs.py``).

A line is written when it is complete, or when it reaches ``MAX_LINE_BYTES``; then ``log`` has no newline at its end.
A full disk loses lines and never stops the container: the loss is counted, and told in the log once there is room
again. One writer, whoever keeps the container.

A writer that was killed may have written a part of what it was given. Whoever gives the same bytes to the next one
says where the first began (`Mark`): what was written after that is taken back, or stepped over, so that each line is
there once. Between two marks the file is rotated at most once, and only the first record of the newer file may follow.
"""

from __future__ import annotations

import errno
import os
import time
from _json import encode_basestring_ascii

from wherry.core.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.engine.spec import LogLimits

FILE_NAME = "container.log"
MAX_LINE_BYTES = 16 * 1024
"""As docker splits them; a line in the file is at most six times as long, by JSON's escapes, plus its frame."""
STREAMS = ("stdout", "stderr")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS)


class Mark(Value):
    """A place in the log: so many records of the bytes at hand are written, and the file is so long."""

    inode: int
    size: int
    records: int


class LogWriter:
    """Writes the log of one container; with the driver ``none`` nothing is written, and no file is made.

    Args:
        folder: the container's ``log`` folder.
        limits: how much is kept.
    """

    def __init__(self, folder: str | os.PathLike[str], limits: LogLimits) -> None:
        self._path = os.path.join(folder, FILE_NAME)
        self._limits = limits
        self.partial = {"stdout": b"", "stderr": b""}
        """The beginning of a line, of which the end is still to come."""
        self._lost = 0
        self._fd = -1
        self._size = 0
        self._inode = 0
        self._open()

    def mark(self) -> Mark:
        """Returns where the log is now."""
        return Mark(inode=self._inode, size=self._size, records=0)

    def write(self, stream: str, data: bytes, *, marked: Callable[[Mark], None] | None = None, done: int = 0) -> None:
        """Adds what the container printed just now.

        Args:
            stream: ``stdout`` or ``stderr``.
            data: the bytes.
            marked: called before the file is rotated.
            done: so many records of these bytes are in the log already.
        """
        if self._limits.driver == "none":
            return
        text = self.partial[stream] + data
        stamp = format_time(time.time())
        start = count = 0
        group: list[bytes] = []
        room = self._room()
        while True:
            end = text.find(b"\n", start)
            if end < 0 or end - start >= MAX_LINE_BYTES:
                if len(text) - start < MAX_LINE_BYTES:
                    break
                end = start + MAX_LINE_BYTES - 1
            if count >= done:
                record = format_record(stream, text[start : end + 1], stamp)
                if len(record) > room and (self._size or group):
                    self._append(group, stamp)
                    group = []
                    if marked is not None:
                        marked(Mark(inode=self._inode, size=self._size, records=count))
                    self._rotate()
                    room = self._room()
                group.append(record)
                room -= len(record)
            count += 1
            start = end + 1
        self._append(group, stamp)
        self.partial[stream] = text[start:]

    def back_to(self, mark: Mark) -> None:
        """Takes back what was written after a mark was made."""
        if self._fd >= 0:
            began = self._inode != mark.inode or self._size < mark.size  # another file was begun after the mark
            size = 0 if began else mark.size
            if self._size > size:
                os.ftruncate(self._fd, size)
                self._size = size

    def close(self) -> None:
        """Writes what is left of unfinished lines, and closes the file."""
        stamp = format_time(time.time())
        for stream, rest in self.partial.items():
            if rest:
                self._append([format_record(stream, rest, stamp)], stamp)
        self.partial = {"stdout": b"", "stderr": b""}
        self.leave()

    def leave(self) -> None:
        """Closes the file, and writes nothing more: somebody else goes on."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _room(self) -> int:
        return self._limits.max_bytes - self._size

    def _append(self, records: list[bytes], stamp: str) -> None:
        """Writes records as one, or counts them as lost."""
        if not records:
            return
        if self._lost:
            notice = format_record("stderr", f"wherry: {self._lost} lines lost, the disk was full\n".encode(), stamp)
            if not self._write(notice):
                self._lost += len(records)
                return
            self._lost = 0
        if not self._write(b"".join(records)):
            self._lost += len(records)

    def _write(self, data: bytes) -> bool:
        if self._fd < 0 and not self._open():
            return False
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            if error.errno not in _FULL:
                raise
            if written:
                os.ftruncate(self._fd, self._size)  # half a record would be unreadable
            return False
        self._size += len(data)
        return True

    def _open(self) -> bool:
        if self._limits.driver == "none":
            return False
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            status = os.fstat(self._fd)
            self._size, self._inode = status.st_size, status.st_ino
        except OSError:
            self._fd = -1
            return False
        return True

    def _rotate(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        try:
            if self._limits.files == 1:
                os.unlink(self._path)
            else:
                for number in range(self._limits.files - 1, 0, -1):
                    newer = self._path if number == 1 else f"{self._path}.{number - 1}"
                    if os.path.exists(newer):
                        os.replace(newer, f"{self._path}.{number}")
        except OSError:
            pass  # the file grows over its limit rather than lines being lost
        self._open()


def format_record(stream: str, line: bytes, stamp: str) -> bytes:
    """Returns one line of a log as docker's json-file has it."""
    text = encode_basestring_ascii(line.decode("utf-8", errors="surrogateescape"))
    return f'{{"log":{text},"stream":"{stream}","time":"{stamp}"}}\n'.encode()


def format_time(time_s: float) -> str:
    """Returns a time as RFC 3339 with nanoseconds in UTC, as docker writes it."""
    whole = int(time_s)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{stamp}.{int((time_s - whole) * 1e9):09d}Z"
