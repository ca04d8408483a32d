"""An image from the store into a registry.

What the registry has already is not sent: each blob is asked for first, and one that another repository of the same
registry has is mounted from there. The manifest goes last, so that a push that is cut leaves no name.

Source: OCI distribution-spec 1.1, "Pushing blobs", "Pushing manifests", "Mounting a blob from another repository".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, urljoin

from wherry.core.digest import Digest
from wherry.core.errors import IntegrityError, NetworkError
from wherry.core.progress import QUIET, Progress
from wherry.image.registry.client import RegistryClient, repository_path

if TYPE_CHECKING:
    from wherry.core.http import Response
    from wherry.image.outgoing import OutgoingImage

PARALLEL = 3
_PIECE_BYTES = 1024 * 1024


class Push:
    """Blobs and manifests on their way into one repository of a registry.

    Args:
        client: the registry.
        repository: as in ``/v2/NAME/``.
        mount_from: other repositories of it that may have the blobs.
        progress: is told how many bytes were sent.
    """

    def __init__(
        self,
        client: RegistryClient,
        repository: str,
        *,
        mount_from: Sequence[str] = (),
        progress: Progress = QUIET,
    ) -> None:
        self._client, self._repository, self._mount_from = client, repository, mount_from
        self._progress = progress
        self._path = repository_path(repository)
        self._scope = f"repository:{repository}:pull,push"
        self._lock = Lock()
        self._sent = self._total = 0

    def image(self, image: OutgoingImage, tag: str = "") -> Digest:
        """Sends an image, and gives it a name if it is to have one.

        Returns:
            Its manifest's digest.
        """
        jobs: dict[Digest, tuple[int, Callable[[], BinaryIO]]] = {
            layer.digest: (layer.size, layer.open) for layer in image.layers
        }
        self._total += sum(size for size, _ in jobs.values())
        with ThreadPoolExecutor(max_workers=PARALLEL, thread_name_prefix="push") as pool:
            waiting = [pool.submit(self._blob, digest, size, source) for digest, (size, source) in jobs.items()]
            for job in waiting:
                job.result()
        self.data(image.config_digest, image.config)
        return self.manifest(image.manifest, image.media_type, tag or image.digest)

    def data(self, digest: Digest, data: bytes) -> None:
        """Sends a small blob."""
        import io

        self._blob(digest, len(data), lambda: io.BytesIO(data))

    def manifest(self, raw: bytes, media_type: str, name: str) -> Digest:
        """Sends a manifest or an index, whose blobs are there, under a tag or its digest.

        Raises:
            IntegrityError: the registry has taken it for something else.
        """
        digest = Digest("sha256:" + hashlib.sha256(raw).hexdigest())
        path = f"{self._path}/manifests/{name}"
        with self._client.open(
            "PUT", path, scope=self._scope, headers={"Content-Type": media_type}, body=raw
        ) as response:
            response.read_all()
            said = response.headers.get("Docker-Content-Digest", digest)
        if said != digest:
            raise IntegrityError(f"the registry says that the manifest has the digest {said[:90]}", where=digest)
        return digest

    def has(self, digest: Digest) -> bool:
        """Tells whether the repository has a blob."""
        path = f"{self._path}/blobs/{digest}"
        with self._client.open("HEAD", path, scope=self._scope, statuses=frozenset({404})) as response:
            return response.status == 200

    def _blob(self, digest: Digest, size: int, source: Callable[[], BinaryIO]) -> None:
        if self.has(digest):
            self._tell(size)
            return
        location = self._begin(digest)
        if not location:
            self._tell(size)
            return

        def pieces() -> Iterator[bytes]:
            with source() as file:
                while data := file.read(_PIECE_BYTES):
                    yield data
                    self._tell(len(data))

        separator = "&" if "?" in location else "?"
        url = f"{location}{separator}digest={quote(digest, safe='')}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        # not sent again as it is: what went through counts already, and the upload's address may be spent
        with self._client.open("PUT", url, scope=self._scope, headers=headers, body=pieces, repeat=False) as response:
            response.read_all()

    def _begin(self, digest: Digest) -> str:
        """Begins an upload; returns its address, "" when the blob was mounted from elsewhere."""
        for other in self._mount_from:
            if other == self._repository:
                continue
            query = f"mount={quote(digest, safe='')}&from={quote(other, safe='')}"
            with self._client.open("POST", f"{self._path}/blobs/uploads/?{query}", scope=self._scope) as response:
                if response.status == 201:
                    return ""
                return _location(response)
        with self._client.open("POST", f"{self._path}/blobs/uploads/", scope=self._scope) as response:
            return _location(response)

    def _tell(self, count: int) -> None:
        with self._lock:
            self._sent += count
            self._progress.update("pushing", min(self._sent, self._total), self._total, unit="B")


def _location(response: Response) -> str:
    response.read_all()
    location = response.headers.get("Location", "")
    if response.status not in (201, 202) or not location:
        raise NetworkError("the registry does not say where to upload", where=response.url)
    return urljoin(response.url, location)


def list_tags(client: RegistryClient, repository: str, *, most: int = 100_000) -> list[str]:
    """Returns the tags of a repository, through all pages.

    Raises:
        NotFound: there is no such repository.
    """
    path = f"{repository_path(repository)}/tags/list?n=1000"
    found: list[str] = []
    while path and len(found) < most:
        value, path = client.json(path, scope=f"repository:{repository}:pull")
        tags = value.get("tags") if isinstance(value, dict) else None
        found.extend(tag for tag in tags or [] if isinstance(tag, str))
    return found
