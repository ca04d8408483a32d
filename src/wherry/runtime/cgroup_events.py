"""What the kernel tells of a group without being asked: lack of memory, and pressure.

Each function returns a `Watch`: a descriptor for an event loop and a way to read what came. Nothing is polled.
Source: Documentation/admin-guide/cgroup-v1/memory.rst (9 to 11), cgroup-v2.rst, Documentation/accounting/psi.rst.
"""

from __future__ import annotations

import errno
import os

from wherry.core.errors import Unsupported
from wherry.core.value import Value
from wherry.runtime.cgroup_files import numbers, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

POLLIN = 1
POLLPRI = 2
_LEVELS = ("low", "medium", "critical")


class Oom(Value):
    """What is known of lacks of memory, since the group was made."""

    times: int
    """How often memory was at its limit and nothing could be freed; on version 1 as seen by this watch."""
    kills: int
    """How many processes were killed. On version 1 a kill is counted shortly after its event."""


class Watch:
    """A descriptor that tells that something happened.

    Attributes:
        events: for which to poll: POLLIN, or POLLPRI (an event loop's "exceptional").
    """

    events = POLLIN

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        """The descriptor; closed on exec, and by `close`."""
        return self._fd

    def close(self) -> None:
        """Ends the watch."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class OomWatch(Watch):
    """Lacks of memory of one group."""

    def __init__(self, fd: int, version: int, path: str) -> None:
        super().__init__(fd)
        self._version = version
        self._path = path
        self._times = 0

    def read(self) -> Oom:
        """Returns what is known now; to be called when the descriptor is readable, and harmless otherwise."""
        if self._version == 1:
            self._times += _drain_eventfd(self._fd)
            return Oom(times=self._times, kills=numbers(read(self._path, "memory.oom_control")).get("oom_kill", 0))
        from wherry.linux.inotify import drain

        drain(self._fd)
        events = numbers(read(self._path, "memory.events"))
        return Oom(times=events.get("oom", 0), kills=events.get("oom_kill", 0))


class PressureWatch(Watch):
    """Pressure beyond a threshold of one group."""

    def __init__(self, fd: int, version: int) -> None:
        super().__init__(fd)
        self.events = POLLIN if version == 1 else POLLPRI
        self._version = version

    def read(self) -> int:
        """Takes the event; returns how many there were on version 1, where they are counted, else 1."""
        return _drain_eventfd(self._fd) if self._version == 1 else 1


def watch_oom(version: int, path: str) -> OomWatch:
    """Watches for lack of memory.

    Args:
        version: of the memory controller.
        path: the group's directory there.
    """
    if version == 1:
        return OomWatch(_event_control(path, "memory.oom_control", ""), 1, path)
    from wherry.linux.inotify import IN_MODIFY, inotify_add_watch, inotify_init1

    fd = inotify_init1()
    try:
        inotify_add_watch(fd, f"{path}/memory.events", IN_MODIFY)
    except BaseException:
        os.close(fd)
        raise
    return OomWatch(fd, 2, path)


def watch_memory_level(path: str, level: str = "medium") -> PressureWatch:
    """Watches on version 1 for memory being reclaimed with effort: ``low``, ``medium`` or ``critical``."""
    if level not in _LEVELS:
        raise ValueError(f"a level is one of {', '.join(_LEVELS)}")
    return PressureWatch(_event_control(path, "memory.pressure_level", level), 1)


def watch_pressure(path: str, what: str, *, full: bool = False, stall_us: int, window_us: int) -> PressureWatch:
    """Watches on version 2 for tasks that wait for a resource.

    Args:
        path: the group's directory.
        what: ``cpu``, ``memory`` or ``io``.
        full: all tasks wait at once, not some.
        stall_us: how much waiting, of
        window_us: how long a time, 500 ms to 10 s; without CAP_SYS_RESOURCE a multiple of 2 s.

    Raises:
        Unsupported: the kernel has no pressure information, or booted without.
    """
    file = f"{path}/{what}.pressure"
    try:
        fd = os.open(file, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(fd, b"%s %d %d\0" % (b"full" if full else b"some", stall_us, window_us))
        except BaseException:
            os.close(fd)
            raise
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
            raise Unsupported("no pressure information here", where=file, hint="boot with psi=1") from None
        raise OSError(error.errno, error.strerror, file) from None
    return PressureWatch(fd, 2)


def _event_control(path: str, name: str, argument: str) -> int:
    event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        watched = os.open(f"{path}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            control = os.open(f"{path}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(control, f"{event} {watched} {argument}".strip().encode())
            finally:
                os.close(control)
        finally:
            os.close(watched)
    except BaseException:
        os.close(event)
        raise
    return event


def _drain_eventfd(fd: int) -> int:
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0
