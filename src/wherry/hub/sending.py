"""Packs for devices: the objects that one asks for, in one answer, straight from their files.

Objects never change, so the length of the whole pack is known before its first byte is sent, and a transfer that was
cut short is seen as one. Left out, without a word: objects that are not here, those longer than ``MAX_PACKED_BYTES``,
and from the first one that would make the pack longer than ``MAX_SENT_PACK_BYTES`` all. Memory: one piece at a time.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wherry.core.errors import InvalidInput
from wherry.spec.wire import MAX_OBJECTS_PER_QUESTION, MAX_PACKED_BYTES, MAX_SENT_PACK_BYTES, ObjectList
from wherry.store.format.objects import Mode, ObjectType, object_name, parse_object_name
from wherry.store.pull.pack import object_head
from wherry.store.repository import Repository

PIECE_BYTES = 256 * 1024
_KINDS = frozenset({ObjectType.COMMIT, ObjectType.DIRTREE, ObjectType.DIRMETA, ObjectType.FILE})


@dataclass(frozen=True, slots=True, kw_only=True)
class SentPack:
    """A pack that is about to be sent."""

    items: tuple[tuple[str, int], ...]
    """Names of objects, and how long each is."""
    size: int
    """Of the whole pack, in bytes."""


def plan_pack(repo: Repository, question: ObjectList) -> SentPack:
    """Looks which of the objects go into the pack.

    Args:
        repo: the hub's archive repository.
        question: what a device asks for, in the order in which it comes.

    Raises:
        InvalidInput: more names than may be, or one that is none of an object's.
    """
    if len(question.objects) > MAX_OBJECTS_PER_QUESTION:
        raise InvalidInput(f"objects: more than {MAX_OBJECTS_PER_QUESTION}", hint="ask in several parts")
    names = [_checked(name) for name in question.objects]
    items: list[tuple[str, int]] = []
    total = 0
    for name in dict.fromkeys(names):
        try:
            found = os.lstat(f"{repo.objects_dir}/{name}")
        except FileNotFoundError:
            continue
        if found.st_size > MAX_PACKED_BYTES or not stat.S_ISREG(found.st_mode):
            continue
        size = len(object_head(name, found.st_size)) + found.st_size
        if items and total + size > MAX_SENT_PACK_BYTES:
            break
        items.append((name, found.st_size))
        total += size
    return SentPack(items=tuple(items), size=total)


def pack_pieces(repo: Repository, items: Sequence[tuple[str, int]]) -> Iterator[bytes]:
    """Gives the bytes of a pack.

    Raises:
        OSError: an object is gone, or has another length: the reader must see a broken transfer.
    """
    parts: list[bytes] = []
    size = 0
    for name, length in items:
        fd = os.open(f"{repo.objects_dir}/{name}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            data = os.read(fd, length + 1)  # never more than MAX_PACKED_BYTES
        finally:
            os.close(fd)
        if len(data) != length:
            raise OSError(f"object {name} has another length than before")
        parts += (object_head(name, length), data)
        size += length
        if size >= PIECE_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def _checked(name: str) -> str:
    kind, checksum = parse_object_name(name)
    if kind not in _KINDS or object_name(kind, checksum, Mode.ARCHIVE) != name:
        raise InvalidInput("an object of this kind is not sent in packs", where=name[:80])
    return name
