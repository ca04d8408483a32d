"""The supply of revisions: the device's store, filled from its hub.

The order of trust is here: of a revision, first the commit and its signature come, and nothing else until one of the
keys pinned at enrolment has been found to have made it; then the tree and ``revision.json``; then it is known what
the components are, what is missing of them, and what that costs; only then, when all of it is known to fit, the bytes.
What costs the fewest bytes is taken: a delta, if the hub has one ready (``deltas.py``), else the missing objects, in
packs where the hub makes them, large ones by themselves. Each object is hashed as it arrives. What has arrived is
kept, so that fetching goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wherry.core.digest import Checksum, short
from wherry.core.errors import HttpError, IntegrityError, NotFound, TrustError
from wherry.device.deltas import Chosen, Deltas, Note
from wherry.device.hub import HubSession
from wherry.device.interfaces import Plan, ProgressCall
from wherry.revision.load import CONFIG_FOLDER, component_commits, load_revision
from wherry.revision.sign import verify_bytes, verify_commit
from wherry.spec.revision import FILE_NAME, Revision
from wherry.spec.wire import DEVICE_API, REPO
from wherry.store.format.objects import Mode, ObjectType, object_name, parse_object_name
from wherry.store.repository import Repository
from wherry.store.tree.walk import gaps
from wherry.trust.keys import PublicKey

if TYPE_CHECKING:
    from wherry.store.pull.packed import PackPull
    from wherry.store.pull.pull import Plan as PullPlan
    from wherry.store.pull.pull import RemotePull

    _Surveyed = tuple[tuple[str, ...], PullPlan]
    """Names of what is missing, and the plan to fetch it."""

PARALLEL = 8
"""Requests at a time."""
PACK = f"{DEVICE_API}/pack"
KEPT, COMING = "device", "device-coming"
"""Under which names the store is told what ``prune`` must keep: what is kept, and what is being fetched."""
LEAST_PACKED = 2
"""A single object is fetched as a file."""
_T = TypeVar("_T")


class StoreSupply:
    """The ``Supply`` of a real device.

    Args:
        repo: the device's store.
        keys: whose signatures it takes.
        session: its hub; None when there is none, and everything must be here.
        have: returns the revisions that are whole here, and that a delta may start from.
        note: takes what should stand in the journal.
    """

    def __init__(
        self,
        repo: Repository,
        keys: Sequence[PublicKey],
        session: HubSession | None,
        *,
        have: Callable[[], Sequence[Checksum]] = tuple,
        note: Note = lambda text: None,
    ) -> None:
        self._repo = repo
        self._have, self._note = have, note
        self._keys = tuple(keys)
        self._session = session
        self._received = 0

    def plan(self, revision: Checksum, tick: Callable[[], None]) -> Plan:
        """Fetches the signature, the directories and ``revision.json``, and says what else is missing.

        Args:
            revision: its commit.
            tick: called now and then; what it raises ends the planning.

        Raises:
            TrustError: no trusted key signed it; nothing of it was kept.
            NotFound: the hub lacks it, or a part of it.
            NetworkError: the hub does not answer.
        """
        self._received = 0
        if self._is_here(revision):
            return Plan(revision=load_revision(self._repo, revision))
        return self._with_login(lambda: self._plan(revision, tick))

    def fetch(self, revision: Checksum, progress: ProgressCall) -> int:
        """Fetches what is missing; returns the bytes that this and the planning took.

        Raises:
            IntegrityError: an object came damaged twice.
            NetworkError: the link broke; what has come is kept.
            NoSpace: the disk is full.
        """
        if self._is_here(revision):
            return self._received
        return self._with_login(lambda: self._fetch(revision, progress))

    def verify(self, revision: Checksum) -> Revision:
        """Checks the signature, and that every object is here; needs no network.

        Raises:
            TrustError: no trusted key signed it.
            NotFound: it is not here.
            IntegrityError: an object is missing.
        """
        verify_commit(self._repo, revision, self._keys)
        document = load_revision(self._repo, revision)
        for commit in (revision, *component_commits(document)):
            lacking = next(gaps(self._repo, commit), None)
            if lacking is not None:
                self._repo.mark_partial(commit)  # so that the next try fetches it
                raise IntegrityError(f"an object of revision {short(revision)} is missing", where=lacking)
        return document

    def lay_out_config(self, revision: Checksum, app: str, target: Path) -> None:
        """Writes the files of ``config/<app>`` below `target`, which is made."""
        from wherry.store.tree.checkout import checkout

        checkout(self._repo, revision, target, subpath=f"{CONFIG_FOLDER}/{app}", force_copy=True)

    def keep(self, revisions: Collection[Revision], commits: Collection[Checksum]) -> None:
        """Prunes the store down to `commits` and the components of `revisions`, which it keeps from now on."""
        from wherry.store.care.keep import keep_commits
        from wherry.store.care.prune import prune

        components = {commit for revision in revisions for commit in component_commits(revision)}
        keep_commits(self._repo, KEPT, sorted(components | set(commits)))
        keep_commits(self._repo, COMING, ())
        prune(self._repo, refs_only=True, depth=0)

    def _plan(self, revision: Checksum, tick: Callable[[], None]) -> Plan:
        begun = self._begin(revision, tick)
        chosen, surveyed = self._choose(begun, tick)
        if chosen is not None:
            header = chosen.head.header
            return Plan(
                revision=begun.document,
                count=header.objects,
                transfer_bytes=chosen.size,
                disk_bytes=header.disk_bytes + header.scratch_bytes + chosen.head.total,
                received_bytes=self._received,
            )
        missing, _ = surveyed or self._survey(begun, tick)
        sizes = self._hub(revision).sizes(missing)
        if sizes.missing:
            raise NotFound(
                f"the hub lacks {len(sizes.missing)} objects of revision {short(revision)}",
                where=sizes.missing[0],
                hint="push the revision again",
            )
        return Plan(
            revision=begun.document,
            objects=missing,
            transfer_bytes=sizes.transfer_bytes,
            disk_bytes=sizes.disk_bytes,
            received_bytes=self._received,
        )

    def _fetch(self, revision: Checksum, progress: ProgressCall) -> int:
        def tick() -> None:
            progress(self._received, self._received)

        begun = self._begin(revision, tick)
        chosen, surveyed = self._choose(begun, tick)
        if chosen is not None:
            client, before = begun.session.client, begun.session.client.bytes_received
            total = self._received + chosen.size
            try:
                begun.deltas.apply(
                    chosen,
                    self._verify,
                    lambda: progress(self._received + client.bytes_received - before, total),
                )
            finally:
                self._received += client.bytes_received - before
            if self._is_here(revision):
                return self._received
            surveyed = None
        missing, plan = surveyed or self._survey(begun, tick)
        expected = self._received + sum_of_sizes(begun.session, missing)
        left = missing
        if len(missing) >= LEAST_PACKED:
            before = self._received - begun.packs.bytes_received
            came = begun.packs.fetch(missing, progress=_Ticking(lambda done: progress(before + done, expected)))
            self._received += came.bytes_received
            left = came.left
        here = self._received
        report = _Ticking(lambda done: progress(here + done, expected))
        stats = self._pull(revision).fetch(replace(plan, missing_files=left), progress=report, parallel=PARALLEL)
        self._received = here + stats.bytes_received - plan.metadata_bytes
        return self._received

    def _begin(self, revision: Checksum, tick: Callable[[], None]) -> _Begun:
        """Fetches the revision's own commit, directories and ``revision.json``."""
        from wherry.store.care.keep import keep_commits
        from wherry.store.pull.packed import PackPull

        session = self._hub(revision)
        pull = self._pull(revision)
        own = pull.plan([revision], parallel=PARALLEL, progress=_Ticking(lambda done: tick()))
        self._received += own.metadata_bytes
        self._fetch_document(pull, own, revision)
        document = load_revision(self._repo, revision)
        keep_commits(self._repo, COMING, (revision, *component_commits(document)))
        return _Begun(
            revision=revision,
            document=document,
            own=own,
            session=session,
            packs=PackPull(self._repo, session.client, PACK),
            deltas=Deltas(self._repo, session, self._have(), self._note),
        )

    def _choose(self, begun: _Begun, tick: Callable[[], None]) -> tuple[Chosen | None, _Surveyed | None]:
        """Returns the delta to fetch, when one is the cheapest way; and what is missing, when that was found out."""
        components = component_commits(begun.document)
        absent = [commit for commit in components if not self._is_complete(commit)]
        if not absent or not begun.deltas.sources(begun.revision):
            return None, None  # what is missing is the revision's own; or there is nothing to begin at
        surveyed: _Surveyed | None = None
        objects_bytes = None
        if any(self._repo.has(ObjectType.COMMIT, commit) for commit in absent):
            # begun before, without a delta: so it is known, or nearly, what is still missing
            surveyed = self._survey(begun, tick)
            objects_bytes = sum_of_sizes(begun.session, surveyed[0])
        before = begun.session.client.bytes_received
        try:
            return begun.deltas.choose(begun.revision, components, objects_bytes), surveyed
        finally:
            self._received += begun.session.client.bytes_received - before

    def _survey(self, begun: _Begun, tick: Callable[[], None]) -> _Surveyed:
        """Fetches the components' directories; returns what is missing, and the plan to fetch that."""
        components = component_commits(begun.document)
        ticking = _Ticking(lambda done: tick())
        before = begun.packs.bytes_received
        try:
            begun.packs.fetch_trees([item for item in components if not self._is_complete(item)], progress=ticking)
        finally:
            self._received += begun.packs.bytes_received - before
        parts = self._pull(begun.revision, signed=False).plan(components, parallel=PARALLEL, progress=ticking)
        self._received += parts.metadata_bytes
        missing = tuple(
            name
            for name in dict.fromkeys((*begun.own.missing_files, *parts.missing_files))
            if not self._repo.has(*parse_object_name(name))
        )
        return missing, replace(begun.own, commits=(*parts.commits, *begun.own.commits), missing_files=missing)

    def _fetch_document(self, pull: RemotePull, own: PullPlan, revision: Checksum) -> None:
        name = self._document_name(revision)
        if name in own.missing_files:
            stats = pull.fetch(replace(own, commits=(), missing_files=(name,), metadata_bytes=0), parallel=1)
            self._received += stats.bytes_received

    def _document_name(self, revision: Checksum) -> str:
        tree = self._repo.load_dirtree(self._repo.load_commit(revision).tree)
        for name, checksum in tree.files:
            if name == FILE_NAME:
                return object_name(ObjectType.FILE, checksum, Mode.ARCHIVE)
        raise NotFound(f"no {FILE_NAME} in this commit", where=short(revision), hint="is it a revision?")

    def _is_here(self, revision: Checksum) -> bool:
        """Tells whether a revision and all its components are here, signed by a trusted key."""
        if not self._is_complete(revision):
            return False
        try:
            verify_commit(self._repo, revision, self._keys)
        except TrustError:
            if self._session is None:
                raise
            return False  # signed anew, perhaps: planning asks the hub, and refuses it if not
        document = load_revision(self._repo, revision)
        return all(self._is_complete(commit) for commit in component_commits(document))

    def _is_complete(self, commit: Checksum) -> bool:
        return self._repo.has(ObjectType.COMMIT, commit) and not self._repo.is_partial(commit)

    def _pull(self, revision: Checksum, *, signed: bool = True) -> RemotePull:
        from wherry.store.pull.pull import RemotePull

        return RemotePull(self._repo, self._hub(revision).client, REPO, verify=self._verify if signed else None)

    def _verify(self, commit: Checksum, data: bytes, detached: Mapping[str, Any]) -> None:
        verify_bytes(commit, data, detached, self._keys)

    def _hub(self, revision: Checksum) -> HubSession:
        if self._session is None:
            raise NotFound(f"revision {short(revision)} is not on this device, and it has no hub")
        return self._session

    def _with_login(self, call: Callable[[], _T]) -> _T:
        if self._session is None or self._session.client.token is not None:
            try:
                return call()
            except HttpError as error:
                if error.status != 401 or self._session is None:
                    raise
        self._session.login()
        return call()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """A revision whose signature is checked and whose document is here."""

    revision: Checksum
    document: Revision
    own: PullPlan
    """What it took, and what of its own files is missing."""
    session: HubSession
    packs: PackPull
    deltas: Deltas


class _Ticking:
    """Hands on how many bytes have come, whenever the store says anything."""

    def __init__(self, call: Callable[[int], None]) -> None:
        self._call = call
        self._bytes = 0

    def update(self, task: str, done: int, total: int | None, *, unit: str = "") -> None:
        """Takes the store's word."""
        if unit == "B":
            self._bytes = done
        self._call(self._bytes)


def sum_of_sizes(session: HubSession, names: Sequence[str]) -> int:
    """Returns what it takes to transfer objects."""
    return session.sizes(names).transfer_bytes if names else 0
