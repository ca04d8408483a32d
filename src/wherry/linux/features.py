"""What this kernel, and this process on it, can do: probes that change nothing.

Each probe answers with a ``Finding``: whether the feature is there, what was seen, what it costs to be without
it, and how to get it. ``wherry doctor`` prints them; nothing else decides by them, because trying is better than
asking: code that needs a feature uses it and falls back.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from wherry.linux.finding import Finding

_LINUX_6_12 = (6, 12)
_CAP_NAMES = {
    0: "CAP_CHOWN",
    1: "CAP_DAC_OVERRIDE",
    12: "CAP_NET_ADMIN",
    21: "CAP_SYS_ADMIN",
    18: "CAP_SYS_CHROOT",
    27: "CAP_MKNOD",
    6: "CAP_SETGID",
    7: "CAP_SETUID",
    8: "CAP_SETPCAP",
}
_CAP_SYS_RESOURCE = 24
_MIN_SANE_TIME_S = 1_735_689_600
"""2025-01-01: a clock before that has not been set."""
_MIN_FREE_BYTES = 512 * 1024 * 1024


def examine(root: Path, *, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> Iterator[Finding]:
    """Runs every probe.

    Args:
        root: the folder in which images and containers will live; it need not exist.
        proc: where procfs is mounted.
        sys: where sysfs is mounted.
    """
    yield from _kernel(proc, sys)
    yield from _cgroups(proc, sys)
    yield from _permissions(proc)
    if os.geteuid():
        from wherry.linux.userfeatures import examine_user

        yield from examine_user(proc=proc, version=_version(os.uname().release))
    yield from _machine(root)
    yield from _tools()


def _kernel(proc: Path, sys: Path) -> Iterator[Finding]:
    release = os.uname().release
    version = _version(release)
    yield Finding(
        group="kernel",
        name="version",
        ok=version >= (5, 10),
        seen=f"Linux {release}",
        cost="openat2, pidfds and the new mount calls are missing before 5.10",
        remedy="boot a kernel of 5.10 or newer",
    )
    filesystems = {line.split()[-1] for line in _read(proc / "filesystems").splitlines() if line.strip()}
    yield _file_system("overlay", filesystems, "containers cannot start", "CONFIG_OVERLAY_FS, or `modprobe overlay`")
    backed = "erofs" in filesystems and version >= _LINUX_6_12
    yield Finding(
        group="kernel",
        name="EROFS from a file",
        ok=backed,
        seen="there" if backed else ("EROFS needs Linux 6.12 for this" if "erofs" in filesystems else "no EROFS"),
        cost="each mounted image takes a loop device; without those, images are copied out once",
        remedy="Linux 6.12 or newer with CONFIG_EROFS_FS and CONFIG_EROFS_FS_BACKED_BY_FILE",
        needed=False,
    )
    for name in ("mnt", "pid", "uts", "ipc", "net", "cgroup", "user"):
        there = (proc / "self/ns" / name).exists()
        if not there or name == "mnt":
            yield Finding(
                group="kernel",
                name="namespaces" if name == "mnt" and there else f"{name} namespace",
                ok=there,
                seen="there" if there else "missing",
                cost="containers cannot start" if name != "user" else "no unprivileged containers",
                remedy=f"CONFIG_{'UTS' if name == 'mnt' else name.upper()}_NS",
                needed=name != "user",
            )
    seccomp = _read(proc / "sys/kernel/seccomp/actions_avail").split()
    yield Finding(
        group="kernel",
        name="seccomp filters",
        ok="errno" in seccomp,
        seen="there" if seccomp else "missing",
        cost="containers run without a system call filter, or not at all",
        remedy="CONFIG_SECCOMP_FILTER",
    )
    verity = (sys / "fs/ext4/features/verity").exists()
    yield Finding(
        group="kernel",
        name="fs-verity (ext4)",
        ok=verity,
        seen="there" if verity else "missing",
        cost="objects are checked when they arrive and by fsck, not at every read",
        remedy="CONFIG_FS_VERITY and `tune2fs -O verity`",
        needed=False,
    )
    binfmt = (proc / "sys/fs/binfmt_misc/register").exists()
    yield Finding(
        group="kernel",
        name="binfmt_misc",
        ok=binfmt,
        seen="mounted" if binfmt else "not mounted",
        cost="no containers of other architectures",
        remedy="mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; apt-get install qemu-user-static",
        needed=False,
    )


def _file_system(name: str, there: set[str], cost: str, remedy: str) -> Finding:
    return Finding(
        group="kernel",
        name=f"{name} file system",
        ok=name in there,
        seen="there" if name in there else "missing",
        cost=cost,
        remedy=remedy,
    )


def _cgroups(proc: Path, sys: Path) -> Iterator[Finding]:
    found: dict[str, str] = {}
    for line in _read(proc / "self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.partition(" ")
        if kind == "cgroup2":
            mount = Path(left.split()[4])
            for name in _read(mount / "cgroup.controllers").split():
                found.setdefault(name, "v2")
        elif kind == "cgroup":
            for name in options.rsplit(" ", 1)[-1].split(","):
                found.setdefault(name, "v1")
    for name, option in (("memory", "-m"), ("cpu", "--cpus"), ("pids", "--pids-limit")):
        yield Finding(
            group="kernel",
            name=f"cgroup {name}",
            ok=name in found,
            seen=f"cgroup {found[name]}" if name in found else "no such controller",
            cost=f"{option} cannot be honoured and is refused",
            remedy=f"mount cgroup2 on {sys}/fs/cgroup, and enable {name} in cgroup.subtree_control",
            needed=name != "cpu",
        )


def _permissions(proc: Path) -> Iterator[Finding]:
    status = _read(proc / "self/status")
    effective = 0
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    missing = [name for number, name in sorted(_CAP_NAMES.items()) if not effective >> number & 1]
    yield Finding(
        group="permissions",
        name="root",
        ok=os.geteuid() == 0,
        seen=f"uid {os.geteuid()}",
        cost="bridges, limits without delegation and devices need root; containers, the store and projects do not",
        remedy="run it as root, or with sudo",
        needed=False,
    )
    yield Finding(
        group="permissions",
        name="capabilities",
        ok=not missing,
        seen="all that are needed" if not missing else "without " + " ".join(missing),
        cost="containers cannot start" if not os.geteuid() else "what needs root; see below for what does not",
        remedy="run it outside a restricted container, or give these capabilities to it",
        needed=not os.geteuid(),
    )
    resource = bool(effective >> _CAP_SYS_RESOURCE & 1)
    yield Finding(
        group="permissions",
        name="CAP_SYS_RESOURCE",
        ok=resource,
        seen="there" if resource else "missing",
        cost="hard resource limits cannot be raised, oom_score_adj cannot be lowered",
        remedy="give CAP_SYS_RESOURCE to the process",
        needed=False,
    )
    supported = _has_openat2()
    yield Finding(
        group="permissions",
        name="openat2",
        ok=supported,
        seen="there" if supported else "refused",
        cost="paths in images cannot be resolved safely; containers are refused",
        remedy="Linux 5.6 or newer, and a system call filter around Wherry that lets openat2 through",
    )


def _machine(root: Path) -> Iterator[Finding]:
    import time

    now = time.time()
    yield Finding(
        group="machine",
        name="clock",
        ok=now >= _MIN_SANE_TIME_S,
        seen=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now)),
        cost="TLS certificates seem not yet valid, and commits carry a wrong time",
        remedy="set the clock, or run an NTP client",
        needed=False,
    )
    existing = root
    while not existing.exists():
        existing = existing.parent
    space = shutil.disk_usage(existing)
    yield Finding(
        group="machine",
        name="free space",
        ok=space.free >= _MIN_FREE_BYTES,
        seen=f"{space.free // 1_000_000} MB below {existing}",
        cost="images and updates may not fit",
        remedy=f"free some space, or put the root elsewhere than {root} (--root)",
    )
    there = _user_xattrs(existing)
    yield Finding(
        group="machine",
        name="user xattrs",
        ok=there,
        seen=f"{'work' if there else 'do not work'} below {existing}",
        cost="the store cannot be bare-user",
        remedy="use ext4, xfs, btrfs or a tmpfs of Linux 6.6 or newer for the root",
    )


def _tools() -> Iterator[Finding]:
    for tool, package, cost, needed in (
        ("nft", "nftables", "no bridge networks and no published ports", not os.geteuid()),
        ("mmdebstrap", "mmdebstrap", "`wherry host` cannot build a host of packages", False),
        ("openssl", "openssl", "`wherry host new` cannot hash a password", False),
        ("sfdisk", "fdisk", "`wherry host` makes no images of disks", False),
        ("mcopy", "mtools", "`wherry host` makes no boot partitions", False),
        ("mkfs.vfat", "dosfstools", "`wherry host` makes no boot partitions", False),
        ("mke2fs", "e2fsprogs", "`wherry host` makes no ext4", False),
        ("mkfs.erofs", "erofs-utils", "`wherry host` makes no EROFS", False),
        ("mksquashfs", "squashfs-tools", "`wherry host` and `wherry pack` make no squashfs", False),
        ("qemu-system-x86_64", "qemu-system-x86 ovmf", "`wherry boot` cannot run a PC", False),
        (
            "qemu-system-aarch64",
            "qemu-system-arm qemu-efi-aarch64 u-boot-qemu",
            "`wherry boot` cannot run an ARM machine",
            False,
        ),
        ("linux.uml", "user-mode-linux", "no user-mode Linux for `wherry boot --uml`", False),
        ("ostree", "ostree", "nothing; it is only the peer that tests compare with", False),
    ):
        path = shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin")
        yield Finding(
            group="tools",
            name=tool,
            ok=path is not None,
            seen=path or "not found",
            cost=cost,
            remedy=f"apt-get install {package}",
            needed=needed,
        )


def _version(release: str) -> tuple[int, int]:
    major, _, rest = release.partition(".")
    minor = ""
    for char in rest:
        if not char.isdigit():
            break
        minor += char
    return int(major), int(minor or 0)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _user_xattrs(directory: Path) -> bool:
    try:
        os.getxattr(directory, "user.wherry.probe")
    except OSError as error:
        return error.errno == errno.ENODATA
    return True


def _has_openat2() -> bool:
    """Asks for openat2(2) with a structure of size 0, which a kernel that has it refuses with EINVAL."""
    libc = ctypes.CDLL(None, use_errno=True)
    call: Callable[..., int] = libc.syscall
    call(437, -1, b".", None, 0)
    return ctypes.get_errno() in (errno.EINVAL, errno.EFAULT)
