"""The refs beside an image's own: its versions for other platforms, and the index of all. See `indexes.py`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum, Ref
from wherry.image.platforms import Platform
from wherry.image.reference import REF_PREFIX, Reference

if TYPE_CHECKING:
    from wherry.store.repository import Repository

INDEX_PREFIX = "image-index"
PLATFORM_PREFIX = "image-platform"

_UNSAFE = re.compile(r"[^A-Za-z0-9.\-]")


def member_ref(reference: Reference, platform: Platform) -> Ref:
    """Returns the ref of an image for another platform than the one that its name leads to."""
    escaped = _UNSAFE.sub(lambda match: f"_{ord(match[0]):02X}", str(platform))
    return Ref(f"{PLATFORM_PREFIX}/{escaped}/{_name(reference)}")


def index_ref(reference: Reference) -> Ref:
    """Returns the ref of an index."""
    return Ref(f"{INDEX_PREFIX}/{_name(reference)}")


def image_ref(ref: Ref) -> Ref | None:
    """Returns the ref of the image that another ref stands beside; None when it is no such ref."""
    prefix, _, rest = ref.partition("/")
    if prefix == PLATFORM_PREFIX:
        return Ref(REF_PREFIX + rest.partition("/")[2])
    return Ref(REF_PREFIX + rest) if prefix == INDEX_PREFIX else None


def member_refs(repo: Repository, reference: Reference) -> dict[Ref, Checksum]:
    """Returns the refs of a name's images for other platforms."""
    return {ref: commit for ref, commit in repo.refs(PLATFORM_PREFIX).items() if image_ref(ref) == reference.ref}


def beside_refs(repo: Repository, reference: Reference) -> dict[Ref, Checksum]:
    """Returns all refs that go with a name: those of other platforms, and the index."""
    return {**member_refs(repo, reference), **repo.refs(index_ref(reference))}


def _name(reference: Reference) -> str:
    return reference.ref.removeprefix(REF_PREFIX)
