"""Payload links: files of equal content share their extents, where the file system can do that.

::

    objects/<2 hex>/<62 hex>.payload-link -> ../<2 hex>/<62 hex>.file

A file object's name covers owner and mode too, so two files of one content are two objects. The link is named by the
SHA-256 of the content alone and leads to an object that has it. With ``core.payload-link-threshold`` set, a new file
of at least that size takes over the extents of that object. Unlike OSTree, which clones on the word of the link, the
kernel is asked to compare first (``FIDEDUPERANGE``), so that a damaged object is not spread. Links hold nothing: a link
whose object is gone is removed by whoever finds it, and by prune.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum
from wherry.linux import reflink
from wherry.store.format.objects import FileHeader, Mode, ObjectType, object_name

if TYPE_CHECKING:
    from wherry.store.repository import Repository

_TARGET = re.compile(r"\.\./([0-9a-f]{2})/([0-9a-f]{62})\.file\Z")


class PayloadLinks:
    """The payload links of one transaction.

    Args:
        repo: the repository.
        stage: the transaction's staging folder.
    """

    def __init__(self, repo: Repository, stage: Path) -> None:
        self._repo = repo
        self._stage = stage
        self._supported: bool | None = None

    def hasher(self, header: FileHeader) -> Any:
        """Returns what a content is to be hashed with besides; None when no links are wanted."""
        if self._repo.payload_link_bytes < 0 or header.is_symlink or self._repo.mode is Mode.ARCHIVE:
            return None
        return hashlib.sha256() if self._can_share() else None

    def share(self, fd: int, size: int, payload: str) -> None:
        """Has an object that was just written, and has no name yet, share the extents of one of the same content."""
        if size < self._repo.payload_link_bytes or not size:
            return
        for base in (self._stage, self._repo.objects_dir):
            link = base / object_name(ObjectType.PAYLOAD_LINK, Checksum(payload), self._repo.mode)
            target = link_target(link)
            if target is None:
                continue
            file = base / object_name(ObjectType.FILE, target, self._repo.mode)
            try:
                source = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                if base == self._repo.objects_dir:
                    link.unlink(missing_ok=True)
                continue
            except OSError:
                continue
            try:
                reflink.share_equal(source, fd, size)
                return
            finally:
                os.close(source)

    def link(self, checksum: Checksum, size: int, payload: str) -> None:
        """Makes a link to an object that has its name in the staging folder."""
        if size < self._repo.payload_link_bytes or not size:
            return
        name = object_name(ObjectType.PAYLOAD_LINK, Checksum(payload), self._repo.mode)
        if os.path.lexists(self._repo.objects_dir / name):
            return
        folder = self._stage / name[:2]
        folder.mkdir(exist_ok=True)
        try:
            os.symlink(f"../{object_name(ObjectType.FILE, checksum, self._repo.mode)}", self._stage / name)
        except FileExistsError:
            pass

    def _can_share(self) -> bool:
        if self._supported is None:
            try:
                with _nameless(self._stage) as source, _nameless(self._stage) as dest:
                    source.write(b"x")
                    self._supported = reflink.can_clone(source.fileno(), dest.fileno())
            except OSError:
                self._supported = False
        return self._supported


def link_target(link: Path) -> Checksum | None:
    """Returns the file object that a payload link leads to; None when it is no such link."""
    try:
        match = _TARGET.match(os.readlink(link))
    except OSError:
        return None
    return Checksum(match[1] + match[2]) if match else None


def _nameless(folder: Path) -> Any:
    return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), "r+b", buffering=0)
