"""One blob into a registry: whole where it is small, in chunks where it is not, taken up where a cut left it.

A cut upload is asked how far it came (`GET` of its address) and goes on from there; one that the registry has forgotten
begins anew. Nothing is remembered between processes: what the registry has whole by then is not sent again.

Source: OCI distribution-spec 1.1, "Pushing blobs", "Pushing a blob in chunks", "Mounting a blob from
another repository".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, urljoin

from wherry.core.digest import Digest
from wherry.core.errors import HttpError, IntegrityError, NetworkError, NotFound, NotPermitted
from wherry.image.registry.client import RegistryClient, repository_path

if TYPE_CHECKING:
    from wherry.core.http import Response

CHUNK_BYTES = 32 * 1024 * 1024
MAX_CHUNK_BYTES = 1024 * 1024 * 1024
"""The longest that a registry may ask for (``OCI-Chunk-Min-Length``)."""
_PIECE_BYTES = 1024 * 1024
_TRIES = 6
_NOT_SATISFIABLE = 416
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A blob that is to be sent.

    ``open`` gives its bytes from an offset on; ``told`` is called with the number of bytes that the registry has.
    """

    digest: Digest
    size: int
    open: Callable[[int], BinaryIO]
    told: Callable[[int], None]


class Uploader:
    """Sends blobs into one repository of a registry. May be used by several threads.

    Args:
        client: the registry.
        repository: as in ``/v2/NAME/``.
        mount_from: other repositories of it that may have the blobs.
    """

    def __init__(self, client: RegistryClient, repository: str, *, mount_from: Sequence[str] = ()) -> None:
        self._client = client
        self._repository = repository
        self._mount_from = [other for other in mount_from if other != repository]
        self._path = repository_path(repository)
        self._scope = f"repository:{repository}:pull,push"

    def has(self, digest: Digest) -> bool:
        """Tells whether the repository has a blob."""
        path = f"{self._path}/blobs/{digest}"
        with self._client.open("HEAD", path, scope=self._scope, statuses=frozenset({404})) as response:
            return response.status == 200

    def send(self, upload: Upload) -> bool:
        """Sends a blob; tells whether its bytes were sent: it may be there, or in a repository that it is mounted from.

        Raises:
            NetworkError: the registry is not reached, after all tries.
            HttpError: the registry refuses it.
        """
        if self.has(upload.digest):
            return False
        failures = 0
        while True:
            place = self._begin(upload.digest)
            if place is None:
                return False
            try:
                self._send(upload, place)
                return True
            except NotFound as error:  # it has forgotten the upload
                failure: NetworkError | NotFound = error
            except HttpError as error:
                if error.status < 500 and error.status != _NOT_SATISFIABLE:
                    raise
                failure = error
            except NetworkError as error:
                failure = error
            failures += 1
            if failures == _TRIES:
                raise failure
            self._client.pause(failures)
            if self.has(upload.digest):  # the answer alone was lost
                return True

    def _begin(self, digest: Digest) -> _Place | None:
        """Begins an upload; None when the blob was mounted from elsewhere."""
        for other in self._mount_from:
            query = f"mount={quote(digest, safe='')}&from={quote(other, safe='')}"
            scope = f"{self._scope} repository:{other}:pull"
            try:
                with self._client.open("POST", f"{self._path}/blobs/uploads/?{query}", scope=scope) as response:
                    return None if response.status == 201 else _place(response)
            except NotPermitted:
                continue  # it may be pushed, while that may not be pulled
        with self._client.open("POST", f"{self._path}/blobs/uploads/", scope=self._scope) as response:
            return _place(response)

    def _send(self, upload: Upload, place: _Place) -> None:
        if upload.size <= place.chunk_bytes:
            self._finish(upload, place, 0)
            return
        failures = 0
        at = 0
        while at < upload.size:
            end = min(upload.size, at + place.chunk_bytes)
            try:
                place = self._chunk(upload, place, at, end)
                at = end
                failures = 0
            except NetworkError as error:
                if isinstance(error, HttpError) and error.status < 500 and error.status != _NOT_SATISFIABLE:
                    raise
                failures += 1
                if failures == _TRIES:
                    raise
                self._client.pause(failures)
                place, at = self._status(upload, place)
            upload.told(at)
        self._finish(upload, place, at)

    def _chunk(self, upload: Upload, place: _Place, at: int, end: int) -> _Place:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(end - at),
            "Content-Range": f"{at}-{end - 1}",
        }
        body = self._pieces(upload, at, end)
        with self._client.open(
            "PATCH", place.url, scope=self._scope, headers=headers, body=body, repeat=False
        ) as response:
            return _place(response, place)

    def _status(self, upload: Upload, place: _Place) -> tuple[_Place, int]:
        """Asks how much of an upload has come.

        Raises:
            NotFound: the registry does not know it any more.
            NetworkError: its answer makes no sense.
        """
        with self._client.open("GET", place.url, scope=self._scope) as response:
            response.read_all()
            text = response.headers.get("Range", "0-0").strip()
            match = _RANGE.match(text)
            if match is None:
                raise NetworkError(f"it does not say how much has come: {text[:60]!r}", where=response.url)
            last = int(match[1])
            at = last + 1 if last else 0  # 0-0 is also what is said of none; one byte is sent again at most
            if at > upload.size:
                raise NetworkError(f"more has come than the {upload.size} bytes of the blob", where=response.url)
            location = response.headers.get("Location", "")
            url = urljoin(response.url, location) if location else place.url
            return _Place(url=url, chunk_bytes=place.chunk_bytes), at

    def _finish(self, upload: Upload, place: _Place, at: int) -> None:
        """Sends what is left, and the digest."""
        separator = "&" if "?" in place.url else "?"
        url = f"{place.url}{separator}digest={quote(upload.digest, safe='')}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(upload.size - at)}
        # not sent again as it is: the upload's address may be spent
        body = self._pieces(upload, at, upload.size)
        with self._client.open("PUT", url, scope=self._scope, headers=headers, body=body, repeat=False) as response:
            response.read_all()
            said = response.headers.get("Docker-Content-Digest", upload.digest)
        if said != upload.digest:
            raise NetworkError(f"the registry says that a blob has the digest {said[:90]}", where=upload.digest)

    def _pieces(self, upload: Upload, at: int, end: int) -> Callable[[], Iterator[bytes]] | bytes:
        if at == end:
            return b""

        def pieces() -> Iterator[bytes]:
            here = at
            with upload.open(at) as file:
                while here < end and (data := file.read(min(_PIECE_BYTES, end - here))):
                    self._client.check_stopped()
                    yield data
                    here += len(data)
                    upload.told(here)
                if here < end:
                    raise IntegrityError(f"a blob ended after {here} of {upload.size} bytes", where=upload.digest)
                if here == upload.size and file.read(1):  # a source that checks its bytes does so now
                    raise IntegrityError(f"a blob is longer than its {upload.size} bytes", where=upload.digest)

        return pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the next part of an upload goes."""

    url: str
    chunk_bytes: int


def _place(response: Response, before: _Place | None = None) -> _Place:
    response.read_all()
    location = response.headers.get("Location", "")
    if response.status not in (201, 202, 204) or not (location or before):
        raise NetworkError("the registry does not say where to upload", where=response.url)
    least = response.headers.get("OCI-Chunk-Min-Length", "")
    chunk_bytes = before.chunk_bytes if before else CHUNK_BYTES
    if least.isdigit():
        chunk_bytes = min(max(chunk_bytes, int(least)), MAX_CHUNK_BYTES)
    return _Place(
        url=urljoin(response.url, location) if location or not before else before.url, chunk_bytes=chunk_bytes
    )
