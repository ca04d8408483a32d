"""The ranges of a new user namespace, written from outside it.

A process with CAP_SETUID and CAP_SETGID writes any ranges itself. One without may map its own user and group alone,
and must give up setgroups(2) for that; every other range is the business of newuidmap(1) and newgidmap(1), which look
at /etc/subuid and /etc/subgid.
Source: user_namespaces(7), "Defining user and group ID mappings"; newuidmap(1).
"""

from __future__ import annotations

import os

from wherry.core.errors import NotPermitted, ToolError
from wherry.linux.subordinate import PATH, find_tool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry.runtime.spec import IdMapping


def write_mappings(pid: int, uids: Sequence[IdMapping], gids: Sequence[IdMapping]) -> None:
    """Gives the user namespace of a process its ranges.

    Raises:
        NotPermitted: this user may not map these ids.
        ToolError: newuidmap or newgidmap says no.
    """
    if not _write(f"/proc/{pid}/uid_map", _text(uids)):
        _by_tool("newuidmap", pid, uids)
    if _write(f"/proc/{pid}/gid_map", _text(gids)):
        return
    if len(gids) == 1 and gids[0].size == 1 and gids[0].host_id == os.getegid():
        _write(f"/proc/{pid}/setgroups", b"deny")
        if _write(f"/proc/{pid}/gid_map", _text(gids)):
            return
    _by_tool("newgidmap", pid, gids)


def _text(mappings: Sequence[IdMapping]) -> bytes:
    return b"".join(b"%d %d %d\n" % (item.container_id, item.host_id, item.size) for item in mappings)


def _write(path: str, data: bytes) -> bool:
    """Tells whether the kernel let this process write the file."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
    except PermissionError:
        return False
    return True


def _by_tool(name: str, pid: int, mappings: Sequence[IdMapping]) -> None:
    path = find_tool(name)
    if path is None:
        raise NotPermitted(
            "this user cannot map these ids, and newuidmap and newgidmap are not there", hint="install uidmap"
        )
    words = [str(word) for item in mappings for word in (item.container_id, item.host_id, item.size)]
    spawned = os.posix_spawn(path, (name, str(pid), *words), {"PATH": PATH}, setsigmask=())
    if os.waitstatus_to_exitcode(os.waitpid(spawned, 0)[1]):
        raise ToolError(
            f"{name} does not map these ids: {' '.join(words)}", hint="look at this user's lines in /etc/sub[ug]id"
        )
