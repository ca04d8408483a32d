"""Packages unpacked into one tree, with nothing in them run: the variant ``extract``, and what is needed for the boot.

The tree has /usr merged, as the distribution's own has since Debian 12. What maintainers' scripts would have done is
done here as far as a small host needs it: the usual folders, the users that every host has, the names of busybox.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.initramfs import applets
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from wherry.build.debian.lock import Package
    from wherry.build.steps import Place

MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
FOLDERS = ("boot", "etc", "home", "mnt", "opt", "srv", "usr/bin", "usr/lib", "usr/sbin", "var/lib", "var/log")
USERS = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
GROUPS = (
    "root:0 daemon:1 sys:3 adm:4 tty:5 disk:6 lp:7 man:12 kmem:15 dialout:20 sudo:27 audio:29 shadow:42 utmp:43 "
    "video:44 plugdev:46 staff:50 users:100 nogroup:65534"
)
_SHADOW_GROUP = 42
_IN_SBIN = frozenset((
    "acpid", "arp", "blkdiscard", "crond", "depmod", "fdisk", "fsfreeze", "fstrim", "getty", "halt", "hwclock",
    "ifconfig", "ifdown", "ifup", "init", "insmod", "ip", "klogd", "losetup", "lsmod", "mdev", "mkdosfs", "mke2fs",
    "mkswap", "modprobe", "pivot_root", "poweroff", "reboot", "rmmod", "route", "start-stop-daemon", "sulogin",
    "swapoff", "swapon", "switch_root", "sysctl", "syslogd", "udhcpc", "watchdog",
))  # fmt: skip
"""Commands that others look for in /sbin."""


def unpack(place: Place, packages: Sequence[Package], debs: Path, root: Path) -> None:
    """Unpacks packages into one tree.

    Args:
        place: the step's.
        packages: which, in order; a file of a later one takes the place of an earlier one's.
        debs: the folder with their files.
        root: the tree, which is made.

    Raises:
        InvalidInput: a package has a file where another one has a folder.
    """
    root.mkdir(parents=True, exist_ok=True)
    for name in MERGED[:2] + MERGED[-1:]:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    for number, package in enumerate(packages):
        place.progress.update("unpacking packages", number, len(packages), unit="packages")
        folder = place.scratch / f"unpacked-{number}"
        place.run(["dpkg-deb", "--extract", str(debs / package.file_name), str(folder)])
        try:
            _merge(folder, root, package.name)
            shutil.rmtree(folder)
        except OSError as error:
            raise map_os_error(error, "cannot unpack a package", where=error.filename) from error
    place.progress.update("unpacking packages", len(packages), len(packages), unit="packages")


def _merge(folder: Path, root: Path, package: str) -> None:
    for current, folders, files in os.walk(folder):
        below = Path(current).relative_to(folder)
        links = [name for name in folders if os.path.islink(os.path.join(current, name))]
        for name in folders:
            if name not in links:
                _folder(Path(current, name), _target(root, below / name), package)
        for name in (*files, *links):
            target = _target(root, below / name)
            if target.is_dir() and not target.is_symlink():
                raise InvalidInput(f"{package} has a file where another package has a folder", where=f"/{below / name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(os.path.join(current, name), target)


def _target(root: Path, path: Path) -> Path:
    """Returns the place of a package's file, with /usr merged; of links that packages bring themselves, too."""
    return root / "usr" / path if path.parts[0] in MERGED else root / path


def _folder(source: Path, target: Path, package: str) -> None:
    if target.is_symlink() and target.is_dir():
        return
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise InvalidInput(f"{package} has a folder where another package has a file", where=target)
    target.mkdir(parents=True, exist_ok=True)
    status = source.stat()
    target.chmod(stat.S_IMODE(status.st_mode))
    os.chown(target, status.st_uid, status.st_gid)


def furnish(root: Path) -> None:
    """Makes what scripts of packages would have made: folders, root and a few users, the names of busybox."""
    try:
        for name in FOLDERS:
            (root / name).mkdir(parents=True, exist_ok=True)
        etc = root / "etc"
        _write(etc / "passwd", USERS, 0o644)
        names = [line.split(":")[0] for line in USERS.splitlines()]
        _write(etc / "shadow", "".join(f"{name}:*:0:0:99999:7:::\n" for name in names), 0o640, gid=_SHADOW_GROUP)
        groups = [word.split(":") for word in GROUPS.split()]
        _write(etc / "group", "".join(f"{name}:x:{gid}:\n" for name, gid in groups), 0o644)
        _write(etc / "gshadow", "".join(f"{name}:*::\n" for name, _ in groups), 0o640, gid=_SHADOW_GROUP)
        _write(etc / "shells", "/bin/sh\n/bin/ash\n", 0o644)
        busybox = next((path for path in (root / "usr/bin/busybox",) if path.is_file()), None)
        if busybox is not None:
            for name in applets(busybox.read_bytes()):
                link = root / "usr" / ("sbin" if name in _IN_SBIN else "bin") / name
                if not link.is_symlink() and not link.exists():
                    link.symlink_to("../bin/busybox" if name in _IN_SBIN else "busybox")
    except OSError as error:
        raise map_os_error(error, "cannot furnish the host's root", where=error.filename) from error


def _write(path: Path, text: str, mode: int, *, gid: int = 0) -> None:
    if path.exists() or path.is_symlink():
        return
    path.write_text(text)
    os.chown(path, 0, gid)
    path.chmod(mode)
