"""An image file and a stack of layers as mounts that are nowhere yet: EROFS and overlayfs by descriptors.

For an engine that makes a container's root in the container's own mount namespace, so that no place on the host ever
shows it, and nothing has to be taken away afterwards. `overlay` returns what `runtime.enter` takes as a root.
Wanted: Linux 6.12 for an image without a loop device, 6.5 for data-only layers.
Source: Documentation/filesystems/overlayfs.rst and erofs.rst of Linux 6.17.
"""

from __future__ import annotations

import errno
import os

from wherry.linux import x
from wherry.linux.mount import MNT_DETACH, MS_SILENT, fd_path, mount, umount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LAYERS = 500
"""OVL_MAX_STACK of the kernel."""
_MAX_DATA_BYTES = 4095


def erofs(image: str, *, options: tuple[str, ...] = ()) -> int:
    """Mounts an EROFS image from its file, read-only and without devices.

    Args:
        image: the file.
        options: ``noacl`` where the image has no access control lists, and others of EROFS.

    Returns:
        a mount that is nowhere yet.

    Raises:
        OSError: ENOTBLK when this kernel wants a block device (before Linux 6.12), EINVAL when it is no image.
    """
    attributes = x.MOUNT_ATTR_RDONLY | x.MOUNT_ATTR_NODEV
    return x.new_mount("erofs", source=image, options=("ro", *options), attributes=attributes)


def overlay(
    lower: Sequence[int],
    *,
    data: Sequence[int] = (),
    upper: int = -1,
    work: int = -1,
    options: tuple[str, ...] = (),
    source: str = "overlay",
    place: int = -1,
    attributes: int = 0,
) -> int:
    """Mounts layers over each other.

    The caller is in a private mount namespace, and has opened the directories there, as overlayfs takes no mount of
    another one. The descriptors stay the caller's, and may be closed afterwards.

    Args:
        lower: directories or mounts, the topmost first; a mount may be one that is nowhere yet (`erofs`).
        data: directories that files of the others redirect to, and that are not seen themselves (Linux 6.5).
        upper: the writable directory; -1 for a read-only root.
        work: an empty directory beside it.
        options: such as ``metacopy=on``, ``redirect_dir=on``, ``volatile``, ``userxattr``.
        source: what stands in the first column of mountinfo.
        place: a directory, O_PATH, to put mounts at for a moment where this kernel wants layers to be somewhere (before
            Linux 6.15), or knows layers only in one string (before 6.7).
        attributes: ``MOUNT_ATTR_*``.

    Returns:
        a mount that is nowhere yet; one that is at `place` and has been left there by an older kernel is another copy.

    Raises:
        OSError: the kernel refuses; EINVAL among others for what it cannot stack.
    """
    if len(lower) + len(data) > MAX_LAYERS:
        raise OSError(errno.E2BIG, f"an overlay has at most {MAX_LAYERS} layers", source)
    words = [*(f"lowerdir+={fd_path(fd)}" for fd in lower), *(f"datadir+={fd_path(fd)}" for fd in data)]
    if upper >= 0:
        words += [f"upperdir={fd_path(upper)}", f"workdir={fd_path(work)}"]
    try:
        return x.new_mount("overlay", source=source, options=(*words, *options), attributes=attributes)
    except OSError as error:
        if error.errno != errno.EINVAL or place < 0:
            raise
    return _by_mount(lower, data, words[len(lower) + len(data) :], options, source, place, attributes)


def _by_mount(
    lower: Sequence[int],
    data: Sequence[int],
    writable: list[str],
    options: tuple[str, ...],
    source: str,
    place: int,
    attributes: int,
) -> int:
    """Does it by mount(2), with every lower mount somewhere in this namespace."""
    here = fd_path(place)
    put = 0
    try:
        for fd in lower:
            try:
                x.attach(fd, place)
                put += 1
            except OSError as error:
                if error.errno != errno.EINVAL:  # EINVAL: a directory, or a mount that is somewhere already
                    raise
        layers = ":".join(map(fd_path, lower)) + "".join(f"::{fd_path(fd)}" for fd in data)
        text = ",".join((f"lowerdir={layers}", *writable, *options))
        if len(text) > _MAX_DATA_BYTES:
            raise OSError(errno.E2BIG, "too many layers for this kernel, which takes them as one page of text", source)
        mount(source, here, "overlay", MS_SILENT, text)
        made = x.open_tree(_top(place))
        umount(_top(place), MNT_DETACH)
    finally:
        for _ in range(put):
            umount(_top(place), MNT_DETACH)
    if attributes:
        x.mount_setattr(made, attr_set=attributes)
    return made


def _top(place: int) -> str:
    """Returns the path of `place`, which leads to what is mounted there; a descriptor leads below it."""
    return os.readlink(fd_path(place))
