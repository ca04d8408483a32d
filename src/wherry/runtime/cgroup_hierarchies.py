"""Which trees of control groups are mounted here, and where in them this process is.

``/proc/self/mountinfo`` is read once for each call; a long-lived process takes `known_hierarchies`, which looks once
and for all. A mount of a part of a tree, as a container sees it without a cgroup namespace, is taken when the whole
is not mounted.
Source: proc_pid_mountinfo(5), cgroups(7).
"""

from __future__ import annotations

from wherry.core.value import Value
from wherry.runtime.cgroup_files import read

_MOUNTINFO_FIELDS = 6
_V1_CONTROLLERS = frozenset(
    (
        *("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc"),
        *("net_cls", "net_prio", "perf_event", "pids", "rdma"),
    )
)
_known: tuple[Hierarchy, ...] = ()


class Hierarchy(Value):
    """One mounted tree of control groups."""

    version: int
    controllers: tuple[str, ...]
    """v1: those of the mount, ``name=systemd`` for a named one; v2: those that its root offers."""
    mount: str
    root: str = "/"
    """Which group is at `mount`."""

    def __init__(self, version: int, controllers: tuple[str, ...], mount: str, root: str = "/") -> None:
        super().__init__(version=version, controllers=controllers, mount=mount, root=root)


def parse_hierarchies(mountinfo: str) -> tuple[Hierarchy, ...]:
    """Returns the hierarchies in the text of ``/proc/PID/mountinfo``; of v2 without its controllers."""
    found: dict[tuple[str, ...], Hierarchy] = {}
    for line in mountinfo.splitlines():
        if " cgroup" not in line:
            continue  # cheap, as most lines are of other file systems
        left, separator, right = line.partition(" - ")
        kind, _, rest = right.partition(" ")
        fields = left.split()
        if not separator or kind not in ("cgroup", "cgroup2") or len(fields) < _MOUNTINFO_FIELDS:
            continue
        controllers: tuple[str, ...] = ()
        if kind == "cgroup":
            options = rest.rsplit(" ", 1)[-1].split(",")
            controllers = tuple(item for item in options if item.startswith("name=") or item in _V1_CONTROLLERS)
        item = Hierarchy(1 if controllers else 2, controllers, _unescape(fields[4]), _unescape(fields[3]))
        if kind == "cgroup" and not controllers:
            continue
        before = found.get(controllers)
        if before is None or (before.root != "/" and item.root == "/"):
            found[controllers] = item
    return tuple(found.values())


def hierarchies(mountinfo: str = "/proc/self/mountinfo") -> tuple[Hierarchy, ...]:
    """Returns the hierarchies that are mounted here."""
    return tuple(
        item
        if item.version == 1
        else Hierarchy(2, tuple(read(item.mount, "cgroup.controllers").split()), item.mount, item.root)
        for item in parse_hierarchies(read("", mountinfo))
    )


def known_hierarchies() -> tuple[Hierarchy, ...]:
    """Returns what `hierarchies` told when it was first asked: for processes that start many containers."""
    global _known
    if not _known:
        _known = hierarchies()
    return _known


def own_group(hierarchy: Hierarchy, text: str | None = None) -> str:
    """Returns the directory of the group in which this process is.

    Args:
        hierarchy: where.
        text: of ``/proc/self/cgroup``; read unless given.
    """
    text = read("", "/proc/self/cgroup") if text is None else text
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        same = number == "0" if hierarchy.version == 2 else set(controllers.split(",")) == set(hierarchy.controllers)
        if same:
            below = path.removeprefix(hierarchy.root) if hierarchy.root != "/" else path
            return f"{hierarchy.mount}/{below.strip('/')}".rstrip("/")
    return hierarchy.mount


def _unescape(path: str) -> str:
    """Returns a path of mountinfo, in which white space and backslashes stand as octal numbers."""
    if "\\" not in path:
        return path
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, char)
    return path
