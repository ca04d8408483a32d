"""Output on its way from a container to its log, kept in the kernel until it is written.

What a process has read of a pipe is gone with it when it is killed. So nothing is read before it is in the log::

    container's pipe ──splice──▶ limbo ──tee──▶ scratch ──read──▶ log
                                   │
                                   └──read, once the log has it

The limbo, one pipe for all containers, is held by the keeper too, and so is each container's pipe. A small file says
before each splice whose bytes are next, and where that log ends (`_Intent`, one write of one page). Whoever finds bytes
in the limbo takes back what was written of them after that, writes them, and empties it.

The beginning of a line that is not complete is no record yet and not in the pipe any more: it is in the container's
file of unfinished lines (``unfinished.py``), of whose places the intent names the one that goes with the bytes here.

Neither file is synced: after a power cut there is no container and no limbo. *Not* promised: that a full disk
of the run root or of the log keeps this up.
"""

from __future__ import annotations

import errno
import os
from _struct import Struct

from wherry.core import trace
from wherry.engine.logwriter import STREAMS, LogWriter, Mark
from wherry.linux.pipes import SPLICE_F_NONBLOCK, tee, waiting_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.engine.unfinished import Unfinished

READ_BYTES = 64 * 1024
_INTENT = Struct("=64sBBQQI")


class Limbo:
    """The pipe between, and the file that says whose bytes are in it.

    Args:
        read_fd: the pipe.
        write_fd: its other end.
        path: of the file; made when missing.
    """

    def __init__(self, read_fd: int, write_fd: int, path: str) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self._scratch_fd, self._scratch_write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._intent_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def owner(self) -> str:
        """Returns the id of the container whose bytes are in the limbo; "" when it is empty."""
        data = os.pread(self._intent_fd, _INTENT.size, 0)
        if len(data) < _INTENT.size or not waiting_bytes(self._read_fd):
            return ""
        owner: bytes = _INTENT.unpack(data)[0]
        return owner.decode("ascii", errors="replace")

    def settle(self, log: LogWriter, unfinished: Unfinished) -> list[tuple[str, bytes]]:
        """Writes what is in the limbo to the log of its owner, whatever was written of it before.

        Returns:
            The stream and the bytes, for whoever is attached.
        """
        _, stream, place, inode, size, records = _INTENT.unpack(os.pread(self._intent_fd, _INTENT.size, 0))
        log.partial[STREAMS[stream]] = unfinished.earlier(stream, place)
        log.back_to(Mark(inode=inode, size=size, records=records))
        found = []
        while waiting_bytes(self._read_fd):
            data = self._seen()
            found.append((STREAMS[stream], data))
            log.write(STREAMS[stream], data, done=records)
            records = 0
            unfinished.keep(stream, log.partial[STREAMS[stream]])
            self._drop(len(data))
        return found

    def empty(self) -> None:
        """Throws away what is in it: its owner is gone."""
        while count := waiting_bytes(self._read_fd):
            self._drop(count)

    def move(self, container_id: str, stream: int, fd: int, log: LogWriter, unfinished: Unfinished) -> bytes | None:
        """Brings what a container printed into its log.

        Args:
            container_id: whose.
            stream: 0 for stdout, 1 for stderr.
            fd: where it comes from; does not block.
            log: where it goes.
            unfinished: the container's.

        Returns:
            The bytes, for whoever is attached; b"" at the end of the stream, None when there is nothing just now.
        """
        name = STREAMS[stream]
        place = unfinished.places[stream]
        self._intend(container_id, stream, place, log.mark())
        try:
            if not self._take(fd):
                return b""
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return b""  # the last process with the terminal is gone
        trace.reach("engine.limbo.taken")
        data = self._seen()
        log.write(name, data, marked=lambda mark: self._intend(container_id, stream, place, mark))
        trace.reach("engine.limbo.written")
        unfinished.keep(stream, log.partial[name])
        trace.reach("engine.limbo.settled")
        self._drop(len(data))
        while waiting_bytes(self._read_fd):  # more than the scratch pipe took
            data += self._move_rest(container_id, stream, log, unfinished)
        return data

    def _move_rest(self, container_id: str, stream: int, log: LogWriter, unfinished: Unfinished) -> bytes:
        name, place = STREAMS[stream], unfinished.places[stream]
        self._intend(container_id, stream, place, log.mark())
        data = self._seen()
        log.write(name, data, marked=lambda mark: self._intend(container_id, stream, place, mark))
        unfinished.keep(stream, log.partial[name])
        self._drop(len(data))
        return data

    def _intend(self, container_id: str, stream: int, place: int, mark: Mark) -> None:
        intent = _INTENT.pack(container_id.encode(), stream, place, mark.inode, mark.size, mark.records)
        os.pwrite(self._intent_fd, intent, 0)

    def _take(self, fd: int) -> int:
        try:
            return os.splice(fd, self._write_fd, READ_BYTES, flags=SPLICE_F_NONBLOCK)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        # A kernel that does not splice from terminals (before 6.5): what is read now is lost should we die here.
        return os.write(self._write_fd, os.read(fd, 4096) or b"")

    def _seen(self) -> bytes:
        count = tee(self._read_fd, self._scratch_write_fd, READ_BYTES)
        return os.read(self._scratch_fd, count)

    def _drop(self, count: int) -> None:
        while count:
            count -= len(os.read(self._read_fd, count))
