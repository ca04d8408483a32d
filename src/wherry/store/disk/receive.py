"""A file object that comes as ``.filez`` on its way into a repository of any mode: piece by piece, or as a whole."""

from __future__ import annotations

import hashlib
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.errors import IntegrityError, InvalidInput
from wherry.store.disk import content, files
from wherry.store.disk.sink import FileSink, check_expected
from wherry.store.format import objects
from wherry.store.format.objects import FileHeader, Mode, ObjectType, object_name

if TYPE_CHECKING:
    from wherry.store.disk.transaction import Transaction

WHOLE_BYTES = 4 * 1024 * 1024
"""Plain content up to this is inflated in one piece."""
_SAFE_MODE = 0o775


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is asked of file objects that come from outside."""

    safe_modes: bool = False
    """Regular files must not be writable by all, nor be setuid or sticky (``--bareuseronly-files``)."""
    trusted: bool = False
    """An archive takes ``.filez`` as they come, whatever their checksum (``--http-trusted``)."""

    def check(self, checksum: Checksum | None, header: FileHeader) -> None:
        """Refuses a file.

        Raises:
            InvalidInput: its mode is refused.
        """
        if self.safe_modes:
            check_safe_mode(checksum, header)


RULES = Rules()


def check_safe_mode(checksum: Checksum | None, header: FileHeader) -> None:
    """Refuses a regular file whose mode a bare-user-only repository could not keep.

    Raises:
        InvalidInput: that is so.
    """
    extra = stat.S_IMODE(header.mode) & ~_SAFE_MODE
    if extra and not header.is_symlink:
        raise InvalidInput(
            f"Content object {checksum}: invalid mode 0{stat.S_IMODE(header.mode):04o} with bits 0{extra:02o}",
            hint="only modes within 0775 are taken",
        )


def receive_whole(
    transaction: Transaction, data: bytes, expected: Checksum, *, where: object = None, rules: Rules = RULES
) -> int:
    """Checks and writes a file object that is here as a whole.

    Returns:
        The bytes of its plain content.

    Raises:
        IntegrityError: it is damaged, or not the one expected.
        InvalidInput: its header is malformed, or its mode is refused.
        NoSpace: the disk is full, or would be.
    """
    archive = transaction.repo.mode is Mode.ARCHIVE
    header, size, start = _split(data, where)
    if size > WHOLE_BYTES or (archive and rules.trusted):
        receiver = Receiver(transaction, expected, where, rules=rules)
        try:
            receiver.write(data)
            receiver.finish()
        finally:
            receiver.close()
        return size
    rules.check(expected, header)
    plain = b""
    if header.is_symlink:
        if len(data) != start:
            raise IntegrityError("a symbolic link has content", where=where)
    else:
        plain = content.inflate(data[start:], size, where)
    if not archive:
        transaction.write_file(header, None if header.is_symlink else plain, expected)
        return size
    files.check_header_fits(header, transaction.repo.mode)
    digest = hashlib.sha256(objects.hash_head(header))
    digest.update(plain)
    check_expected(Checksum(digest.hexdigest()), expected)
    name = object_name(ObjectType.FILE, expected, Mode.ARCHIVE)
    if not transaction.has(name):
        sink = transaction.sink(len(data), header, archived=True)
        try:
            sink.write(data)
            sink.link_file(name)
        finally:
            sink.close()
    return size


def _split(data: bytes, where: object) -> tuple[FileHeader, int, int]:
    """Returns header, size of the plain content, and where the compressed content begins."""
    length, zeros = struct.unpack_from(">II", data) if len(data) >= 8 else (0, 1)
    if zeros or length > content.MAX_HEAD_BYTES:
        raise InvalidInput("malformed file header", where=where)
    if len(data) < 8 + length:
        raise IntegrityError("the object is cut short", where=where)
    header, size = objects.parse_archive_head(data[8 : 8 + length], where=where)
    return header, size, 8 + length


class Receiver:
    """Takes a ``.filez`` piece by piece, checks it as it comes, and keeps it as the repository's mode wants it."""

    def __init__(
        self, transaction: Transaction, expected: Checksum | None, where: object, *, rules: Rules = RULES
    ) -> None:
        self._transaction = transaction
        self._expected = expected
        self._rules = rules
        self._archive = transaction.repo.mode is Mode.ARCHIVE
        self._sink: FileSink | None = None
        self._reader = content.ArchiveReader(self._begin, where=where)
        self._pending: list[bytes] = []
        self.size = 0
        """Of the plain content, once the header has come."""

    def write(self, data: bytes) -> None:
        """Takes the next piece.

        Raises:
            IntegrityError: the content is damaged.
            InvalidInput: the header is malformed, or the mode is refused.
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
        if self._expected is not None and self._archive and self._rules.trusted:
            checksum = self._expected
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
        self._rules.check(self._expected, header)
        files.check_header_fits(header, self._transaction.repo.mode)
        self.size = size
        if self._archive:
            self._sink = self._transaction.sink(size, header, archived=True)
            return None
        if header.is_symlink:
            return None
        self._sink = self._transaction.sink(size, header)
        return self._sink
