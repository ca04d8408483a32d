"""A repository: opening it, its refs and commits, and the ways into all that can be done with it.

::

    config                      key file; [core] repo_version=1, mode=...
    objects/<2>/<62>.<ext>      see objects.py, files.py and loose.py; never changed once there
    refs/{heads,remotes,...}    see refs.py
    state/<commit>.commitpartial    this commit's tree is not all here; "f" in it: fsck found that
    tmp/                        see transaction.py and parts.py
    extensions/, .lock          OSTree's

A ``Repository`` may be used by several threads; each thread has its own transaction.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum, Ref, is_checksum
from wherry.core.durable import fsync_dir, map_os_error
from wherry.core.errors import Conflict, InvalidInput, NotFound, Unsupported
from wherry.store import refs
from wherry.store.config import Config
from wherry.store.disk.loose import LooseObjects
from wherry.store.format.objects import Commit, Mode
from wherry.store.refs import CollectionRef

if TYPE_CHECKING:
    from wherry.store.care.fsck import FsckReport
    from wherry.store.care.prune import PruneStats
    from wherry.store.disk.objectset import ObjectName, ObjectSet
    from wherry.store.pull.stats import PullStats
    from wherry.store.tree.checkout import CheckoutStats, Union
    from wherry.store.tree.walk import Entry

_CONFIG_MODES = {Mode.ARCHIVE: "archive-z2"}
_PARTIAL_CHECKSUM = re.compile(r"[0-9a-f]{2,63}\Z")
_FOLDERS = ("objects", "tmp/cache", "extensions", "state", "refs/heads", "refs/mirrors", "refs/remotes")
MAX_PARENT_STEPS = 10_000
MAX_READ_BYTES = 16 * 1024 * 1024


def _why_not(path: Path) -> str:
    """Returns what to do when a folder cannot be made."""
    there = next(above for above in (path, *path.absolute().parents) if os.path.lexists(above))
    if not there.is_dir():
        return f"{there} is not a folder: name another place"
    return f"no folder can be made in {there}: name another place"


class Repository(LooseObjects):
    """A repository on disk; made by ``Repository.init`` and ``Repository.open``."""

    # --- making and opening

    @classmethod
    def init(cls, path: Path, mode: Mode = Mode.BARE, *, collection_id: str = "") -> Repository:
        """Makes a repository, or opens it when it is there already and has this mode.

        Raises:
            Conflict: there is one of another mode.
            NoSpace: the disk is full.
            NotPermitted: the folder cannot be made by this user, or not there.
            WherryError: it cannot be made for another reason.
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
            failed = map_os_error(error, "cannot make the repository", where=path)
            failed.hint = failed.hint or _why_not(path)
            raise failed from error
        if collection_id:
            refs.parse_collection(collection_id)
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
        if not (path / "tmp").is_dir():  # tidied away by somebody, perhaps
            with suppress(OSError):
                (path / "tmp").mkdir()
        return cls(path, config)

    def save_config(self) -> None:
        """Writes the config after changes, durably, and goes by it from now on."""
        self.config.save(self.path / "config")
        self._load(self.config)

    def enable_tombstones(self) -> None:
        """Has a tombstone left for each commit that is deleted from now on (``core.tombstone-commits``)."""
        if not self.tombstones:
            self.config.set("core", "tombstone-commits", "true")
            self.save_config()

    # --- refs

    @property
    def collection_id(self) -> str:
        """The collection that its refs are in, "" when they are in none (``core.collection-id``)."""
        return self.config.get("core", "collection-id")

    def refs(self, prefix: str = "") -> dict[Ref, Checksum]:
        """Returns the refs, sorted: all, or `prefix` itself and those below it; ``REMOTE:`` for all of a remote."""
        found = refs.list_refs(self.path)
        if not prefix:
            return found
        if prefix.endswith((":", ":.")):
            start = prefix.rstrip(".")
            return {ref: commit for ref, commit in found.items() if ref.startswith(start)}
        below = prefix.rstrip("/") + "/"
        return {ref: commit for ref, commit in found.items() if ref == prefix or ref.startswith(below)}

    def aliases(self) -> dict[Ref, Ref]:
        """Returns the refs that are other names of refs, sorted."""
        return refs.list_aliases(self.path)

    def collection_refs(
        self, collection: str = "", *, mirrors: bool = True, remotes: bool = True
    ) -> dict[CollectionRef, Checksum]:
        """Returns the refs that are in a collection, sorted.

        Args:
            collection: only those of this one.
            mirrors: those below ``refs/mirrors`` too, not only those of the repository's own collection.
            remotes: those of remotes that have a ``collection-id`` in the config too.
        """
        found: dict[CollectionRef, Checksum] = {}
        if remotes or self.collection_id:
            for ref, commit in refs.list_refs(self.path).items():
                remote, name = refs.split_ref(ref)
                section = f'remote "{remote}"'
                its = self.collection_id if remote is None else self.config.get(section, "collection-id")
                if its and (remote is None or remotes):
                    found[CollectionRef(its, name)] = commit
        if mirrors:
            found.update(refs.list_mirrors(self.path))
        return dict(sorted(item for item in found.items() if collection in ("", item[0].collection)))

    def set_ref(self, ref: Ref, checksum: Checksum | None) -> None:
        """Sets a ref, or removes it, durably; within a transaction when that ends.

        Raises:
            InvalidInput: it is no ref name.
            Conflict: another ref's name is in the way.
        """
        with self.transaction() as transaction:
            transaction.set_ref(ref, checksum)

    def set_collection_ref(self, ref: CollectionRef, checksum: Checksum | None) -> None:
        """Sets a collection's ref, or removes it, durably; within a transaction when that ends."""
        with self.transaction() as transaction:
            transaction.set_collection_ref(ref, checksum)

    def set_alias(self, ref: Ref, target: Ref) -> None:
        """Makes a local ref another name of another local ref, durably.

        Raises:
            InvalidInput: one of them is a remote's.
            NotFound: there is no ref `target`.
        """
        refs.write_alias(self.path, ref, target)
        os.utime(self.path)
        self.refs_changed()

    def refs_changed(self) -> None:
        """Called when refs have moved and no lock is held; writes the summary if the config wants that."""
        if self.config.get_bool("core", "auto-update-summary", False) or self.config.get_bool(
            "core", "commit-update-summary", False
        ):
            from wherry.store.summary import update_summary

            update_summary(self)

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
        commit = Checksum(name) if is_checksum(name) else self._find(name)
        if commit is None:
            raise refs.missing_ref(name)
        for _ in range(steps):
            parent = self.load_commit(commit).parent
            if parent is None:
                raise NotFound(f"Commit {commit} has no parent")
            commit = parent
        return commit

    def _find(self, name: str) -> Checksum | None:
        transaction = self._active()
        pending = transaction.pending_ref(name) if transaction is not None else None
        found = pending or refs.find_ref(self.path, name) or self._resolve_prefix(name)
        if found is None and self.parent is not None:
            return self.parent._find(name)
        return found

    def _resolve_prefix(self, text: str) -> Checksum | None:
        if _PARTIAL_CHECKSUM.match(text) is None:
            return None
        folder = self.objects_dir / text[:2]
        rest = text[2:]
        names = os.listdir(folder) if folder.is_dir() else []
        found = sorted(text[:2] + name[:62] for name in names if name.endswith(".commit") and name.startswith(rest))
        if len(found) > 1:
            raise Conflict(f"Refspec {text} not unique", where=", ".join(item[:16] for item in found))
        return Checksum(found[0]) if found else None

    # --- commits

    def log(self, rev: str) -> Iterator[tuple[Checksum, Commit]]:
        """Gives a commit and its parents, the newest first, as far as they are here.

        Raises:
            NotFound: there is no such revision.
        """
        current: Checksum | None = self.resolve(rev)
        first = True
        while current is not None:
            try:
                commit = self.load_commit(current)
            except NotFound:
                if first:
                    raise
                return
            yield current, commit
            first = False
            current = commit.parent

    def walk(self, rev: str) -> Iterator[Entry]:
        """Gives every path of a commit, directories before what is in them, in order of names.

        Args:
            rev: as ``resolve`` takes it.
        """
        from wherry.store.tree.walk import entries

        return entries(self, self.resolve(rev))

    def read(self, rev: str, path: str, *, max_bytes: int = MAX_READ_BYTES) -> bytes:
        """Returns the content of one file of a commit.

        Args:
            rev: as ``resolve`` takes it.
            path: like ``etc/hostname``; symbolic links are not followed.
            max_bytes: what is longer is refused; ``load_file`` reads files of any size, piece by piece.

        Raises:
            NotFound: there is no such revision, or no such file in it.
            InvalidInput: it is no regular file, or too long.
        """
        from wherry.store.tree.walk import read_path

        return read_path(self, self.resolve(rev), path, max_bytes=max_bytes)

    def reachable(self, rev: str, *, parents: int = 0) -> ObjectSet:
        """Returns every object that a commit is made of, as a set that stays small.

        Args:
            rev: as ``resolve`` takes it.
            parents: how many of its parents count too; -1: all that are here.
        """
        from wherry.store.tree.walk import reachable

        return reachable(self, self.resolve(rev), parents=parents)

    def missing(self, rev: str) -> Iterator[ObjectName]:
        """Gives every object that a commit is made of and that is not here: nothing when it is whole."""
        from wherry.store.tree.walk import missing_objects

        return missing_objects(self, self.resolve(rev))

    def commit(
        self,
        path: Path,
        ref: str | None = None,
        *,
        subject: str = "",
        body: str = "",
        parent: str | None = "",
        timestamp_s: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        canonical_permissions: bool = False,
    ) -> Checksum:
        """Commits a directory, and moves a ref to it once it is durable.

        Args:
            path: the directory that becomes the root.
            ref: the ref to move; None: nothing names the commit.
            subject: one line.
            body: the rest.
            parent: a revision; "": what the ref names until now, if it is there; None: none.
            timestamp_s: seconds since 1970; None: now. The same tree, time, texts and parent give the same checksum.
            metadata: values by key (``variant.from_plain`` says which).
            canonical_permissions: owner 0:0, modes & 0755, no attributes.

        Returns:
            Its checksum.

        Raises:
            NoSpace: the disk is full, or would be; nothing of it stays.
            Unsupported: the repository's mode cannot keep such a file.
        """
        from wherry.store.tree.commit import commit_directory

        before = self.resolve(parent) if parent else None
        name = refs.parse_ref(ref) if ref is not None else None
        if parent == "" and name is not None:
            before = refs.read_ref(self.path, name)
        return commit_directory(
            self,
            Path(path),
            ref=name,
            subject=subject,
            body=body,
            parent=before,
            timestamp_s=int(time.time()) if timestamp_s is None else timestamp_s,
            metadata=metadata,
            canonical_permissions=canonical_permissions,
        )

    def checkout(
        self,
        rev: str,
        dest: Path,
        *,
        subpath: str = "/",
        user_mode: bool = False,
        union: Union | None = None,
        force_copy: bool = False,
    ) -> CheckoutStats:
        """Lays a commit out as a directory, by hard links where that can be. More: ``wherry.store.tree.checkout``.

        Args:
            rev: as ``resolve`` takes it.
            dest: the directory to make.
            subpath: the file or directory of the commit to lay out.
            user_mode: owners and attributes are not set; needs no root.
            union: what happens to what is there already; None: it is an error.
            force_copy: no hard links: the files may be changed afterwards.

        Raises:
            Conflict: something is in the way.
        """
        from wherry.store.tree.checkout import Union, checkout

        return checkout(
            self,
            self.resolve(rev),
            Path(dest),
            subpath=subpath,
            user_mode=user_mode,
            union=union or Union.NONE,
            force_copy=force_copy,
        )

    def pull_from(
        self,
        source: Repository,
        revs: Iterable[str] | None = None,
        *,
        remote: str = "",
        depth: int = 0,
        untrusted: bool = False,
    ) -> PullStats:
        """Copies commits from another repository on this machine, by hard links where that can be.

        Args:
            source: where from.
            revs: refs, which are set here too, or checksums; None: every local ref.
            remote: the refs are set as ``REMOTE:REF``.
            depth: how many parents of each too; -1: all that are there.
            untrusted: every object is copied and its hash checked.
        """
        from wherry.store.pull.local import pull_local

        return pull_local(self, source, revs, remote=remote, depth=depth, untrusted=untrusted)

    def prune(
        self,
        *,
        refs_only: bool = False,
        depth: int = -1,
        keep: Collection[Checksum] = (),
        delete_commits: Collection[Checksum] = (),
        dry_run: bool = False,
    ) -> PruneStats:
        """Removes what nothing needs any more. More choices: ``wherry.store.care.prune``.

        Args:
            refs_only: only what refs reach is kept, and `keep`; else every commit, and only stray objects go.
            depth: how many parents of each ref's commit are kept; -1: all.
            keep: further commits that are kept.
            delete_commits: these go.
            dry_run: only counts.
        """
        from wherry.store.care.prune import prune

        return prune(self, refs_only=refs_only, depth=depth, keep=keep, delete_commits=delete_commits, dry_run=dry_run)

    def fsck(self, *, delete: bool = False, verify_bindings: bool = False) -> FsckReport:
        """Checks every object, commit and ref, and raises for nothing of it. More choices: ``wherry.store.care.fsck``.

        Args:
            delete: remove damaged objects; ``wherry.store.care.repair`` or a pull brings them back.
            verify_bindings: each ref's commit must have been made for that ref.
        """
        from wherry.store.care.fsck import fsck

        return fsck(self, delete=delete, verify_bindings=verify_bindings)
