"""What objects cost: on the wire, and unpacked on the disk of whoever pulls them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from wherry.store import content
from wherry.store.objects import Mode, ObjectType, object_name, parse_object_name

if TYPE_CHECKING:
    from wherry.store.repository import Repository

BLOCK_BYTES = 4096
"""Disk space is counted in blocks of this size, one at least for each object."""


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
