"""A part of a delta: checked, unpacked into a nameless file, and open for reading.

::

    file     (y ay)                       compression: "x" xz, 0 none; then the payload
    payload  (a(uuu) aa(ayay) ay ay)      modes (uid gid mode, big-endian), sets of attributes, blob, operations

A part may be larger than memory: the file is hashed as it streams, the payload is unpacked to the disk, and only the
operations and what is asked for are read. Limits stop what inflates to more than its objects could need.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import secrets
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from wherry.core.digest import Checksum
from wherry.core.errors import IntegrityError, InvalidInput, NotFound
from wherry.store.disk.content import CHUNK_BYTES
from wherry.store.format import objects
from wherry.store.format.objects import FileHeader, Xattrs
from wherry.store.static_delta.frames import ArraySpans, FileRange, Reader, tuple_spans
from wherry.store.static_delta.superblock import PartHeader

NO_COMPRESSION = 0
XZ = ord("x")
MAX_LZMA_MEMORY_BYTES = 160 * 1024 * 1024
"""What xz may take to unpack: ``xz -9`` needs 65 MiB, OSTree's own parts 33 MiB."""
MAX_OPS_BYTES = 32 * 1024 * 1024
MAX_MODES = 1_000_000
MAX_XATTRS_BYTES = 1024 * 1024
"""Attributes of one file."""
MAX_BLOAT = 4
"""A payload may be so many times as long as its objects: patches have their own overhead."""
BLOAT_ALLOWANCE_BYTES = 64 * 1024 * 1024
_PAYLOAD_LAYOUT = ((4, 0), (1, 0), (1, 0), (1, 0))
_MODE = struct.Struct(">III")

PartSource = Path | BinaryIO | bytes | memoryview | FileRange
"""Where the bytes of a part's file come from; a file is read from where it stands."""
Reserve = Callable[[int], None]
"""Told before bytes are written to the disk; may refuse."""


class PartFile:
    """An open part; close it, or use it with ``with``.

    Args:
        header: what the superblock says about it.
        source: its bytes.
        folder: where its payload may be unpacked to.
        reserve: asked for room there.
        check: whether the part must have the checksum in `header`; OSTree does not ask that of parts that stand in
            the superblock itself.

    Raises:
        IntegrityError: it is not what the superblock names.
        InvalidInput: malformed, or over a limit.
    """

    def __init__(
        self,
        header: PartHeader,
        source: PartSource,
        *,
        folder: Path,
        reserve: Reserve = lambda size: None,
        check: bool = True,
    ) -> None:
        self.header = header
        self._where = f"part {header.index} of a delta"
        self._stack = ExitStack()
        self._digest = hashlib.sha256()
        try:
            read, size = self._open(source, folder, reserve)
            if check and self._digest.hexdigest() != header.checksum:
                raise IntegrityError(
                    f"Checksum mismatch in static delta part; expected={header.checksum} "
                    f"actual={self._digest.hexdigest()}",
                    where=self._where,
                )
            self._read = read
            modes, xattrs, blob, ops = tuple_spans(read, (0, size), _PAYLOAD_LAYOUT)
            if (modes[1] - modes[0]) % _MODE.size or (modes[1] - modes[0]) // _MODE.size > MAX_MODES:
                raise InvalidInput("its table of modes is malformed")
            if ops[1] - ops[0] > MAX_OPS_BYTES:
                raise InvalidInput(f"more than {MAX_OPS_BYTES} bytes of operations")
            self._modes, self._blob, self._ops = modes, blob, ops
            self._xattrs = ArraySpans(read, xattrs, 1)
            self._xattrs_at = lru_cache(maxsize=1024)(self._read_xattrs)
        except InvalidInput as error:
            self._stack.close()
            raise InvalidInput(error.what, where=error.where or self._where) from None
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> PartFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes it; what was unpacked is gone."""
        self._stack.close()

    # --- what is in it

    @property
    def mode_count(self) -> int:
        """How many entries the table of modes has."""
        return (self._modes[1] - self._modes[0]) // _MODE.size

    @property
    def xattrs_count(self) -> int:
        """How many sets of attributes there are."""
        return len(self._xattrs)

    @property
    def blob_bytes(self) -> int:
        """The length of the blob."""
        return self._blob[1] - self._blob[0]

    @property
    def ops_bytes(self) -> int:
        """The length of the operations."""
        return self._ops[1] - self._ops[0]

    def ops(self) -> bytes:
        """Returns the operations."""
        return self._read(self._ops[0], self.ops_bytes)

    def check_range(self, offset: int, length: int) -> None:
        """Refuses what is not within the blob.

        Raises:
            InvalidInput: it is not.
        """
        if offset + length > self.blob_bytes:
            raise InvalidInput(f"Invalid offset/length {offset}/{length}", where=self._where)

    def blob(self, offset: int, length: int) -> bytes:
        """Returns bytes of the blob.

        Raises:
            InvalidInput: they are not all there.
        """
        self.check_range(offset, length)
        return self._read(self._blob[0] + offset, length)

    def pieces(self, offset: int, length: int) -> Iterator[bytes]:
        """Gives bytes of the blob, in pieces.

        Raises:
            InvalidInput: they are not all there.
        """
        self.check_range(offset, length)
        for at in range(offset, offset + length, CHUNK_BYTES):
            yield self._read(self._blob[0] + at, min(CHUNK_BYTES, offset + length - at))

    def file_header(self, mode_index: int, xattrs_index: int, target: str = "") -> FileHeader:
        """Returns a header from the tables.

        Raises:
            InvalidInput: the tables have no such entries, or malformed ones.
        """
        if mode_index >= self.mode_count:
            raise InvalidInput(f"no mode {mode_index} in a table of {self.mode_count}", where=self._where)
        uid, gid, mode = _MODE.unpack(self._read(self._modes[0] + mode_index * _MODE.size, _MODE.size))
        objects.check_file_mode(mode, where=self._where)
        return FileHeader(uid=uid, gid=gid, mode=mode, symlink_target=target, xattrs=self._xattrs_at(xattrs_index))

    def source_checksum(self, offset: int) -> Checksum:
        """Returns the checksum that lies in the blob, of a file to read from."""
        return Checksum(self.blob(offset, 32).hex())

    def _read_xattrs(self, index: int) -> Xattrs:
        start, end = self._xattrs[index]
        if end - start > MAX_XATTRS_BYTES:
            raise InvalidInput(f"a file with more than {MAX_XATTRS_BYTES} bytes of attributes", where=self._where)
        return objects.parse_xattrs(self._read(start, end - start), where=self._where)

    # --- opening

    def _open(self, source: PartSource, folder: Path, reserve: Reserve) -> tuple[Reader, int]:
        """Returns how to read the payload, and its length; all of the source has been hashed then."""
        if isinstance(source, Path):
            try:
                source = self._stack.enter_context(open(source, "rb", buffering=0))  # noqa: SIM115 the stack closes it
            except FileNotFoundError:
                raise NotFound("a part of a delta is not there", where=source) from None
        if isinstance(source, bytes | memoryview | FileRange):
            return self._open_memory(memoryview(source) if isinstance(source, bytes) else source, folder, reserve)
        compression = self._take(source.read(1))
        if compression == XZ:
            return self._unpack(iter(lambda: source.read(CHUNK_BYTES), b""), folder, reserve)
        return self._copy(iter(lambda: source.read(CHUNK_BYTES), b""), folder, reserve)

    def _open_memory(self, view: memoryview | FileRange, folder: Path, reserve: Reserve) -> tuple[Reader, int]:
        compression = self._take(bytes(view[:1]))
        rest = view[1:]
        if compression == XZ:
            pieces = (bytes(rest[at : at + CHUNK_BYTES]) for at in range(0, len(rest), CHUNK_BYTES))
            return self._unpack(pieces, folder, reserve)
        for at in range(0, len(rest), CHUNK_BYTES):
            self._digest.update(bytes(rest[at : at + CHUNK_BYTES]))
        return (lambda at, size: bytes(rest[at : at + size])), len(rest)

    def _take(self, first: bytes) -> int:
        if len(first) != 1 or first[0] not in (NO_COMPRESSION, XZ):
            raise InvalidInput(f"Invalid compression type '{first[0] if first else ''}'")
        self._digest.update(first)
        return first[0]

    def _unpack(self, pieces: Iterator[bytes], folder: Path, reserve: Reserve) -> tuple[Reader, int]:
        limit = self.header.unpacked_bytes * MAX_BLOAT + BLOAT_ALLOWANCE_BYTES
        decoder = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=MAX_LZMA_MEMORY_BYTES)
        fd = self._new_file(folder)
        size = 0
        try:
            for piece in pieces:
                self._digest.update(piece)
                for plain in _inflate(decoder, piece):
                    size += len(plain)
                    if size > limit:
                        raise InvalidInput(f"it unpacks to more than {limit} bytes")
                    reserve(len(plain))
                    _write_all(fd, plain)
        except EOFError:
            raise InvalidInput("bytes behind its end") from None
        except lzma.LZMAError as error:
            raise InvalidInput(f"it is not xz: {error}") from error
        if not decoder.eof:
            raise InvalidInput("it is cut short")
        if decoder.unused_data:
            raise InvalidInput("bytes behind its end")
        return (lambda at, count: os.pread(fd, count, at)), size

    def _copy(self, pieces: Iterator[bytes], folder: Path, reserve: Reserve) -> tuple[Reader, int]:
        fd = self._new_file(folder)
        size = 0
        for piece in pieces:
            self._digest.update(piece)
            size += len(piece)
            if size > self.header.unpacked_bytes * MAX_BLOAT + BLOAT_ALLOWANCE_BYTES:
                raise InvalidInput("it is longer than its objects could need")
            reserve(len(piece))
            _write_all(fd, piece)
        return (lambda at, count: os.pread(fd, count, at)), size

    def _new_file(self, folder: Path) -> int:
        fd = nameless_file(folder)
        self._stack.callback(os.close, fd)
        return fd


def _inflate(decoder: lzma.LZMADecompressor, data: bytes) -> Iterator[bytes]:
    """Gives what `data` unpacks to, in pieces."""
    while plain := decoder.decompress(data, CHUNK_BYTES):
        yield plain
        if decoder.eof or decoder.needs_input:
            return
        data = b""


def nameless_file(folder: Path) -> int:
    """Opens a new file that has no name and is gone once it is closed."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (21, 95, 22):  # EISDIR before Linux 3.11, EOPNOTSUPP by the file system, EINVAL
            raise
    path = folder / f"tmp-{secrets.token_hex(8)}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    path.unlink()
    return fd


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
