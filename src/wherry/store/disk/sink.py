"""One object being written: deflated where the repository is an archive, on its way to the disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error
from wherry.core.errors import NotPermitted, WherryError
from wherry.store.disk import content, files
from wherry.store.format import objects
from wherry.store.format.objects import FileHeader, Mode, ObjectType, parse_object_name

if TYPE_CHECKING:
    from wherry.store.disk.transaction import Transaction


HOLE_BYTES = 64 * 1024
"""Pieces of this many zeros and more are not written: the file has a hole there, and takes no room for it."""


class FileSink:
    """A nameless file in the staging folder that becomes an object, or vanishes.

    Args:
        transaction: whose staging folder it lies in.
        header: of a file object; None for a metadata object.
        archived: the bytes are written as they are, even in an archive repository.
    """

    def __init__(self, transaction: Transaction, header: FileHeader | None, *, archived: bool) -> None:
        self._transaction = transaction
        self._mode = transaction.repo.mode
        self._header = header
        self._size = 0
        self._deflater: Any = None
        self._temporary: Path | None = None
        self._fd = -1
        self._ends_in_hole = False
        try:
            self._fd, self._temporary = transaction.open_nameless()
        except OSError as error:
            raise self._failed(error) from error
        self._payload = None if header is None or archived else transaction.payloads.hasher(header)
        self._deflates = header is not None and self._mode is Mode.ARCHIVE and not archived

    def write(self, data: bytes) -> None:
        """Takes the next piece of content.

        Raises:
            NoSpace: the disk is full.
        """
        self._size += len(data)
        if not self._deflates:
            if self._payload is not None:
                self._payload.update(data)
            if len(data) >= HOLE_BYTES and not data[0] and data.count(0) == len(data):
                self._skip(len(data))
            else:
                self._ends_in_hole = False
                self._put(data)
            return
        if self._deflater is None:
            self._deflater = content.deflater(self._transaction.repo.deflate_level)
            self._put(self._archive_head(0))
        self._put(self._deflater.compress(data))

    def write_whole(self, data: bytes) -> None:
        """Takes all of the content at once, which is known to be right."""
        self._size = len(data)
        header = self._header
        if header is not None and self._deflates:
            head = self._archive_head(len(data))
            self._put(head if header.is_symlink else head + content.deflate(data, self._transaction.repo.deflate_level))
        elif header is not None and header.is_symlink:
            self._put(header.symlink_target.encode() + b"\0")
        else:
            if self._payload is not None:
                self._payload.update(data)
            self._put(data)

    def link_metadata(self, name: str) -> None:
        """Makes it an object: metadata."""
        try:
            os.fchmod(self._fd, 0o644)
            self._link(name, replace=True)
        except OSError as error:
            raise self._failed(error, name) from error

    def link_file(self, name: str) -> None:
        """Makes it an object: a file, with owner, mode and attributes as the repository's mode wants them.

        Raises:
            NoSpace: the disk is full.
            NotPermitted: only root may give it its owner.
        """
        try:
            if self._deflater is not None:
                self._put(self._deflater.flush())
                os.pwrite(self._fd, self._archive_head(self._size), 0)
            if self._ends_in_hole:
                os.ftruncate(self._fd, self._size)
            payload = self._payload.hexdigest() if self._payload is not None else ""
            if payload:
                self._transaction.payloads.share(self._fd, self._size, payload)
            if self._header is not None:
                files.apply_content_mode(self._fd, self._header, self._mode)
            self._link(name, replace=False)
            if payload:
                self._transaction.payloads.link(parse_object_name(name)[1], self._size, payload)
        except OSError as error:
            raise self._failed(error, name) from error

    def close(self) -> None:
        """Closes it; without a name it is gone."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)

    def _link(self, name: str, *, replace: bool) -> None:
        if self._transaction.repo.per_object_fsync:
            os.fsync(self._fd)  # so that the sync at the end is short, and holds nobody else up
        self._transaction.link(self._fd, self._temporary, name, replace=replace)
        self._transaction.bytes_written += self._size

    def _archive_head(self, size: int) -> bytes:
        assert self._header is not None  # noqa: S101 only called for files
        return objects.archive_head(self._header, size)

    def _skip(self, size: int) -> None:
        """Leaves a hole."""
        try:
            os.lseek(self._fd, size, os.SEEK_CUR)
        except OSError as error:
            raise self._failed(error) from error
        self._ends_in_hole = True

    def _put(self, data: bytes) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError, name: str = "") -> WherryError:
        return object_error(error, name or self._transaction.repo.path)


def object_error(error: OSError, where: object) -> WherryError:
    """Returns the error for a failed write of an object, with what to do about it."""
    mapped = map_os_error(error, "cannot write an object", where=where)
    if isinstance(mapped, NotPermitted):
        return NotPermitted(
            mapped.what, where=where, hint="only root can write owners and attributes; mode bare-user needs no root"
        )
    return mapped


def check_expected(checksum: Checksum, expected: Checksum | None) -> None:
    """Compares a file object's checksum with the one that it should have.

    Raises:
        IntegrityError: they differ.
    """
    if expected is not None and checksum != expected:
        raise objects.corrupted(ObjectType.FILE, expected, checksum)
