"""Blobs that are kept as a registry sent them: compressed layers, so that an image can be pushed again unchanged.

A store holds files, not archives; the bytes of a compressed layer cannot be made again from them. Where somebody asks
for it (a workstation), they are kept beside the objects::

    REPO/oci/blobs/sha256/<64 hex>     one blob, whole and checked, read-only
    REPO/oci/blobs/.new-XXXXXXXX       one that is being written; of a process that ended early, if it is old
    REPO/oci/blobs/.part-<64 hex>      the first bytes of one that is fetched (registry/downloads.py)
    REPO/oci/uploads/...               the same for what was pushed and no manifest names yet (serving/uploads.py)

What is refused: to hold a blob under any name but its digest. Not promised: that a blob is still needed; `prune` keeps
those that manifests of images name.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from wherry.core.digest import Digest, checksum_of, parse_digest
from wherry.core.durable import fsync_dir, make_dirs, map_os_error
from wherry.core.errors import InvalidInput, NotFound
from wherry.store.tree.compression import HashingReader

if TYPE_CHECKING:
    from wherry.store.repository import Repository
    from wherry.store.tree.compression import Readable

PART_PREFIX = ".part-"
"""Of the first bytes of a blob that is being fetched (registry/downloads.py)."""
_PREFIX = ".new-"
_STALE_S = 24 * 3600
_PIECE_BYTES = 1024 * 1024


class KeptBlobs:
    """The kept blobs of one repository.

    Args:
        repo: the repository.
        folder: another folder below ``oci/``.
    """

    def __init__(self, repo: Repository, *, folder: str = "blobs") -> None:
        self._top = repo.path / "oci" / folder

    def path(self, digest: Digest) -> Path:
        """Returns where a blob is, or would be."""
        return self._top / "sha256" / checksum_of(digest)

    def has(self, digest: Digest) -> bool:
        """Tells whether a blob is kept."""
        return self.path(digest).is_file()

    def size(self, digest: Digest) -> int:
        """Returns the size of a kept blob in bytes.

        Raises:
            NotFound: it is not kept.
        """
        with self.open(digest) as file:
            return os.fstat(file.fileno()).st_size

    def open(self, digest: Digest) -> BinaryIO:
        """Opens a kept blob.

        Raises:
            NotFound: it is not kept.
        """
        try:
            return open(self.path(digest), "rb")
        except FileNotFoundError:
            raise NotFound("the blob is not kept", where=digest) from None
        except OSError as error:
            raise map_os_error(error, "cannot read a kept blob", where=digest) from error

    def listed(self) -> list[Digest]:
        """Returns the digests of all kept blobs, sorted."""
        try:
            names = sorted(os.listdir(self._top / "sha256"))
        except FileNotFoundError:
            return []
        return [Digest(f"sha256:{name}") for name in names if _is_digest(name)]

    def keep(self, source: Readable, digest: Digest) -> None:
        """Keeps a blob, durably.

        Args:
            source: its bytes, to the end.
            digest: what they must have.

        Raises:
            IntegrityError: they have another one.
            NoSpace: the disk is full.
        """
        with self.writer() as writer:
            reader = HashingReader(source, where=digest)
            while data := reader.read(_PIECE_BYTES):
                writer.write(data)
            reader.check(digest, "a blob")
            writer.finish(digest)

    def writer(self) -> KeptWriter:
        """Returns a file in the making. Without ``finish`` nothing of it stays."""
        make_dirs(self._top / "sha256")
        return KeptWriter(self._top)

    def adopt(self, other: KeptBlobs, digest: Digest) -> None:
        """Takes a blob over from another folder of the same repository, durably; without a copy."""
        make_dirs(self._top / "sha256")
        try:
            os.rename(other.path(digest), self.path(digest))
        except FileNotFoundError:
            if not self.has(digest):  # else somebody else has just done it
                raise NotFound("the blob is not kept", where=digest) from None
        except OSError as error:
            raise map_os_error(error, "cannot keep a blob", where=digest) from error
        fsync_dir(self._top / "sha256")

    def remove_older(self, age_s: float) -> int:
        """Removes blobs that have lain here for longer, finished or not; returns the bytes that are free now."""
        freed = 0
        for path in [*self._top.glob("sha256/*"), *self._top.glob(f"{_PREFIX}*")]:
            try:
                status = path.stat()
                if time.time() - status.st_mtime > age_s:
                    path.unlink()
                    freed += status.st_size
            except FileNotFoundError:
                continue  # taken over meanwhile
        return freed

    def remove_all_but(self, needed: Collection[Digest], *, parts_too: bool = False) -> int:
        """Removes blobs that are not needed, and what early ends have left.

        Args:
            needed: what stays.
            parts_too: also parts that are not a day old, from which a pull could go on.

        Returns:
            The bytes that are free now.
        """
        freed = 0
        for digest in self.listed():
            if digest not in needed:
                freed += self.size(digest)
                self.path(digest).unlink(missing_ok=True)
        if self._top.is_dir():
            for path in self._top.glob(f"{_PREFIX}*"):
                if time.time() - path.stat().st_mtime > _STALE_S:
                    freed += path.stat().st_size
                    path.unlink(missing_ok=True)
            for path in self._top.glob(f"{PART_PREFIX}*"):
                freed += _remove_part(path, stale_s=0 if parts_too else _STALE_S)
        return freed


def _remove_part(path: Path, *, stale_s: float) -> int:
    """Removes what a broken transfer has left, unless one is at work on it; returns the bytes that are free now."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(fd)
        if time.time() - status.st_mtime < stale_s:
            return 0
        path.unlink(missing_ok=True)
        return status.st_size
    except BlockingIOError:
        return 0
    finally:
        os.close(fd)


class KeptWriter:
    """A blob in the making."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._path = top / f"{_PREFIX}{os.urandom(8).hex()}"
        self._file = open(self._path, "xb")  # noqa: SIM115 closed at exit
        self._done = False

    def write(self, data: bytes | memoryview) -> None:
        """Adds bytes."""
        try:
            self._file.write(data)
        except OSError as error:
            raise map_os_error(error, "cannot keep a blob", where=self._path) from error

    def finish(self, digest: Digest) -> None:
        """Gives the blob its name; the caller has checked that this is its digest."""
        try:
            self._file.flush()
            os.fchmod(self._file.fileno(), 0o444)
            os.fsync(self._file.fileno())
            os.rename(self._path, self._top / "sha256" / checksum_of(digest))
        except OSError as error:
            raise map_os_error(error, "cannot keep a blob", where=digest) from error
        self._done = True
        fsync_dir(self._top / "sha256")

    def __enter__(self) -> KeptWriter:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file, and removes it unless it is finished."""
        self._file.close()
        if not self._done:
            self._path.unlink(missing_ok=True)


def _is_digest(name: str) -> bool:
    try:
        parse_digest(f"sha256:{name}")
    except InvalidInput:
        return False
    return True
