"""Places of images, as a user writes them: registries, image layouts and archives.

==============================  ====================================================================================
place                           what it is
==============================  ====================================================================================
``docker://NAME``               a registry
``oci:DIR[:TAG]``               an image layout; what is copied there goes beside what is in it
``oci-archive:FILE[:TAG]``      the same in a tar archive, which is written anew
``docker-archive:FILE[:NAME]``  what ``docker save`` writes, which is an image layout, too; written anew
==============================  ====================================================================================

The words are skopeo's (containers-transports(5)).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wherry.core.errors import UsageError
from wherry.image.recognise import recognise
from wherry.image.reference import Reference
from wherry.store.tree.tar import DEFAULT_LIMITS

_DOCKER = "docker://"
_KINDS = ("oci", "oci-archive", "docker-archive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an image is, or goes."""

    text: str
    """As it was written."""
    kind: str
    """``docker`` or one of the other words before the colon."""
    reference: Reference | None = None
    path: Path = Path()
    choice: str | None = None
    """The tag or name in it."""


def parse_place(text: str, *, is_source: bool) -> Place:
    """Returns what a user wrote as a place.

    Raises:
        UsageError: it is none.
        NotFound: it is a source, and not there.
    """
    if text.startswith(_DOCKER):
        return Place(text=text, kind="docker", reference=Reference.parse(text.removeprefix(_DOCKER)))
    kind, colon, rest = text.partition(":")
    if not colon or kind not in _KINDS or not rest:
        raise UsageError(
            f"not a place of images: {text[:120]!r}", hint="write docker://NAME, oci:DIR, oci-archive:FILE, ..."
        )
    if is_source:
        _, path, choice = recognise(text, DEFAULT_LIMITS)
        return Place(text=text, kind=kind, path=path, choice=choice)
    before, colon, after = rest.partition(":") if kind == "docker-archive" else rest.rpartition(":")
    if not colon or (kind != "docker-archive" and "/" in after):
        before, after = rest, ""
    return Place(text=text, kind=kind, path=Path(before).absolute(), choice=after or None)
