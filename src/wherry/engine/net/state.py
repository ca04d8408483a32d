"""What the kernel has of the networks of one engine root, and who is on them, on disk.

::

    <run>/network.lock              guards all below, and every change of bridges and tables
    <run>/networks/<name>.json      Live; replaced in one step
"""

from __future__ import annotations

import fcntl
import os
import time

from wherry.core import jsonio
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, Locked
from wherry.engine.net.records import Live
from wherry.spec.values import decode_value, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from wherry.engine.state import Paths

MAX_LIVE_BYTES = 4 * 1024 * 1024
TIMEOUT_S = 60.0
_POLL_S = 0.001


class NetworkLock:
    """The lock of an engine root's networks. A forked child that keeps `fd` open keeps the lock."""

    def __init__(self, paths: Paths) -> None:
        self._path = f"{paths.run}/network.lock"
        self.fd = -1

    def __enter__(self) -> NetworkLock:
        self.fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(self.fd)
                    raise Locked("the networks are in use by another process", where=self._path) from None
                time.sleep(_POLL_S)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self.fd)
        self.fd = -1


class LiveNetworks:
    """The files of the networks that containers are on."""

    def __init__(self, paths: Paths) -> None:
        self._folder = f"{paths.run}/networks"

    def every(self) -> list[Live]:
        """Returns all of them, also those that are being removed."""
        try:
            files = sorted(os.listdir(self._folder))
        except FileNotFoundError:
            return []
        found = (self.read(name.removesuffix(".json")) for name in files if name.endswith(".json"))
        return [live for live in found if live is not None]

    def read(self, name: str) -> Live | None:
        """Returns one of them; None when nobody is on it."""
        path = f"{self._folder}/{name}.json"
        try:
            with open(path, "rb") as stream:
                data = stream.read(MAX_LIVE_BYTES + 1)
        except FileNotFoundError:
            return None
        try:
            return decode_value(Live, jsonio.loads(data, where=path, max_bytes=MAX_LIVE_BYTES), where=path)
        except InvalidInput:
            return None  # half a file after a power cut: the bridge is gone as well

    def write(self, live: Live) -> None:
        """Replaces a file; when the bytes reach the disk is left to the kernel, as they mean nothing after a reboot."""
        path = f"{self._folder}/{live.name}.json"
        temporary = f"{path}.{os.getpid()}.tmp"
        try:
            fd = _create(temporary)
        except FileNotFoundError:
            os.makedirs(self._folder, mode=0o755, exist_ok=True)
            fd = _create(temporary)
        try:
            try:
                view = memoryview(jsonio.pretty(encode(live)).encode())
                while view:
                    view = view[os.write(fd, view) :]
            finally:
                os.close(fd)
            os.replace(temporary, path)
        except OSError as error:
            os.unlink(temporary)
            raise map_os_error(error, "cannot write", where=path) from error

    def remove(self, name: str) -> None:
        """Removes a file; it may be gone."""
        try:
            os.unlink(f"{self._folder}/{name}.json")
        except FileNotFoundError:
            pass


def _create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
