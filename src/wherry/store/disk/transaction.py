"""Writing to a repository: everything is staged, made durable, published, and only then do refs move.

::

    tmp/staging-<boot id>-XXXXXXXX/<2 hex>/<62 hex>.<ext>    objects of one transaction, whole, each already checked
    tmp/staging-<boot id>-XXXXXXXX-lock                      held (OFD lock) while the transaction runs
    .lock                                                    held shared by every transaction, alone by prune

    object: O_TMPFILE in the staging folder -> content, hash -> link(2) under its name
    commit: syncfs -> rename into objects/, commits last -> syncfs -> refs, one durable rename each
            (a folder that is not in objects/ yet is renamed with all in it)

A crash before the renames leaves a staging folder that the next transaction of the same boot takes over (without
its commit objects, whose trees may since have been pruned) and that a later boot throws away, since nothing in it
was synced. A crash between the renames leaves whole objects that nothing refers to. Names and locks are those of
OSTree, so both programs may work in one repository at once. *Not* promised: that several refs move in one step.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from wherry.core.digest import Checksum, Ref
from wherry.core.durable import map_os_error
from wherry.core.errors import NoSpace
from wherry.core.trace import reach
from wherry.core.units import format_size
from wherry.linux.renaming import rename_new
from wherry.store import refs
from wherry.store.disk import content, files, staging
from wherry.store.disk.payload import PayloadLinks
from wherry.store.disk.sink import FileSink, check_expected, object_error
from wherry.store.format import objects
from wherry.store.format.objects import FileHeader, Mode, ObjectType, object_name
from wherry.store.refs import CollectionRef

if TYPE_CHECKING:
    from wherry.store.disk.receive import Receiver
    from wherry.store.repository import Repository

_SMALL_BYTES = 4 * 1024 * 1024
"""Content up to this is held in memory, hashed first, and not written when the object is there."""
_OBJECT_OVERHEAD_BYTES = 4096
_STEM = 62
"""Letters of an object's name before its extension, in its folder."""
_LAST = {".payload-link": 1, ".commitmeta": 1, ".commit": 2, ".tombstone-commit": 2}


class Transaction:
    """One transaction of one thread, from ``Repository.transaction``. Other threads may call its write methods."""

    def __init__(self, repo: Repository) -> None:
        self.repo = repo
        self.depth = 0
        self.objects_written = 0
        self.bytes_written = 0
        self._refs: dict[Ref, Checksum | None] = {}
        self._collection_refs: dict[CollectionRef, Checksum | None] = {}
        self._stack = ExitStack()
        self._objects = str(repo.objects_dir)
        self._stage = Path()
        self._stage_path = ""
        self._lock_fd = -1
        self._stage_fd = -1
        self._folders: set[str] = set()
        self._use_tmpfile = True

    # --- life

    def __enter__(self) -> Transaction:
        if self.depth == 0:
            self._stack.enter_context(self.repo.lock(shared=True))
            try:
                self._open_stage()
                self.payloads = PayloadLinks(self.repo, self._stage)
            except OSError as error:
                self._stack.close()
                raise map_os_error(error, "cannot begin writing to the repository", where=self.repo.path) from error
        self.depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.depth -= 1
        if self.depth:
            return
        try:
            if kind is None:
                self._commit()
        finally:
            self.repo.forget(self)
            self._close_stage()
            self._stack.close()
        if kind is None and (self._refs or self._collection_refs):
            self.repo.refs_changed()  # with no lock held any more

    def set_ref(self, ref: Ref, checksum: Checksum | None) -> None:
        """Has a ref set, or removed, when the transaction ends well."""
        self._refs[refs.parse_ref(ref)] = checksum

    def set_collection_ref(self, ref: CollectionRef, checksum: Checksum | None) -> None:
        """Has a collection's ref set, or removed, when the transaction ends well."""
        self._collection_refs[refs.parse_collection_ref(*ref)] = checksum

    def pending_ref(self, ref: str) -> Checksum | None:
        """Returns what a ref is going to be set to, None when nothing is."""
        return self._refs.get(Ref(ref))

    def checkpoint(self, *, last: bool = False) -> None:
        """Makes all that was written so far durable and visible to others; refs do not move yet.

        Args:
            last: no other thread is writing any more.

        Raises:
            NoSpace: the disk is full.
        """
        try:
            staged = self._list_staged()  # before the sync: other threads may go on writing
            reach("store.transaction.staged")
            if staged or self._refs or self._collection_refs:
                self.repo.sync()
                reach("store.transaction.synced")
            if staged:
                self._publish(staged, last=last)
                reach("store.transaction.published")
                self.repo.sync()
        except OSError as error:
            raise map_os_error(error, "cannot finish writing to the repository", where=self.repo.path) from error

    def _commit(self) -> None:
        self.checkpoint(last=True)
        for ref, checksum in self._refs.items():
            reach("store.transaction.ref")
            refs.write_ref(self.repo.path, ref, checksum, durable=self.repo.fsync)
        own = self.repo.config.get("core", "collection-id")
        for collection_ref, checksum in self._collection_refs.items():
            reach("store.transaction.ref")
            refs.write_collection_ref(self.repo.path, own, collection_ref, checksum, durable=self.repo.fsync)
        if self._refs or self._collection_refs:
            os.utime(self.repo.path)
        reach("store.transaction.done")

    # --- looking

    def staged(self, name: str) -> str | None:
        """Returns where an object lies in this transaction, None when it does not."""
        path = f"{self._stage_path}/{name}"
        return path if os.access(path, os.F_OK, follow_symlinks=False) else None

    # --- writing

    def write_metadata(self, kind: ObjectType, data: bytes, expected: Checksum | None = None) -> Checksum:
        """Writes a commit, dirtree, dirmeta or detached metadata.

        Args:
            kind: what it is.
            data: its bytes.
            expected: its name; detached metadata must have one.

        Returns:
            Its checksum.

        Raises:
            IntegrityError: it has not the name `expected`.
            InvalidInput: malformed.
            NoSpace: the disk is full, or would be.
        """
        checksum = objects.check_object(kind, data, expected)
        name = object_name(kind, checksum, self.repo.mode)
        if kind is not ObjectType.COMMITMETA and self.has(name):
            return checksum
        sink = self.sink(len(data))
        try:
            sink.write(data)
            sink.link_metadata(name)
        finally:
            sink.close()
        return checksum

    def write_file(
        self, header: FileHeader, source: bytes | BinaryIO | None = None, expected: Checksum | None = None
    ) -> Checksum:
        """Writes a regular file or a symbolic link.

        Args:
            header: all but the content.
            source: the content, or a file to read it from; None for a symbolic link.
            expected: the checksum that it must have, if that is known.

        Returns:
            Its checksum.

        Raises:
            IntegrityError: it has not the checksum `expected`.
            NoSpace: the disk is full, or would be.
            Unsupported: the repository cannot keep such a file.
        """
        files.check_header_fits(header, self.repo.mode)
        if source is None or isinstance(source, bytes):
            return self._write_small(header, source or b"", expected)
        first = _read_up_to(source, _SMALL_BYTES + 1)
        if len(first) <= _SMALL_BYTES:
            return self._write_small(header, first, expected)
        digest = hashlib.sha256(objects.hash_head(header))
        sink = self.sink(len(first), header)
        try:
            for piece in itertools.chain((first,), content.read_pieces(source)):
                self.reserve(len(piece))
                digest.update(piece)
                sink.write(piece)
            return self._finish(sink, Checksum(digest.hexdigest()), expected)
        finally:
            sink.close()

    def write_archived(
        self, source: bytes | BinaryIO, expected: Checksum | None = None, *, where: object = None
    ) -> Checksum:
        """Writes a file object that comes as the bytes of a ``.filez``.

        Raises:
            IntegrityError: damaged, or it has not the checksum `expected`.
            InvalidInput: malformed.
            NoSpace: the disk is full, or would be.
        """
        receiver = self.receive(expected, where=where)
        try:
            if isinstance(source, bytes):
                receiver.write(source)
            else:
                for piece in content.read_pieces(source):
                    receiver.write(piece)
            return receiver.finish()
        finally:
            receiver.close()

    def receive(self, expected: Checksum | None, *, where: object = None) -> Receiver:
        """Returns where the bytes of a ``.filez`` can be written to piece by piece."""
        from wherry.store.disk.receive import Receiver

        return Receiver(self, expected, where or expected)

    def link_object(self, source: str, kind: ObjectType, checksum: Checksum) -> bool:
        """Takes over an object of another repository of the same mode by a hard link; False when that cannot be."""
        if self.repo.mode is Mode.BARE_SPLIT_XATTRS:
            return False
        name = object_name(kind, checksum, self.repo.mode)
        try:
            self._make_folder(name)
            os.link(source, name, dst_dir_fd=self._stage_fd, follow_symlinks=False)
        except FileExistsError:
            return True
        except OSError:
            return False
        self.objects_written += 1
        return True

    def has(self, name: str) -> bool:
        """Tells whether an object is there, in the repository or in this transaction."""
        return os.access(f"{self._objects}/{name}", os.F_OK, follow_symlinks=False) or self.staged(name) is not None

    def reserve(self, size: int) -> None:
        """Refuses to write so much that less than the free space that must stay would be left.

        Raises:
            NoSpace: that is so.
        """
        missing = self.repo.space.missing(size + _OBJECT_OVERHEAD_BYTES)
        if missing:
            raise NoSpace(
                f"writing {format_size(size)} would leave less free space than the repository must keep",
                where=self.repo.path,
                hint=f"free {format_size(missing)}, or lower core.min-free-space-percent in its config",
            )

    def sink(self, size: int, header: FileHeader | None = None, *, archived: bool = False) -> FileSink:
        """Opens a new, nameless object.

        Args:
            size: about how long it will be, in bytes.
            header: of a file; None for a metadata object.
            archived: the bytes are written as they are, even in an archive repository.

        Raises:
            NoSpace: less free space would be left than must stay.
            Unsupported: the repository is of a mode that is only read.
        """
        files.check_written(self.repo.mode)
        self.reserve(size)
        return FileSink(self, header, archived=archived)

    def _write_small(self, header: FileHeader, data: bytes, expected: Checksum | None) -> Checksum:
        digest = hashlib.sha256(objects.hash_head(header))
        digest.update(data)
        checksum = Checksum(digest.hexdigest())
        if self.has(object_name(ObjectType.FILE, checksum, self.repo.mode)):
            check_expected(checksum, expected)
            return checksum
        if header.is_symlink and self.repo.mode in (Mode.BARE, Mode.BARE_USER_ONLY):
            check_expected(checksum, expected)
            self._write_symlink(header, checksum)
            return checksum
        sink = self.sink(len(data), header)
        try:
            sink.write_whole(data)
            check_expected(checksum, expected)
            sink.link_file(object_name(ObjectType.FILE, checksum, self.repo.mode))
            return checksum
        finally:
            sink.close()

    def _finish(self, sink: FileSink, checksum: Checksum, expected: Checksum | None) -> Checksum:
        check_expected(checksum, expected)
        name = object_name(ObjectType.FILE, checksum, self.repo.mode)
        if not self.has(name):
            sink.link_file(name)
        return checksum

    def _write_symlink(self, header: FileHeader, checksum: Checksum) -> None:
        name = object_name(ObjectType.FILE, checksum, self.repo.mode)
        temporary = self._stage / f"tmp-{os.urandom(8).hex()}"
        try:
            self._make_folder(name)
            os.symlink(header.symlink_target, temporary)
            if self.repo.mode is Mode.BARE:
                os.lchown(temporary, header.uid, header.gid)
                for key, value in header.xattrs:
                    os.setxattr(temporary, os.fsdecode(key), value, follow_symlinks=False)
            os.utime(temporary, ns=(0, 0), follow_symlinks=False)
            os.rename(temporary, self._stage / name)
        except OSError as error:
            raise object_error(error, name) from error
        self.objects_written += 1

    # --- the staging folder

    def link(self, fd: int, temporary: Path | None, name: str, *, replace: bool = False) -> None:
        """Gives a finished object its name in the staging folder."""
        self._make_folder(name)
        if temporary is not None:
            os.rename(temporary, name, dst_dir_fd=self._stage_fd)
        elif not self._link(fd, name):
            if not replace:
                return
            os.unlink(name, dir_fd=self._stage_fd)
            self._link(fd, name)
        self.objects_written += 1

    def _link(self, fd: int, name: str) -> bool:
        try:
            os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=self._stage_fd, dst_dir_fd=self._stage_fd)
        except FileExistsError:
            return False
        return True

    def open_nameless(self) -> tuple[int, Path | None]:
        """Opens a new file in the staging folder; with a name only where O_TMPFILE is not supported."""
        if self._use_tmpfile:
            try:
                return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self._stage_fd), None
            except OSError as error:
                if error.errno not in (21, 95, 22):  # EISDIR before Linux 3.11, EOPNOTSUPP by the file system, EINVAL
                    raise
                self._use_tmpfile = False
        path = self._stage / f"tmp-{os.urandom(8).hex()}"
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), path

    def _make_folder(self, name: str) -> None:
        folder = name[:2]
        if folder in self._folders:
            return
        try:
            os.mkdir(folder, 0o755, dir_fd=self._stage_fd)
        except FileExistsError:
            pass
        self._folders.add(folder)

    def _open_stage(self) -> None:
        self._stage, self._lock_fd = staging.take(self.repo.path)
        self._stage_path = str(self._stage)
        self._stage_fd = os.open(self._stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _close_stage(self) -> None:
        os.close(self._stage_fd)
        staging.drop(self._stage, self._lock_fd)
        self._lock_fd = self._stage_fd = -1
        self._folders.clear()

    def _list_staged(self) -> dict[str, list[str]]:
        """Returns the names of all staged objects, by folder."""
        return {
            folder.name: os.listdir(folder.path)
            for folder in os.scandir(self._stage)
            if len(folder.name) == 2 and folder.is_dir(follow_symlinks=False)
        }

    def _publish(self, staged: dict[str, list[str]], *, last: bool) -> None:
        """Renames staged objects into ``objects/``, commits after all others.

        With `last`, a folder goes there as a whole where that can be: of a new repository's objects nearly all do.
        """
        late: list[str] = []
        objects_fd = os.open(self.repo.objects_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for folder, names in sorted(staged.items()):
                reach("store.transaction.publishing")
                held = [name for name in names if name[_STEM:] in _LAST]
                if last and not held and self._move_folder(folder, objects_fd):
                    continue
                try:
                    os.mkdir(folder, 0o755, dir_fd=objects_fd)
                except FileExistsError:
                    pass
                for name in set(names).difference(held):
                    self._move(f"{folder}/{name}", objects_fd)
                late.extend(f"{folder}/{name}" for name in held)
            for name in sorted(late, key=lambda name: (_LAST[name[_STEM + 3 :]], name)):
                self._move(name, objects_fd)
                if name.endswith(".commit"):
                    _remove_tombstone(name, objects_fd)
        finally:
            os.close(objects_fd)

    def _move(self, name: str, objects_fd: int) -> None:
        os.rename(name, name, src_dir_fd=self._stage_fd, dst_dir_fd=objects_fd)

    def _move_folder(self, folder: str, objects_fd: int) -> bool:
        # never over an empty folder of that name: another process may be about to rename an object into it
        if not rename_new(folder, self._stage_fd, objects_fd):
            return False
        self._folders.discard(folder)
        return True


def _remove_tombstone(name: str, objects_fd: int) -> None:
    """A commit that comes back is not a deleted one any more."""
    try:
        os.unlink(f"{name.removesuffix('.commit')}.{ObjectType.TOMBSTONE.extension}", dir_fd=objects_fd)
    except FileNotFoundError:
        pass


def _read_up_to(source: BinaryIO, size: int) -> bytes:
    """Reads `size` bytes, fewer only at the end of the file."""
    data = source.read(size)
    while data and len(data) < size and (more := source.read(size - len(data))):
        data += more
    return data
