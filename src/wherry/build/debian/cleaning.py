"""What an installation leaves that belongs to the machine or the moment, and not to the host: it is taken away.

After that, two builds of one list are the same: files, modes, owners, links. Times later than the build's epoch become
the epoch. What Python compiled is marked to be taken without a look at the source's time, which an image does not keep.

Source: the Reproducible Builds project's list of variations; PEP 552 for the head of .pyc files.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from wherry.core.durable import map_os_error

GONE = (
    "etc/.pwd.lock",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/apt/sources.list",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/group-",
    "etc/gshadow-",
    "etc/hostname",
    "etc/passwd-",
    "etc/resolv.conf",
    "etc/shadow-",
    "etc/subgid-",
    "etc/subuid-",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/arch",
    "var/lib/dpkg/available",
    "var/lib/dpkg/available-old",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/statoverride-old",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/triggers/Lock",
    "var/lib/systemd/random-seed",
)
"""Files."""
EMPTY = (
    "boot",
    "dev",
    "etc/apt/sources.list.d",
    "proc",
    "run",
    "sys",
    "tmp",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
    "var/tmp",
)
"""Folders that nothing stays in."""
KEPT_LOGS = ("var/log/journal", "var/log/private")
PATTERNS = ("etc/ssh/ssh_host_*_key*", "var/lib/systemd/catalog/database")
FOLDERS = {
    "dev": 0o755,
    "etc": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "var/tmp": 0o1777,
}
"""What every root has."""
_PYC_HEAD_BYTES = 16
_PYC_HASH, _PYC_CHECKED = 1, 2


def clean(root: Path, *, epoch: int) -> None:
    """Takes away what is not the host's.

    Args:
        root: the tree.
        epoch: the latest time that anything has.

    Raises:
        WherryError: a file cannot be changed.
    """
    try:
        for name in GONE:
            (root / name).unlink(missing_ok=True)
        for pattern in PATTERNS:
            for path in root.glob(pattern):
                path.unlink()
        for name in EMPTY:
            _empty(root, root / name)
        for name, mode in FOLDERS.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name).chmod(mode)
        _machine_id(root)
        for folder, _, files in os.walk(root):
            for name in files:
                if name.endswith(".pyc"):
                    unchecked(Path(folder, name))
        _clamp(root, epoch)
    except OSError as error:
        raise map_os_error(error, "cannot clean the host's root", where=error.filename) from error


def _empty(root: Path, folder: Path) -> None:
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in folder.iterdir():
        if str(path.relative_to(root)) in KEPT_LOGS:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _machine_id(root: Path) -> None:
    """An empty file: systemd makes an identity of each machine's own, in memory where it cannot write.

    Source: machine-id(5), "Initialization".
    """
    path = root / "etc/machine-id"
    if path.is_symlink() or path.exists() or (root / "usr/lib/systemd/systemd").exists():
        path.unlink(missing_ok=True)
        path.touch(mode=0o644)
        path.chmod(0o444)


def unchecked(path: Path) -> None:
    """Marks a .pyc file to be used as it is, whatever the source's time or digest (PEP 552, "unchecked hash-based")."""
    if path.is_symlink() or not path.is_file():
        return
    with open(path, "r+b") as file:
        head = file.read(_PYC_HEAD_BYTES)
        if len(head) < _PYC_HEAD_BYTES:
            return
        flags = int.from_bytes(head[4:8], "little")
        if flags & ~(_PYC_HASH | _PYC_CHECKED):
            return  # of a later format
        file.seek(4)
        # where there was a time, eight bytes that nobody compares stand for the digest
        digest = head[8:] if flags & _PYC_HASH else bytes(8)
        file.write(_PYC_HASH.to_bytes(4, "little") + digest)


def _paths(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root, topdown=False):
        yield from (os.path.join(folder, name) for name in files)
        yield from (os.path.join(folder, name) for name in folders)
    yield str(root)


def _clamp(root: Path, epoch: int) -> None:
    for path in _paths(root):
        status = os.lstat(path)
        if status.st_mtime > epoch or stat.S_ISDIR(status.st_mode):
            # folders get their times from what was made in them, in no order that stays
            os.utime(path, (epoch, epoch), follow_symlinks=False)
