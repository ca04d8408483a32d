"""Deltas on a device: which its hub offers, whether one is the cheapest way, and the going of it.

Asked for only once the revision's commit is here, signed by a trusted key, and its document read. A delta may lead to
that revision and the components that the document names, and to nothing else; it must start from commits that are
whole here. What comes out of it is checked by checksums, so that the hub's word counts for the costs alone. A delta
that is bad, or gone, or no longer fits, is noted in the journal, and the objects are fetched instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum, short
from wherry.core.errors import HttpError, NotFound, TrustError
from wherry.core.http import HttpClient, status_error
from wherry.core.trace import reach
from wherry.device.hub import HubSession
from wherry.spec.wire import DELTA_FOLDER, MAX_DELTA_SOURCES, REPO, DeltaOffer
from wherry.store.format.objects import ObjectType
from wherry.store.repository import Repository

if TYPE_CHECKING:
    from wherry.store.delta.apply import Verify
    from wherry.store.delta.format import Head
    from wherry.store.delta.job import Origin
    from wherry.store.delta.plan import Offer

Note = Callable[[str], None]
HEAD_BYTES = 8 * 1024
"""So much of a delta is asked for at a time to read its head, which is a few kilobytes long as a rule."""
SURVEY_REQUESTS = 12
"""What it takes to find out what is missing and to fetch it, in packs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A delta that is the cheapest way to a revision."""

    revision: Checksum
    commits: frozenset[Checksum]
    """The revision and its components: what it may lead to."""
    path: str
    """On the hub."""
    head: Head
    size: int
    """Bytes that are still to come."""
    instead_bytes: int
    """What the objects would cost."""


class Deltas:
    """The deltas that a hub offers to one device.

    Args:
        repo: the device's store.
        session: its hub, logged in.
        have: revisions that may be whole here; the one that runs first.
        note: takes what should stand in the journal.
    """

    def __init__(self, repo: Repository, session: HubSession, have: Sequence[Checksum], note: Note) -> None:
        self._repo, self._session, self._note = repo, session, note
        self._have = tuple(dict.fromkeys(have))[:MAX_DELTA_SOURCES]

    def sources(self, revision: Checksum) -> list[Checksum]:
        """Returns the revisions that are here and that a delta to `revision` may start from."""
        return [commit for commit in self._have if commit != revision and self._repo.has(ObjectType.COMMIT, commit)]

    def choose(self, revision: Checksum, components: Sequence[Checksum], objects_bytes: int | None) -> Chosen | None:
        """Returns the delta that is the cheapest way to a revision; None when the objects are.

        Args:
            revision: where to; its commit is here, and its signature checked.
            components: the commits that its document names.
            objects_bytes: what the missing objects cost; None to take the hub's word for it.

        Raises:
            NetworkError: the hub does not answer.
        """
        from wherry.store.delta.plan import Offer, Way, delta_offer, plan

        have = self.sources(revision)
        if not have:
            return None
        commits = frozenset((revision, *components))
        best: Chosen | None = None
        for offered in self._session.deltas(have, revision):
            path = f"{REPO}/{DELTA_FOLDER}/{offered.have}-{revision}.wdelta"
            head = self._read_head(path, offered, have, commits)
            if head is None:
                continue
            other_bytes = offered.objects_bytes if objects_bytes is None else objects_bytes
            objects = Offer(way=Way.PACK, size=other_bytes, requests=SURVEY_REQUESTS)
            route = plan(self._repo, (delta_offer(self._repo, head), objects))
            for refused in route.refused:
                self._note(f"delta from {short(Checksum(offered.have))} not taken: {refused.why}")
            first: Offer = route.offers[0]
            if first.way is Way.DELTA and (best is None or first.size < best.size):
                best = Chosen(
                    revision=revision,
                    commits=commits,
                    path=path,
                    head=head,
                    size=first.size,
                    instead_bytes=other_bytes,
                )
        if best is not None:
            reach("device.delta.chosen")
        return best

    def apply(self, chosen: Chosen, verify: Verify, tick: Callable[[], None]) -> bool:
        """Applies a delta, going on where an earlier try stopped; False when it was bad, which is noted.

        Args:
            chosen: from ``choose``.
            verify: checks whose commit the revision's is.
            tick: called for each piece that has come; what it raises ends this, and what came stays.

        Raises:
            TrustError: nobody who is trusted signed the revision.
            NetworkError: the link broke; what has come is kept.
            NoSpace: the disk is full.
        """
        from wherry.store.delta.apply import BAD_DELTA, apply_delta
        from wherry.store.delta.origin import HttpOrigin

        def check(commit: Checksum, data: bytes, detached: Mapping[str, Any]) -> None:
            if commit == chosen.revision:
                verify(commit, data, detached)
            elif commit not in chosen.commits:
                raise TrustError("a delta brings a commit that the revision does not name", where=commit)

        origin = _Ticking(HttpOrigin(self._session.client, chosen.path), tick)
        signature = self._repo.metadata_bytes(ObjectType.COMMITMETA, chosen.revision)
        try:
            apply_delta(self._repo, chosen.head, origin, verify=check)
        except HttpError as error:
            if error.status == 401:
                raise
            self._note(f"delta given up, fetching objects: {error}")
            return False
        except BAD_DELTA as error:
            self._note(f"bad delta, fetching objects: {error}")
            reach("device.delta.bad")
            return False
        finally:
            self._put_back(chosen.revision, signature)
        reach("device.delta.applied")
        self._note(f"by a delta: {chosen.size} bytes in place of {chosen.instead_bytes}")
        return True

    def _put_back(self, revision: Checksum, signature: bytes) -> None:
        """Keeps the signature that was checked: the delta may have brought an older one."""
        if self._repo.metadata_bytes(ObjectType.COMMITMETA, revision) != signature:
            with self._repo.transaction() as transaction:
                transaction.write_metadata(ObjectType.COMMITMETA, signature, revision)

    def _read_head(
        self, path: str, offered: DeltaOffer, have: Sequence[Checksum], commits: frozenset[Checksum]
    ) -> Head | None:
        from wherry.store.delta.apply import BAD_DELTA
        from wherry.store.delta.job import read_head

        if offered.have not in have or offered.size < 0 or offered.objects_bytes < 0:
            self._note("the hub offers a delta that was not asked for")
            return None
        try:
            head = read_head(_Beginning(self._session.client, path), where=path)
            if not commits.issuperset(head.header.to_commits):
                raise NotFound("it leads to something else")
        except HttpError as error:
            if error.status == 401:
                raise
            self._note(f"delta not taken: {error}")
            return None
        except BAD_DELTA as error:
            self._note(f"delta from {short(Checksum(offered.have))} not taken: {error}")
            return None
        return head


class _Beginning:
    """The beginning of a delta, asked for in small pieces: nothing of its parts is to be on its way already."""

    def __init__(self, client: HttpClient, path: str) -> None:
        self._client, self._path = client, path

    def read_from(self, offset: int) -> Iterator[bytes]:
        """Gives the delta's bytes from `offset` on."""
        while True:
            headers = {"Range": f"bytes={offset}-{offset + HEAD_BYTES - 1}"}
            with self._client.open("GET", self._path, headers=headers) as response:
                if response.status != 206:
                    raise status_error(response)
                piece = response.read_all(max_bytes=HEAD_BYTES)
            if not piece:
                return
            yield piece
            offset += len(piece)


class _Ticking:
    """A delta on its way, whose pieces are told of."""

    def __init__(self, origin: Origin, tick: Callable[[], None]) -> None:
        self._origin, self._tick = origin, tick

    def read_from(self, offset: int) -> Iterator[bytes]:
        """Gives the delta's bytes from `offset` to its end."""
        for piece in self._origin.read_from(offset):
            yield piece
            self._tick()
