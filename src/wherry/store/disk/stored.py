"""How large the content of a file object is, without unpacking it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, BinaryIO

from wherry.core.digest import Checksum
from wherry.core.errors import NotFound
from wherry.store.disk.content import read_archive_head
from wherry.store.format.objects import Mode, ObjectType

if TYPE_CHECKING:
    from wherry.store.repository import Repository


def content_size(repo: Repository, checksum: Checksum, content: BinaryIO) -> int:
    """Returns the size of a regular file's content in bytes.

    Args:
        repo: where the object is.
        checksum: its name.
        content: as ``Repository.load_file`` has opened it; is not read.

    Raises:
        NotFound: it has gone meanwhile.
        InvalidInput: it is malformed.
    """
    try:
        return os.fstat(content.fileno()).st_size
    except OSError:  # compressed, and no file: of this repository, or of its parent
        current: Any = repo
        while current is not None:
            if current.mode is Mode.ARCHIVE:
                try:
                    with open(current.object_path(ObjectType.FILE, checksum), "rb") as file:
                        return read_archive_head(file, where=checksum)[1]
                except FileNotFoundError:
                    pass
            current = current.parent
        raise NotFound("Couldn't find file object", where=checksum) from None
