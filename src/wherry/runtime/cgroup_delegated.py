"""Control groups of somebody without root: the parts of the trees that are theirs.

An init system hands a part over (systemd's ``user@.service`` on version 2), or an administrator does by chown(2). On
version 2 containers go below the topmost group that is the user's, where no processes are, as a group may have
processes or divide its resources; on version 1 below the one that this process is in.
Source: Documentation/admin-guide/cgroup-v2.rst of Linux 6.12, "Delegation".
"""

from __future__ import annotations

import os

from wherry.runtime.cgroup_hierarchies import Hierarchy, own_group
from wherry.runtime.cgroup_place import PARENT


def delegated(container_id: str, found: tuple[Hierarchy, ...]) -> tuple[tuple[Hierarchy, ...], str]:
    """Returns the hierarchies in which this user may make groups, and the path of a container's own.

    Args:
        container_id: the container.
        found: what is mounted.

    Returns:
        No hierarchies where nothing is delegated.
    """
    if [item.version for item in found] == [2]:
        (hierarchy,) = found
        place = _topmost(hierarchy.mount, own_group(hierarchy))
        return (found, f"{place[len(hierarchy.mount) :]}/{PARENT}/{container_id}") if place else ((), "")
    kept = tuple(item for item in found if is_own(own_group(item)))
    return kept, f"{PARENT}/{container_id}"


def is_own(group: str) -> bool:
    """Tells whether this user may make groups below one, and move processes there."""
    return os.access(group, os.W_OK | os.X_OK) and os.access(f"{group}/cgroup.procs", os.W_OK)


def _topmost(mount: str, group: str) -> str:
    place = ""
    while is_own(group):
        place = group
        if group == mount:
            break
        group = os.path.dirname(group)
    return place
