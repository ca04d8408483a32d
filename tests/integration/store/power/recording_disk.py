"""A disk that writes down what happens to it: a file system in user space (FUSE) with two files.

::

    disk    a disk image, for a loop device; each write and each flush is recorded in its order
    mark    what is written to it is recorded in the same order, and kept nowhere else

The loop device sends what a file system writes as writes to ``disk``, and its flushes as fsync(2). The record::

    'W' offset:u64 length:u32 bytes    'F' 0:u64 0:u32    'M' 0:u64 length:u32 bytes

Run as ``recording_disk.py MOUNTPOINT IMAGE RECORD`` as root; it ends when it is unmounted.
Source: Linux, include/uapi/linux/fuse.h, protocol 7.31.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from wherry.linux.mount import MS_NODEV, MS_NOSUID, mount

RECORD_HEAD = struct.Struct("<cQI")
_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_MAX_WRITE = 128 * 1024
_LOOKUP, _FORGET, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE, _STATFS, _RELEASE = 1, 2, 3, 4, 14, 15, 16, 17, 18
_FSYNC, _FLUSH, _INIT, _OPENDIR, _READDIR, _RELEASEDIR, _INTERRUPT, _DESTROY, _BATCH_FORGET = (
    20, 25, 26, 27, 28, 29, 36, 38, 42)  # fmt: skip
_BIG_WRITES = 1 << 5
_ROOT, _DISK, _MARK = 1, 2, 3
_NAMES = {b"disk": _DISK, b"mark": _MARK}


class Record(NamedTuple):
    """One thing that happened to the disk."""

    kind: str
    offset: int
    data: bytes


def read_records(path: Path) -> Iterator[Record]:
    """Gives what was recorded, in its order."""
    with path.open("rb") as file:
        while head := file.read(RECORD_HEAD.size):
            kind, offset, length = RECORD_HEAD.unpack(head)
            yield Record(kind.decode(), offset, file.read(length))


class Disk:
    """Answers the kernel."""

    def __init__(self, fd: int, image: Path, record: Path) -> None:
        self._fd = fd
        self._image = os.open(image, os.O_RDWR | os.O_CLOEXEC)
        self._record = open(record, "wb", buffering=1 << 20)  # noqa: SIM115 closed by serve

    def serve(self) -> None:
        """Answers until it is unmounted."""
        try:
            while True:
                try:
                    request = os.read(self._fd, _MAX_WRITE + 4096)
                except OSError as error:
                    if error.errno == errno.ENODEV:  # unmounted
                        return
                    if error.errno in (errno.EINTR, errno.ENOENT):
                        continue
                    raise
                self._answer(request)
        finally:
            self._record.close()

    def _answer(self, request: bytes) -> None:
        _, opcode, unique, node, *_ = _IN.unpack_from(request)
        body = memoryview(request)[_IN.size :]
        if opcode in (_FORGET, _BATCH_FORGET, _INTERRUPT):
            return
        answer = self._do(opcode, node, body)
        code, data = (answer, b"") if isinstance(answer, int) else (0, answer)
        os.write(self._fd, _OUT.pack(_OUT.size + len(data), -code, unique) + data)

    def _do(self, opcode: int, node: int, body: memoryview) -> bytes | int:
        """Returns what to answer, or an error number."""
        if opcode == _INIT:
            return struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, _BIG_WRITES, 12, 9, _MAX_WRITE, 1, 0, 0, 0)
        if opcode == _LOOKUP:
            found = _NAMES.get(bytes(body[:-1]))
            if node != _ROOT or found is None:
                return errno.ENOENT
            return struct.pack("<QQQQII", found, 0, 3600, 3600, 0, 0) + self._attributes(found)
        if opcode in (_GETATTR, _SETATTR):
            return struct.pack("<QII", 3600, 0, 0) + self._attributes(node)
        if opcode in (_OPEN, _OPENDIR):
            return struct.pack("<QII", 0, 0, 0)
        if opcode == _READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return os.pread(self._image, size, offset) if node == _DISK else b""
        if opcode == _WRITE:
            return self._write(node, body)
        if opcode == _FSYNC:
            if node == _DISK:
                self._note("F", 0, b"")
            return b""
        if opcode == _STATFS:
            return bytes(80)
        if opcode in (_FLUSH, _RELEASE, _RELEASEDIR, _READDIR, _DESTROY):
            return b""
        return errno.ENOSYS

    def _write(self, node: int, body: memoryview) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        data = body[40 : 40 + size]
        if node == _DISK:
            os.pwrite(self._image, data, offset)
        self._note("W" if node == _DISK else "M", offset, bytes(data))
        return struct.pack("<II", size, 0)

    def _note(self, kind: str, offset: int, data: bytes) -> None:
        self._record.write(RECORD_HEAD.pack(kind.encode(), offset, len(data)) + data)

    def _attributes(self, node: int) -> bytes:
        size = os.fstat(self._image).st_size if node == _DISK else 0
        mode = stat.S_IFDIR | 0o700 if node == _ROOT else stat.S_IFREG | 0o600
        return _ATTR.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def main() -> None:
    """Mounts and serves."""
    place, image, record = map(Path, sys.argv[1:])
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0"
    mount(Path("wherry-recording-disk"), place, "fuse", MS_NOSUID | MS_NODEV, options)
    Disk(fd, image, record).serve()


if __name__ == "__main__":
    main()
