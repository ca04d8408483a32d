"""Where the files of an image archive are: in a directory, or in a tar archive read at random.

Names come from strangers. In a directory only plain names below it are opened, and no symbolic link is followed; in
an archive a name is a key and nothing more.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, cast

from wherry.core.digest import Digest
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound
from wherry.store.tree.compression import MAGIC_BYTES, PIECE_BYTES, HashingReader, compression_of, decompressed
from wherry.store.tree.tar import DEFAULT_LIMITS, EntryType, Limits, TarReader

MAX_JSON_BYTES = 4 * 1024 * 1024
"""The longest index, manifest or config (registries take no longer manifests either)."""
_MAX_LINKS = 8


class Blobs(Protocol):
    """Files by name."""

    def open(self, name: str, /) -> BinaryIO:
        """Opens one.

        Raises:
            NotFound: there is none of that name.
        """

    def size(self, name: str, /) -> int:
        """Returns the size of one in bytes."""

    def has(self, name: str, /) -> bool:
        """Tells whether there is one."""


class DirectoryBlobs:
    """The files below a directory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, name: str, /) -> BinaryIO:
        """Opens a regular file."""
        parts = name.split("/")
        if not all(parts) or "." in parts or ".." in parts or "\0" in name:
            raise InvalidInput(f"not the name of a file in an image layout: {name[:120]!r}", where=self._path)
        path = self._path.joinpath(*parts)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"the image lacks a file: {name[:120]}", where=self._path) from None
        except OSError as error:
            raise map_os_error(error, "cannot read the image", where=path) from error
        file = os.fdopen(fd, "rb")
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            file.close()
            raise InvalidInput("not a regular file", where=path)
        return file

    def size(self, name: str, /) -> int:
        """Returns the size of a file in bytes."""
        with self.open(name) as file:
            return os.fstat(file.fileno()).st_size

    def has(self, name: str, /) -> bool:
        """Tells whether there is a file of that name."""
        try:
            self.open(name).close()
        except NotFound:
            return False
        return True


class _Window:
    """A part of a file, read at its own position."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd, self._offset, self._left = fd, offset, size

    def read(self, size: int = -1, /) -> bytes:
        data = os.pread(self._fd, self._left if size < 0 else min(size, self._left), self._offset)
        self._offset += len(data)
        self._left -= len(data)
        return data

    def close(self) -> None:
        """Does nothing: the file is the archive's."""

    def __enter__(self) -> _Window:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class ArchiveBlobs:
    """The members of a tar archive; a compressed one is unpacked to a nameless file first.

    Args:
        path: the archive.
        scratch: a directory with room for it, unpacked.
        limits: how much to take.
    """

    def __init__(self, path: Path, *, scratch: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        self._path = path
        self._members: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        self._file = _open_plain(path, scratch, limits)
        try:
            reader = TarReader(_Window(self._file.fileno(), 0, limits.total_bytes), where=path, limits=limits)
            for entry in reader:
                self._add(entry.type, _normal(entry.name), entry.target, entry.offset, entry.size)
        except BaseException:
            self._file.close()
            raise

    def _add(self, kind: EntryType, name: str, target: str, offset: int, size: int) -> None:
        self._members.pop(name, None)
        self._links.pop(name, None)
        if kind is EntryType.FILE:
            self._members[name] = (offset, size)
        elif kind is EntryType.HARD_LINK:
            self._links[name] = _normal(target)
        elif kind is EntryType.SYMLINK:
            self._links[name] = _normal(os.path.normpath(os.path.join(os.path.dirname(name), target)))

    def close(self) -> None:
        """Closes the archive."""
        self._file.close()

    @property
    def names(self) -> list[str]:
        """The names of all files."""
        return [*self._members, *self._links]

    def _find(self, name: str) -> tuple[int, int]:
        wanted = _normal(name)
        for _ in range(_MAX_LINKS):
            if wanted in self._members:
                return self._members[wanted]
            if wanted not in self._links:
                break
            wanted = self._links[wanted]
        raise NotFound(f"the archive lacks a file: {name[:120]}", where=self._path)

    def open(self, name: str, /) -> BinaryIO:
        """Opens a member, or what it links to."""
        return cast(BinaryIO, _Window(self._file.fileno(), *self._find(name)))

    def size(self, name: str, /) -> int:
        """Returns the size of a member in bytes."""
        return self._find(name)[1]

    def has(self, name: str, /) -> bool:
        """Tells whether there is a member of that name."""
        try:
            self._find(name)
        except NotFound:
            return False
        return True


def _normal(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _open_plain(path: Path, scratch: Path, limits: Limits) -> BinaryIO:
    try:
        file: BinaryIO = open(path, "rb")  # noqa: SIM115 handed to the caller
    except OSError as error:
        raise map_os_error(error, "cannot read the archive", where=path) from error
    if not compression_of(os.pread(file.fileno(), MAGIC_BYTES, 0)):
        return file
    with file:
        plain = decompressed(file, where=path)
        unpacked = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 handed to the caller
        try:
            bounded = HashingReader(plain, max_bytes=limits.total_bytes, where=path)
            while data := bounded.read(PIECE_BYTES):
                unpacked.write(data)
            unpacked.flush()
        except OSError as error:
            unpacked.close()
            raise map_os_error(error, "cannot unpack the archive", where=path) from error
        except BaseException:
            unpacked.close()
            raise
        return unpacked


def read_json(blobs: Blobs, name: str, *, where: object, digest: Digest | None = None) -> bytes:
    """Returns a small file, checked against its digest if that is known.

    Raises:
        NotFound: it is not there.
        InvalidInput: it is too long.
        IntegrityError: it has another digest.
    """
    with blobs.open(name) as file:
        reader = HashingReader(file, max_bytes=MAX_JSON_BYTES, where=f"{where}: {name}")
        data = b"".join(iter(lambda: reader.read(MAX_JSON_BYTES), b""))
        if digest is not None:
            reader.check(digest, "a blob")
    return data
