"""Parts being made: objects and how to make them are added, then the part is compressed and becomes a file.

The blob is kept on the disk, so that what is being made does not have to fit into memory.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from wherry.core.digest import Checksum
from wherry.store.disk.content import CHUNK_BYTES
from wherry.store.format import objects, variant
from wherry.store.format.objects import FileHeader, ObjectType, Xattrs
from wherry.store.static_delta.encode import Copied, Encoding, Patched, Whole
from wherry.store.static_delta.ops import write_varint
from wherry.store.static_delta.part import XZ, nameless_file
from wherry.store.static_delta.superblock import NewPart

DICTIONARY_BYTES = 8 * 1024 * 1024
"""What a device needs to unpack a part, and a twelfth of what making one takes. ``xz -8`` has four times as much."""
_MEMORY_PER_DICTIONARY = 12
_PRESET = 8
_HURRIED_PRESET = 0
_HURRIED_DICTIONARY_BYTES = 256 * 1024


class PartBuilder:
    """One part; ``finish`` makes it a file.

    Args:
        folder: where the part is to lie.
        compress: well; else in a hurry, for contents that do not compress. OSTree cannot read parts that are not
            compressed at all: it maps them from their second byte on, which no kernel does.
    """

    def __init__(self, folder: Path, *, compress: bool) -> None:
        self._folder = folder
        self._compress = compress
        self._blob_fd = nameless_file(folder)
        self._modes: dict[tuple[int, int, int], int] = {}
        self._xattrs: dict[Xattrs, int] = {}
        self._ops = bytearray()
        self._objects = bytearray()
        self.blob_bytes = 0
        self.unpacked_bytes = 0

    def __len__(self) -> int:
        return len(self._objects) // 33

    # --- adding

    def add_metadata(self, kind: ObjectType, checksum: Checksum, data: bytes) -> None:
        """Adds a directory object."""
        self._object(kind, checksum, len(data))
        self._op(b"S", len(data), self._append(data))

    def add_symlink(self, checksum: Checksum, header: FileHeader) -> None:
        """Adds a symbolic link."""
        target = header.symlink_target.encode()
        self._object(ObjectType.FILE, checksum, 0)
        self._op(b"S", *self._header(header), len(target), self._append(target))

    def add_file(self, checksum: Checksum, header: FileHeader, size: int, encoding: Encoding) -> None:
        """Adds a regular file."""
        self._object(ObjectType.FILE, checksum, size)
        mode, xattrs = self._header(header)
        if isinstance(encoding, Whole):
            self._op(b"S", mode, xattrs, size, self._append(encoding.data))
            return
        self._op(b"r", self._append(bytes.fromhex(encoding.source)))
        if isinstance(encoding, Patched):
            self._op(b"o", mode, xattrs, size)
            self._op(b"B", self._append(encoding.data), len(encoding.data))
            self._op(b"c")
            self._op(b"R")
            return
        source = self.blob_bytes - 32
        self._op(b"o", mode, xattrs, size)
        self._add_copies(source, encoding)
        self._op(b"c")

    def _add_copies(self, source: int, encoding: Copied) -> None:
        at = 0
        reading = True
        for match in (*encoding.matches, None):
            end = match.new if match is not None else len(encoding.data)
            if end > at:
                if reading:
                    self._op(b"R")
                    reading = False
                self._op(b"w", end - at, self._append(encoding.data[at:end]))
            if match is not None:
                if not reading:
                    self._op(b"r", source)
                    reading = True
                self._op(b"w", match.length, match.old)
                at = match.new + match.length
        if reading:
            self._op(b"R")

    def _object(self, kind: ObjectType, checksum: Checksum, size: int) -> None:
        self._objects.append(kind.value)
        self._objects += bytes.fromhex(checksum)
        self.unpacked_bytes += size

    def _header(self, header: FileHeader) -> tuple[int, int]:
        mode = self._modes.setdefault((header.uid, header.gid, header.mode), len(self._modes))
        return mode, self._xattrs.setdefault(header.xattrs, len(self._xattrs))

    def _op(self, code: bytes, *arguments: int) -> None:
        self._ops += code
        for argument in arguments:
            self._ops += write_varint(argument)

    def _append(self, data: bytes) -> int:
        at = self.blob_bytes
        view = memoryview(data)
        while view:
            view = view[os.write(self._blob_fd, view) :]
        self.blob_bytes += len(data)
        return at

    # --- finishing

    def memory_needed(self) -> int:
        """Returns about how much memory ``finish`` takes."""
        return self._dictionary() * _MEMORY_PER_DICTIONARY

    def finish(self) -> NewPart:
        """Writes the part's file under a name of its own, synced; called once, in any thread."""
        path = self._folder / f".part-{secrets.token_hex(8)}.tmp"
        digest = hashlib.sha256()
        size = 0
        try:
            with open(path, "xb") as file:
                for piece in self._packed():
                    digest.update(piece)
                    size += len(piece)
                    file.write(piece)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            self.close()
        return NewPart(
            checksum=Checksum(digest.hexdigest()),
            size_bytes=size,
            unpacked_bytes=self.unpacked_bytes,
            object_bytes=bytes(self._objects),
            path=str(path),
        )

    def close(self) -> None:
        """Throws away what was added."""
        if self._blob_fd >= 0:
            os.close(self._blob_fd)
            self._blob_fd = -1

    def _packed(self) -> Iterator[bytes]:
        yield bytes([XZ])
        preset = _PRESET if self._compress else _HURRIED_PRESET
        filters = [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": self._dictionary()}]
        packer = lzma.LZMACompressor(lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=filters)
        for piece in self._payload():
            yield packer.compress(piece)
        yield packer.flush()

    def _dictionary(self) -> int:
        """Returns a dictionary no larger than there is to look back at, in steps."""
        size = 1 << 16
        limit = DICTIONARY_BYTES if self._compress else _HURRIED_DICTIONARY_BYTES
        while size < self.blob_bytes and size < limit:
            size <<= 1
        return size

    def _payload(self) -> Iterator[bytes]:
        """Gives ``(a(uuu) aa(ayay) ay ay)``."""
        modes = b"".join(b"".join(value.to_bytes(4, "big") for value in entry) for entry in self._modes)
        sets = [objects.serialize_xattrs(entry) for entry in self._xattrs]
        xattrs = variant.encode("aay", sets)
        yield modes + xattrs
        for at in range(0, self.blob_bytes, CHUNK_BYTES):
            yield os.pread(self._blob_fd, CHUNK_BYTES, at)
        ends = [len(modes), len(modes) + len(xattrs), len(modes) + len(xattrs) + self.blob_bytes]
        body = ends[2] + len(self._ops)
        width = variant.offset_size(body, 3)
        yield bytes(self._ops) + b"".join(end.to_bytes(width, "little") for end in reversed(ends))
