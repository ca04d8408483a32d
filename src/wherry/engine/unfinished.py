"""The beginnings of lines that a container has not ended yet, kept for whoever writes its log next.

Such a beginning is no record of the log yet, and not in the container's pipe any more::

    unfinished    4 bytes: for each of stdout and stderr, which place is the right one, and nothing
                  4 places: 4 bytes length, MAX_LINE_BYTES of text; stdout's two, then stderr's

A stream's two places are written in turn, and only then the one made the right one. The file is not synced: after a
power cut there is no container.
"""

from __future__ import annotations

import os
from _struct import Struct

from wherry.core import trace
from wherry.engine.logwriter import MAX_LINE_BYTES

_HEAD_BYTES = 4
_LENGTH = Struct("=I")
_PLACE_BYTES = _LENGTH.size + MAX_LINE_BYTES


class Unfinished:
    """The file of the beginnings of lines, of one container.

    Args:
        folder: the container's run folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._path = os.path.join(folder, "unfinished")
        self.places = [0, 0]
        """Of each stream, which of its two places is the right one."""
        self._kept = [b"", b""]

    def load(self) -> list[bytes]:
        """Reads what is kept: of stdout and of stderr."""
        try:
            with open(self._path, "rb") as file:
                data = file.read(_HEAD_BYTES + 4 * _PLACE_BYTES)
        except FileNotFoundError:
            return [b"", b""]
        self.places = [data[0] & 1, data[1] & 1]
        self._kept = [_at(data, stream, self.places[stream]) for stream in (0, 1)]
        return list(self._kept)

    def earlier(self, stream: int, place: int) -> bytes:
        """Returns what a place holds, and makes it the right one."""
        self.places[stream] = place
        try:
            with open(self._path, "rb") as file:
                self._kept[stream] = _at(file.read(_HEAD_BYTES + 4 * _PLACE_BYTES), stream, place)
        except FileNotFoundError:
            self._kept[stream] = b""
        return self._kept[stream]

    def keep(self, stream: int, text: bytes) -> None:
        """Keeps the beginning of a line in the other place, and then makes that the right one."""
        if text == self._kept[stream]:
            return
        place = 1 - self.places[stream]
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            offset = _HEAD_BYTES + (2 * stream + place) * _PLACE_BYTES
            os.pwrite(fd, _LENGTH.pack(len(text)) + text, offset)
            trace.reach("engine.limbo.kept")
            os.pwrite(fd, bytes((place,)), stream)
        finally:
            os.close(fd)
        self.places[stream] = place
        self._kept[stream] = text


def _at(data: bytes, stream: int, place: int) -> bytes:
    offset = _HEAD_BYTES + (2 * stream + place) * _PLACE_BYTES
    if len(data) < offset + _LENGTH.size:
        return b""
    (length,) = _LENGTH.unpack_from(data, offset)
    start = offset + _LENGTH.size
    return data[start : start + min(length, MAX_LINE_BYTES)]
