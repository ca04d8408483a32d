"""Writing an image of a disk to a device, so that what is there afterwards is the image, and is known to be.

1. The first mebibyte is zeroed, and with it the old partition table: from here on, until the last step, nothing boots
   from the device and nothing mounts it by itself.
2. All of it is discarded, where it can be.
3. What has data in the image is written. Where the image has a hole, the device is read, and written only where it is
   not zero: a discard promises nothing, and reading is faster than writing.
4. The end of a larger device, where an old table's copy may be, is zeroed.
5. The first mebibyte is written, once all else is on the medium.
6. The caches are dropped, and all of it is read back and compared by SHA-256.

It writes to no device that somebody else uses: the kernel's own exclusive open is held from beginning to end.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wherry.build.flashtarget import Device
from wherry.build.images.contents import extents
from wherry.core import trace
from wherry.core.durable import map_os_error
from wherry.core.errors import Conflict, IntegrityError, InvalidInput
from wherry.core.progress import QUIET, Progress
from wherry.linux import blockdevice

PIECE_BYTES = 4 * 1024 * 1024
BLOCK_BYTES = 64 * 1024
"""What is left out where it is all zeros: about what flash memory erases at once, or a part of it."""
HEAD_BYTES = 1024 * 1024
"""The partition table, and what boards have before the first partition: written last."""
TAIL_BYTES = 1024 * 1024
SYNC_BYTES = 64 * 1024 * 1024
"""After so many, the medium is waited for, so that progress tells the truth and an interruption ends soon."""
_DIRECT_BYTES = 4096
"""What direct reads are multiples of, on any disk of today."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flashed:
    """What was done."""

    size_bytes: int
    """Of the image."""
    written_bytes: int
    """What had to be written; the rest was holes."""
    sha256: str
    verified: bool
    discarded: bool
    table_read: bool
    """Whether the kernel knows the new partitions."""


def check_image(path: Path) -> int:
    """Checks that a file is an image of a disk, and returns its size.

    Raises:
        InvalidInput: it is none.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(512)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise map_os_error(error, "cannot read the image", where=path) from error
    if head[510:512] != b"\x55\xaa":
        hint = "an image with a partition table; unpack it first if it is compressed"
        raise InvalidInput("not an image of a disk", where=path, hint=hint)
    if size % 512:
        raise InvalidInput("not an image of a disk: cut off", where=path, hint="its size is no multiple of 512")
    return size


def flash(image: Path, device: Device, *, sha256: str = "", verify: bool = True, progress: Progress = QUIET) -> Flashed:
    """Writes an image to a device that `flashtarget.check` has let pass.

    Args:
        image: the file.
        device: where it goes.
        sha256: of the image, if it is known; one that is damaged is not made bootable.
        verify: whether what was written is read back.
        progress: is told how many bytes are done.

    Raises:
        Conflict: something else uses the device.
        IntegrityError: the image is not what it was, or the device does not keep what is written to it.
        NoSpace: a file's disk is full.
    """
    size = check_image(image)
    with _opened(image, device) as (source, target):
        try:
            work = _Work(source, target, size, device, progress)
            discarded = work.prepare()
            trace.reach("build.flash.prepared")
            digest = work.write()
            if sha256 and digest != sha256:
                what = f"the image is not what was built: SHA-256 {digest}, expected {sha256}"
                raise IntegrityError(what, where=image, hint="build it again; the device has no partition table now")
            trace.reach("build.flash.written")
            work.write_head()
            if verify:
                work.verify()
            table = not device.is_file and blockdevice.read_table(target)
        except OSError as error:
            raise map_os_error(error, "cannot write to the device", where=device.path) from error
    return Flashed(
        size_bytes=size,
        written_bytes=work.written,
        sha256=digest,
        verified=verify,
        discarded=discarded,
        table_read=table,
    )


@contextmanager
def _opened(image: Path, device: Device) -> Iterator[tuple[int, int]]:
    try:
        source = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise map_os_error(error, "cannot read the image", where=image) from error
    try:
        # O_EXCL without O_CREAT on a block device: the kernel refuses what is mounted or held (open(2))
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY | (os.O_CREAT if device.is_file else os.O_EXCL)
        try:
            target = os.open(device.path, flags, 0o644)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise Conflict("in use", where=device.path, hint="unmount it, or name another device") from error
            raise map_os_error(error, "cannot open the device", where=device.path) from error
        try:
            yield source, target
        finally:
            os.close(target)
    finally:
        os.close(source)


class _Work:
    """One image, on its way."""

    def __init__(self, source: int, target: int, size: int, device: Device, progress: Progress) -> None:
        self.source = source
        self.target = target
        self.size = size
        self.device = device
        self.progress = progress
        self.written = 0
        self.digests: list[bytes] = []
        """Of each piece of the image, to tell where a device is wrong."""
        self._unsynced = 0
        self._zeros = bytes(PIECE_BYTES)

    def prepare(self) -> bool:
        """Takes away what is there; returns whether the device was told that all of it is free."""
        if self.device.is_file:
            os.ftruncate(self.target, 0)
            os.ftruncate(self.target, self.size)
            return False
        if blockdevice.size_bytes(self.target) < self.size:
            raise InvalidInput("the device is too small", where=self.device.path)
        whole = self.device.size_bytes
        _write(self.target, self._zeros[: min(HEAD_BYTES, self.size)], 0)
        os.fsync(self.target)
        discarded = blockdevice.discard(self.target, 0, whole // _DIRECT_BYTES * _DIRECT_BYTES)
        if whole > self.size:
            tail = min(TAIL_BYTES, whole - self.size)
            _write(self.target, self._zeros[:tail], whole - tail)
        return discarded

    def write(self) -> str:
        """Writes all but the head; returns the SHA-256 of the image."""
        whole = hashlib.sha256()
        data = list(extents(self.source, self.size))
        for at, length in self._pieces():
            piece = _read(self.source, length, at)
            whole.update(piece)
            self.digests.append(hashlib.sha256(piece).digest())
            self._place(piece, at, is_data=_overlaps(data, at, at + length))
            self.progress.update("writing", at + length, self.size, unit="B")
        os.fsync(self.target)
        return whole.hexdigest()

    def write_head(self) -> None:
        """Writes the first mebibyte, and waits until all is on the medium."""
        head = _read(self.source, min(HEAD_BYTES, self.size), 0)
        self._put(_runs(head), 0)
        os.fsync(self.target)
        if not self.device.is_file:
            blockdevice.drop_cache(self.target)

    def verify(self) -> None:
        """Reads all of it back, from the medium.

        Raises:
            IntegrityError: it is not what was written; says where.
        """
        blockdevice.drop_cache(self.target)
        with _direct(self.device.path, PIECE_BYTES) as read:
            for index, (at, length) in enumerate(self._pieces()):
                if hashlib.sha256(read(at, length)).digest() != self.digests[index]:
                    what = f"the device does not keep what is written to it: bytes {at} to {at + length} differ"
                    raise IntegrityError(what, where=self.device.path, hint="take another card or disk")
                self.progress.update("verifying", at + length, self.size, unit="B")

    def _pieces(self) -> Iterator[tuple[int, int]]:
        for at in range(0, self.size, PIECE_BYTES):
            yield at, min(PIECE_BYTES, self.size - at)

    def _place(self, piece: bytes, at: int, *, is_data: bool) -> None:
        if at < HEAD_BYTES:
            piece, at = piece[HEAD_BYTES - at :], HEAD_BYTES
        if piece:
            self._put(_runs(piece) if is_data else [(0, piece)], at)

    def _put(self, runs: Iterable[tuple[int, bytes]], at: int) -> None:
        for start, part in runs:
            zeros = self._zeros[: len(part)]
            if part == zeros and _read(self.target, len(part), at + start) == zeros:
                continue
            _write(self.target, part, at + start)
            self.written += len(part)
            self._unsynced += len(part)
        if self._unsynced >= SYNC_BYTES:
            os.fdatasync(self.target)
            self._unsynced = 0


def _runs(piece: bytes) -> Iterator[tuple[int, bytes]]:
    """Gives the parts of a piece that are all zeros, and those between them, by blocks."""
    zero = bytes(BLOCK_BYTES)
    start = 0
    before: bool | None = None
    for at in range(0, len(piece), BLOCK_BYTES):
        block = piece[at : at + BLOCK_BYTES]
        empty = block == zero[: len(block)]
        if before is not None and empty != before:
            yield start, piece[start:at]
            start = at
        before = empty
    if start < len(piece):
        yield start, piece[start:]


def _overlaps(spans: list[tuple[int, int]], start: int, end: int) -> bool:
    """Tells whether some data is between two offsets; drops the spans that lie before."""
    while spans and spans[0][0] + spans[0][1] <= start:
        spans.pop(0)
    return bool(spans) and spans[0][0] < end


def _read(fd: int, length: int, offset: int) -> bytes:
    parts = []
    while length:
        part = os.pread(fd, length, offset)
        if not part:
            raise OSError(errno.EIO, "the end is reached too early")
        parts.append(part)
        length -= len(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view = view[done:]
        offset += done


class _Reader:
    """Reads past the cache, where the file system and the device can."""

    def __init__(self, direct: int | None, plain: int, buffer: mmap.mmap) -> None:
        self._direct = direct
        self._plain = plain
        self._buffer = buffer

    def __call__(self, offset: int, length: int) -> bytes:
        if self._direct is None or length % _DIRECT_BYTES:
            return _read(self._plain, length, offset)
        done = 0
        while done < length:
            part = os.preadv(self._direct, [memoryview(self._buffer)[done:length]], offset + done)
            if part % _DIRECT_BYTES or not part:
                return _read(self._plain, length, offset)
            done += part
        return self._buffer[:length]


@contextmanager
def _direct(path: Path, size: int) -> Iterator[_Reader]:
    plain = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    direct = None
    try:
        try:
            direct = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a tmpfs, say
                raise
        with mmap.mmap(-1, size) as buffer:  # which is aligned, as direct reads want it
            yield _Reader(direct, plain, buffer)
    finally:
        os.close(plain)
        if direct is not None:
            os.close(direct)
