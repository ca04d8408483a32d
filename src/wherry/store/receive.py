"""A file object that comes as ``.filez``, piece by piece, on its way into a repository of any mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.store import content, files
from wherry.store.objects import FileHeader, Mode, ObjectType, object_name
from wherry.store.sink import FileSink, check_expected

if TYPE_CHECKING:
    from wherry.store.transaction import Transaction


class Receiver:
    """Takes a ``.filez`` piece by piece, checks it as it comes, and keeps it as the repository's mode wants it."""

    def __init__(self, transaction: Transaction, expected: Checksum | None, where: object) -> None:
        self._transaction = transaction
        self._expected = expected
        self._archive = transaction.repo.mode is Mode.ARCHIVE
        self._sink: FileSink | None = None
        self._reader = content.ArchiveReader(self._begin, where=where)
        self._pending: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Takes the next piece.

        Raises:
            IntegrityError: the content is damaged.
            InvalidInput: the header is malformed.
            NoSpace: the disk is full, or would be.
        """
        if self._archive and self._sink is None:
            self._pending.append(data)
        self._reader.feed(data)
        if self._archive and self._sink is not None:
            for piece in self._pending or [data]:
                self._sink.write(piece)
            self._pending = []

    @property
    def complete(self) -> bool:
        """Whether the whole object has come."""
        return self._reader.complete

    def finish(self) -> Checksum:
        """Stores the object.

        Returns:
            Its checksum.

        Raises:
            IntegrityError: it is cut short, or not the expected one.
        """
        checksum = self._reader.finish()
        check_expected(checksum, self._expected)
        header = self._reader.header
        transaction = self._transaction
        if header is not None and header.is_symlink and not self._archive:
            return transaction.write_file(header, None, checksum)
        name = object_name(ObjectType.FILE, checksum, transaction.repo.mode)
        if self._sink is not None and not transaction.has(name):
            self._sink.link_file(name)
        return checksum

    def close(self) -> None:
        """Throws away what was not finished."""
        if self._sink is not None:
            self._sink.close()

    def _begin(self, header: FileHeader, size: int) -> FileSink | None:
        files.check_header_fits(header, self._transaction.repo.mode)
        if self._archive:
            self._sink = self._transaction.sink(size, header, archived=True)
            return None
        if header.is_symlink:
            return None
        self._sink = self._transaction.sink(size, header)
        return self._sink
