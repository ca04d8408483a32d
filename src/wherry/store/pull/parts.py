"""Large downloads on their way: kept on disk while they come, checked at the same time, taken up where they stopped.

::

    tmp/wherry-parts/<64 hex>.filez    the beginning of a large object; locked while somebody fetches it
    tmp/wherry-parts/<64 hex>.part     that of a part of a static delta

Parts are not synced: one that a power cut has damaged is found out by its hash and thrown away. What comes goes to the
part first, and from there, in another thread, through the checks: so memory stays small however slow the disk is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from wherry.core.durable import map_os_error
from wherry.core.trace import reach
from wherry.store.disk import ofd

PARTS = "tmp/wherry-parts"
_CHUNK_BYTES = 256 * 1024


class Consumer(Protocol):
    """Checks and uses what a download brings; called from one thread at a time."""

    def write(self, data: bytes, /) -> None:
        """Takes the next piece."""

    @property
    def complete(self) -> bool:
        """Whether the whole is known to be here, so that nothing need be asked for any more."""

    def finish(self, path: str, /) -> None:
        """All is here; it also lies, as it came, in the file `path` while this runs."""

    def close(self) -> None:
        """Throws away what was not finished."""


class Part:
    """The file that keeps what has come; nameless while another process keeps the same.

    Args:
        folder: where parts lie.
        name: its name.
        keep: whether it stays when it is not finished.
    """

    def __init__(self, folder: Path, name: str, *, keep: bool = True) -> None:
        self._path: Path | None = folder / name if keep else None
        self._fd = -1
        self.size = 0
        try:
            if self._path is not None:
                folder.mkdir(parents=True, exist_ok=True)
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                if not ofd.try_lock(self._fd):
                    os.close(self._fd)
                    self._path = None
            if self._path is None:
                folder.mkdir(parents=True, exist_ok=True)
                self._fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            self.size = os.fstat(self._fd).st_size
        except OSError as error:
            raise map_os_error(error, "cannot keep a part of an object", where=folder / name) from error

    @property
    def proc_path(self) -> str:
        """A path to it for as long as it is open."""
        return f"/proc/self/fd/{self._fd}"

    def append(self, data: bytes) -> None:
        """Keeps a piece.

        Raises:
            NoSpace: the disk is full.
        """
        try:
            view = memoryview(data)
            while view:
                count = os.pwrite(self._fd, view, self.size)
                self.size += count
                view = view[count:]
        except OSError as error:
            raise map_os_error(error, "cannot keep a part of an object", where=self._path) from error
        reach("store.fetch.part")

    def read(self, at: int, end: int) -> bytes:
        """Returns what has come, from there on, in pieces of some size."""
        return os.pread(self._fd, min(_CHUNK_BYTES, end - at), at)

    def restart(self) -> None:
        """Throws what has come away."""
        os.ftruncate(self._fd, 0)
        self.size = 0

    def remove(self) -> None:
        """Throws it away altogether."""
        if self._path is not None and self._fd >= 0:
            self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Lets it go; it stays for the next try."""
        if self._fd >= 0:
            if self._path is not None and self.size == 0:
                self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


def has_part(folder: Path, name: str) -> bool:
    """Tells whether something of a download is here from before."""
    return os.path.lexists(folder / name)


class Stream:
    """One large download: what has come, how far it has been checked.

    Args:
        part: where it is kept.
        consumer: what checks it.
    """

    def __init__(self, part: Part, consumer: Consumer) -> None:
        self.part = part
        self.consumer = consumer
        self.busy = False
        """Whether another thread is at it."""
        self.ended = False
        """Whether all has come."""
        self.finished = False
        self.replaying = False
        """Whether what is here from before is being checked, and nothing has been asked for yet."""
        self._checked = 0

    @property
    def behind(self) -> int:
        """How many bytes have come and have not been checked."""
        return self.part.size - self._checked

    def advance(self) -> None:
        """Checks what has come, and finishes when that is all.

        Raises:
            IntegrityError: it is damaged.
            InvalidInput: it is malformed.
        """
        end, ended = self.part.size, self.ended
        while self._checked < end:
            piece = self.part.read(self._checked, end)
            if not piece:
                break
            self.consumer.write(piece)
            self._checked += len(piece)
        if ended or (self.replaying and self.consumer.complete):
            self.consumer.finish(self.part.proc_path)
            self.finished = True

    def close(self, *, remove: bool) -> None:
        """Lets go of it."""
        self.consumer.close()
        if remove:
            self.part.remove()
        else:
            self.part.close()
