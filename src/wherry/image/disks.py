"""Files that hold a disk or a file system: raw, compressed, or qcow2, given as one raw file that is read at random.

A compressed one is unpacked to a file without holes' bytes in the repository's ``tmp/``; a qcow2 is converted by
``qemu-img`` there. Refused: a qcow2 that names another file (a backing file, an external data file), since it could be
any file of this machine; other formats of virtual machines, with a hint.

Source: QEMU, docs/interop/qcow2.txt.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, Unsupported
from wherry.core.progress import QUIET, Progress
from wherry.core.trace import reach
from wherry.image.filesystems import FileSystem, probe
from wherry.image.partitions import SECTOR_SIZES, Partition, read_table
from wherry.image.scratch import scratch_folder
from wherry.store.tree.compression import MAGIC_BYTES, HashingReader, compression_of, decompressed
from wherry.store.tree.tar import DEFAULT_LIMITS, Limits

_QCOW2_MAGIC = b"QFI\xfb"
_QCOW2_HEADER_BYTES = 112
_EXTERNAL_DATA = 1 << 2
_PIECE_BYTES = 1024 * 1024
_CONVERT_S = 3600
_FOREIGN = {b"KDMV": "VMDK", b"conectix": "VHD", b"vhdxfile": "VHDX", b"<<< ": "VDI", b"# Disk D": "VMDK"}


def is_disk(head: bytes) -> bool:
    """Tells whether a file that begins so, once decompressed, holds a disk or a file system."""
    if head[:4] == _QCOW2_MAGIC or any(head.startswith(magic) for magic in _FOREIGN):
        return True
    if head[257:262] == b"ustar":
        return False
    return head[510:512] == b"\x55\xaa" or probe(lambda offset, size: head[offset : offset + size]) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A stretch of a disk that may hold a file system: a partition, or all of it."""

    offset_bytes: int
    size_bytes: int
    partition: Partition | None
    """None: the whole file."""
    filesystem: FileSystem | None


class Disk:
    """A raw file, open.

    Args:
        fd: the file; the caller closes it.
        where: what the user called it, for errors.
    """

    def __init__(self, fd: int, where: object) -> None:
        self.fd, self.where = fd, where
        self.path = f"/proc/{os.getpid()}/fd/{fd}"
        """Where other programs can open it; no name of the user's, in which they may see more than a name."""
        self.size_bytes = os.lseek(fd, 0, os.SEEK_END)  # of a block device, too

    def read(self, offset: int, size: int) -> bytes:
        """Returns up to `size` bytes at an offset; none beyond the end."""
        if not 0 <= offset < self.size_bytes:
            return b""
        parts = []
        while size > 0 and (data := os.pread(self.fd, size, offset)):
            parts.append(data)
            offset += len(data)
            size -= len(data)
        return b"".join(parts)

    def volumes(self) -> list[Volume]:
        """Returns what may hold a file system: the partitions, or the whole where there is no table.

        Raises:
            InvalidInput: the table is malformed.
            IntegrityError: both copies of it are damaged.
        """
        whole = Volume(offset_bytes=0, size_bytes=self.size_bytes, partition=None, filesystem=probe(self.read))
        if whole.filesystem is not None:
            return [whole]
        found = self._partitions(None)
        if found and not any(volume.filesystem for volume in found):  # an MBR of a disk with large sectors
            try:
                larger = self._partitions(SECTOR_SIZES[1])
            except InvalidInput:
                return found
            return larger if any(volume.filesystem for volume in larger) else found
        return found or [whole]

    def _partitions(self, sector_bytes: int | None) -> list[Volume]:
        table = read_table(self.read, self.size_bytes, where=self.where, sector_bytes=sector_bytes)
        return [self._volume(partition) for partition in table]

    def _volume(self, partition: Partition) -> Volume:
        def read(offset: int, size: int) -> bytes:
            return self.read(partition.offset_bytes + offset, min(size, max(0, partition.size_bytes - offset)))

        return Volume(
            offset_bytes=partition.offset_bytes,
            size_bytes=partition.size_bytes,
            partition=partition,
            filesystem=probe(read),
        )


@contextmanager
def opened_disk(
    path: Path, *, scratch: Path, limits: Limits = DEFAULT_LIMITS, progress: Progress = QUIET
) -> Iterator[Disk]:
    """Gives the raw bytes of a file that holds a disk.

    Args:
        path: the file.
        scratch: a directory with room for it, unpacked.
        limits: how much to take.
        progress: is told how much has been unpacked.

    Raises:
        InvalidInput: it is too long, or names other files.
        IntegrityError: it is damaged.
        Unsupported: it is of a format that is not read, or ``qemu-img`` is not there.
        NoSpace: the disk is full.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 closed below
    except OSError as error:
        raise map_os_error(error, "cannot read the image", where=path) from error
    with file:
        head = os.pread(file.fileno(), _QCOW2_HEADER_BYTES, 0)
        kind = next((name for magic, name in _FOREIGN.items() if head.startswith(magic)), "")
        if kind:
            raise Unsupported(
                f"a disk image of format {kind}", where=path, hint="`qemu-img convert -O raw` makes one that is read"
            )
        if head[:4] == _QCOW2_MAGIC:
            with _converted(path, head, scratch, limits) as raw:
                yield Disk(raw, path)
            return
        if compression_of(head[:MAGIC_BYTES]):
            with tempfile.TemporaryFile(dir=scratch) as plain:
                _unpack(file.fileno(), plain.fileno(), path, limits, progress)
                reach("image.disk.unpacked")
                yield Disk(plain.fileno(), path)
            return
        yield Disk(file.fileno(), path)


def _unpack(source: int, target: int, where: Path, limits: Limits, progress: Progress) -> None:
    """Writes the plain bytes of a compressed file; where it is zeros, it has holes."""
    total = os.fstat(source).st_size
    with os.fdopen(os.dup(source), "rb") as packed_file:
        packed_file.seek(0)
        packed = HashingReader(
            packed_file, where=where, told=lambda size: progress.update("unpacking", size, total, unit="B")
        )
        plain = decompressed(packed, where=where)
        size = 0
        try:
            while data := plain.read(_PIECE_BYTES):
                size += len(data)
                if size > limits.total_bytes:
                    raise InvalidInput(f"longer than the limit of {limits.total_bytes} bytes", where=where)
                if data[0] or data.count(0) != len(data):
                    os.pwrite(target, data, size - len(data))
            os.ftruncate(target, size)
        except OSError as error:
            raise map_os_error(error, "cannot unpack the image", where=where) from error


@contextmanager
def _converted(path: Path, head: bytes, scratch: Path, limits: Limits) -> Iterator[int]:
    """Gives a qcow2 as a raw file."""
    from wherry.core.proc import run
    from wherry.linux.confining import confine

    if len(head) < 32:
        raise InvalidInput("a qcow2 that is cut short", where=path)
    version, backing = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:16], "big")
    size = int.from_bytes(head[24:32], "big")
    if version not in (2, 3):
        raise Unsupported(f"a qcow2 of version {version}", where=path)
    if backing or (version == 3 and int.from_bytes(head[72:80], "big") & _EXTERNAL_DATA):
        raise InvalidInput("the qcow2 needs another file", where=path, hint="`qemu-img convert` makes it whole")
    if size > limits.total_bytes:
        raise InvalidInput(f"longer than the limit of {limits.total_bytes} bytes", where=path)
    with scratch_folder(scratch) as folder:
        target = folder / "raw"
        # the format is said, so that nothing in it can choose another
        args = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", "-S", "4k", f"file:{path}", f"file:{target}"]
        hint = "qemu-img is in the package qemu-utils"
        run(args, timeout_s=_CONVERT_S, hint=hint, before_exec=lambda: confine(str(folder)))
        fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
