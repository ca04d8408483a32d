"""An image from the store into a registry.

What the registry has already is not sent: each blob is asked for first, and one that another repository of the same
registry has is mounted from there. The manifest goes last, an index after its manifests, so that a push that is cut
leaves no name.

Source: OCI distribution-spec 1.1, "Pushing manifests".
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO

from wherry.core.digest import Digest, short
from wherry.core.errors import IntegrityError
from wherry.core.progress import QUIET, Progress
from wherry.image.registry.client import RegistryClient, repository_path
from wherry.image.registry.uploading import Upload, Uploader

if TYPE_CHECKING:
    from wherry.image.outgoing import OutgoingImage
    from wherry.image.outgoingindex import OutgoingIndex

PARALLEL = 3


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
        self._client = client
        self._progress = progress
        self._path = repository_path(repository)
        self._scope = f"repository:{repository}:pull,push"
        self._uploader = Uploader(client, repository, mount_from=mount_from)
        self._lock = Lock()

    def image(self, image: OutgoingImage, tag: str = "") -> Digest:
        """Sends an image, and gives it a name if it is to have one.

        Returns:
            Its manifest's digest.
        """
        self.blobs([(layer.digest, layer.size, layer.open) for layer in image.layers])
        self.data(image.config_digest, image.config)
        return self.manifest(image.manifest, image.media_type, tag or image.digest)

    def index(self, index: OutgoingIndex, tag: str) -> Digest:
        """Sends an index with all that it names, and gives it a name.

        Returns:
            Its digest.
        """
        for member in index.members:
            self.image(member)
        return self.manifest(index.manifest, index.media_type, tag)

    def blobs(self, blobs: Sequence[tuple[Digest, int, Callable[[int], BinaryIO]]]) -> None:
        """Sends blobs, several at a time: digest, size, and what opens each at an offset."""
        once = {digest: (size, open_at) for digest, size, open_at in blobs}
        with ThreadPoolExecutor(max_workers=PARALLEL, thread_name_prefix="push") as pool:
            jobs = [pool.submit(self._blob, digest, size, source) for digest, (size, source) in once.items()]
            try:
                wait(jobs, return_when=FIRST_EXCEPTION)
                for job in jobs:
                    if job.done():
                        job.result()
            except BaseException:
                self._client.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def data(self, digest: Digest, data: bytes) -> None:
        """Sends a small blob."""

        def open_at(offset: int) -> BinaryIO:
            return io.BytesIO(data[offset:])

        self._uploader.send(Upload(digest=digest, size=len(data), open=open_at, told=lambda _: None))

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
        return self._uploader.has(digest)

    def _blob(self, digest: Digest, size: int, source: Callable[[int], BinaryIO]) -> None:
        def told(sent: int) -> None:
            with self._lock:
                self._progress.update(f"pushing {short(digest)}", sent, size, unit="B")

        self._uploader.send(Upload(digest=digest, size=size, open=source, told=told))
        told(size)


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
