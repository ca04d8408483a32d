"""Blobs on their way in: uploads that have begun, and what was uploaded and no manifest names yet.

::

    REPO/oci/uploads/.new-XXXXXXXX     an upload; the endpoint that takes it knows the rest of it, in memory
    REPO/oci/uploads/sha256/<64 hex>   a blob, whole and checked, that waits for its manifest

An upload belongs to the process that began it: after a restart it is unknown, and the client begins anew. Whoever stops
leaves it to `expire`. Limits: how many uploads at once, how long one may rest, how large one may be.

Source: OCI distribution-spec 1.1, "Pushing blobs".
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Digest
from wherry.image.kept import KeptBlobs, KeptWriter
from wherry.image.serving.messages import Code, Refused
from wherry.image.tidying import MAX_WAIT_S

if TYPE_CHECKING:
    from wherry.store.repository import Repository
    from wherry.store.tree.compression import Readable

MAX_UPLOADS = 256
MAX_REST_S = 3600
"""An upload to which nothing was added for so long is given up."""
MAX_BLOB_BYTES = 64 * 1024 * 1024 * 1024

_PIECE_BYTES = 256 * 1024


@dataclass(slots=True, kw_only=True)
class Upload:
    """One blob that is being uploaded."""

    identifier: str
    name: str
    """Of the repository."""
    writer: KeptWriter
    digest: Any = field(default_factory=hashlib.sha256)
    size: int = 0
    touched_s: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)
    done: bool = False

    def add(self, source: Readable, max_bytes: int) -> None:
        """Adds what can be read.

        Raises:
            Refused: it becomes larger than a blob may be.
        """
        while data := source.read(_PIECE_BYTES):
            self.size += len(data)
            if self.size > max_bytes:
                raise Refused(Code.SIZE_INVALID, f"a blob of more than {max_bytes} bytes")
            self.digest.update(data)
            self.writer.write(data)
            self.touched_s = time.monotonic()


class Uploads:
    """The uploads to one endpoint. Several threads may work on them at once, one on each."""

    def __init__(
        self, repo: Repository, *, max_blob_bytes: int = MAX_BLOB_BYTES, max_uploads: int = MAX_UPLOADS
    ) -> None:
        self.staged = KeptBlobs(repo, folder="uploads")
        self._max_blob_bytes, self._max_uploads = max_blob_bytes, max_uploads
        self._open: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def begin(self, name: str) -> str:
        """Begins an upload; returns its identifier.

        Raises:
            Refused: there are too many.
        """
        self.expire()
        with self._lock:
            if len(self._open) >= self._max_uploads:
                raise Refused(Code.TOOMANYREQUESTS, "too many uploads at once", headers={"Retry-After": "60"})
            identifier = os.urandom(16).hex()
            self._open[identifier] = Upload(identifier=identifier, name=name, writer=self.staged.writer())
        return identifier

    @contextmanager
    def working_on(self, name: str, identifier: str) -> Iterator[Upload]:
        """Gives an upload to one thread.

        Raises:
            Refused: there is none, or another request works on it.
        """
        with self._lock:
            upload = self._open.get(identifier)
        if upload is None or upload.name != name:
            raise Refused(Code.BLOB_UPLOAD_UNKNOWN, "there is no such upload", detail=identifier)
        if not upload.lock.acquire(blocking=False):
            raise Refused(Code.BLOB_UPLOAD_INVALID, "another request works on this upload", status=409)
        try:
            if upload.done:
                raise Refused(Code.BLOB_UPLOAD_UNKNOWN, "there is no such upload", detail=identifier)
            yield upload
        finally:
            upload.lock.release()

    def append(self, upload: Upload, source: Readable) -> None:
        """Adds to an upload; when the bytes cannot be taken or their sender goes, it is given up."""
        try:
            upload.add(source, self._max_blob_bytes)
        except BaseException:
            self.discard(upload)
            raise

    def finish(self, upload: Upload, digest: Digest) -> None:
        """Makes an upload a blob that waits for its manifest.

        Raises:
            Refused: it has another digest; it is gone then.
        """
        found = "sha256:" + upload.digest.hexdigest()
        try:
            if found != digest:
                raise Refused(
                    Code.DIGEST_INVALID, "the blob has another digest", detail={"expected": digest, "got": found}
                )
            upload.writer.finish(digest)
        finally:
            self.discard(upload)

    def discard(self, upload: Upload) -> None:
        """Forgets an upload; its file goes unless it is finished."""
        upload.done = True
        upload.writer.close()
        with self._lock:
            self._open.pop(upload.identifier, None)

    def expire(self) -> None:
        """Gives up what has rested for too long."""
        now = time.monotonic()
        with self._lock:
            resting = [upload for upload in self._open.values() if now - upload.touched_s > MAX_REST_S]
        for upload in resting:
            if upload.lock.acquire(blocking=False):
                try:
                    self.discard(upload)
                finally:
                    upload.lock.release()
        self.staged.remove_older(MAX_WAIT_S)

    def close(self) -> None:
        """Gives up all uploads."""
        with self._lock:
            uploads = list(self._open.values())
        for upload in uploads:
            self.discard(upload)
