"""The hub's repository: what is missing, packs, refs that move only onto whole revisions, and the list of revisions.

A commit that came in a pack is partial until its whole tree was found here once; then the mark goes, and it is trusted
to stay whole. A ref ``revision/...`` moves only onto a commit that is whole, holds a readable ``revision.json``, and
whose components are whole too. The table ``revisions`` follows the refs and can always be made again from them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from sqlalchemy import insert, select, update

from wherry.core import jsonio
from wherry.core.digest import Checksum, Ref, parse_checksum, short
from wherry.core.errors import (
    Conflict,
    IntegrityError,
    InvalidInput,
    Locked,
    NetworkError,
    NotFound,
    Unsupported,
    WherryError,
)
from wherry.hub.broker import Broker, Event
from wherry.hub.database import Database
from wherry.hub.keeping import MAX_CHAIN, KeptComponents
from wherry.hub.schema import revisions
from wherry.revision.load import component_commits, load_revision
from wherry.spec.revision import Revision
from wherry.spec.wire import MAX_OBJECTS_PER_QUESTION, ObjectList, ObjectSizes, RefUpdate, RevisionInfo
from wherry.store.format.objects import Commit, Mode, ObjectType, object_name, parse_object_name
from wherry.store.pull.pack import PackCounts, PackReader
from wherry.store.repository import Repository
from wherry.store.tree.sizes import object_sizes

MAX_PACKS_AT_ONCE = 4
MAX_LISTED_REVISIONS = 1000
REVISION_REFS = "revision/"


class HubRepository:
    """The repository of one hub, shared by all threads.

    Args:
        path: the archive repository.
        database: has the table of revisions.
        broker: is told of new ones.
    """

    def __init__(self, path: Path, database: Database, broker: Broker) -> None:
        self.path = path
        self.repo = Repository.open(path)
        self._database, self._broker = database, broker
        self._packs = threading.BoundedSemaphore(MAX_PACKS_AT_ONCE)
        self._refs_lock = threading.Lock()
        self._components = KeptComponents(self.repo)

    def close(self) -> None:
        """Nothing is kept open between calls."""

    # --- objects

    def missing(self, question: ObjectList) -> ObjectList:
        """Returns those of the named objects that are not here, in the same order."""
        return ObjectList(
            objects=tuple(name for name, kind, checksum in _parsed(question) if not self.repo.has(kind, checksum))
        )

    def sizes(self, question: ObjectList) -> ObjectSizes:
        """Returns what objects cost in all: sent, and unpacked."""
        names = [name for name, _, _ in _parsed(question)]
        transfer_bytes, disk_bytes, missing = object_sizes(self.repo, names)
        return ObjectSizes(transfer_bytes=transfer_bytes, disk_bytes=disk_bytes, missing=missing)

    def receive_pack(self, pieces: Iterable[bytes]) -> PackCounts:
        """Stores the objects of a pack durably; those before an error stay, they are good.

        Args:
            pieces: the body, as it comes.

        Raises:
            Locked: too many packs are coming in.
            InvalidInput, IntegrityError: malformed, or an object is wrong; names it.
            NetworkError: the sender went away, or was silent for too long.
            NoSpace: the disk is full; nothing of this pack was kept.
        """
        if not self._packs.acquire(blocking=False):
            raise Locked(f"{MAX_PACKS_AT_ONCE} packs are coming in already", hint="try again in a moment")
        try:
            problem: WherryError | None = None
            counts = None
            with self.repo.transaction() as transaction:
                reader = PackReader(self.repo, transaction)
                try:
                    for piece in pieces:
                        reader.feed(piece)
                    counts = reader.finish()
                except (InvalidInput, IntegrityError, NetworkError) as error:
                    problem = error
                finally:
                    reader.close()
        finally:
            self._packs.release()
        if counts is None:
            raise problem or InvalidInput("the pack could not be read")
        return counts

    # --- refs

    def refs(self) -> dict[str, str]:
        """Returns ref -> commit."""
        return {str(ref): str(commit) for ref, commit in self.repo.refs(REVISION_REFS.rstrip("/")).items()}

    def update_ref(self, name: str, wanted: RefUpdate) -> None:
        """Moves a ref onto a whole revision.

        Raises:
            InvalidInput: not a name or a checksum.
            Conflict: the ref stands elsewhere, or the revision is not whole.
        """
        if not name.startswith(REVISION_REFS):
            raise InvalidInput(f"not a revision's ref: {name[:80]!r}", hint="it is named revision/NAME")
        ref, commit = Ref(name), parse_checksum(wanted.commit, where="commit")
        with self._refs_lock:
            now = self.repo.refs(name).get(ref)
            if now == commit:
                return  # the answer to this very request was lost
            if now != wanted.expected:
                stands = f"at {short(now)}" if now else "nowhere"
                raise Conflict(f"the ref stands {stands}", where=name, hint="fetch it, then push again")
            self._check_revision(commit)
            self._components.add(commit)
            self.repo.set_ref(ref, commit)
            self._index(ref, commit)
        self._broker.publish(Event(name="revision", key=commit, data={"commit": commit, "ref": name}))

    def _check_revision(self, commit: Checksum) -> Revision:
        self._check_whole(commit, "the revision")
        try:
            revision = load_revision(self.repo, commit)
        except (NotFound, InvalidInput, Unsupported) as error:
            raise Conflict(f"the commit is no revision: {error.what}", where=error.where or commit) from error
        for component in component_commits(revision):
            self._check_whole(component, "a component")
        return revision

    def _check_whole(self, commit: Checksum, what: str) -> None:
        if not self.repo.has(ObjectType.COMMIT, commit):
            raise Conflict(f"{what} is not here", where=commit, hint="push it first")
        if not self.repo.is_partial(commit):
            return
        gap = next(gaps(self.repo, commit), None)
        if gap is not None:
            raise Conflict(f"{what} {short(commit)} lacks an object", where=gap, hint="push it again")
        self.repo.mark_complete(commit)

    # --- revisions

    def revisions(self, *, limit: int = MAX_LISTED_REVISIONS) -> tuple[RevisionInfo, ...]:
        """Returns the newest revisions."""
        query = select(revisions).order_by(revisions.c.time_s.desc(), revisions.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return tuple(
                RevisionInfo(
                    commit=row.commit,
                    ref=row.ref,
                    subject=row.subject,
                    time_s=row.time_s,
                    apps=tuple(json.loads(row.apps)),
                    parent=row.parent,
                )
                for row in connection.execute(query)
            )

    def index_all(self) -> None:
        """Brings the table of revisions, and the list of components to keep, up to what the refs say.

        What is not whole is left out of the table.
        """
        refs = self.refs()
        self._components.begin(Checksum(commit) for commit in refs.values())
        for name, commit in refs.items():
            self._index(Ref(name), Checksum(commit))

    def _index(self, ref: Ref, head: Checksum) -> None:
        found: list[tuple[Checksum, Commit, Revision]] = []
        with self._database.read() as connection:
            known = set(connection.execute(select(revisions.c.commit)).scalars())
        commit: Checksum | None = head
        while commit is not None and commit not in known and len(found) < MAX_CHAIN:
            try:
                revision = self._check_revision(commit)
                value = self.repo.load_commit(commit)
                found.append((commit, value, revision))
            except (Conflict, NotFound, InvalidInput):
                break  # an older one that was never pushed, or has been pruned
            commit = value.parent
        with self._database.write() as connection:
            connection.execute(update(revisions).where(revisions.c.commit == head).values(ref=ref))
            for checksum, value, revision in reversed(found):
                connection.execute(
                    insert(revisions).values(
                        commit=checksum,
                        ref=ref,
                        subject=value.subject,
                        time_s=value.timestamp_s,
                        parent=value.parent,
                        apps=jsonio.canonical(sorted(revision.apps)).decode(),
                    )
                )


def gaps(repo: Repository, commit: Checksum) -> Iterator[str]:
    """Gives the names of objects that a commit's tree needs and that are not here."""
    seen: set[tuple[ObjectType, Checksum]] = set()

    def lacks(kind: ObjectType, checksum: Checksum) -> bool:
        if (kind, checksum) in seen:
            return False
        seen.add((kind, checksum))
        return not repo.has(kind, checksum)

    value = repo.load_commit(commit)
    pending = [(value.tree, value.meta)]
    walked: set[Checksum] = set()
    while pending:
        tree, meta = pending.pop()
        if lacks(ObjectType.DIRMETA, meta):
            yield object_name(ObjectType.DIRMETA, meta, Mode.ARCHIVE)
        if tree in walked:
            continue
        walked.add(tree)
        if lacks(ObjectType.DIRTREE, tree):
            yield object_name(ObjectType.DIRTREE, tree, Mode.ARCHIVE)
            continue
        entries = repo.load_dirtree(tree)
        for _, checksum in entries.files:
            if lacks(ObjectType.FILE, checksum):
                yield object_name(ObjectType.FILE, checksum, Mode.ARCHIVE)
        pending.extend((child, child_meta) for _, child, child_meta in entries.dirs)


def _parsed(question: ObjectList) -> Iterator[tuple[str, ObjectType, Checksum]]:
    if len(question.objects) > MAX_OBJECTS_PER_QUESTION:
        raise InvalidInput(f"objects: more than {MAX_OBJECTS_PER_QUESTION}", hint="ask in several parts")
    for name in question.objects:
        kind, checksum = parse_object_name(name)
        yield name, kind, checksum
