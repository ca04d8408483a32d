"""Paths of the registry API: what they name. A name that cannot be one is refused before anything is looked up.

Source: OCI distribution-spec 1.1, "Endpoints", "Pulling manifests" (the grammar of names and tags).
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from wherry.core.digest import Digest, is_checksum
from wherry.image.serving.messages import Code, Refused

MAX_NAME_CHARS = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_UPLOAD = re.compile(r"[0-9a-f]{32}\Z")
_PATH = re.compile(
    r"/v2/(?P<name>.+?)/(?:"
    r"manifests/(?P<manifest>[^/]+)"
    r"|blobs/uploads/(?P<upload>[^/]*)"
    r"|blobs/(?P<blob>[^/]+)"
    r"|tags/(?P<tags>list)"
    r"|referrers/(?P<referrers>[^/]+)"
    r")\Z",
    re.DOTALL,
)


class Kind(enum.Enum):
    """What a path is about."""

    BASE = "base"
    TOKEN = "token"  # noqa: S105 a word in a path
    CATALOG = "catalog"
    MANIFEST = "manifest"
    UPLOAD = "upload"
    BLOB = "blob"
    TAGS = "tags"
    REFERRERS = "referrers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A path, understood."""

    kind: Kind
    name: str = ""
    """Of the repository."""
    digest: Digest | None = None
    tag: str = ""
    upload: str = ""
    """Of an upload that has begun; "": where one begins."""

    @property
    def blob(self) -> Digest:
        """The digest in the path of a blob, which always has one.

        Raises:
            Refused: it has none all the same.
        """
        if self.digest is None:
            raise Refused(Code.DIGEST_INVALID, "the digest is missing")
        return self.digest


def parse_route(path: str) -> Route | None:
    """Returns what a path names; None when it is no path of the API.

    Raises:
        Refused: the name, the tag or the digest cannot be one.
    """
    if path in ("/v2", "/v2/"):
        return Route(kind=Kind.BASE)
    if path == "/v2/token":
        return Route(kind=Kind.TOKEN)
    if path == "/v2/_catalog":
        return Route(kind=Kind.CATALOG)
    match = _PATH.match(path)
    if match is None:
        return None
    name = match["name"]
    if not is_name(name):
        raise Refused(Code.NAME_INVALID, "not the name of a repository", detail=name[:MAX_NAME_CHARS])
    if match["tags"] is not None:
        return Route(kind=Kind.TAGS, name=name)
    if match["upload"] is not None:
        if match["upload"] and _UPLOAD.match(match["upload"]) is None:
            raise Refused(Code.BLOB_UPLOAD_UNKNOWN, "there is no such upload")
        return Route(kind=Kind.UPLOAD, name=name, upload=match["upload"])
    if match["blob"] is not None:
        return Route(kind=Kind.BLOB, name=name, digest=parse_digest(match["blob"]))
    if match["referrers"] is not None:
        return Route(kind=Kind.REFERRERS, name=name, digest=parse_digest(match["referrers"]))
    reference = match["manifest"]
    if ":" in reference:
        return Route(kind=Kind.MANIFEST, name=name, digest=parse_digest(reference))
    if _TAG.match(reference) is None:
        raise Refused(Code.TAG_INVALID, "neither a tag nor a digest", detail=reference[:200], status=404)
    return Route(kind=Kind.MANIFEST, name=name, tag=reference)


def is_name(name: str) -> bool:
    """Tells whether a repository can have this name in a path."""
    return len(name) <= MAX_NAME_CHARS and _NAME.match(name) is not None


def parse_digest(text: str) -> Digest:
    """Returns a digest.

    Raises:
        Refused: it is none, or not SHA-256.
    """
    algorithm, _, rest = text.partition(":")
    if algorithm != "sha256" or not is_checksum(rest):
        raise Refused(Code.DIGEST_INVALID, "not a SHA-256 digest", detail=text[:200])
    return Digest(text)
