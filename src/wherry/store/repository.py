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
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from wherry.core.digest import Checksum, Ref, is_checksum
from wherry.core.durable import fsync_dir, map_os_error
from wherry.core.errors import Conflict, InvalidInput, NotFound, Unsupported
from wherry.store import refs
from wherry.store.config import Config
from wherry.store.loose import LooseObjects
from wherry.store.objects import Commit, Mode
from wherry.store.refs import CollectionRef

_CONFIG_MODES = {Mode.ARCHIVE: "archive-z2"}
_PARTIAL_CHECKSUM = re.compile(r"[0-9a-f]{2,63}\Z")
_FOLDERS = ("objects", "tmp/cache", "extensions", "state", "refs/heads", "refs/mirrors", "refs/remotes")
MAX_PARENT_STEPS = 10_000


class Repository(LooseObjects):
    """A repository on disk; made by ``Repository.init`` and ``Repository.open``."""

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
