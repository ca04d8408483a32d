"""The root file system of a container: an overlay over the stored image, which is never written to.

::

    <root>/images/<commit>.erofs    metadata of one image (composefs), shared by all its containers
    <root>/images/<commit>/         the same as files, where the kernel cannot mount that: a private copy
    <root>/images/.new-*            half made: garbage whenever <run>/images.lock is free
    containers/<id>/upper, work     what the container wrote
    containers/<id>/rootfs          the mount point

From the top: upper, the spec's `layers`, the image. With composefs the file contents come straight from the
store's objects, as a data-only lower layer (overlayfs, Linux 6.5; a plain one before) under an EROFS image that is
mounted from its file (Linux 6.12; through a loop device before). All is mounted by the container's own first process in
its own mount namespace (`root_mounter`), so nothing of it is ever seen outside, and all of it goes when the container
has ended, however it ends.
"""

from __future__ import annotations

import errno
import os

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error
from wherry.core.errors import NotFound, Unsupported, WherryError
from wherry.core.lock import file_lock
from wherry.engine import imagecache, rootfile
from wherry.engine.removing import remove_tree
from wherry.engine.spec import ContainerConfig
from wherry.engine.state import Paths, all_ids, read_config
from wherry.engine.wire import dump_error, load_error
from wherry.linux import mount, usernamespace
from wherry.linux.erofs import mount_image
from wherry.linux.namespaces import CLONE_NEWNS, setns, unshare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wherry.engine.imagestore import ImageStore

_REFUSED = (errno.ENOTBLK, errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP, errno.EPERM)
"""What a kernel answers that has no EROFS, cannot mount it from a file, or has no data-only layers."""
MAX_LAYERS = 64


def prepare_image(paths: Paths, store: ImageStore, commit: Checksum) -> None:
    """Makes what is mounted for an image, unless it is there already.

    Raises:
        NotFound: the store has no such commit.
        NoSpace: it does not fit; nothing is left of it.
    """
    image = f"{paths.images}/{commit}.erofs"
    if os.path.exists(image) or os.path.exists(f"{paths.images}/{commit}"):
        return
    if usernamespace.inside():
        check_out_image(paths, store, commit)  # no disk can be mounted here, so neither can an image
        return
    with _images_lock(paths):
        if os.path.exists(image) or store.repo.mode.value == "archive":
            return
        _remove_half_made(paths)
        from pathlib import Path

        from wherry.store.mount.composefs import write_image

        write_image(store.repo, commit, Path(image))


def check_out_image(paths: Paths, store: ImageStore, commit: Checksum) -> None:
    """Makes a private copy of an image's files, unless it is there already."""
    folder = f"{paths.images}/{commit}"
    if os.path.exists(folder):
        return
    with _images_lock(paths):
        if os.path.exists(folder):
            return
        _remove_half_made(paths)
        from pathlib import Path

        from wherry.linux.syncfs import syncfs
        from wherry.store.tree.checkout import checkout

        new = Path(f"{paths.images}/.new-{commit}")
        if usernamespace.has_one_id():
            checkout(store.repo, commit, new, user_mode=True)  # everything is this user's: links to the objects will do
        else:
            checkout(store.repo, commit, new, force_copy=True)
        syncfs(new)
        new.rename(folder)


def root_mounter(
    paths: Paths, store: str, config: ContainerConfig, *, to_look: bool = False, mapped: bool = False
) -> Callable[[], None]:
    """Returns what mounts a container's root at its `target`, in the mount namespace of whoever calls it.

    All that it needs is imported and looked up here: it is called between clone and exec.

    Args:
        paths: of the engine root.
        store: the folder of the image's store; "" with a root directory.
        config: the container's.
        to_look: nothing will be written, and the container's own mount comes later.
        mapped: with the owners that the container's user namespace has, and not those on the disk.

    Raises (when it is called):
        NotFound: a layer or the root directory is not there.
        Unsupported: the kernel refuses an overlay on these file systems, or other owners.
    """
    folder = str(paths.container(config.id))
    target = f"{folder}/rootfs"
    layers, volatile = config.spec.layers, config.spec.rm and not to_look
    if len(layers) > MAX_LAYERS:
        raise WherryError(f"a container has at most {MAX_LAYERS} layers")
    image, copy = f"{paths.images}/{config.commit}.erofs", f"{paths.images}/{config.commit}"
    if not store:
        copy = config.spec.rootfs

    show: Callable[[str], None] = _as_it_is
    if mapped:
        from wherry.engine.mapped import shower

        show = shower(config.spec.isolation)
    direct = config.spec.rootfs_direct
    mount_file = None if store or os.path.isdir(copy) else rootfile.mounter(copy, target)

    def mount_root() -> None:
        leave_the_host()
        if direct:
            _bind_directly(copy, target)
            show(target)
            return
        for layer in (folder, *layers):
            show(layer)
        if mount_file is not None:
            mount_file()
            show(target)
            lower = _open_dir(target, "root image")
            _mount_overlay(folder, target, layers, [lower], None, volatile=volatile)
            return
        if not store or os.path.isdir(copy):
            show(copy)
            lower = _open_dir(copy, "image" if store else "root directory")
            _mount_overlay(folder, target, layers, [lower], None, volatile=volatile)
            return
        objects = _open_dir(f"{store}/objects", "store")
        mount_image(image, target, loop=None)
        show(target)
        lower = _open_dir(target, "image")
        _mount_overlay(folder, target, layers, [lower], objects, volatile=volatile)
        os.close(objects)

    return mount_root


def _as_it_is(path: str) -> None:
    """Leaves the owners of files as they are on the disk."""


def _bind_directly(source: str, target: str) -> None:
    try:
        mount.mount(source, target, None, mount.MS_BIND | mount.MS_REC)
    except OSError as error:
        raise map_os_error(error, "cannot mount the root directory", where=source) from error


def leave_the_host() -> None:
    """Has nothing that is mounted in this process's mount namespace from now on be seen outside.

    A slave and not private: what is unmounted on the host must not be held by us. Where "/" is not a mount point, as
    under chroot(2), the namespace's own root is changed.
    """
    try:
        mount.mount(None, "/", None, mount.MS_SLAVE | mount.MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        setns(namespace, CLONE_NEWNS)
        mount.mount(None, "/", None, mount.MS_SLAVE | mount.MS_REC)
        os.fchdir(here)
        os.chroot(".")
        os.close(here)
        os.close(namespace)


def root_of(paths: Paths, store: str, config: ContainerConfig) -> Callable[[], None] | int:
    """Returns what ``runtime.create`` takes as the root of a container: what mounts it, or in a user namespace it."""
    if not config.spec.isolation.uids:
        return root_mounter(paths, store, config)
    from wherry.engine.mapped import mount_apart

    return mount_apart(root_mounter(paths, store, config, mapped=True), f"{paths.container(config.id)}/rootfs")


def mount_in_child(mount_root: Callable[[], None], work: Callable[[], None]) -> None:
    """Does `work` in a process of its own, which has a container's root mounted and vanishes with it.

    Raises:
        WherryError: what either raised.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        failed = 1
        try:
            unshare(CLONE_NEWNS)
            mount_root()
            work()
            failed = 0
        except WherryError as error:
            os.write(writer, dump_error(error))
        except OSError as error:
            os.write(writer, dump_error(map_os_error(error, "cannot mount the root", where=error.filename)))
        finally:
            os._exit(failed)
    os.close(writer)
    with open(reader, "rb") as file:
        told = file.read()
    if os.waitpid(pid, 0)[1] or told:
        raise load_error(told)


def see_to_image(paths: Paths, store: ImageStore, config: ContainerConfig) -> None:
    """Makes what a container's root is mounted from; a copy of the files where this kernel refuses the image.

    Whether it does is tried once after each boot.
    """
    commit = Checksum(config.commit)
    prepare_image(paths, store, commit)
    if os.path.isdir(f"{paths.images}/{commit}"):
        return
    mapped = bool(config.spec.isolation.uids)
    works = f"{paths.run}/composefs{'-mapped' if mapped else ''}"
    if os.path.exists(works) and os.path.exists(f"{paths.images}/{commit}.erofs"):
        return
    try:
        if not os.path.exists(f"{paths.images}/{commit}.erofs"):
            raise Unsupported("the store keeps no files to mount")
        mount_in_child(root_mounter(paths, store.path, config, to_look=True, mapped=mapped), _nothing)
    except Unsupported:
        check_out_image(paths, store, commit)
    else:
        os.close(os.open(works, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _nothing() -> None:
    pass


def remove_unused_images(paths: Paths, keep: Iterable[str]) -> tuple[str, ...]:
    """Removes the images that no container uses.

    Args:
        paths: of the engine root.
        keep: commits to keep in any case.

    Returns:
        The commits whose images were removed.
    """
    wanted = set(keep)
    removed: dict[str, None] = {}
    with paths.engine_lock(), _images_lock(paths):
        for container_id in all_ids(paths):
            try:
                wanted.add(read_config(paths, container_id).commit)
            except NotFound:
                continue
        _remove_half_made(paths)
        for name in sorted(os.listdir(paths.images)):
            commit = name.removesuffix(".erofs").removesuffix(imagecache.SUFFIX)
            if name.startswith(".") or commit in wanted:
                continue
            removed[commit] = None
            path = f"{paths.images}/{name}"
            if os.path.isdir(path):
                doomed = f"{paths.images}/.new-{commit}"
                os.rename(path, doomed)
                remove_tree(doomed)
            else:
                os.unlink(path)
    return tuple(removed)


def _images_lock(paths: Paths) -> file_lock:
    return file_lock(f"{paths.run}/images.lock", what="the image folder")


def _remove_half_made(paths: Paths) -> None:
    for name in os.listdir(paths.images):
        path = f"{paths.images}/{name}"
        if name.startswith(".new-"):
            if os.path.isdir(path):
                remove_tree(path)
            else:
                os.unlink(path)


def _open_dir(path: str, what: str) -> int:
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"no such {what}", where=path, hint="a directory is needed there") from error


def _mount_overlay(
    folder: str, target: str, layers: tuple[str, ...], lower: list[int], data: int | None, *, volatile: bool
) -> None:
    """Mounts the overlay; closes the descriptors in `lower`.

    The kernel is given ``/proc/self/fd`` paths: short, and without the colons and commas that options are parted by.
    """
    fds = list(lower)
    try:
        above = [_open_dir(layer, "layer") for layer in layers]
        fds += above
        upper = _open_dir(f"{folder}/upper", "container folder")
        fds.append(upper)
        work = _open_dir(f"{folder}/work", "container folder")
        fds.append(work)
        lowerdir = "lowerdir=" + ":".join(mount.fd_path(fd) for fd in (*above, *lower))
        options = [f"upperdir={mount.fd_path(upper)}", f"workdir={mount.fd_path(work)}"]
        if usernamespace.inside():
            options.append("userxattr")  # attributes of the overlay's own that need no rights over the host
        if data is not None:
            options += ["metacopy=on", "redirect_dir=on"]
        if volatile:
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
                _forget_attempt(work)
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


def _forget_attempt(work_fd: int) -> None:
    """Takes away the mark that a refused ``volatile`` mount has left, for which the kernel would refuse the next one.

    Source: Documentation/filesystems/overlayfs.rst, "Volatile mount".
    """
    try:
        os.unlink("work/incompat/volatile/dirty", dir_fd=work_fd)
        os.rmdir("work/incompat/volatile", dir_fd=work_fd)
        os.rmdir("work/incompat", dir_fd=work_fd)
    except FileNotFoundError:
        pass  # it was refused for another reason
