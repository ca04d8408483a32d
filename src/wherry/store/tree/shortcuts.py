"""How a commit spares reading and copying: files that are objects already, and files that may become objects."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.store.disk.files import UNCOMPRESSED_CACHE
from wherry.store.disk.sink import object_error
from wherry.store.format import objects
from wherry.store.format.objects import FileHeader, Mode, ObjectType, object_name
from wherry.store.tree.directory import Inode, Shortcuts

if TYPE_CHECKING:
    from wherry.store.disk.transaction import Transaction
    from wherry.store.repository import Repository

_READ_BYTES = 1024 * 1024
_SUFFIX = ".file"


def shortcuts(
    repo: Repository,
    transaction: Transaction,
    *,
    link_speedup: bool = False,
    trust_links: bool = False,
    adopt: bool = False,
) -> Shortcuts:
    """Returns the shortcuts of a commit.

    Args:
        repo: where it is made.
        transaction: that of the commit.
        link_speedup: look for files that are hard links to objects, as a checkout makes them.
        trust_links: do not ask whether owner or mode of such a file would be committed differently.
        adopt: files are to be consumed: where they can, they become the objects.
    """
    found = Shortcuts(trust_known=trust_links)
    if link_speedup or trust_links:
        found.known = known_inodes(repo)
        found.header_of = repo.load_file_header
    if adopt and repo.mode in (Mode.BARE, Mode.BARE_USER_ONLY):
        found.adopt = _Adopter(repo, transaction).adopt
    return found


def known_inodes(repo: Repository) -> dict[Inode, Checksum]:
    """Returns every file object that a checkout may have linked to, by its inode."""
    base = repo.path / UNCOMPRESSED_CACHE if repo.mode is Mode.ARCHIVE else repo.objects_dir
    found: dict[Inode, Checksum] = {}
    try:
        folders = sorted(entry.path for entry in os.scandir(base) if len(entry.name) == 2)
    except FileNotFoundError:
        return found
    for folder in folders:
        device = os.stat(folder).st_dev
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX):
                    found[device, entry.inode()] = Checksum(folder[-2:] + entry.name.removesuffix(_SUFFIX))
    return found


class _Adopter:
    """Turns files into objects of a bare or bare-user-only repository by a hard link, nothing is copied.

    The file's time becomes 0, in a bare-user-only repository its mode what is committed; nothing else about it changes
    before the transaction has ended, so that what is interrupted can be done again.
    """

    def __init__(self, repo: Repository, transaction: Transaction) -> None:
        self._repo = repo
        self._transaction = transaction
        self._device = os.stat(repo.objects_dir).st_dev

    def adopt(self, fd: int, status: os.stat_result, there: FileHeader, wanted: FileHeader) -> Checksum | None:
        """Adopts an open file; None when it must be copied."""
        if status.st_dev != self._device or (self._repo.mode is Mode.BARE and there != wanted):
            return None
        digest = hashlib.sha256(objects.hash_head(wanted))
        os.lseek(fd, 0, os.SEEK_SET)
        while piece := os.read(fd, _READ_BYTES):
            digest.update(piece)
        checksum = Checksum(digest.hexdigest())
        name = object_name(ObjectType.FILE, checksum, self._repo.mode)
        if self._transaction.has(name):
            return checksum
        try:
            if self._repo.mode is Mode.BARE_USER_ONLY:
                os.fchmod(fd, stat.S_IMODE(wanted.mode))
            os.utime(fd, ns=(0, 0))
            self._transaction.link(fd, None, name)
        except PermissionError:
            os.lseek(fd, 0, os.SEEK_SET)
            return None  # somebody else's file
        except OSError as error:
            raise object_error(error, name) from error
        return checksum
