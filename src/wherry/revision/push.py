"""Pushing: a project's new revisions and all that they are made of, to a hub.

1. Where does the hub's ref stand? Elsewhere than in this project's history: refused, as git refuses what is not a
   fast-forward. 2. Which commits does the hub lack? 3. Which objects of those? 4. These go in packs, commits last, so
   that a push that was cut off goes on where it stopped, and a commit that the hub has is complete. 5. The ref moves,
   if it still stands where it stood. A hub that then finds a revision incomplete (something was pruned) is asked
   about every object, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from wherry.core.digest import Checksum, Ref, short
from wherry.core.errors import Conflict, HttpError, NetworkError, NotFound
from wherry.core.http import backoff
from wherry.core.progress import QUIET, Progress
from wherry.core.trace import reach
from wherry.revision.hubclient import HubClient
from wherry.revision.load import component_commits, load_revision
from wherry.spec.wire import MAX_OBJECTS_PER_QUESTION
from wherry.store.format.objects import ObjectType
from wherry.store.pull.packing import PACK_BYTES, ObjectId, Pack, in_order, packs, wire_name
from wherry.store.repository import Repository
from wherry.store.tree.walk import reachable

TRIES = 4
MAX_HISTORY = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What a push did."""

    ref: Ref
    old: Checksum | None
    new: Checksum
    revisions: int
    """How many are new on the hub; 0 when it had this one."""
    objects_sent: int
    objects_total: int
    """What the new revisions are made of."""
    bytes_sent: int


def push(
    repo: Repository,
    client: HubClient,
    ref: Ref,
    commit: Checksum,
    *,
    progress: Progress = QUIET,
    pack_bytes: int = PACK_BYTES,
) -> Pushed:
    """Sends a revision, the revisions before it that the hub lacks, and their components, then moves the ref.

    Args:
        repo: the project's store.
        client: a hub, logged in.
        ref: the ref on the hub.
        commit: the revision that it shall stand at.
        progress: is told how many objects are sent.
        pack_bytes: how long a pack gets.

    Raises:
        Conflict: the hub has revisions that this project does not have.
        NotFound: an object of the revision is not here.
        NotPermitted: not logged in.
        NetworkError: the hub cannot be reached; what was sent stays there.
    """
    old = client.read_ref(ref)
    if old == commit:
        return Pushed(ref=ref, old=old, new=commit, revisions=0, objects_sent=0, objects_total=0, bytes_sent=0)
    new_revisions = list(_history(repo, commit, old))
    commits = _with_components(repo, new_revisions)
    sender = _Sender(repo, client, progress, pack_bytes)
    absent = set(sender.lacking([(ObjectType.COMMIT, item) for item in commits]))
    sender.send([item for item in commits if (ObjectType.COMMIT, item) in absent])
    reach("revision.push.sent")
    try:
        client.move_ref(ref, commit, expected=old)
    except Conflict as error:
        if client.read_ref(ref) != old:
            raise _not_fast_forward(client, ref) from error
        sender.send(commits)
        client.move_ref(ref, commit, expected=old)
    return Pushed(
        ref=ref,
        old=old,
        new=commit,
        revisions=len(new_revisions),
        objects_sent=sender.objects_sent,
        objects_total=sender.objects_total,
        bytes_sent=sender.bytes_sent,
    )


def _history(repo: Repository, commit: Checksum, old: Checksum | None) -> Iterator[Checksum]:
    """Gives `commit` and its parents down to `old`, which must be among them."""
    current: Checksum | None = commit
    found: list[Checksum] = []
    while current is not None and current != old and len(found) < MAX_HISTORY:
        if not repo.has(ObjectType.COMMIT, current):
            current = None
            break
        found.append(current)
        current = repo.load_commit(current).parent
    if old is not None and current != old:
        raise Conflict(
            f"the hub has revisions that you do not have: it stands at {short(old)}",
            where=f"revision {short(commit)}",
            hint="clone the project anew, make your changes there, and push again",
        )
    yield from found


def _with_components(repo: Repository, revisions: list[Checksum]) -> list[Checksum]:
    """Returns revisions and the components of each; a component of an older one that is not here is left out."""
    found: dict[Checksum, None] = {}
    for index, revision in enumerate(revisions):
        for component in component_commits(load_revision(repo, revision)):
            here = repo.has(ObjectType.COMMIT, component) and not repo.is_partial(component)
            if index == 0 and not here:
                raise NotFound(
                    f"component {short(component)} of the revision is not here",
                    where=f"revision {short(revision)}",
                    hint="import the image again and commit",
                )
            if here:
                found[component] = None
    return [*found, *revisions]


class _Sender:
    def __init__(self, repo: Repository, client: HubClient, progress: Progress, pack_bytes: int) -> None:
        self._repo = repo
        self._client = client
        self._progress = progress
        self._pack_bytes = pack_bytes
        self.objects_sent = 0
        self.objects_total = 0
        self.bytes_sent = 0

    def lacking(self, items: Iterable[ObjectId]) -> list[ObjectId]:
        """Returns which of these the hub lacks."""
        found: list[ObjectId] = []
        pending = iter(items)
        while batch := {wire_name(item): item for item in islice(pending, MAX_OBJECTS_PER_QUESTION)}:
            found.extend(batch[name] for name in self._client.missing(tuple(batch)))
        return found

    def send(self, commits: Iterable[Checksum]) -> None:
        """Sends what the hub lacks of these commits."""
        items: set[ObjectId] = set()
        for commit in commits:
            items |= reachable(self._repo, commit)
        self.objects_total = max(self.objects_total, len(items))
        wanted = in_order(self.lacking(in_order(items)))
        done = 0
        with packs(self._repo, wanted, pack_bytes=self._pack_bytes) as made:
            for pack in made:
                self._send_pack(pack)
                done += pack.count
                self.objects_sent += pack.count
                self.bytes_sent += pack.size_bytes
                self._progress.update("sending", done, len(wanted), unit="objects")
                reach("revision.push.pack")

    def _send_pack(self, pack: Pack) -> None:
        """Sends a pack, again when the link breaks: objects that arrived twice are no harm."""
        for attempt in range(1, TRIES + 1):
            pack.file.seek(0)
            try:
                self._client.send_pack(pack.file, pack.size_bytes)
                return
            except HttpError as error:
                if error.status not in (502, 503, 504) or attempt == TRIES:
                    raise
            except NetworkError:
                if attempt == TRIES:
                    raise
            backoff(attempt)


def _not_fast_forward(client: HubClient, ref: Ref) -> Conflict:
    return Conflict(
        "somebody else pushed in the meantime",
        where=f"{client.url}: {ref}",
        hint="clone the project anew, then push again",
    )
