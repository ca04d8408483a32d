"""The bytes of files on their way into an image: read in pieces, copied with their holes."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput

PIECE_BYTES = 1024 * 1024
_ZEROS = bytes(PIECE_BYTES)


def pieces(source: Path | bytes, size: int) -> Iterator[bytes]:
    """Gives the bytes of a file, which must be `size`.

    Raises:
        InvalidInput: it has another size now.
    """
    with opened(source) as file:
        left = size
        while left and (piece := file.read(min(left, PIECE_BYTES))):
            left -= len(piece)
            yield piece
        if left or file.read(1):
            raise InvalidInput("the file changed while it was read", where=source if isinstance(source, Path) else None)


def opened(source: Path | bytes) -> BinaryIO:
    """Returns bytes, or those of a file, to be read; a link is not followed."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        return os.fdopen(os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb")
    except OSError as error:
        raise map_os_error(error, "cannot read a file of the host", where=source) from error


def extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Gives the parts of a file that are no holes: offset and length, in order (lseek(2), SEEK_DATA)."""
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                return
            if error.errno == errno.EINVAL:  # no such thing here: all of it is data
                yield at, size - at
                return
            raise
        end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        if start >= size:
            return
        yield start, end - start
        at = end


def copy_sparse(source: Path, out_fd: int, offset: int) -> int:
    """Copies a file into another at an offset, and leaves its holes and blocks of zeros out.

    Args:
        source: what is copied.
        out_fd: where to; what is there already is zero.
        offset: of the first byte.

    Returns:
        The size of the source.
    """
    with opened(source) as file:
        fd = file.fileno()
        size = os.fstat(fd).st_size
        for start, length in extents(fd, size):
            at, end = start, start + length
            while at < end:
                piece = os.pread(fd, min(PIECE_BYTES, end - at), at)
                if not piece:
                    raise InvalidInput("the file became shorter while it was read", where=source)
                if piece != _ZEROS[: len(piece)]:
                    _write_all(out_fd, piece, offset + at)
                at += len(piece)
    return size


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
