"""One image for several platforms: its members, each an image of its own, and the index that holds them together.

::

    refs/heads/image/<name>                       the member for this machine, or the first: what ``run`` takes
    refs/heads/image-platform/<platform>/<name>   each other one; the platform as ``linux_2Farm_2Fv7``
    refs/heads/image-index/<name>                 a commit with an empty tree and this metadata:
                       wherry.image.index         s   the index's JSON, byte for byte; "" where it is made here
                       wherry.image.members       as  the commits of its members, in its order
                       wherry.image.reference     s   the whole name

An index counts as long as every member that it names is still what the name leads to: an image that is pulled or
built for one platform alone takes its place. ``Images.remove`` takes all of it along, ``tidy`` what was left over.

Source: OCI image-spec 1.1, image-index.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wherry.core import jsonio
from wherry.core.digest import Checksum, Digest, Ref
from wherry.core.errors import InvalidInput
from wherry.image.catalog import REFERENCE_KEY, ImageRecord, Images
from wherry.image.indexrefs import image_ref, index_ref, member_ref, member_refs
from wherry.image.platforms import Platform, choose
from wherry.image.recording import record_image
from wherry.image.reference import Reference

if TYPE_CHECKING:
    from wherry.store.repository import Repository

INDEX_KEY = "wherry.image.index"
MEMBERS_KEY = "wherry.image.members"
MAX_MEMBERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRecord:
    """Several images under one name."""

    reference: Reference
    commit: Checksum
    members: tuple[ImageRecord, ...]
    """In the order of the index; those of other platforms have the same reference."""
    raw: bytes
    """The index's JSON, byte for byte, as it came; empty where it is made here (``outgoingindex.py``)."""

    @property
    def digest(self) -> Digest:
        """Of the index's JSON; of what stands for it where it is made here."""
        data = self.raw or jsonio.canonical([member.digest for member in self.members])
        return Digest("sha256:" + hashlib.sha256(data).hexdigest())

    @property
    def main(self) -> ImageRecord:
        """The member that its name leads to."""
        return self.members[choose(Platform.of_this_machine(), [member.platform for member in self.members]) or 0]

    def member(self, platform: Platform) -> ImageRecord | None:
        """Returns the member that fits a platform best; None when none does."""
        index = choose(platform, [member.platform for member in self.members])
        return None if index is None else self.members[index]


def record_index(
    repo: Repository, reference: Reference, members: Sequence[ImageRecord], raw: bytes | None = None
) -> IndexRecord:
    """Gives a name to several images at once.

    They may be recorded under any name, or none, within the same transaction or before. Each gets the ref that it has
    in the index; what else the name had goes.

    Args:
        repo: where.
        reference: the name.
        members: one for each platform, in the index's order.
        raw: the index's JSON, byte for byte, where it came from elsewhere; it may name more than is here.

    Returns:
        The index; its refs are set when the transaction ends.

    Raises:
        InvalidInput: there is no member, there are too many, or two are for one platform.
    """
    from wherry.store.format import objects
    from wherry.store.format.objects import DirMeta, DirTree, ObjectType
    from wherry.store.tree.commit import commit_tree

    platforms = [member.platform for member in members]
    if not 0 < len(members) <= MAX_MEMBERS:
        raise InvalidInput(f"an index of {len(members)} images; 1 to {MAX_MEMBERS} are taken", where=reference)
    if len(set(platforms)) != len(platforms):
        raise InvalidInput("two images of an index are for one platform", where=reference)
    main = choose(Platform.of_this_machine(), platforms) or 0
    with repo.transaction() as transaction:
        first = record_again(repo, members[main], reference)  # the others second: this may take those away
        recorded = [
            first
            if index == main
            else record_again(repo, member, reference, ref=member_ref(reference, member.platform))
            for index, member in enumerate(members)
        ]
        tree = transaction.write_metadata(ObjectType.DIRTREE, objects.serialize_dirtree(DirTree()))
        meta = transaction.write_metadata(ObjectType.DIRMETA, objects.serialize_dirmeta(DirMeta()))
        metadata: dict[str, Any] = {
            INDEX_KEY: (raw or b"").decode(),
            MEMBERS_KEY: [member.commit for member in recorded],
            REFERENCE_KEY: str(reference),
        }
        commit = commit_tree(
            repo,
            tree,
            meta,
            subject=f"images {reference}",
            timestamp_s=max(member.created_s for member in members),
            metadata=metadata,
            ref=index_ref(reference),
        )
        kept = {member_ref(reference, platform) for index, platform in enumerate(platforms) if index != main}
        for ref in member_refs(repo, reference).keys() - kept:
            transaction.set_ref(ref, None)
    return IndexRecord(reference=reference, commit=commit, members=tuple(recorded), raw=raw or b"")


def record_again(repo: Repository, record: ImageRecord, reference: Reference, *, ref: Ref | None = None) -> ImageRecord:
    """Makes the commit of an image once more, under another name or ref; within ``with repo.transaction()``."""
    commit = repo.load_commit(record.commit)
    return record_image(
        repo,
        reference,
        tree=commit.tree,
        meta=commit.meta,
        size_bytes=record.size_bytes,
        config=record.config,
        digest=record.digest,
        manifest=record.manifest,
        body=commit.body,
        timestamp_s=commit.timestamp_s,
        ref=ref,
    )


def find_index(repo: Repository, reference: Reference) -> IndexRecord | None:
    """Returns the index of a name; None when there is none, or it does not count any more."""
    ref = index_ref(reference)
    commit = repo.refs(ref).get(ref)
    if commit is None:
        return None
    metadata = repo.load_commit(commit).metadata
    raw, names = metadata.get(INDEX_KEY), metadata.get(MEMBERS_KEY)
    if not (isinstance(raw, str) and isinstance(names, list) and 0 < len(names) <= MAX_MEMBERS):
        raise InvalidInput("the commit is no index: its metadata says nothing of one", where=ref)
    main = repo.refs(reference.ref).get(reference.ref)
    there = {main, *member_refs(repo, reference).values()}
    if not all(name in there for name in names):
        return None
    images = Images(repo)
    members = tuple(replace(images.record_of(name), reference=reference) for name in names)
    return IndexRecord(reference=reference, commit=commit, members=members, raw=raw.encode())


def orphans(repo: Repository) -> list[Ref]:
    """Returns the refs of members whose name is there no more, and of indexes that do not count any more."""
    refs = repo.refs()
    found = []
    for ref in refs:
        name = image_ref(ref)
        if name is None:
            continue
        if name not in refs or (ref == index_ref(Reference.from_ref(name)) and _is_stale(repo, name)):
            found.append(ref)
    return found


def _is_stale(repo: Repository, name: Ref) -> bool:
    return find_index(repo, Reference.from_ref(name)) is None
