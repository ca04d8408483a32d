"""Blobs on their way from a registry: several at once, checked as they arrive, taken up where a cut left them.

::

    REPO/oci/blobs/.part-<64 hex>      a blob's first bytes; held (flock) by the process that fetches it

Whoever reads a blob need not wait for its end: reading follows what has arrived. A part of a blob outlives its
process, so that the next pull asks only for the rest (`Range`); it is hashed again from its first byte then, for it may
have been cut in the middle of a write. A blob of the wrong digest is thrown away; where it began with an earlier
process's part, which nobody reads before it is known to be right, it is fetched anew. `KeptBlobs.remove_all_but`
removes parts that are a day old.

Source: OCI distribution-spec 1.1, "Pulling blobs"; RFC 9110, section 14.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from wherry.core.digest import Digest, checksum_of, short
from wherry.core.durable import make_dirs, map_os_error
from wherry.core.errors import HttpError, IntegrityError, NetworkError, NoSpace, NotFound, NotPermitted
from wherry.core.trace import reach
from wherry.core.units import format_size
from wherry.image.kept import PART_PREFIX
from wherry.image.registry.client import RegistryClient, Stopped, repository_path

if TYPE_CHECKING:
    from wherry.core.http import Response
    from wherry.core.progress import Progress
    from wherry.store.repository import Repository

PARALLEL = 3
"""Blobs at a time, as docker's."""
_TRIES = 6
_PIECE_BYTES = 1024 * 1024
_LOCK_POLL_S = 0.1
_PARTIAL, _NOT_SATISFIABLE = 206, 416


class Download:
    """One blob on its way.

    Args:
        digest: what its bytes must have.
        size: how many there are.
        path: where they go.
        told: is called when more of it has arrived.
    """

    def __init__(self, digest: Digest, size: int, path: Path, told: Callable[[Download], None]) -> None:
        self.digest, self.size, self.path = digest, size, path
        self._told = told
        self._changed = threading.Condition()
        self._hash = hashlib.sha256()
        self._at = 0
        """How many bytes are written and hashed."""
        self._there = 0
        """How many of them may be read."""
        self._waits = False
        """Whether nobody reads before all is known to be right: it began with a part of an earlier process."""
        self._error: BaseException | None = None
        self._done = False
        self._fd = -1
        self._response: Response | None = None

    @property
    def received(self) -> int:
        """How many of its bytes are there."""
        return self._at

    def wait_for(self, offset: int) -> int:
        """Waits until bytes from `offset` on are there, and returns how many; 0 at the end of the whole and right blob.

        Raises:
            WherryError: fetching failed.
        """
        with self._changed:
            while self._there <= offset and not self._done and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            return self._there - offset

    def read(self, offset: int, size: int) -> bytes:
        """Returns bytes that are there."""
        return os.pread(self._fd, size, offset)

    # --- fetching

    def fetch(self, clients: Sequence[RegistryClient], repository: str, stop: threading.Event) -> None:
        """Fetches it: from the first of several registries that has it. Errors are told to who waits."""
        try:
            self._hold(stop)
            self._hash_part()
            self._waits = self._at > 0
            self._fetch(clients, repository, stop)
            if not self._is_right() and self._waits:
                self._begin_anew()
                self._fetch(clients, repository, stop)
            if not self._is_right():
                self.path.unlink(missing_ok=True)
                raise IntegrityError(f"a blob has the digest sha256:{self._hash.hexdigest()}", where=self.digest)
            reach("image.pull.blob")
            with self._changed:
                self._there = self._at
                self._done = True
        except BaseException as error:  # noqa: BLE001 raised again where the blob is read
            with self._changed:
                self._error = error
        finally:
            with self._changed:
                self._changed.notify_all()

    def abort(self) -> None:
        """Breaks the connection on which it comes, so that nobody waits for a silent server."""
        response = self._response
        if response is not None:
            response.abort()

    def _hold(self, stop: threading.Event) -> None:
        try:
            make_dirs(self.path.parent)
            while True:
                self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                self._lock(stop)  # another pull of the same blob comes first
                with suppress(FileNotFoundError):
                    if os.stat(self.path).st_ino == os.fstat(self._fd).st_ino:
                        return
                os.close(self._fd)  # and it has taken the file away
        except OSError as error:
            raise map_os_error(error, "cannot keep what is fetched", where=self.path) from error

    def _lock(self, stop: threading.Event) -> None:
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if stop.wait(_LOCK_POLL_S):
                    raise Stopped("the pull was given up") from None

    def _hash_part(self) -> None:
        """Takes up what an earlier process has left."""
        there = os.fstat(self._fd).st_size
        if there > self.size:
            os.ftruncate(self._fd, 0)
            return
        while self._at < there and (data := os.pread(self._fd, _PIECE_BYTES, self._at)):
            self._hash.update(data)
            self._at += len(data)

    def _is_right(self) -> bool:
        return f"sha256:{self._hash.hexdigest()}" == self.digest

    def _begin_anew(self) -> None:
        os.ftruncate(self._fd, 0)
        self._hash = hashlib.sha256()
        self._at = 0
        self._waits = False

    def _fetch(self, clients: Sequence[RegistryClient], repository: str, stop: threading.Event) -> None:
        for number, client in enumerate(clients):
            try:
                self._from(client, repository, stop)
                return
            except (NotFound, NetworkError, NotPermitted):
                if number == len(clients) - 1:
                    raise

    def _from(self, client: RegistryClient, repository: str, stop: threading.Event) -> None:
        failures = 0
        while self._at < self.size:
            before = self._at
            try:
                self._some(client, repository, stop)
            except HttpError as error:
                if error.status != _NOT_SATISFIABLE:
                    raise
                raise IntegrityError(
                    f"a blob has {self._at} bytes instead of {self.size}", where=self.digest
                ) from error
            except NetworkError:
                failures = 0 if self._at > before else failures + 1
                if failures == _TRIES:
                    raise
                client.pause(failures + 1)

    def _some(self, client: RegistryClient, repository: str, stop: threading.Event) -> None:
        """Sends one request for what is missing, and takes what comes.

        Raises:
            NetworkError: that is not all.
        """
        headers = {"Range": f"bytes={self._at}-"} if self._at else {}
        path = f"{repository_path(repository)}/blobs/{self.digest}"
        with client.open("GET", path, scope=f"repository:{repository}:pull", headers=headers) as response:
            self._response = response
            try:
                skipped = self._skipped(response)
                reach("image.pull.answered")
                for chunk in response.chunks():
                    if stop.is_set():
                        raise Stopped("the pull was given up")
                    if skipped >= len(chunk):
                        skipped -= len(chunk)
                        continue
                    self._take(chunk[skipped:])
                    skipped = 0
            finally:
                self._response = None
            if self._at < self.size:
                raise NetworkError(f"a blob ended after {self._at} of {self.size} bytes", where=response.url)

    def _wrong_size(self, found: int) -> IntegrityError:
        return IntegrityError(f"a blob has {found} bytes instead of {self.size}", where=self.digest)

    def _skipped(self, response: Response) -> int:
        """Returns how many bytes of a body are there already; the sizes are compared before any comes."""
        resumes = response.status == _PARTIAL
        if resumes and not response.headers.get("Content-Range", "").startswith(f"bytes {self._at}-"):
            raise NetworkError("it sends another part of a blob than was asked for", where=response.url)
        first = self._at if resumes else 0
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and first + int(length) != self.size:
            raise self._wrong_size(first + int(length))
        return self._at - first

    def _take(self, data: bytes) -> None:
        if self._at + len(data) > self.size:
            raise IntegrityError(f"a blob is longer than its {self.size} bytes", where=self.digest)
        _write(self._fd, data, self._at, self.path)
        self._hash.update(data)
        with self._changed:
            self._at += len(data)
            if not self._waits:
                self._there = self._at
                self._changed.notify_all()
        self._told(self)

    def close(self, *, keep_part: bool) -> None:
        """Lets go of the file; without `keep_part` it is removed."""
        if self._fd < 0:
            return
        if not keep_part:
            self.path.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1


class _Following:
    """A blob that is read while it arrives."""

    def __init__(self, download: Download) -> None:
        self._download = download
        self._offset = 0

    def read(self, size: int = -1, /) -> bytes:
        parts = []
        left = size
        while left and (there := self._download.wait_for(self._offset)):
            data = self._download.read(self._offset, there if left < 0 else min(left, there))
            self._offset += len(data)
            parts.append(data)
            left = left - len(data) if left > 0 else left
        return b"".join(parts)

    def close(self) -> None:
        """Does nothing: the file is the download's."""

    def __enter__(self) -> _Following:
        return self

    def __exit__(self, *_error: object) -> None:
        return None


class Downloads:
    """Blobs of one repository of a registry, fetched in the background; `Blobs` of an image (``image/blobs.py``).

    Args:
        repo: in whose folder parts are kept.
        clients: where to ask, in this order.
        repository: the name, as in ``/v2/NAME/``.
        sizes: what manifests say of blobs.
        progress: is told of each blob.
    """

    def __init__(
        self,
        repo: Repository,
        clients: Sequence[RegistryClient],
        repository: str,
        sizes: dict[Digest, int],
        progress: Progress,
    ) -> None:
        self._folder = repo.path / "oci" / "blobs"
        self._clients, self._repository, self._sizes, self._progress = clients, repository, sizes, progress
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=PARALLEL, thread_name_prefix="blob")
        self._downloads: dict[Digest, Download] = {}
        self._telling = threading.Lock()

    def start(self, digests: Iterable[Digest]) -> None:
        """Begins to fetch these, in this order."""
        missing = [digest for digest in digests if digest not in self._downloads]
        self._check_space(missing)
        for digest in missing:
            if digest not in self._downloads:
                download = Download(digest, self._sizes[digest], self._path(digest), self._tell)
                self._downloads[digest] = download
                self._pool.submit(download.fetch, self._clients, self._repository, self._stop)

    def _check_space(self, digests: Sequence[Digest]) -> None:
        """Refuses what cannot fit, before it is fetched; what it takes unpacked is not known."""
        paths = {digest: self._path(digest) for digest in digests}
        there = sum(path.stat().st_size for path in paths.values() if path.exists())
        needed = sum(self._sizes[digest] for digest in paths) - there
        make_dirs(self._folder)
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise NoSpace(
                f"{format_size(needed)} are to be fetched, {format_size(free)} are free",
                where=self._folder,
                hint="free some space, then try again",
            )

    def _path(self, digest: Digest) -> Path:
        return self._folder / f"{PART_PREFIX}{checksum_of(digest)}"

    def _tell(self, download: Download) -> None:
        with self._telling:
            self._progress.update(f"fetching {short(download.digest)}", download.received, download.size, unit="B")

    def open(self, name: str, /) -> BinaryIO:
        """Opens ``blobs/sha256/<hex>``; it is fetched from now on, if it is not on its way."""
        digest = _digest(name)
        if digest not in self._sizes:
            raise NotFound("no manifest names this blob", where=digest)
        self.start([digest])
        return cast(BinaryIO, _Following(self._downloads[digest]))

    def size(self, name: str, /) -> int:
        """Returns what the manifest says; the blob is checked against it when it arrives."""
        digest = _digest(name)
        if digest not in self._sizes:
            raise NotFound("no manifest names this blob", where=digest)
        return self._sizes[digest]

    def has(self, name: str, /) -> bool:
        """Tells whether a manifest names it."""
        return _digest(name) in self._sizes

    def __enter__(self) -> Downloads:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        self._stop.set()
        if kind is not None:
            for client in self._clients:
                client.stop()
            for download in self._downloads.values():
                download.abort()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for download in self._downloads.values():
            download.close(keep_part=kind is not None and download.received > 0)


def _digest(name: str) -> Digest:
    return Digest(f"sha256:{name.rpartition('/')[2]}")


def _write(fd: int, data: bytes, offset: int, path: Path) -> None:
    view = memoryview(data)
    try:
        while view:
            written = os.pwrite(fd, view, offset)
            offset += written
            view = view[written:]
    except OSError as error:
        raise map_os_error(error, "cannot keep what is fetched", where=path) from error
