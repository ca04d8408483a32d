"""Directories of control groups: where they go, how they are made, handed over and removed.

A path is made from the top in each hierarchy, and begins anew when another container's end takes an empty parent
away in between. On version 2 the controllers are enabled on the way. A group that has processes of its own cannot
hand controllers down (the kernel's "no internal processes"); when it is this process's own group and this process
is alone in it, it steps aside into a leaf named ``supervisor``.
Source: Documentation/admin-guide/cgroup-v2.rst of Linux 6.12, "Controlling Controllers", "Delegation".
"""

from __future__ import annotations

import errno
import os

from wherry.core.errors import Conflict, InvalidInput, NotFound, Unsupported
from wherry.core.value import Value
from wherry.runtime.cgroup_files import read, write
from wherry.runtime.cgroup_hierarchies import Hierarchy, hierarchies, own_group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PARENT = "wherry"
_SUPERVISOR = "supervisor"
_V2_ENABLED = ("cpu", "io", "memory", "pids")
_V2 = frozenset(_V2_ENABLED)
_CREATE_RETRIES = 64
_MAX_DEPTH = 32
_MAX_PATH_BYTES = 3000
_DELEGATE_LIST = "/sys/kernel/cgroup/delegate"
_DELEGATED = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n"
_GONE = (errno.ENOENT, errno.ENODEV)
"""ENODEV: the directory is still found, but its group has ended."""
_NOT_ENABLED = (*_GONE, errno.EBUSY, errno.EOPNOTSUPP, errno.EINVAL, errno.EACCES, errno.EPERM, errno.EROFS)


class Group(Value):
    """A container's directory in one hierarchy."""

    version: int
    controllers: tuple[str, ...]
    path: str
    made: int = 0
    """How many directories above it were made for it."""

    def __init__(self, version: int, controllers: tuple[str, ...], path: str, made: int = 0) -> None:
        super().__init__(version=version, controllers=controllers, path=path, made=made)


def default_path(container_id: str, found: tuple[Hierarchy, ...]) -> str:
    """Returns where a container goes that did not say: ``/wherry/ID``, or below this process's own group.

    The latter where the root of a hierarchy cannot be written to: in a part that was delegated to a user.
    """
    writable = all(os.access(hierarchy.mount, os.W_OK) for hierarchy in found)
    return f"{'/' if writable else ''}{PARENT}/{container_id}"


def parse_path(path: str) -> list[str]:
    """Returns the parts of a control group path.

    Raises:
        InvalidInput: it would leave the hierarchy, or names its root.
    """
    parts = [part for part in path.split("/") if part]
    if not parts or ".." in parts or "." in parts or "\0" in path or "\n" in path:
        raise InvalidInput("not a control group path", where=path)
    if len(parts) > _MAX_DEPTH or len(path.encode()) > _MAX_PATH_BYTES:
        raise InvalidInput("a control group path that is too long", where=f"{path[:60]}...")
    return parts


def make_group(hierarchy: Hierarchy, parts: list[str], *, relative: bool = False) -> Group:
    """Makes a container's directory in one hierarchy.

    Args:
        hierarchy: where.
        parts: its path.
        relative: the path begins at this process's own group.

    Raises:
        Conflict: there are processes in it.
        Unsupported: it would be in a threaded part of version 2.
    """
    start = own_group(hierarchy) if relative else hierarchy.mount
    path, new, made = _make_all(hierarchy, start, parts)
    try:
        if not new and read(path, "cgroup.procs").split():
            raise Conflict("a control group of this name has processes", where=path)
        controllers = hierarchy.controllers
        if hierarchy.version == 2:
            controllers = tuple(read(path, "cgroup.controllers").split()) if controllers else ()
            kind = read(path, "cgroup.type").strip() if relative or parts[0] != PARENT else ""
            if kind not in ("", "domain", "domain threaded"):
                raise Unsupported(
                    f"this would be a control group of type '{kind}'",
                    where=path,
                    hint="a container needs a parent of type 'domain'",
                )
    except BaseException:
        if new:
            group = Group(hierarchy.version, (), path, made)
            remove_group(group)
            remove_above((group,))
        raise
    return Group(hierarchy.version, controllers, path, made)


def _make_all(hierarchy: Hierarchy, start: str, parts: list[str]) -> tuple[str, bool, int]:
    """Makes the directories of a path below a group.

    Returns:
        (the last one, whether it is new, how many above it are).
    """
    enabled = _V2_ENABLED if hierarchy.version == 2 and not _V2.isdisjoint(hierarchy.controllers) else ()
    cpuset = hierarchy.version == 1 and "cpuset" in hierarchy.controllers
    path = f"{start}/{'/'.join(parts)}"
    if not enabled and not cpuset:
        try:  # most often there are other containers, and the group above is there
            os.mkdir(path)
            return path, True, 0
        except OSError as error:
            if error.errno not in (*_GONE, errno.EEXIST):
                raise
    for _ in range(_CREATE_RETRIES):
        path, new, made = start, False, 0
        try:
            for part in parts:
                if enabled:
                    enable(path, enabled)
                path = f"{path}/{part}"
                made += new  # the one before, which is above this
                new = _make(path)
                if new and cpuset:
                    from wherry.runtime.cgroup_v1 import inherit_cpuset  # seldom wanted

                    inherit_cpuset(path)
            return path, new, made
        except OSError as error:
            if error.errno not in _GONE:
                raise  # else another container's end took the empty parent away in between
    raise Conflict("the groups above are removed again and again", where=path)


def _make(path: str) -> bool:
    try:
        os.mkdir(path)
        return True
    except FileExistsError:
        return False


def find_groups(found: tuple[Hierarchy, ...], path: str) -> tuple[Group, ...]:
    """Returns the groups of a path that exist.

    Raises:
        NotFound: there are none.
    """
    below = "/".join(parse_path(path))
    groups = []
    for hierarchy in found:
        start = hierarchy.mount if path.startswith("/") else own_group(hierarchy)
        directory = f"{start}/{below}"
        if os.path.isdir(directory):
            controllers = hierarchy.controllers
            if hierarchy.version == 2:
                controllers = tuple(read(directory, "cgroup.controllers").split())
            groups.append(Group(hierarchy.version, controllers, directory))
    if not groups:
        raise NotFound("no control groups of this path", where=path)
    return tuple(groups)


def join(groups: tuple[Group, ...], v1_name: str, v2_name: str) -> Group | None:
    """Makes one more group for a container, or has a controller of version 2 handed down to the one that it has.

    Returns:
        The new group, or version 2's as it is now; None when this host does not have the controller.
    """
    found = hierarchies()
    parts: list[str] = []
    for group in groups:
        mount = next((item.mount for item in found if group.path.startswith(f"{item.mount}/")), None)
        if mount is None:
            continue
        parts = parts or group.path[len(mount) + 1 :].split("/")
        if group.version == 2:
            path = mount
            for part in group.path[len(mount) + 1 :].split("/"):
                enable(path, (v2_name,))
                path = f"{path}/{part}"
            controllers = tuple(read(group.path, "cgroup.controllers").split())
            if v2_name in controllers:
                return Group(2, controllers, group.path, group.made)
    for hierarchy in found:
        if parts and hierarchy.version == 1 and v1_name in hierarchy.controllers:
            return make_group(hierarchy, parts)
    return None


def enable(path: str, names: tuple[str, ...]) -> None:
    """Hands controllers of a v2 group down to its children, as far as it has them and may.

    What cannot be handed down is refused by name when a limit asks for it.
    """
    enabled = read(path, "cgroup.subtree_control").split()
    wanted = [name for name in names if name not in enabled]
    if not wanted:
        return
    offered = read(path, "cgroup.controllers").split()
    wanted = [name for name in wanted if name in offered]
    if not wanted or _enabled(path, wanted):
        return
    if _step_aside(path) and _enabled(path, wanted):
        return
    if len(wanted) > 1:
        for name in wanted:
            _enabled(path, [name])


def _enabled(path: str, names: list[str]) -> bool:
    try:
        write(path, "cgroup.subtree_control", " ".join(f"+{name}" for name in names))
    except OSError as error:
        if error.errno not in _NOT_ENABLED:
            raise
        return False
    return True


def _step_aside(path: str) -> bool:
    """Moves this process into a leaf when it is the only one in a group; tells whether it did."""
    if read(path, "cgroup.procs").split() != [str(os.getpid())]:
        return False
    try:
        _make(f"{path}/{_SUPERVISOR}")
        write(f"{path}/{_SUPERVISOR}", "cgroup.procs", "0")
    except OSError:
        return False
    return True


def give(group: Group, uid: int, gid: int) -> None:
    """Makes a group, and the files by which it is divided, a user's own."""
    os.chown(group.path, uid, gid)
    names = "cgroup.procs\ntasks\n"
    if group.version == 2:
        names = read("", _DELEGATE_LIST) or _DELEGATED
    for name in names.split():
        if "/" in name:
            continue
        try:
            os.chown(f"{group.path}/{name}", uid, gid)
        except FileNotFoundError:
            pass  # a newer kernel's list names files of controllers that are not here


def tree(path: str) -> list[str]:
    """Returns a group's directory and all below it, those below later."""
    found = [path]
    for directory in found:
        try:
            with os.scandir(directory) as entries:
                found += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            pass
    return found


def take_back(group: Group, pids: Iterable[int]) -> None:
    """Moves processes that are not in a group of version 1 itself into it; makes it again when it was removed."""
    os.makedirs(group.path, exist_ok=True)
    inside = {int(pid) for pid in read(group.path, "cgroup.procs").split()}
    for pid in pids:
        if pid not in inside:
            try:
                write(group.path, "cgroup.procs", str(pid))
            except ProcessLookupError:
                pass


def remove_group(group: Group) -> bool:
    """Removes a group and those below it; tells whether it is gone."""
    if not _removed(group.path):
        for directory in reversed(tree(group.path)):
            _removed(directory)
        if os.path.isdir(group.path):
            return False
    return True


def remove_above(groups: tuple[Group, ...]) -> None:
    """Removes the groups above those of a container that were made for it, and the one that is Wherry's own.

    Where another container is there in one hierarchy, it is in the others too, and its end sees to them all: that is
    not tried in each.
    """
    shared = False
    for group in groups:
        if shared and not group.made:
            continue
        path = os.path.dirname(group.path)
        for level in range(_MAX_DEPTH):
            if level >= group.made and os.path.basename(path) != PARENT:
                break
            try:
                os.rmdir(path)
            except OSError:
                shared = True  # another container is there
                break
            path = os.path.dirname(path)


def _removed(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
        return False
    return True
