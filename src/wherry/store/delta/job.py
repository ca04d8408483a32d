"""What a device keeps of a delta on its way: the bytes that have come, and how far they have been applied.

::

    REPO/tmp/wherry-delta-<32 hex>/     the digits begin the delta's name
        stream      the delta's file, as far as it has come; its lock (OFD) is held while somebody works on it
        view        the object that is half made between two parts
        progress    JSON {"part": n, "view": bytes}: parts before n are applied, and their objects published

``progress`` is replaced durably, after the objects are published and ``view`` is synced; so what it says holds after a
power cut. ``stream`` is synced with it; of what came later some may be lost, and damage is found by the parts' digests.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from wherry.core import jsonio
from wherry.core.durable import make_dirs, map_os_error, write_file
from wherry.core.errors import IntegrityError, InvalidInput, Locked, WherryError
from wherry.core.trace import reach
from wherry.store.delta.format import PREAMBLE_BYTES, Head, head_bytes, parse_head
from wherry.store.disk import ofd

if TYPE_CHECKING:
    from wherry.store.repository import Repository

PREFIX = "wherry-delta-"
_MAX_PROGRESS_BYTES = 4096
_FIRST_BYTES = 64 * 1024


class Origin(Protocol):
    """Where a delta comes from."""

    def read_from(self, offset: int) -> Iterator[bytes]:
        """Gives the delta's bytes from `offset` to its end, in pieces."""


class FileOrigin:
    """A delta in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read_from(self, offset: int) -> Iterator[bytes]:
        """Gives the file's bytes from `offset` on.

        Raises:
            WherryError: it cannot be read.
        """
        try:
            with open(self.path, "rb") as file:
                file.seek(offset)
                while piece := file.read(_FIRST_BYTES):
                    yield piece
        except OSError as error:
            raise map_os_error(error, "cannot read the delta", where=self.path) from error


def read_head(origin: Origin, *, where: object) -> Head:
    """Reads the beginning of a delta.

    Raises:
        InvalidInput: it is none.
        Unsupported: its version is not known.
    """
    data = bytearray()
    wanted = PREAMBLE_BYTES
    known = False
    for piece in origin.read_from(0):
        data += piece
        if not known and len(data) >= wanted:
            wanted, known = head_bytes(bytes(data[:PREAMBLE_BYTES]), where), True
        if known and len(data) >= wanted:
            break
    return parse_head(bytes(data), where=where)


class Job:
    """A delta that is being applied; what it has survives it.

    Args:
        repo: where to.
        head: of the delta.
        origin: where its bytes come from.
    """

    def __init__(self, repo: Repository, head: Head, origin: Origin) -> None:
        self.head = head
        self._origin = origin
        self._folder = repo.path / "tmp" / f"{PREFIX}{head.name[:32]}"
        self._stream: BinaryIO | None = None
        self._pieces: Iterator[bytes] | None = None
        self.received = 0
        """How many bytes have come this time."""
        self.part = 0
        """Parts before this one are applied."""
        self.view_bytes = 0
        """So much of a half-made object is in ``view``."""

    @property
    def stream(self) -> BinaryIO:
        """The delta's file, as far as it has come."""
        if self._stream is None:
            raise WherryError("the delta is not open")
        return self._stream

    @property
    def view_path(self) -> Path:
        """Where a half-made object lies."""
        return self._folder / "view"

    @property
    def present(self) -> int:
        """How many bytes of the delta are here."""
        return os.fstat(self.stream.fileno()).st_size

    def open(self) -> None:
        """Takes up what is there.

        Raises:
            Locked: another process is at it.
            NoSpace: the disk is full.
        """
        try:
            make_dirs(self._folder, mode=0o700)
            fd = os.open(self._folder / "stream", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise map_os_error(error, "cannot keep the delta", where=self._folder) from error
        self._stream = os.fdopen(fd, "r+b", buffering=0)
        if not ofd.try_lock(fd):
            self.close()
            raise Locked("another process applies this delta", where=self._folder, hint="wait for it to end")
        self._read_progress()

    def _read_progress(self) -> None:
        try:
            data = (self._folder / "progress").read_bytes()
        except FileNotFoundError:
            return
        try:
            found = jsonio.loads(data, max_bytes=_MAX_PROGRESS_BYTES)
            part, view = int(found["part"]), int(found["view"])
            whole = self.head.size + sum(item.size for item in self.head.header.parts[:part])
            there = self.view_path.stat().st_size if view else 0
            if not 0 <= part <= len(self.head.header.parts) or there < view or self.present < whole:
                return
        except (InvalidInput, KeyError, TypeError, ValueError, OSError):
            return
        self.part, self.view_bytes = part, view

    def fetch(self, end: int, check: Callable[[], None]) -> None:
        """Has the delta's bytes up to `end` come.

        Raises:
            NetworkError: the link broke; what has come is kept.
            IntegrityError: there are not so many bytes.
            NoSpace: the disk is full.
        """
        at = self.present
        if at > self.head.total:
            self.stream.truncate(self.head.total)
            at = self.head.total
        if at >= end:
            return
        if self._pieces is None:
            self._pieces = self._origin.read_from(at)
        while at < end:
            check()
            try:
                piece = next(self._pieces, b"")
            except BaseException:
                self._pieces = None
                raise
            if not piece:
                self._pieces = None
                raise IntegrityError("the delta is cut short", where=f"{at} of {self.head.total} bytes")
            piece = piece[: self.head.total - at]
            try:
                os.pwrite(self.stream.fileno(), piece, at)
            except OSError as error:
                raise map_os_error(error, "cannot keep the delta", where=self._folder) from error
            at += len(piece)
            self.received += len(piece)
            reach("store.device-delta.piece")

    def restart(self, offset: int) -> None:
        """Throws away what has come from `offset` on: it is damaged."""
        self.stream.truncate(offset)
        self._pieces = None

    def save(self, part: int, view_bytes: int) -> None:
        """Notes durably that the parts before `part` are applied."""
        os.fsync(self.stream.fileno())
        write_file(self._folder / "progress", jsonio.canonical({"part": part, "view": view_bytes}))
        self.part, self.view_bytes = part, view_bytes
        reach("store.device-delta.progress")

    def remove(self) -> None:
        """Throws all of it away: it is applied, or no good."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Lets it go; it stays for the next time."""
        self._pieces = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None
