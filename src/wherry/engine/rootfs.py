"""The root file system of a container: an overlay over the stored image, which is never written to.

::

    <root>/images/<commit>.erofs    metadata of one image (composefs), shared by all its containers
    <root>/images/<commit>/         the same as files, where the kernel cannot mount that: a private copy
    <root>/images/.new-*            half made: garbage whenever <run>/images.lock is free
    containers/<id>/upper, work     what the container wrote
    containers/<id>/rootfs          the mount point

From the top: upper, the spec's `layers`, the image. With composefs the file contents come straight from the
store's objects, as a data-only lower layer (overlayfs, Linux 6.5; a plain one before) under an EROFS image that is
mounted from its file (Linux 6.12; through a loop device before). `mount_rootfs` is called in a mount namespace of the
monitor's own, so nothing of it is ever seen outside, and all of it goes when the monitor and the container have ended,
however they end.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error
from wherry.core.errors import NotFound, Unsupported, WherryError
from wherry.core.lock import file_lock
from wherry.engine.spec import ContainerConfig
from wherry.engine.state import Paths, all_ids, read_config, remove_tree

if TYPE_CHECKING:
    from wherry.store.repository import Repository

_REFUSED = (errno.ENOTBLK, errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP, errno.EPERM)
"""What a kernel answers that has no EROFS, cannot mount it from a file, or has no data-only layers."""
MAX_LAYERS = 64


def prepare_image(paths: Paths, repo: Repository, commit: Checksum) -> None:
    """Makes what is mounted for an image, unless it is there already.

    Raises:
        NotFound: the store has no such commit.
        NoSpace: it does not fit; nothing is left of it.
    """
    image = paths.images / f"{commit}.erofs"
    if image.exists() or (paths.images / commit).exists():
        return
    with _images_lock(paths):
        if image.exists() or repo.mode.value == "archive":
            return
        _remove_half_made(paths)
        from wherry.store.mount.composefs import write_image

        write_image(repo, commit, image)


def check_out_image(paths: Paths, repo: Repository, commit: Checksum) -> Path:
    """Makes a private copy of an image's files, unless it is there already, and returns it."""
    folder = paths.images / commit
    if folder.exists():
        return folder
    with _images_lock(paths):
        if folder.exists():
            return folder
        _remove_half_made(paths)
        from wherry.linux.syncfs import syncfs
        from wherry.store.tree.checkout import checkout

        new = paths.images / f".new-{commit}"
        checkout(repo, commit, new, force_copy=True)
        syncfs(new)
        new.rename(folder)
    return folder


def mount_rootfs(paths: Paths, repo: Repository | None, config: ContainerConfig) -> Path:
    """Mounts a container's root in this process's own mount namespace.

    Args:
        paths: of the engine root.
        repo: of the image; None with a root directory.
        config: the container's.

    Returns:
        The root of the mounted tree.

    Raises:
        NotFound: a layer or the root directory is not there.
        Unsupported: the kernel refuses an overlay on these file systems.
    """
    target = paths.container(config.id) / "rootfs"
    if repo is None:
        _mount_overlay(paths, config, target, [_open_dir(Path(config.spec.rootfs), "root directory")], None)
        return target
    commit = Checksum(config.commit)
    objects: int | None = _open_dir(repo.path / "objects", "store")
    try:
        lower = _mount_image(paths, commit, target)
        if lower is not None:
            try:
                _mount_overlay(paths, config, target, [lower], objects)
                return target
            except Unsupported:
                _unmount(target)  # go on with a copy
    finally:
        if objects is not None:
            os.close(objects)
    folder = check_out_image(paths, repo, commit)
    _mount_overlay(paths, config, target, [_open_dir(folder, "image")], None)
    return target


def remove_unused_images(paths: Paths, keep: Iterable[str]) -> tuple[str, ...]:
    """Removes the images that no container uses.

    Args:
        paths: of the engine root.
        keep: commits to keep in any case.

    Returns:
        The commits whose images were removed.
    """
    wanted = set(keep)
    removed: list[str] = []
    with paths.engine_lock(), _images_lock(paths):
        for container_id in all_ids(paths):
            try:
                wanted.add(read_config(paths, container_id).commit)
            except NotFound:
                continue
        _remove_half_made(paths)
        for path in sorted(paths.images.iterdir()):
            commit = path.name.removesuffix(".erofs")
            if path.name.startswith(".") or commit in wanted:
                continue
            removed.append(commit)
            if path.is_dir():
                doomed = paths.images / f".new-{commit}"
                path.rename(doomed)
                remove_tree(doomed)
            else:
                path.unlink()
    return tuple(removed)


def _images_lock(paths: Paths) -> AbstractContextManager[None]:
    return file_lock(paths.run / "images.lock", what="the image folder")


def _remove_half_made(paths: Paths) -> None:
    for path in paths.images.glob(".new-*"):
        if path.is_dir():
            remove_tree(path)
        else:
            path.unlink()


def _open_dir(path: Path, what: str) -> int:
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"no such {what}", where=path, hint="a directory is needed there") from error


def _mount_image(paths: Paths, commit: Checksum, target: Path) -> int | None:
    """Mounts an image's metadata at `target` and returns an O_PATH descriptor of it; None where that is refused."""
    from wherry.store.mount.mounting import mount_image

    image = paths.images / f"{commit}.erofs"
    if not image.exists():
        return None
    try:
        mount_image(image, target, loop=None)
    except Unsupported:
        return None
    return os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _mount_overlay(paths: Paths, config: ContainerConfig, target: Path, lower: list[int], data: int | None) -> None:
    """Mounts the overlay; closes the descriptors in `lower`.

    The kernel is given ``/proc/self/fd`` paths: short, and without the colons and commas that options are parted by.
    """
    from wherry.linux import mount

    folder = paths.container(config.id)
    fds = list(lower)
    try:
        if len(config.spec.layers) > MAX_LAYERS:
            raise WherryError(f"a container has at most {MAX_LAYERS} layers")
        layers = [_open_dir(Path(layer), "layer") for layer in config.spec.layers]
        fds += layers
        upper = _open_dir(folder / "upper", "container folder")
        fds.append(upper)
        work = _open_dir(folder / "work", "container folder")
        fds.append(work)
        lowerdir = "lowerdir=" + ":".join(mount.fd_path(fd) for fd in (*layers, *lower))
        options = [f"upperdir={mount.fd_path(upper)}", f"workdir={mount.fd_path(work)}"]
        if data is not None:
            options += ["metacopy=on", "redirect_dir=on"]
        if config.spec.rm:
            options.append("volatile")  # gone with the container: no need to wait for the disk
        try:
            if data is None:
                mount.mount("wherry", target, "overlay", 0, ",".join((lowerdir, *options)))
                return
            try:
                data_only = f"{lowerdir}::{mount.fd_path(data)}"
                mount.mount("wherry", target, "overlay", mount.MS_SILENT, ",".join((data_only, *options)))
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                plain = f"{lowerdir}:{mount.fd_path(data)}"  # before Linux 6.5; the image hides its folders
                mount.mount("wherry", target, "overlay", 0, ",".join((plain, *options)))
        except OSError as error:
            if error.errno in _REFUSED:
                raise Unsupported(
                    f"the kernel refuses the overlay: {os.strerror(error.errno or 0)}",
                    where=folder,
                    hint="the engine's root must lie on ext4, xfs, btrfs or tmpfs; see `wherry doctor`",
                ) from error
            raise map_os_error(error, "cannot mount the overlay", where=folder) from error
    finally:
        for fd in fds:
            os.close(fd)


def _unmount(target: Path) -> None:
    from wherry.linux import mount

    mount.umount(target, mount.MNT_DETACH)
