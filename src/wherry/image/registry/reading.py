"""One blob of a registry, read front to back without being kept: what is copied elsewhere passes by here.

A cut is taken up where it was. A blob that is read from its first byte to its end is checked against its digest: the
last read raises instead of saying that this is all. Who begins in the middle (an upload that goes on) has to trust
whoever takes the whole.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from wherry.core.digest import Digest
from wherry.core.errors import HttpError, IntegrityError, NetworkError, NotFound, NotPermitted
from wherry.image.registry.client import RegistryClient, repository_path

if TYPE_CHECKING:
    from wherry.core.http import Response

_TRIES = 6
_PARTIAL = 206


class RemoteBlob(io.RawIOBase):
    """A blob as a file that is read once.

    Args:
        clients: where to ask, in this order.
        repository: as in ``/v2/NAME/``.
        digest: what it must have.
        size: what the manifest says.
        offset: where to begin.
    """

    def __init__(
        self, clients: Sequence[RegistryClient], repository: str, digest: Digest, size: int, offset: int = 0
    ) -> None:
        super().__init__()
        self._clients, self._repository, self._digest, self._size = list(clients), repository, digest, size
        self._at = offset
        self._hash = hashlib.sha256() if offset == 0 else None
        self._stack = ExitStack()
        self._chunks: Iterator[bytes] | None = None
        self._rest = b""
        self._failures = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Returns up to `size` bytes; none at the end.

        Raises:
            IntegrityError: the whole has another digest or size than it should have.
            NetworkError: the registry is not reached, after all tries.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(1024 * 1024), b""))
        while not self._rest and self._at < self._size:
            self._rest = self._next()
        data, self._rest = self._rest[:size], self._rest[size:]
        self._at += len(data)
        if self._hash is not None:
            self._hash.update(data)
            if not data and size and f"sha256:{self._hash.hexdigest()}" != self._digest:
                raise IntegrityError(f"a blob has the digest sha256:{self._hash.hexdigest()}", where=self._digest)
        return data

    def close(self) -> None:
        """Lets go of the connection."""
        self._stack.close()
        super().close()

    def _next(self) -> bytes:
        """Returns what comes next; opens a connection for it where there is none."""
        try:
            if self._chunks is None:
                self._chunks = self._open()
            data = next(self._chunks, b"")
            if not data:
                raise NetworkError(f"a blob ended after {self._at} of {self._size} bytes", where=self._digest)
            if self._at + len(data) > self._size:
                raise IntegrityError(f"a blob is longer than its {self._size} bytes", where=self._digest)
            self._failures = 0
            return data
        except (NotFound, HttpError, NotPermitted):
            self._drop()
            if len(self._clients) == 1:
                raise
            del self._clients[0]
        except NetworkError:
            self._drop()
            self._failures += 1
            if self._failures >= _TRIES:
                if len(self._clients) == 1:
                    raise
                del self._clients[0]
                self._failures = 0
            else:
                self._clients[0].pause(self._failures)
        return b""

    def _open(self) -> Iterator[bytes]:
        path = f"{repository_path(self._repository)}/blobs/{self._digest}"
        headers = {"Range": f"bytes={self._at}-"} if self._at else {}
        response = self._stack.enter_context(
            self._clients[0].open("GET", path, scope=f"repository:{self._repository}:pull", headers=headers)
        )
        return _after(response, self._at if self._at and response.status != _PARTIAL else 0)

    def _drop(self) -> None:
        self._chunks = None
        self._stack.close()


def _after(response: Response, skipped: int) -> Iterator[bytes]:
    for chunk in response.chunks():
        if skipped >= len(chunk):
            skipped -= len(chunk)
            continue
        yield chunk[skipped:]
        skipped = 0
