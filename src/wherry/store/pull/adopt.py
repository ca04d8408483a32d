"""Taking objects over from another repository on this machine: by hard links where modes and file system allow.

What is linked or copied from a repository of the same owner is trusted as it lies there (but ``.filez`` that must be
inflated are checked on the way). What is `untrusted` is checked; it is linked only when it belongs to this user.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from wherry.core.digest import Checksum
from wherry.core.errors import Unsupported
from wherry.store.disk import files
from wherry.store.disk.receive import RULES, WHOLE_BYTES, Receiver, Rules, receive_whole
from wherry.store.format import objects
from wherry.store.format.objects import FileHeader, Mode, ObjectType

if TYPE_CHECKING:
    from wherry.store.disk.loose import LooseObjects
    from wherry.store.disk.transaction import Transaction

_READ_BYTES = 1024 * 1024
_BATCH = 32
"""Files that a thread is given at once: to hand over each by itself costs as much as to copy it."""
_MAX_BATCHES = 8


class Source:
    """A repository that objects are taken from, for one transaction.

    Args:
        repo: the repository.
        transaction: where they go.
        untrusted: whether every object is copied and checked.
        rules: what is asked of files.
    """

    def __init__(
        self, repo: LooseObjects, transaction: Transaction, *, untrusted: bool = False, rules: Rules = RULES
    ) -> None:
        self.repo = repo
        self._transaction = transaction
        self.untrusted = untrusted
        self._rules = rules
        self._links = repo.mode is transaction.repo.mode
        self.links_at_once = self._links and not untrusted and not rules.safe_modes
        """Whether `link` may be called for what is perhaps not there: nothing is looked at, the link says it."""
        self._links_canonical = repo.mode is Mode.BARE_USER and transaction.repo.mode is Mode.BARE_USER_ONLY
        self.linked = 0

    def has(self, kind: ObjectType, checksum: Checksum) -> bool:
        """Tells whether it has an object."""
        return self.repo.has(kind, checksum)

    def metadata(self, kind: ObjectType, checksum: Checksum) -> bytes:
        """Takes a metadata object over.

        Returns:
            Its bytes.

        Raises:
            IntegrityError: it is untrusted, and not what its name says.
            InvalidInput: malformed.
        """
        data = self.repo.metadata_bytes(kind, checksum)
        if kind is ObjectType.COMMITMETA or (self.untrusted and not self._is_mine(kind, checksum)):
            self._transaction.write_metadata(kind, data, checksum)
            return data
        if self.untrusted:
            objects.check_object(kind, data, checksum)
        self._keep(kind, checksum, data)
        return data

    def link(self, checksum: Checksum) -> bool:
        """Takes a file over by a hard link; False when that cannot be.

        Files without owners and attributes are the same in a bare-user and a bare-user-only repository. What is
        untrusted is checked first, and is linked only when it is this user's: nobody else may change it afterwards.
        """
        if not self._links and not (self._links_canonical and self._is_canonical(checksum)):
            return False
        if self.untrusted and not (self._is_mine(ObjectType.FILE, checksum) and self._is_good(checksum)):
            return False
        if self._rules.safe_modes:
            self._rules.check(checksum, self.repo.load_file_header(checksum))
        if not self._transaction.link_object(
            self.repo.object_file(ObjectType.FILE, checksum), ObjectType.FILE, checksum
        ):
            return False
        self.linked += 1
        return True

    def _is_mine(self, kind: ObjectType, checksum: Checksum) -> bool:
        try:
            return os.lstat(self.repo.object_file(kind, checksum)).st_uid == os.geteuid()
        except OSError:
            return False

    def _is_canonical(self, checksum: Checksum) -> bool:
        header = self.repo.load_file_header(checksum)
        if header.is_symlink or not header.mode & stat.S_IRUSR:
            return False
        try:
            files.check_header_fits(header, Mode.BARE_USER_ONLY)
        except Unsupported:
            return False
        return True

    def _is_good(self, checksum: Checksum) -> bool:
        header, content = self.repo.load_file(checksum)
        if content is None:
            return objects.file_checksum(header) == checksum
        with content:
            return objects.file_checksum(header, content) == checksum

    def size(self, checksum: Checksum) -> int:
        """Returns about how many bytes a file is."""
        try:
            return os.lstat(self.repo.object_file(ObjectType.FILE, checksum)).st_size
        except OSError:
            return 0

    def copy(self, checksum: Checksum) -> int:
        """Takes a file over by copying it; may be called in any thread.

        Returns:
            The bytes of its content.

        Raises:
            IntegrityError: it is not what its name says.
            InvalidInput: malformed, or its mode is refused.
            NotFound: it is not there.
            NoSpace: the disk is full, or would be.
        """
        if self.repo.mode is Mode.ARCHIVE:
            return self._copy_archived(checksum)
        header, content = self.repo.load_file(checksum)
        if content is None:
            self._rules.check(checksum, header)
            self._transaction.write_file(header, None, checksum)
            return 0
        with content:
            self._rules.check(checksum, header)
            files.check_header_fits(header, self._transaction.repo.mode)
            if self.untrusted:
                self._transaction.write_file(header, content, checksum)
                return os.fstat(content.fileno()).st_size
            return self._copy_as_it_lies(checksum, header, content)

    def _copy_as_it_lies(self, checksum: Checksum, header: FileHeader, content: BinaryIO) -> int:
        size = 0
        sink = self._transaction.sink(os.fstat(content.fileno()).st_size, header)
        try:
            while piece := content.read(_READ_BYTES):
                size += len(piece)
                sink.write(piece)
            if not size:
                sink.write_whole(b"")
            name = objects.object_name(ObjectType.FILE, checksum, self._transaction.repo.mode)
            if not self._transaction.has(name):
                sink.link_file(name)
        finally:
            sink.close()
        return size

    def _copy_archived(self, checksum: Checksum) -> int:
        path = self.repo.object_file(ObjectType.FILE, checksum)
        with open(path, "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size <= WHOLE_BYTES:
                return receive_whole(self._transaction, file.readall(), checksum, where=path, rules=self._rules)
            receiver = Receiver(self._transaction, checksum, path, rules=self._rules)
            try:
                while piece := file.read(_READ_BYTES):
                    receiver.write(piece)
                receiver.finish()
                return receiver.size
            finally:
                receiver.close()

    def _keep(self, kind: ObjectType, checksum: Checksum, data: bytes) -> None:
        """Writes a metadata object that is taken as it lies there, under its name."""
        transaction = self._transaction
        if transaction.link_object(self.repo.object_file(kind, checksum), kind, checksum):
            return
        sink = transaction.sink(len(data))
        try:
            sink.write(data)
            sink.link_metadata(objects.object_name(kind, checksum, transaction.repo.mode))
        finally:
            sink.close()


class Copies:
    """Files that are copied by a few threads, a batch at a time; used with ``with``.

    Args:
        done: called in any thread with the bytes of each file's content.
    """

    def __init__(self, done: Callable[[int], None]) -> None:
        self._done = done
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1)
        self._batch: list[tuple[Source, Checksum]] = []
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Copies:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)

    def add(self, source: Source, checksum: Checksum) -> None:
        """Has a file copied.

        Raises:
            WherryError: an earlier one could not be; see ``Source.copy``.
        """
        self._batch.append((source, checksum))
        if len(self._batch) >= _BATCH:
            self._submit()
            if len(self._waiting) > _MAX_BATCHES:
                self._waiting.popleft().result()

    def finish(self) -> None:
        """Waits for all of them.

        Raises:
            WherryError: one could not be copied; see ``Source.copy``.
        """
        self._submit()
        while self._waiting:
            self._waiting.popleft().result()

    def _submit(self) -> None:
        self._waiting.append(self._pool.submit(self._copy, self._batch))
        self._batch = []

    def _copy(self, batch: list[tuple[Source, Checksum]]) -> None:
        for source, checksum in batch:
            self._done(source.copy(checksum))
