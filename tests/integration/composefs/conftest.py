"""Mounts of images over a repository, taken away whatever happens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from wherry.linux.erofs import mount_image
from wherry.linux.mount import MNT_DETACH, MS_RDONLY, mount, umount
from wherry.store.mount.mounting import escape_path, lowerdir_options


@contextmanager
def mounted(image: Path, objects: Path, base: Path, *, writable: bool = False) -> Iterator[Path]:
    """Mounts `image` over `objects` somewhere below `base`."""
    below, root, upper, work = (base / name for name in ("below", "root", "upper", "work"))
    for folder in (below, root, upper, work):
        folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        mount_image(image, below)
        stack.callback(umount, below, MNT_DETACH)
        options = lowerdir_options(below, objects)
        if writable:
            mount(
                "overlay",
                root,
                "overlay",
                0,
                f"{options},upperdir={escape_path(upper)},workdir={escape_path(work)}",
            )
        else:
            mount("overlay", root, "overlay", MS_RDONLY, options)
        stack.callback(umount, root, MNT_DETACH)
        yield root


def facts(path: Path) -> dict[str, object]:
    """Returns all of a file or folder that an image keeps."""
    status = os.lstat(path)
    xattrs = {
        name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
    }
    found: dict[str, object] = {
        "mode": oct(status.st_mode),
        "owner": (status.st_uid, status.st_gid),
        "xattrs": xattrs,
    }
    if path.is_symlink():
        found["target"] = os.readlink(path)
    elif path.is_file():
        found["content"] = path.read_bytes()
        found["size"] = status.st_size
    else:
        found["names"] = sorted(os.listdir(path))
    return found


def compare(first: Path, second: Path) -> int:
    """Asserts that two trees are the same; returns how many files and folders they have."""
    count = 1
    assert facts(first) == facts(second), first
    if first.is_symlink() or not first.is_dir():
        return count
    for name in os.listdir(first):
        count += compare(first / name, second / name)
    return count
