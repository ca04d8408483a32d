"""Further names for an image, and other ones: what docker calls ``tag``, podman ``untag``, marten ``renamei``.

A commit says which ref it was made for (``ostree.ref-binding``), and a pull checks that; so a further name is a commit
of its own, of the same tree, config and manifest. It costs one small object. Image ID and digest are the same.

Refused: a name with a digest (it says what an image is, not what it is called).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.core.errors import Conflict, InvalidInput
from wherry.image.catalog import ImageRecord, Images
from wherry.image.indexes import find_index, record_again, record_index
from wherry.image.indexrefs import beside_refs
from wherry.image.reference import Reference

if TYPE_CHECKING:
    from wherry.store.repository import Repository


def tag(repo: Repository, source: str, name: str) -> ImageRecord:
    """Gives an image a further name; one that had it loses it.

    Args:
        repo: where.
        source: a name, or the first digits of an ID.
        name: the new one.

    Returns:
        The image under its new name.

    Raises:
        NotFound: there is no such image.
        InvalidInput: `name` is none, or has a digest.
    """
    record = Images(repo).get(source)
    with repo.transaction():
        return _named(repo, record, _parse(name))


def rename(repo: Repository, source: str, name: str, *, force: bool = False) -> ImageRecord:
    """Gives an image another name in place of one.

    Args:
        repo: where.
        source: the name that goes, or the first digits of the ID of an image that has one name.
        name: the new one.
        force: whether the name may be taken from another image.

    Raises:
        NotFound: there is no such image.
        Conflict: another image has the name, or `source` means several names.
        InvalidInput: `name` is none, or has a digest.
    """
    images = Images(repo)
    record = images.get(source)
    reference = _parse(name)
    names = images.names_of(record)
    if not images.is_name(source) and len(names) != 1:
        known = ", ".join(item.familiar for item in names)
        raise Conflict("the image has several names", where=known or source, hint="say which one goes")
    old = record.reference if images.is_name(source) else names[0]
    taken = repo.refs().get(reference.ref)
    if old == reference:
        return record
    if taken is not None and not force and not images.same(images.record_of(taken), record):
        raise Conflict("another image has that name", where=reference.familiar, hint="remove it, or use --force")
    with repo.transaction() as transaction:
        made = _named(repo, record, reference)
        for ref in (old.ref, *beside_refs(repo, old)):
            transaction.set_ref(ref, None)
    return made


def _named(repo: Repository, record: ImageRecord, reference: Reference) -> ImageRecord:
    """Gives an image a name, and with it, where it has an index, those for other platforms."""
    index = find_index(repo, record.reference)
    if index is None or record not in index.members:
        return record_again(repo, record, reference)
    made = record_index(repo, reference, index.members, index.raw)
    return made.members[index.members.index(record)]


def _parse(name: str) -> Reference:
    reference = Reference.parse(name)
    if reference.digest is not None:
        raise InvalidInput("a name with a digest cannot be given", where=name, hint="give REPOSITORY[:TAG]")
    return reference
