"""A repository: opening, reading, and the way to write to it.

::

    config                      key file; [core] repo_version=1, mode=...
    objects/<2>/<62>.<ext>      see objects.py and files.py; never changed once there
    refs/{heads,remotes,...}    see refs.py
    state/<commit>.commitpartial    this commit's tree is not all here; "f" in it: fsck found that
    tmp/                        see transaction.py and parts.py
    extensions/, .lock          OSTree's

A ``Repository`` may be used by several threads; each thread has its own transaction.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

from wherry.core.digest import Checksum, Ref, is_checksum
from wherry.core.durable import fsync_dir, map_os_error, remove_file, write_file
from wherry.core.errors import Conflict, InvalidInput, NotFound, Unsupported
from wherry.store import files, objects, ofd, refs
from wherry.store.config import Config
from wherry.store.content import deflate_level
from wherry.store.objects import (
    MAX_METADATA_BYTES,
    Commit,
    DirMeta,
    DirTree,
    FileHeader,
    Mode,
    ObjectType,
    object_name,
)
from wherry.store.space import Space
from wherry.store.transaction import Transaction

_CONFIG_MODES = {Mode.ARCHIVE: "archive-z2"}
_PARTIAL_CHECKSUM = re.compile(r"[0-9a-f]{2,63}\Z")
_FOLDERS = ("objects", "tmp/cache", "extensions", "state", "refs/heads", "refs/mirrors", "refs/remotes")
_LOCK_TIMEOUT_S = 300
MAX_PARENT_STEPS = 10_000


class Repository:
    """A repository on disk; made by ``Repository.init`` and ``Repository.open``."""

    def __init__(self, path: Path, config: Config) -> None:
        self.path = path
        self.objects_dir = path / "objects"
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
        self.disable_xattrs = config.get_bool("core", "disable-xattrs", False)
        self.deflate_level = deflate_level(config.get_int("archive", "zlib-level", 6))
        self._lock_timeout_s = config.get_int("core", "lock-timeout-secs", _LOCK_TIMEOUT_S)
        self._locking = config.get_bool("core", "locking", True)

    # --- making and opening

    @classmethod
    def init(cls, path: Path, mode: Mode = Mode.BARE, *, collection_id: str = "") -> Repository:
        """Makes a repository, or opens it when it is there already and has this mode.

        Raises:
            Conflict: there is one of another mode.
        """
        path = Path(path)
        if (path / "config").exists():
            repo = cls.open(path)
            if repo.mode is not mode:
                raise Conflict(f"a repository of mode {repo.mode} is there already", where=path)
            return repo
        try:
            for folder in _FOLDERS:
                (path / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise map_os_error(error, "cannot make the repository", where=path) from error
        config = Config()
        config.set("core", "repo_version", "1")
        config.set("core", "mode", _CONFIG_MODES.get(mode, str(mode)))
        if collection_id:
            config.set("core", "collection-id", collection_id)
        for folder in sorted({Path(folder).parts[0] for folder in _FOLDERS}):
            fsync_dir(path / folder)
        config.save(path / "config")  # last: a repository is there once it has a config
        return cls(path, config)

    @classmethod
    def open(cls, path: Path) -> Repository:
        """Opens a repository.

        Raises:
            NotFound: there is none.
            Unsupported: its version or mode is not known.
        """
        path = Path(path)
        try:
            config = Config.load(path / "config")
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound("no repository", where=path, hint="make one with `wherry store init --repo=PATH`") from None
        except OSError as error:
            raise map_os_error(error, "cannot open the repository", where=path) from error
        if config.get("core", "repo_version", "1") != "1":
            raise Unsupported(f"a repository of version {config.get('core', 'repo_version')}", where=path)
        return cls(path, config)

    def save_config(self) -> None:
        """Writes the config after changes, durably, and goes by it from now on."""
        self.config.save(self.path / "config")
        self._load(self.config)

    # --- looking at objects

    def has(self, kind: ObjectType, checksum: Checksum) -> bool:
        """Tells whether an object is there."""
        name = object_name(kind, checksum, self.mode)
        if os.path.lexists(f"{self.objects_dir}/{name}"):
            return True
        transaction = self._active()
        return transaction is not None and transaction.staged(name) is not None

    def object_path(self, kind: ObjectType, checksum: Checksum) -> Path:
        """Returns where an object lies, or would lie."""
        name = object_name(kind, checksum, self.mode)
        transaction = self._active()
        if transaction is not None:
            staged = transaction.staged(name)
            if staged is not None:
                return staged
        return self.objects_dir / name

    def metadata_bytes(self, kind: ObjectType, checksum: Checksum) -> bytes:
        """Returns the bytes of a commit, dirtree, dirmeta or detached metadata, unchecked.

        Raises:
            NotFound: it is not there.
            InvalidInput: it is longer than any such object may be.
        """
        path = self.object_path(kind, checksum)
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_METADATA_BYTES + 1)
        except FileNotFoundError:
            raise NotFound(f"no such {kind.extension} object in the repository", where=checksum) from None
        except OSError as error:
            raise map_os_error(error, "cannot read an object", where=path) from error
        if len(data) > MAX_METADATA_BYTES:
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
        return files.open_object(self.object_path(ObjectType.FILE, checksum), self.mode)

    def load_file_header(self, checksum: Checksum) -> FileHeader:
        """Returns the header of a file object."""
        header, content = self.load_file(checksum)
        if content is not None:
            content.close()
        return header

    # --- writing

    def transaction(self) -> Transaction:
        """Returns this thread's transaction, to be used with ``with``; blocks may be nested, the outermost counts.

        Objects written inside are seen by this thread at once and by others at the end; they are durable before
        any ref moves. When the block ends in an exception nothing of it stays.
        """
        found = self._active()
        if found is None:
            found = Transaction(self)
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

    def sync(self) -> None:
        """Makes durable all that was written, unless the config has ``core.fsync=false``."""
        if self.fsync:
            from wherry.linux.syncfs import syncfs

            syncfs(self.path)

    def lock(self, *, shared: bool) -> AbstractContextManager[None]:
        """Returns the repository's lock: shared for those who write objects, alone for who removes them."""
        from contextlib import nullcontext

        if not self._locking:
            return nullcontext()
        return ofd.held(self.path / ".lock", shared=shared, timeout_s=self._lock_timeout_s, what="the repository")

    def _active(self) -> Transaction | None:
        found: Transaction | None = getattr(self._local, "transaction", None)
        return found

    # --- refs

    def refs(self, prefix: str = "") -> dict[Ref, Checksum]:
        """Returns the refs, sorted: all, or `prefix` itself and those below it."""
        found = refs.list_refs(self.path)
        if not prefix:
            return found
        below = prefix.rstrip("/") + "/"
        return {ref: commit for ref, commit in found.items() if ref == prefix or ref.startswith(below)}

    def set_ref(self, ref: Ref, checksum: Checksum | None) -> None:
        """Sets a ref, or removes it, durably; within a transaction when that ends.

        Raises:
            InvalidInput: it is no ref name.
            Conflict: another ref's name is in the way.
        """
        with self.transaction() as transaction:
            transaction.set_ref(ref, checksum)

    def resolve(self, rev: str) -> Checksum:
        """Returns the commit that `rev` names: a ref, ``REMOTE:REF``, a checksum or its beginning, each with ``^``s.

        Raises:
            NotFound: there is none.
            Conflict: several match.
        """
        name = rev.rstrip("^")
        steps = len(rev) - len(name)
        if steps > MAX_PARENT_STEPS:
            raise InvalidInput(f"more than {MAX_PARENT_STEPS} steps back", where=name)
        if is_checksum(name):
            commit = Checksum(name)
        else:
            found = refs.find_ref(self.path, name) or self._resolve_prefix(name)
            if found is None:
                raise refs.missing_ref(name)
            commit = found
        for _ in range(steps):
            parent = self.load_commit(commit).parent
            if parent is None:
                raise NotFound("the commit has no parent", where=commit)
            commit = parent
        return commit

    def commits(self) -> list[Checksum]:
        """Returns every commit object, sorted."""
        return sorted(checksum for kind, checksum in self.list_objects() if kind is ObjectType.COMMIT)

    def list_objects(self) -> list[tuple[ObjectType, Checksum]]:
        """Returns every object that lies in ``objects/``; files that are no objects are left out."""
        found = []
        for folder in os.scandir(self.objects_dir):
            if len(folder.name) != 2 or not folder.is_dir(follow_symlinks=False):
                continue
            for name in os.listdir(folder.path):
                try:
                    found.append(objects.parse_object_name(f"{folder.name}/{name}"))
                except InvalidInput:
                    continue
        return found

    def _resolve_prefix(self, text: str) -> Checksum | None:
        if _PARTIAL_CHECKSUM.match(text) is None:
            return None
        folder = self.objects_dir / text[:2]
        rest = text[2:]
        names = os.listdir(folder) if folder.is_dir() else []
        found = sorted(text[:2] + name[:62] for name in names if name.endswith(".commit") and name.startswith(rest))
        if len(found) > 1:
            raise Conflict(f"several commits begin with {text}", where=", ".join(item[:16] for item in found))
        return Checksum(found[0]) if found else None

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
            return self._partial_path(checksum).read_bytes() == b"f"
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
