"""The objects of a repository, each a file of its own: reading them, and the way to write them.

``LooseObjects`` is the lower half of ``Repository``, and never used without the upper one.

An object that is not here is looked for in the parent repository (``core.parent``), and that one's parent, as OSTree
does; nothing is ever written or removed there. Nothing here knows refs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from wherry.core.digest import Checksum
from wherry.core.durable import fsync_dir, map_os_error, remove_file, write_file
from wherry.core.errors import InvalidInput, NotFound, Unsupported
from wherry.core.trace import reach
from wherry.store.config import Config
from wherry.store.disk import ofd
from wherry.store.disk.space import Space
from wherry.store.format import dirtree, objects
from wherry.store.format.objects import (
    MAX_METADATA_BYTES,
    Commit,
    DirMeta,
    DirTree,
    FileHeader,
    Mode,
    ObjectType,
    object_name,
)

if TYPE_CHECKING:
    from wherry.store.disk.transaction import Transaction
    from wherry.store.repository import Repository

_LEVELS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 2}
"""isal's level (1 to 3) for zlib's (1 to 9), as ``archive.zlib-level`` gives it; 3 for all that are not here."""
_LOCK_TIMEOUT_S = 300
MAX_PARENT_REPOSITORIES = 8
"""Parents of parents; a chain that is longer goes round in a circle."""


class LooseObjects:
    """What a repository's config says about objects, and the objects."""

    def __init__(self, path: Path, config: Config) -> None:
        self.path = path
        self.objects_dir = path / "objects"
        self._objects = str(self.objects_dir)
        self._local = threading.local()
        self._load(config)

    def _load(self, config: Config) -> None:
        text = config.get("core", "mode", "bare")
        try:
            self.mode = Mode("archive" if text == "archive-z2" else text)
        except ValueError:
            raise Unsupported(
                f"a repository of mode {text!r}", where=self.path, hint=f"modes are {', '.join(Mode)}"
            ) from None
        self.config = config
        self.space = Space(self.path, config)
        self.fsync = config.get_bool("core", "fsync", True)
        self.per_object_fsync = config.get_bool("core", "per-object-fsync", False)
        self.disable_xattrs = config.get_bool("core", "disable-xattrs", False)
        self.tombstones = config.get_bool("core", "tombstone-commits", False)
        self.payload_link_bytes = config.get_int("core", "payload-link-threshold", -1)
        """From this size on contents are shared between files that have the same; -1: never."""
        self.deflate_level = _LEVELS.get(config.get_int("archive", "zlib-level", 6), 3)
        self._lock_timeout_s = config.get_int("core", "lock-timeout-secs", _LOCK_TIMEOUT_S)
        self._locking = config.get_bool("core", "locking", True)
        self._parent_path = config.get("core", "parent")
        self._parent: Repository | None = None

    @property
    def parent(self) -> Repository | None:
        """The repository in which objects are looked for that are not here (``core.parent``).

        Raises:
            NotFound: it is not there.
            InvalidInput: the chain of parents is too long.
        """
        if self._parent_path and self._parent is None:
            self._parent = self._open_parent(Path(self._parent_path), 1)
        return self._parent

    def _open_parent(self, path: Path, depth: int) -> Repository:
        if depth > MAX_PARENT_REPOSITORIES:
            raise InvalidInput(f"more than {MAX_PARENT_REPOSITORIES} parents of parents", where=self.path)
        try:
            found = cast("Repository", type(self)(path, Config.load(path / "config")))
        except OSError as error:
            raise NotFound(
                "no parent repository", where=path, hint="set core.parent in the config to where it is"
            ) from error
        if found._parent_path:
            found._parent = self._open_parent(Path(found._parent_path), depth + 1)
        return found

    @property
    def writable(self) -> bool:
        """Whether this process may write to it: not on a read-only file system, or in somebody else's folder."""
        return os.access(self.objects_dir, os.W_OK)

    # --- looking at objects

    def has(self, kind: ObjectType, checksum: Checksum) -> bool:
        """Tells whether an object is there, here or in a parent repository."""
        name = object_name(kind, checksum, self.mode)
        if os.access(f"{self._objects}/{name}", os.F_OK, follow_symlinks=False):
            return True
        transaction = self._active()
        if transaction is not None and transaction.staged(name) is not None:
            return True
        parent = self.parent
        return parent is not None and parent.has(kind, checksum)

    def object_file(self, kind: ObjectType, checksum: Checksum) -> str:
        """Returns what `object_path` does, without the cost of a Path."""
        name = object_name(kind, checksum, self.mode)
        transaction = self._active()
        return (transaction is not None and transaction.staged(name)) or f"{self._objects}/{name}"

    def object_path(self, kind: ObjectType, checksum: Checksum) -> Path:
        """Returns where an object lies, or would lie, in this repository (its parent may have it instead)."""
        return Path(self.object_file(kind, checksum))

    def metadata_bytes(self, kind: ObjectType, checksum: Checksum) -> bytes:
        """Returns the bytes of a commit, dirtree, dirmeta or detached metadata, unchecked.

        Raises:
            NotFound: it is not there.
            InvalidInput: it is longer than any such object may be.
        """
        path = self.object_file(kind, checksum)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                size = os.fstat(fd).st_size
                data = os.read(fd, size + 1) if size <= MAX_METADATA_BYTES else b""
            finally:
                os.close(fd)
        except FileNotFoundError:
            parent = self.parent
            if parent is not None:
                return parent.metadata_bytes(kind, checksum)
            raise NotFound(f"No such metadata object {checksum}.{kind.extension}") from None
        except OSError as error:
            raise map_os_error(error, "cannot read an object", where=path) from error
        if size > MAX_METADATA_BYTES:
            raise InvalidInput(f"longer than {MAX_METADATA_BYTES} bytes", where=path)
        return data

    def load_commit(self, checksum: Checksum) -> Commit:
        """Returns a commit.

        Raises:
            NotFound: it is not there.
            InvalidInput: it is damaged.
        """
        return objects.parse_commit(self.metadata_bytes(ObjectType.COMMIT, checksum), where=checksum)

    def load_dirtree(self, checksum: Checksum) -> DirTree:
        """Returns the entries of a directory.

        Raises:
            NotFound: it is not there.
            InvalidInput: it is damaged.
        """
        return objects.parse_dirtree(self.metadata_bytes(ObjectType.DIRTREE, checksum), where=checksum)

    def load_digests(self, checksum: Checksum) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """Returns the digests of the files, dirtrees and dirmetas in a directory, and nothing about their names.

        Raises:
            NotFound: it is not there.
            InvalidInput: it is damaged.
        """
        data = self.metadata_bytes(ObjectType.DIRTREE, checksum)
        found = dirtree.read_digests(data)
        if found is None:
            objects.parse_dirtree(data, where=checksum)  # says what is wrong
            raise InvalidInput("a damaged dirtree", where=checksum)
        return found

    def load_dirmeta(self, checksum: Checksum) -> DirMeta:
        """Returns owner, mode and attributes of a directory.

        Raises:
            NotFound: it is not there.
            InvalidInput: it is damaged.
        """
        return objects.parse_dirmeta(self.metadata_bytes(ObjectType.DIRMETA, checksum), where=checksum)

    def load_file(self, checksum: Checksum) -> tuple[FileHeader, BinaryIO | None]:
        """Opens a file object.

        Returns:
            Its header, and its content to read (the caller closes it); None for a symbolic link.

        Raises:
            NotFound: it is not there.
            InvalidInput: it is damaged.
        """
        from wherry.store.disk import files  # not for commands that read no files

        try:
            return files.open_object(self.object_file(ObjectType.FILE, checksum), self.mode)
        except NotFound:
            parent = self.parent
            if parent is None:
                raise
            return parent.load_file(checksum)

    def load_file_header(self, checksum: Checksum) -> FileHeader:
        """Returns the header of a file object."""
        header, content = self.load_file(checksum)
        if content is not None:
            content.close()
        return header

    def list_objects(self) -> Iterator[tuple[ObjectType, Checksum]]:
        """Gives every object that lies in this repository, in no order; files that are no objects are left out."""
        for folder, names in self._listing():
            yield from objects.parse_folder(folder, names, self.mode)

    def commits(self) -> Iterator[Checksum]:
        """Gives every commit that lies in this repository, in no order."""
        for folder, names in self._listing():
            wanted = [name for name in names if name.endswith(".commit")]
            yield from (checksum for _, checksum in objects.parse_folder(folder, wanted, self.mode))

    def _listing(self) -> Iterator[tuple[str, list[str]]]:
        """Gives the folders of ``objects/``, each with the names in it."""
        for folder in os.scandir(self.objects_dir):
            if len(folder.name) == 2 and folder.is_dir(follow_symlinks=False):
                yield folder.name, os.listdir(folder.path)

    # --- writing

    def transaction(self) -> Transaction:
        """Returns this thread's transaction, to be used with ``with``; blocks may be nested, the outermost counts.

        Objects written inside are seen by this thread at once and by others at the end; they are durable before
        any ref moves. When the block ends in an exception nothing of it stays.
        """
        found = self._active()
        if found is None:
            from wherry.store.disk.transaction import Transaction  # not for commands that only read

            found = Transaction(cast("Repository", self))
            self._local.transaction = found
        return found

    def join(self, transaction: Transaction) -> None:
        """Makes a transaction of another thread this thread's too, for looking at its objects."""
        self._local.transaction = transaction

    def forget(self, transaction: Transaction) -> None:
        """Ends what ``transaction`` and ``join`` began, in this thread."""
        if self._active() is transaction:
            self._local.transaction = None

    def write_object(self, kind: ObjectType, source: bytes | BinaryIO, expected: Checksum | None = None) -> Checksum:
        """Writes one object and checks it, in this thread's transaction or in one of its own.

        Args:
            kind: what it is.
            source: its bytes, or a file to read them from; a file object as ``.filez``.
            expected: its checksum; detached metadata must have one.

        Returns:
            Its checksum.

        Raises:
            IntegrityError: it has not the checksum `expected`; nothing was written.
            InvalidInput: it is malformed.
            NoSpace: the disk is full, or would be.
        """
        with self.transaction() as transaction:
            if kind is ObjectType.FILE:
                return transaction.write_archived(source, expected)
            data = source if isinstance(source, bytes) else source.read(MAX_METADATA_BYTES + 1)
            return transaction.write_metadata(kind, data, expected)

    def delete_object(self, kind: ObjectType, checksum: Checksum) -> int:
        """Removes one object; of a commit also what stands beside it, and a tombstone comes in its place if wanted.

        Only for those who hold the lock alone and know that nothing needs it. Not synced.

        Returns:
            How many bytes that frees; 0 when it was not there, or has another name elsewhere.
        """
        if kind is ObjectType.COMMIT and self.tombstones:
            self._write_tombstone(checksum)
            reach("store.tombstone.written")
        freed = 0
        doomed = [kind, ObjectType.COMMITMETA] if kind is ObjectType.COMMIT else [kind]
        for item in doomed:
            path = f"{self._objects}/{object_name(item, checksum, self.mode)}"
            try:
                status = os.lstat(path)
                os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise map_os_error(error, "cannot remove an object", where=path) from error
            freed += status.st_size if status.st_nlink == 1 else 0
        return freed

    def _write_tombstone(self, checksum: Checksum) -> None:
        path = self.objects_dir / object_name(ObjectType.TOMBSTONE, checksum, self.mode)
        temporary = self.path / "tmp" / f"tombstone-{checksum}"
        try:
            write_file(temporary, objects.serialize_dict({"commit": checksum.encode() + b"\0"}))
            path.parent.mkdir(exist_ok=True)
            os.replace(temporary, path)
            fsync_dir(path.parent)
        except OSError as error:
            raise map_os_error(error, "cannot write a tombstone", where=path) from error

    def refs_changed(self) -> None:
        """Called by a transaction that has moved refs, when it holds no lock any more."""

    def sync(self) -> None:
        """Makes durable all that was written, unless the config has ``core.fsync=false``."""
        if self.fsync:
            from wherry.linux.syncfs import syncfs

            syncfs(self.path)

    def lock(self, *, shared: bool) -> AbstractContextManager[None]:
        """Returns the repository's lock: shared for those who write objects, alone for who removes them.

        Where nobody can write, nobody can be in the way: the lock of a reader is none then.
        """
        if not self._locking or (shared and not self.writable):
            return nullcontext()
        return ofd.held(self.path / ".lock", shared=shared, timeout_s=self._lock_timeout_s, what="the repository")

    def _active(self) -> Transaction | None:
        found: Transaction | None = getattr(self._local, "transaction", None)
        return found

    # --- what stands beside a commit

    def read_detached(self, checksum: Checksum) -> dict[str, Any]:
        """Returns the detached metadata of a commit; empty when there is none.

        Raises:
            InvalidInput: it is damaged.
        """
        try:
            data = self.metadata_bytes(ObjectType.COMMITMETA, checksum)
        except NotFound:
            return {}
        return objects.parse_dict(data, where=f"detached metadata of {checksum}")

    def write_detached(self, checksum: Checksum, metadata: Mapping[str, Any]) -> None:
        """Replaces the detached metadata of a commit durably; removes it when `metadata` is empty.

        Args:
            checksum: the commit.
            metadata: plain values or Variants (``variant.from_plain``); signatures are
                ``{"ostree.sign.ed25519": [64 bytes, ...]}``.
        """
        if not metadata and self._active() is None:
            remove_file(self.object_path(ObjectType.COMMITMETA, checksum))
            return
        self.write_object(ObjectType.COMMITMETA, objects.serialize_dict(metadata), checksum)

    def is_partial(self, checksum: Checksum) -> bool:
        """Tells whether a commit is known to lack objects."""
        return self._partial_path(checksum).exists()

    def is_broken(self, checksum: Checksum) -> bool:
        """Tells whether a commit lacks objects because fsck found them damaged."""
        try:
            return self._partial_path(checksum).read_bytes()[:1] == b"f"
        except FileNotFoundError:
            return False

    def mark_partial(self, checksum: Checksum, *, by_fsck: bool = False) -> None:
        """Notes durably that a commit may lack objects."""
        (self.path / "state").mkdir(exist_ok=True)
        write_file(self._partial_path(checksum), b"f" if by_fsck else b"")

    def mark_complete(self, checksum: Checksum) -> None:
        """Notes durably that a commit lacks nothing."""
        remove_file(self._partial_path(checksum))

    def _partial_path(self, checksum: Checksum) -> Path:
        return self.path / "state" / f"{checksum}.commitpartial"
