"""What somebody without root has and lacks for containers: probes that change nothing, for ``wherry doctor``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from wherry.linux import subordinate
from wherry.linux.finding import Finding
from wherry.linux.namespaces import CLONE_NEWNS, CLONE_NEWUSER, unshare

GROUP = "without root"
_LINUX_5_11 = (5, 11)
_USER_NAMESPACES = (
    ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
)


def examine_user(*, proc: Path = Path("/proc"), version: tuple[int, int]) -> Iterator[Finding]:
    """Runs every probe, as the user that this process is.

    Args:
        proc: where procfs is mounted.
        version: the kernel's.
    """
    there = _try_user_namespace()
    remedies = [remedy for name, bad, remedy in _USER_NAMESPACES if _text(proc / "sys" / name).strip() == bad]
    yield Finding(
        group=GROUP,
        name="user namespaces",
        ok=there,
        seen="work" if there else "refused",
        cost="no containers without root",
        remedy=f"as root: {'; '.join(remedies)}" if remedies else "boot a kernel with CONFIG_USER_NS; run it as root",
    )
    tools = [name for name in ("newuidmap", "newgidmap") if subordinate.find_tool(name) is None]
    yield Finding(
        group=GROUP,
        name="newuidmap",
        ok=not tools,
        seen="there" if not tools else f"no {' and no '.join(tools)}",
        cost="every file of an image is the user's own, and no other user can be in a container",
        remedy="as root: apt-get install uidmap",
        needed=False,
    )
    yield _ranges()
    overlay = version >= _LINUX_5_11
    yield Finding(
        group=GROUP,
        name="overlay of a user",
        ok=overlay,
        seen="there" if overlay else "needs Linux 5.11",
        cost="containers start from a directory alone, and write to it: --rootfs DIR:direct",
        remedy="boot a kernel of 5.11 or newer",
    )
    yield Finding(
        group=GROUP,
        name="images as files",
        ok=True,
        seen="copied out once each, as a user cannot mount EROFS",
    )
    helper = shutil.which("slirp4netns")
    yield Finding(
        group=GROUP,
        name="slirp4netns",
        ok=helper is not None,
        seen=helper or "not found",
        cost="no network but the host's (--network host) or none",
        remedy="as root: apt-get install slirp4netns",
        needed=False,
    )
    tun = os.access("/dev/net/tun", os.R_OK | os.W_OK)
    yield Finding(
        group=GROUP,
        name="/dev/net/tun",
        ok=tun,
        seen="may be used" if tun else "missing, or not for this user",
        cost="slirp4netns cannot give a network",
        remedy="as root: modprobe tun; chmod 666 /dev/net/tun",
        needed=False,
    )
    yield _own_groups(proc)


def _ranges() -> Finding:
    uid = os.geteuid()
    found = {name: subordinate.ranges_of(f"/etc/{name}", uid) for name in ("subuid", "subgid")}
    lacking = [name for name, ranges in found.items() if not ranges]
    name = subordinate.user_name(uid)
    return Finding(
        group=GROUP,
        name="subordinate ids",
        ok=not lacking,
        seen=f"{sum(size for _, size in found['subuid'])} ids" if not lacking else f"none in {', '.join(lacking)}",
        cost="every file of an image is the user's own, and no other user can be in a container",
        remedy=f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}",
        needed=False,
    )


def _own_groups(proc: Path) -> Finding:
    own = []
    for line in _text(proc / "self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith(("cgroup2 ", "cgroup ")):
            own.append((left.split()[4], right))
    groups = [line.split(":", 2) for line in _text(proc / "self/cgroup").splitlines()]
    writable = False
    for mount, right in own:
        for _, controllers, path in (fields for fields in groups if len(fields) == 3):
            same = right.startswith("cgroup2 ") if not controllers else right.endswith(f",{controllers}")
            writable = writable or (same and os.access(f"{mount}/{path.strip('/')}", os.W_OK))
    return Finding(
        group=GROUP,
        name="control groups",
        ok=writable,
        seen="delegated" if writable else "not this user's",
        cost="limits (-m, --cpus, --pids-limit) and pause are refused",
        remedy="with systemd and cgroup v2: systemd-run --user --scope -p Delegate=yes wherry run ...",
        needed=False,
    )


def _try_user_namespace() -> bool:
    """Tries in a child, which ends at once."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            unshare(CLONE_NEWUSER | CLONE_NEWNS)
            status = 0
        except OSError:
            pass
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
