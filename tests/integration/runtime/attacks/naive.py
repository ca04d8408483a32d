"""A runtime as it should not be, to show that an attack is one; and what an attacker is after, to be compared."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from wherry.linux import beneath, masking, mountplan, mountsteps

SECRET = "a secret of the host"


def resolve_by_path(patch: pytest.MonkeyPatch) -> None:
    """Has every path below a root looked up as root's path and the container's behind it, links and all."""

    def openat2(dir_fd: int, path: str | bytes, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
        root = os.readlink(f"/proc/self/fd/{dir_fd}")
        return os.open(f"{root}/{os.fsdecode(path).lstrip('/')}", flags | os.O_CLOEXEC, mode)

    def make_file(root_fd: int, path: str, *, mode: int = 0o644, follow_symlinks: bool = True) -> int:
        place = Path(os.readlink(f"/proc/self/fd/{root_fd}") + path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        return os.open(place, os.O_PATH | os.O_CLOEXEC)

    patch.setattr(beneath, "openat2", openat2)
    patch.setattr(mountsteps, "make_file", make_file)


def take_null_from_the_container(patch: pytest.MonkeyPatch) -> None:
    """Has files masked by whatever is at the container's /dev/null when it is needed (CVE-2025-31133)."""

    def null_device(work: mountplan.Work) -> int:
        return beneath.open_in_root(work.root_fd, "/dev/null")

    patch.setattr(masking, "null_device", null_device)


def make_outside(path: Path) -> Path:
    """Makes a folder that no container has any business in."""
    (path / "etc").mkdir(parents=True)
    (path / "secret").write_text(SECRET)
    (path / "etc/secret").write_text(SECRET)
    return path


def fingerprint(path: Path) -> list[tuple[object, ...]]:
    """Returns everything that can be seen of a tree, but access times."""
    found: list[tuple[object, ...]] = []
    for place in sorted((path, *path.rglob("*"))):
        there = place.lstat()
        content = place.read_bytes() if stat.S_ISREG(there.st_mode) else b""
        owner = (there.st_mode, there.st_uid, there.st_gid)
        found.append((str(place), *owner, there.st_nlink, there.st_rdev, there.st_mtime_ns, content))
    return found
