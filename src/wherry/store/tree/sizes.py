"""What objects cost: on the wire, and unpacked on the disk of whoever pulls them.

A commit may carry that itself, ``ostree.sizes`` (``aay``, sorted), for each file, dirtree and dirmeta::

    32 bytes checksum | varint bytes as they are fetched | varint bytes of content | 1 byte type (older: none, a file)

A varint has seven bits in each byte, the least first; all but the last byte have the high bit set; ten bytes at most.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput
from wherry.store.disk import content
from wherry.store.disk.objectset import ObjectSet
from wherry.store.format.objects import Commit, Mode, ObjectType, object_name, parse_object_name
from wherry.store.format.variant import Variant
from wherry.store.tree.walk import add_tree

if TYPE_CHECKING:
    from wherry.store.repository import Repository

BLOCK_BYTES = 4096
"""Disk space is counted in blocks of this size, one at least for each object."""
SIZES = "ostree.sizes"
_MAX_VARINT_BYTES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeEntry:
    """What a commit says of one of its objects."""

    kind: ObjectType
    checksum: Checksum
    archived_bytes: int
    """As it is fetched."""
    unpacked_bytes: int
    """Of content; for what is no file the same."""


def sizes_metadata(repo: Repository, tree: Checksum, meta: Checksum) -> Variant | None:
    """Returns ``ostree.sizes`` for the metadata of a commit with this tree; None when the repository is no archive.

    Raises:
        NotFound: something of the tree is not there.
    """
    if repo.mode is not Mode.ARCHIVE:
        return None
    found = ObjectSet()
    add_tree(repo, tree, meta, found)
    entries = []
    for kind, checksum in found:
        path = repo.object_path(kind, checksum)
        archived = unpacked = os.lstat(path).st_size
        if kind is ObjectType.FILE:
            with open(path, "rb") as file:
                header, unpacked = content.read_archive_head(file, where=path)
            unpacked = unpacked or len(header.symlink_target.encode())  # what lstat(2) says of a symbolic link
        sizes = _varint(archived) + _varint(unpacked)
        entries.append(bytes.fromhex(checksum) + sizes + bytes([kind.value]))
    return Variant("aay", sorted(entries)) if entries else None


def read_sizes(commit: Commit, *, where: object = None) -> Iterator[SizeEntry]:
    """Gives what a commit says of the sizes of its objects; nothing when it says nothing.

    Raises:
        InvalidInput: it is malformed.
    """
    found = commit.metadata.get(SIZES, [])
    if isinstance(found, Variant):
        found = found.value if found.type == "aay" else None
    if not isinstance(found, list) or not all(isinstance(entry, bytes) for entry in found):
        raise InvalidInput(f"{SIZES} is not of type aay", where=where)
    for entry in found:
        archived, at = _read_varint(entry, 32, where)
        unpacked, at = _read_varint(entry, at, where)
        number = entry[at] if at < len(entry) else ObjectType.FILE.value
        if at + 1 < len(entry) or number not in (1, 2, 3):
            raise InvalidInput(f"malformed entry of {SIZES}", where=where)
        yield SizeEntry(
            kind=ObjectType(number),
            checksum=Checksum(entry[:32].hex()),
            archived_bytes=archived,
            unpacked_bytes=unpacked,
        )


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int, where: object) -> tuple[int, int]:
    value = 0
    for count in range(_MAX_VARINT_BYTES):
        if at + count >= len(data):
            break
        byte = data[at + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80 and value < 1 << 64:
            return value, at + count + 1
    raise InvalidInput(f"malformed entry of {SIZES}", where=where)


def object_sizes(repo: Repository, names: Iterable[str]) -> tuple[int, int, tuple[str, ...]]:
    """Returns what objects cost.

    Args:
        repo: an archive repository; of other modes the transfer size is that of the content, uncompressed.
        names: like ``xx/yyyy.filez``.

    Returns:
        Bytes to transfer, bytes on disk unpacked (whole blocks), and the names of those that are not there.

    Raises:
        InvalidInput: a name is malformed, or an object is.
    """
    transfer = disk = 0
    missing = []
    for name in names:
        kind, checksum = parse_object_name(name)
        path = f"{repo.objects_dir}/{object_name(kind, checksum, repo.mode)}"
        try:
            if kind is ObjectType.FILE and repo.mode is Mode.ARCHIVE:
                with open(path, "rb") as file:
                    transfer += os.fstat(file.fileno()).st_size
                    _, size = content.read_archive_head(file, where=name)
            else:
                size = os.lstat(path).st_size
                transfer += size
        except FileNotFoundError:
            missing.append(name)
            continue
        disk += max(1, -(-size // BLOCK_BYTES)) * BLOCK_BYTES
    return transfer, disk, tuple(missing)
