"""Finding out what a commit needs, and getting it: from this machine where it is here, else over the network.

A commit's object comes first, with its detached metadata; ``check`` decides whether it is taken before anything of its
tree is asked for. It is marked partial before it is written, and complete when nothing of it is missing. Directories
are gone through as they come, and asked for before files are, so that all of the connections have something to do.
Nothing recurses: what is to be looked at waits in a queue.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.errors import Conflict, NotFound
from wherry.core.trace import reach
from wherry.store.disk.receive import Receiver, Rules, receive_whole
from wherry.store.format import objects
from wherry.store.format.objects import Commit, DirTree, Mode, ObjectType, object_name
from wherry.store.pull.adopt import Copies, Source
from wherry.store.pull.downloads import INLINE_BYTES, MAX_BACKLOG, MAX_OBJECT_BYTES, Download, Downloads
from wherry.store.pull.stats import Counts
from wherry.store.tree.walk import check_depth

if TYPE_CHECKING:
    from wherry.store.disk.transaction import Transaction

MAX_FETCHED_METADATA_BYTES = 10 * 1024 * 1024
"""The longest metadata object that is fetched, as with OSTree."""
MAX_DETACHED_BYTES = 1024 * 1024
_SLICE = 256
"""How much of the queue is worked off before the network is looked at."""

Paths = tuple[tuple[str, ...], ...] | None
"""What is wanted of a tree: None for all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A commit that is about to be taken."""

    checksum: Checksum
    commit: Commit
    data: bytes
    detached: bytes | None
    """Its detached metadata; None when there is none."""
    wanted: bool
    """Whether it was asked for, and not found as a parent."""


Check = Callable[[Arrived], None]
"""Raises TrustError when a commit is not to be taken."""


@dataclass(slots=True, kw_only=True)
class _Node:
    kind: ObjectType
    checksum: Checksum
    depth: int = 0
    """Of a commit: how many parents; of a directory: how deep it is."""
    paths: Paths = None
    wanted: bool = False


@dataclass(slots=True, kw_only=True)
class ScanOptions:
    """What is wanted of commits."""

    commits_only: bool = False
    """Commits without their trees."""
    paths: Paths = None
    files: bool = True
    """Whether files are got, or only noted as missing."""
    rules: Rules = field(default_factory=Rules)
    tombstones: bool = False
    """Whether the remote says that it leaves a tombstone for each commit that it deletes: a parent that is missing
    without one is an error then, as with OSTree."""


class Scan:
    """Gets commits with all they need.

    Args:
        transaction: where they go.
        sources: repositories on this machine that are asked first.
        check: decides which commits are taken.
        options: what is wanted of them.
        counts: what is counted.

    `downloads` is what is asked when no source has something; without it `sources` must have everything.
    """

    def __init__(
        self, transaction: Transaction, sources: Iterable[Source], *, check: Check, options: ScanOptions, counts: Counts
    ) -> None:
        self._transaction = transaction
        self._repo = transaction.repo
        self._sources = tuple(sources)
        self._check = check
        self._options = options
        self._queue: deque[_Node] = deque()
        self._seen: set[Checksum] = set()
        self._files: deque[Checksum] = deque()
        """Files to be fetched: their names alone, as there may be many."""
        self._lock = threading.Lock()
        self.downloads: Downloads | None = None
        self.copies: Copies | None = None
        """Who copies files from `sources`; None: it is done at once, or by `downloads` when they are long."""
        self.counts = counts
        self.taken: dict[Checksum, Commit] = {}
        """The commits whose trees have been gone through, or are wanted alone."""
        self.missing: set[Checksum] = set()
        """Files that were not here, when they are only noted."""
        self.written_metadata = 0
        """Metadata objects that came over the network."""

    def want(self, checksum: Checksum, *, depth: int = 0) -> None:
        """Adds a commit, with so many parents; -1 for all there are."""
        node = _Node(kind=ObjectType.COMMIT, checksum=checksum, depth=depth, paths=self._options.paths, wanted=True)
        self._queue.append(node)

    def want_file(self, checksum: Checksum) -> None:
        """Adds a single file."""
        self._file(checksum)

    def work(self) -> bool:
        """Looks at some of what is known to be needed; says whether there is more."""
        queue = self._queue
        for _ in range(min(_SLICE, len(queue))):
            node = queue.popleft()
            if node.kind is ObjectType.COMMIT:
                self._commit(node)
            else:
                self._metadata(node)
            if self.downloads is not None and self.downloads.backlog >= MAX_BACKLOG:
                break
        return bool(queue)

    # --- commits

    def _commit(self, node: _Node) -> None:
        if node.checksum in self._seen:
            return
        self._seen.add(node.checksum)
        here = self._repo.has(ObjectType.COMMIT, node.checksum)
        if here and not self._repo.is_partial(node.checksum) and not node.wanted:
            self._follow(node, self._repo.load_commit(node.checksum))
            return
        for source in self._sources:
            if source.has(ObjectType.COMMIT, node.checksum):
                self._commit_from(source, node, here=here)
                return
        if self.downloads is None:
            if not here:
                self._missing_from_sources(node)
            else:
                self._arrived(node, self._repo.metadata_bytes(ObjectType.COMMIT, node.checksum), None, here=True)
            return
        self._ask_for_commit(node, here=here)

    def _commit_from(self, source: Source, node: _Node, *, here: bool) -> None:
        checksum = node.checksum
        data = source.repo.metadata_bytes(ObjectType.COMMIT, checksum)
        detached = None
        if source.has(ObjectType.COMMITMETA, checksum):
            detached = source.repo.metadata_bytes(ObjectType.COMMITMETA, checksum)
        all_of_it = not self._options.commits_only and self._options.paths is None
        if all_of_it and not here and self.downloads is None and source.repo.is_partial(checksum):
            raise Conflict("the source repository has only a part of a commit", where=checksum)
        if not here:
            self.counts.metadata_imported += 1
        self._arrived(node, data, detached, here=here, source=source)

    def _ask_for_commit(self, node: _Node, *, here: bool) -> None:
        """Asks for the detached metadata, then for the commit."""
        assert self.downloads is not None  # noqa: S101 the caller has looked
        downloads = self.downloads

        def detached_came(detached: bytes | None) -> None:
            self.counts.metadata_fetched += 1
            if detached is not None:
                objects.parse_dict(detached, where=f"detached metadata of {node.checksum}")
            if here:
                data = self._repo.metadata_bytes(ObjectType.COMMIT, node.checksum)
                self._arrived(node, data, detached, here=True)
                return

            def commit_came(data: bytes | None) -> None:
                self.counts.metadata_fetched += 1
                if data is None:
                    self._ask_for_tombstone(node)
                    return
                self.written_metadata += 1
                objects.check_object(ObjectType.COMMIT, data, node.checksum)
                self._arrived(node, data, detached, here=False)

            optional = self._options.tombstones or not node.wanted
            downloads.want(self._download(ObjectType.COMMIT, node.checksum, commit_came, optional), first=True)

        wanted = self._download(ObjectType.COMMITMETA, node.checksum, detached_came, True)
        wanted.max_bytes = MAX_DETACHED_BYTES
        downloads.want(wanted, first=True)

    def _missing_from_sources(self, node: _Node) -> None:
        for source in self._sources:
            if source.has(ObjectType.TOMBSTONE, node.checksum):
                if node.wanted:
                    raise _deleted(node)
                if self._options.tombstones:
                    source.metadata(ObjectType.TOMBSTONE, node.checksum)
                return
        if node.wanted:
            raise NotFound("no such commit in the source repository", where=node.checksum)
        if self._options.tombstones:
            raise _unexplained(node)

    def _ask_for_tombstone(self, node: _Node) -> None:
        """Asks why the remote does not have a commit, if it tells."""
        if not self._options.tombstones:
            return  # a parent, where a history may end anywhere

        def came(data: bytes | None) -> None:
            self.counts.metadata_fetched += 1
            if data is None and node.wanted:
                raise NotFound("no such commit", where=node.checksum, hint="run fsck on the repository there")
            if data is None:
                raise _unexplained(node)
            if node.wanted:
                raise _deleted(node)

        assert self.downloads is not None  # noqa: S101 a download has come to nothing
        self.downloads.want(self._download(ObjectType.TOMBSTONE, node.checksum, came, True), first=True)

    def _arrived(
        self, node: _Node, data: bytes, detached: bytes | None, *, here: bool, source: Source | None = None
    ) -> None:
        """Takes a commit, when it may be taken."""
        checksum = node.checksum
        if source is None or source.untrusted:
            objects.check_object(ObjectType.COMMIT, data, checksum)
        commit = objects.parse_commit(data, where=checksum)
        self._check(Arrived(checksum=checksum, commit=commit, data=data, detached=detached, wanted=node.wanted))
        if not here:
            self._repo.mark_partial(checksum)
            reach("store.pull.partial")
            if source is not None:
                source.metadata(ObjectType.COMMIT, checksum)
            else:
                self._transaction.write_metadata(ObjectType.COMMIT, data, checksum)
        if detached is not None:
            self._transaction.write_metadata(ObjectType.COMMITMETA, detached, checksum)
        if here and not self._repo.is_partial(checksum):
            self._follow(node, commit)
            return
        self.taken[checksum] = commit
        if not self._options.commits_only:
            self._new(ObjectType.DIRMETA, commit.meta)
            self._new(ObjectType.DIRTREE, commit.tree, paths=node.paths)
        self._follow(node, commit)

    def _follow(self, node: _Node, commit: Commit) -> None:
        if commit.parent is not None and node.depth != 0:
            parent = _Node(kind=ObjectType.COMMIT, checksum=commit.parent, depth=node.depth - 1, paths=node.paths)
            self._queue.append(parent)

    # --- directories

    def _new(self, kind: ObjectType, checksum: Checksum, *, depth: int = 0, paths: Paths = None) -> None:
        if paths is None:
            if checksum in self._seen:
                return
            self._seen.add(checksum)
        self._queue.append(_Node(kind=kind, checksum=checksum, depth=depth, paths=paths))

    def _metadata(self, node: _Node) -> None:
        """Looks at a dirtree or dirmeta: here, at hand, or to be asked for."""
        kind, checksum = node.kind, node.checksum
        if self._repo.has(kind, checksum):
            if kind is ObjectType.DIRTREE:
                self._tree(node, self._repo.load_dirtree(checksum))
            return
        for source in self._sources:
            if source.has(kind, checksum):
                data = source.metadata(kind, checksum)
                self.counts.metadata_imported += 1
                if kind is ObjectType.DIRTREE:
                    self._tree(node, objects.parse_dirtree(data, where=checksum))
                return
        if self.downloads is None:
            raise NotFound(f"no such {kind.extension} object in the source repository", where=checksum)

        def came(data: bytes | None) -> None:
            assert data is not None  # noqa: S101 it is not optional
            self.counts.metadata_fetched += 1
            self._transaction.write_metadata(kind, data, checksum)
            self.written_metadata += 1
            if kind is ObjectType.DIRTREE:
                self._tree(node, objects.parse_dirtree(data, where=checksum))

        self.downloads.want(self._download(kind, checksum, came, False), first=True)

    def _tree(self, node: _Node, tree: DirTree) -> None:
        check_depth(node.depth, node.checksum)
        paths = node.paths
        for name, checksum in tree.files:
            if checksum not in self._seen and (paths is None or (name,) in paths):
                self._seen.add(checksum)
                self._file(checksum)
        for name, subtree, meta in tree.dirs:
            below: Paths = None
            if paths is not None:
                rest = tuple(path[1:] for path in paths if path[0] == name)
                if not rest:
                    continue
                below = None if () in rest else rest
            self._new(ObjectType.DIRMETA, meta)
            self._new(ObjectType.DIRTREE, subtree, depth=node.depth + 1, paths=below)

    # --- files

    def _file(self, checksum: Checksum) -> None:
        if self._repo.has(ObjectType.FILE, checksum):
            return
        for source in self._sources:
            if source.links_at_once and source.link(checksum):
                self.counts.content_imported += 1
                return
            if source.has(ObjectType.FILE, checksum):
                self._file_from(source, checksum)
                return
        if not self._options.files:
            self.missing.add(checksum)
            return
        if self.downloads is None:
            raise NotFound("no such file object in the source repository", where=checksum)
        self.counts.content_wanted += 1
        self._files.append(checksum)

    def next_file(self) -> Download | None:
        """Returns the download of the next file that is missing; None when there is none."""
        return self.file_download(self._files.popleft()) if self._files else None

    def file_download(self, checksum: Checksum) -> Download:
        """Returns the download of a file object."""
        rules = self._options.rules
        name = object_name(ObjectType.FILE, checksum, Mode.ARCHIVE)
        return Download(
            path=f"objects/{name}",
            max_bytes=MAX_OBJECT_BYTES,
            content=True,
            done=self._file_came,
            use=lambda data: self.written(
                receive_whole(self._transaction, data, checksum, where=checksum, rules=rules)
            ),
            consumer=lambda: _FileConsumer(self, Receiver(self._transaction, checksum, checksum, rules=rules)),
            part_name=f"{checksum}.filez",
            label=name,
        )

    def _file_came(self, _: bytes | None) -> None:
        self.counts.content_fetched += 1
        reach("store.fetch.object")

    def _file_from(self, source: Source, checksum: Checksum) -> None:
        self.counts.content_imported += 1
        if not source.links_at_once and source.link(checksum):
            return
        if self.copies is not None:
            self.copies.add(source, checksum)
        elif self.downloads is not None and source.size(checksum) > INLINE_BYTES:
            self.downloads.submit(lambda: self.written(source.copy(checksum)))
        else:
            self.written(source.copy(checksum))

    def written(self, size: int) -> None:
        """Counts what one file came to; in any thread."""
        with self._lock:
            self.counts.content_bytes += size

    def _download(
        self, kind: ObjectType, checksum: Checksum, done: Callable[[bytes | None], None], optional: bool
    ) -> Download:
        name = object_name(kind, checksum, Mode.ARCHIVE)
        return Download(
            path=f"objects/{name}",
            max_bytes=MAX_FETCHED_METADATA_BYTES,
            done=done,
            optional=optional,
            content=kind in (ObjectType.DIRTREE, ObjectType.DIRMETA, ObjectType.COMMIT),
            label=f"{checksum}.{kind.extension}",
        )


def _deleted(node: _Node) -> NotFound:
    return NotFound("this commit was deleted there on purpose", where=node.checksum, hint="pull a newer one")


def _unexplained(node: _Node) -> NotFound:
    return NotFound(
        "a parent commit is missing, and no tombstone tells that it was deleted",
        where=node.checksum,
        hint="there, `wherry store fsck --add-tombstones`; or pull with a smaller --depth",
    )


class _FileConsumer:
    """Hands what comes to a Receiver."""

    def __init__(self, scan: Scan, receiver: Receiver) -> None:
        self._scan = scan
        self._receiver = receiver

    def write(self, data: bytes) -> None:
        self._receiver.write(data)

    @property
    def complete(self) -> bool:
        return self._receiver.complete

    def finish(self, path: str) -> None:
        del path
        self._receiver.finish()
        self._scan.written(self._receiver.size)

    def close(self) -> None:
        self._receiver.close()
