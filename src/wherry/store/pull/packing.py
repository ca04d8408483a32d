"""Packs that are made of a repository of any mode, in bounded memory; ``pack.py`` has their format.

Objects go in the order files, dirtrees, dirmetas, commits, so that a commit
that is there has all that it is made of, however a push ends. Files of a bare-user store are deflated on the way.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error
from wherry.store.disk import content
from wherry.store.format.objects import Mode, ObjectType, archive_head, object_name
from wherry.store.pull.pack import object_head
from wherry.store.repository import Repository

PACK_BYTES = 16 * 1024 * 1024
"""A pack is sent once it is this long; only one larger object makes a longer one."""
_MEMORY_BYTES = 1024 * 1024
_ORDER = {
    ObjectType.FILE: 0,
    ObjectType.DIRTREE: 1,
    ObjectType.DIRMETA: 1,
    ObjectType.COMMITMETA: 2,
    ObjectType.COMMIT: 3,
}

ObjectId = tuple[ObjectType, Checksum]


def wire_name(item: ObjectId) -> str:
    """Returns the name of an object as a hub, whose repository is an archive, knows it."""
    return object_name(item[0], item[1], Mode.ARCHIVE)


def in_order(items: Iterable[ObjectId]) -> list[ObjectId]:
    """Returns objects in the order in which they are sent: commits last."""
    return sorted(items, key=lambda item: (_ORDER[item[0]], item[1]))


@contextmanager
def packs(repo: Repository, items: Iterable[ObjectId], *, pack_bytes: int = PACK_BYTES) -> Iterator[Iterator[Pack]]:
    """Gives packs that hold `items`, one after the other; each is to be sent before the next is asked for.

    Args:
        repo: where the objects lie; its folder ``tmp/`` holds what does not fit in memory.
        items: in the order to send them in.
        pack_bytes: how long a pack gets.
    """
    with tempfile.TemporaryDirectory(prefix="push-", dir=repo.path / "tmp") as folder:
        yield _packs(repo, items, Path(folder), pack_bytes)


class Pack:
    """One pack: a file that stands at its beginning, its size, and how many objects are in it."""

    def __init__(self, file: BinaryIO, size_bytes: int, count: int) -> None:
        self.file = file
        self.size_bytes = size_bytes
        self.count = count


def _packs(repo: Repository, items: Iterable[ObjectId], folder: Path, pack_bytes: int) -> Iterator[Pack]:
    pending = iter(items)
    item = next(pending, None)
    while item is not None:
        with tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES, dir=str(folder)) as spool:
            file = cast("BinaryIO", spool)
            count = 0
            try:
                while item is not None and file.tell() < pack_bytes:
                    _append(file, repo, item, folder)
                    count += 1
                    item = next(pending, None)
            except OSError as error:
                raise map_os_error(error, "cannot make a pack", where=folder) from error
            size = file.tell()
            file.seek(0)
            yield Pack(file, size, count)


def _append(file: BinaryIO, repo: Repository, item: ObjectId, folder: Path) -> None:
    kind, checksum = item
    name = wire_name(item)
    if kind is not ObjectType.FILE:
        data = repo.metadata_bytes(kind, checksum)
        file.write(object_head(name, len(data)) + data)
    elif repo.mode is Mode.ARCHIVE:
        with open(repo.object_path(kind, checksum), "rb") as source:
            file.write(object_head(name, source.seek(0, 2)))
            source.seek(0)
            shutil.copyfileobj(source, file, content.CHUNK_BYTES)
    else:
        _append_deflated(file, repo, name, checksum, folder)


def _append_deflated(file: BinaryIO, repo: Repository, name: str, checksum: Checksum, folder: Path) -> None:
    header, source = repo.load_file(checksum)
    if source is None:
        head = archive_head(header, 0)
        file.write(object_head(name, len(head)) + head)
        return
    with source, tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES, dir=str(folder)) as deflated:
        deflater = content.deflater(repo.deflate_level)
        size = 0
        for piece in content.read_pieces(source):
            size += len(piece)
            deflated.write(deflater.compress(piece))
        deflated.write(deflater.flush())
        head = archive_head(header, size)
        file.write(object_head(name, len(head) + deflated.tell()) + head)
        deflated.seek(0)
        shutil.copyfileobj(deflated, file, content.CHUNK_BYTES)
