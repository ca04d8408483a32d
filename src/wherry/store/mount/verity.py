"""fs-verity digests: what the kernel measures of a file whose content it checks at every read.

The digest is of a descriptor that has the root of a Merkle tree in it: SHA-256 of blocks of 4096 bytes, without a salt,
as composefs and OSTree use it. Here it is computed from the bytes, wherever they come from; ``linux/fsverity.py`` asks
the kernel. Source: the kernel's Documentation/filesystems/fsverity.rst, "File digest computation".
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import BinaryIO

BLOCK_BYTES = 4096
DIGEST_BYTES = 32
SHA256 = 1
"""FS_VERITY_HASH_ALG_SHA256"""

_READ_BYTES = 1024 * 1024
_VERSION = 1
_LOG_BLOCK_BYTES = 12
_DESCRIPTOR = struct.Struct("<BBBBIQ64s32s144x")


class Digester:
    """Takes the bytes of a file as they come. Memory: one block for each level of the tree."""

    def __init__(self) -> None:
        self._size = 0
        self._rest = b""
        self._levels: list[bytearray] = []
        """Of each level of hashes, lowest first: those that do not fill a block yet."""

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Takes the next piece."""
        self._size += len(data)
        if self._rest:
            data = self._rest + bytes(data)
        view = memoryview(data)
        whole = len(view) - len(view) % BLOCK_BYTES
        sha256 = hashlib.sha256
        for start in range(0, whole, BLOCK_BYTES):
            self._add(0, sha256(view[start : start + BLOCK_BYTES]).digest())
        self._rest = bytes(view[whole:])

    def digest(self) -> bytes:
        """Returns the digest of all that came; nothing may come after it."""
        if self._rest:
            self._add(0, hashlib.sha256(self._rest.ljust(BLOCK_BYTES, b"\0")).digest())
        root = b""
        level = 0
        while level < len(self._levels):
            hashes = bytes(self._levels[level])
            top = level == len(self._levels) - 1
            if top and len(hashes) == DIGEST_BYTES:
                root = hashes
            elif hashes:
                self._add(level + 1, hashlib.sha256(hashes.ljust(BLOCK_BYTES, b"\0")).digest())
            level += 1
        descriptor = _DESCRIPTOR.pack(_VERSION, SHA256, _LOG_BLOCK_BYTES, 0, 0, self._size, root, b"")
        return hashlib.sha256(descriptor).digest()

    def _add(self, level: int, value: bytes) -> None:
        """Adds a hash to a level; a block that is full goes as a hash to the next."""
        while True:
            if level == len(self._levels):
                self._levels.append(bytearray())
            hashes = self._levels[level]
            hashes += value
            if len(hashes) < BLOCK_BYTES:
                return
            value = hashlib.sha256(hashes).digest()
            hashes.clear()
            level += 1


def digest_pieces(pieces: Iterable[bytes | bytearray]) -> bytes:
    """Returns the digest of a file that comes in pieces."""
    digester = Digester()
    for piece in pieces:
        digester.update(piece)
    return digester.digest()


def digest_file(file: BinaryIO) -> bytes:
    """Returns the digest of what is left in a file to read."""
    digester = Digester()
    buffer = bytearray(_READ_BYTES)
    view = memoryview(buffer)
    while count := file.readinto(buffer):  # type: ignore[attr-defined]
        digester.update(view[:count])
    return digester.digest()
