"""Where this process stands among user namespaces: in the machine's, or in one whose root is somebody else outside.

In the latter root has its rights over what the namespace owns alone: it mounts overlays and new kernel file systems,
but no disk, makes no device nodes, and gives files to those ids only that are mapped.
Source: user_namespaces(7); ioctl_ns(2).
"""

from __future__ import annotations

import fcntl
import os

_WHOLE = 0xFFFFFFFF
_NS_GET_PARENT = 0xB702
"""``_IO(0xb7, 2)``: the same on every architecture, as it carries no size or direction."""
_NS_GET_USERNS = 0xB701
_inside: bool | None = None


def inside() -> bool:
    """Tells whether this process is in a user namespace that has not every id of the machine; looks once."""
    global _inside
    if _inside is None:
        _inside = mapped("uid") < _WHOLE
    return _inside


def forget() -> None:
    """Has `inside` look again: this process has entered another namespace."""
    global _inside
    _inside = None


def mapped(kind: str) -> int:
    """Returns how many ids this process's user namespace has.

    Args:
        kind: ``uid`` or ``gid``.
    """
    return sum(size for _, _, size in _ranges(kind))


def has_id(kind: str, number: int) -> bool:
    """Tells whether an id is mapped in this process's user namespace."""
    return any(first <= number < first + size for first, _, size in _ranges(kind))


def has_one_id() -> bool:
    """Tells whether this process is in a user namespace with nobody in it but its root."""
    return inside() and mapped("uid") == 1


def owns_network() -> bool:
    """Tells whether this process's network namespace belongs to its user namespace, so that its root may change it.

    So it is for root of a whole container, and not for a user's own namespace on the host's network.
    """
    network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        owner = fcntl.ioctl(network, _NS_GET_USERNS)
    except OSError:
        return False  # EPERM: it is out of reach
    finally:
        os.close(network)
    try:
        return os.fstat(owner).st_ino == os.stat("/proc/self/ns/user").st_ino
    finally:
        os.close(owner)


def parent(fd: int) -> int | None:
    """Returns a descriptor of the parent of the user namespace that `fd` is open on; None when it is out of reach."""
    try:
        return fcntl.ioctl(fd, _NS_GET_PARENT)
    except OSError:
        return None


def _ranges(kind: str) -> list[tuple[int, int, int]]:
    try:
        fd = os.open(f"/proc/self/{kind}_map", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return [(0, 0, _WHOLE)]  # a kernel without user namespaces
    try:
        text = os.read(fd, 64 * 1024)
    finally:
        os.close(fd)
    found = []
    for line in text.splitlines():
        first, outside, size = line.split()
        found.append((int(first), int(outside), int(size)))
    return found
