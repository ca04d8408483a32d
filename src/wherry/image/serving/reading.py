"""The answers of an endpoint that is only read from: manifests, blobs and their ranges, tags, catalogue, referrers.

Source: OCI distribution-spec 1.1, "Pull", "Content Discovery"; RFC 9110, sections 13 and 14.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from wherry.core import jsonio
from wherry.core.digest import Digest
from wherry.image.mediatypes import INDEX_TYPE
from wherry.image.serving.messages import Answer, Code, Refused, Request, Stream
from wherry.image.serving.routes import Route
from wherry.image.serving.shelf import Shelf, ShownBlob, ShownManifest

MAX_LISTED = 10_000
"""Names in one answer; more are asked for with ``last``."""

_JSON = {"Content-Type": "application/json"}
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")
_INDEX_WORDS = ("index", "manifest.list", "*/*", "application/*")


class Reading:
    """Answers questions; changes nothing."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def manifest(self, request: Request, route: Route) -> Answer:
        """GET and HEAD of a manifest, by tag or digest."""
        found = self._shelf.manifest(route.name, tag=route.tag, digest=route.digest)
        if found is None:
            raise self.unknown_manifest(route)
        if found.main is not None and not route.digest and not _takes_index(request):
            found = found.main
        return _cached(request, found.digest, _manifest_answer(found))

    def unknown_manifest(self, route: Route) -> Refused:
        """Returns what to say about a manifest that is not there."""
        if self._shelf.tags(route.name) is None:
            return Refused(Code.NAME_UNKNOWN, "there is no such repository", detail=route.name)
        return Refused(Code.MANIFEST_UNKNOWN, "there is no such manifest", detail=route.tag or route.digest)

    def blob(self, request: Request, route: Route, staged: ShownBlob | None = None) -> Answer:
        """GET and HEAD of a blob, whole or a range of it.

        Args:
            request: the request.
            route: what it names.
            staged: the blob, where it was uploaded and no manifest names it yet.
        """
        digest = route.blob
        found = staged or self._shelf.blob(route.name, digest)
        if found is None:
            raise Refused(Code.BLOB_UNKNOWN, "there is no such blob in the repository", detail=digest)
        headers = {
            "Content-Type": found.media_type,
            "Docker-Content-Digest": digest,
            "Accept-Ranges": "bytes",
            "ETag": f'"{digest}"',
            "Cache-Control": "max-age=31536000, immutable",
        }
        opened, size = found.open, found.size
        span = _range(request, size, digest)
        if span is None:
            answer = Answer(headers=headers, body=Stream(size=size, open=lambda: opened(0)))
            return _cached(request, digest, answer)
        first, last = span
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return Answer(status=206, headers=headers, body=Stream(size=last + 1 - first, open=lambda: opened(first)))

    def tags(self, request: Request, route: Route) -> Answer:
        """GET of the tags."""
        found = self._shelf.tags(route.name)
        if found is None:
            raise Refused(Code.NAME_UNKNOWN, "there is no such repository", detail=route.name)
        page, headers = _page(request, found)
        return _json({"name": route.name, "tags": page}, headers)

    def catalog(self, request: Request) -> Answer:
        """GET of the repositories' names."""
        page, headers = _page(request, self._shelf.names())
        return _json({"repositories": page}, headers)

    def referrers(self, request: Request, route: Route) -> Answer:
        """GET of what refers to a manifest, which need not be there."""
        digest = route.blob
        found = self._shelf.referrers(route.name, digest)
        headers = {"Content-Type": INDEX_TYPE}
        wanted = request.query.get("artifactType")
        if wanted:
            found = [item for item in found if item.get("artifactType") == wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        return _json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": found}, headers)


def _manifest_answer(found: ShownManifest) -> Answer:
    return Answer(
        headers={
            "Content-Type": found.media_type,
            "Docker-Content-Digest": found.digest,
            "ETag": f'"{found.digest}"',
        },
        body=found.raw,
    )


def _cached(request: Request, digest: Digest, answer: Answer) -> Answer:
    """Returns 304 instead of what the client has already (RFC 9110, section 13.1.2)."""
    known = request.headers.get("if-none-match", "")
    if digest in known or known.strip() == "*":
        kept = {key: answer.headers[key] for key in ("Docker-Content-Digest", "ETag")}
        return Answer(status=304, headers=kept)
    return answer


def _takes_index(request: Request) -> bool:
    accept = request.headers.get("accept", "")
    return not accept or any(word in accept for word in _INDEX_WORDS)


def _range(request: Request, size: int, digest: Digest) -> tuple[int, int] | None:
    """Returns the first and the last byte that are asked for; None for all.

    What is no range of bytes, or several of them, is as if it were not there (RFC 9110, section 14.2).
    """
    match = _RANGE.match(request.headers.get("range", "").strip())
    if match is None or not any(match.groups()) or request.method != "GET":
        return None
    if request.headers.get("if-range", f'"{digest}"').strip() != f'"{digest}"':
        return None
    if not match[1]:
        first, last = max(0, size - int(match[2])), size - 1
    else:
        first, last = int(match[1]), min(size - 1, int(match[2]) if match[2] else size - 1)
        if match[2] and int(match[2]) < first:
            return None
    if first >= size or (not match[1] and not int(match[2])):
        raise Refused(Code.RANGE_INVALID, "beyond the end of the blob", headers={"Content-Range": f"bytes */{size}"})
    return first, last


def _page(request: Request, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Returns the part of a list that is asked for, and the header that leads to the next one."""
    text = request.query.get("n", "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refused(Code.PAGINATION_NUMBER_INVALID, "n is no number", detail=text[:40])
    count = min(int(text), MAX_LISTED) if text else MAX_LISTED
    last = request.query.get("last", "")
    rest = [name for name in names if name > last]
    page = rest[:count]
    headers = {}
    if page and len(rest) > len(page):
        query = urlencode({"n": count, "last": page[-1]})
        headers["Link"] = f'<{quote(request.path)}?{query}>; rel="next"'
    return page, headers


def _json(value: dict[str, Any], headers: dict[str, str]) -> Answer:
    return Answer(headers={**_JSON, **headers}, body=jsonio.compact(value))
