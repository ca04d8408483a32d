"""Mounting a commit's tree: the image as an EROFS file system, the repository's objects as its data, in one overlay.

::

    mount("IMAGE", E, "erofs", ro)                                   E: a folder that is gone again afterwards
    mount("wherry:COMMIT", DIR, "overlay", ro, "lowerdir=E::OBJECTS,metacopy=on,redirect_dir=on")
    umount(E)                                                        the overlay holds it; one mount is seen, at DIR

What a kernel lacks is tried and then done without:

====================================  ===========  ====================================================
needs                                 Linux        else
====================================  ===========  ====================================================
EROFS from a file                     6.12         a loop device, which goes away with the mount
data-only lower layers (``::``)       6.5          ``lowerdir=E:OBJECTS``, as libcomposefs does
``verity=require``                    6.6          refused: nothing but the kernel can check every read
EROFS or overlayfs at all                          `Unsupported`; the caller can check the tree out
====================================  ===========  ====================================================

Root is needed, in the initial user namespace. Nothing is remembered: ``umount DIR`` by any tool is the end of a mount.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound, Unsupported
from wherry.linux.erofs import mount_image
from wherry.store.mount.seen import SOURCE, mounts

_CANNOT = (errno.ENODEV, errno.EOPNOTSUPP, errno.ENOSYS)


class DataLayer(StrEnum):
    """How overlayfs is given the objects."""

    DATA_ONLY = "data-only"
    LOWER = "lower"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be mounted, and where."""

    commit: Checksum
    image: Path
    objects: Path
    target: Path
    upper: Path | None = None
    """With `work`: where changes go; without, the mount is read-only."""
    work: Path | None = None
    in_memory: bool = False
    """Changes go to memory, and are gone with the mount."""
    verity: bool = False
    """The kernel checks each file against the digest in the image before it is read."""
    flags: int = 0
    """Further ``MS_*``: ``MS_NOSUID`` and such."""
    data_layers: tuple[DataLayer, ...] = (DataLayer.DATA_ONLY, DataLayer.LOWER)
    """What is tried, in this order."""
    loop: bool | None = None
    """Use a loop device; None: where the kernel does not mount a file."""
    checked_out: Path | None = None
    """The tree as files, instead of an image over objects; beside it lies a folder ``empty``."""

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written to it."""
        return self.upper is None and not self.in_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """What was mounted, in the end."""

    commit: Checksum
    target: Path
    data_layer: DataLayer
    loop: bool
    read_only: bool
    verity: bool


def mount(plan: Plan) -> Mounted:
    """Mounts an image over its repository's objects.

    Raises:
        NotFound: the place to mount on is not there.
        Unsupported: this kernel cannot.
        NotPermitted: root is needed.
        InvalidInput: the image is none.
    """
    from wherry.linux.mount import MNT_DETACH, MS_RDONLY, umount

    if not plan.target.is_dir():
        raise NotFound("no such folder to mount on", where=plan.target, hint="make it first")
    with ExitStack() as stack:
        below = Path(stack.enter_context(_temporary_folder()))
        loop = False
        if plan.checked_out is None:
            loop = mount_image(plan.image, below, loop=plan.loop)
            stack.callback(umount, below, MNT_DETACH)
        upper, work = plan.upper, plan.work
        if plan.in_memory:
            upper, work = stack.enter_context(_memory())
        data_layer = _mount_overlay(plan, below, upper, work, MS_RDONLY if plan.read_only else 0)
    return Mounted(
        commit=plan.commit,
        target=plan.target,
        data_layer=data_layer,
        loop=loop,
        read_only=plan.read_only,
        verity=plan.verity,
    )


def _mount_overlay(plan: Plan, below: Path, upper: Path | None, work: Path | None, flags: int) -> DataLayer:
    from wherry.linux.mount import MS_SILENT, mount

    last: OSError | None = None
    for layer in plan.data_layers:
        if plan.checked_out is None:
            options = lowerdir_options(below, plan.objects, layer=layer)
        else:  # an empty folder makes two layers, without which overlayfs wants a place to write
            empty = plan.checked_out.with_name("empty")
            options = f"lowerdir={escape_path(plan.checked_out)}:{escape_path(empty)}"
        if upper is not None and work is not None:
            options += f",upperdir={escape_path(upper)},workdir={escape_path(work)}"
        if plan.verity:
            options += ",verity=require"
        try:
            mount(f"{SOURCE}{plan.commit}", plan.target, "overlay", flags | plan.flags | MS_SILENT, options)
            return layer
        except OSError as error:
            last = error
            if error.errno != errno.EINVAL:
                break
    if last is None:
        raise InvalidInput("no form of the data layer is allowed", where=plan.target)
    if last.errno in _CANNOT or last.errno == errno.EINVAL:
        raise Unsupported(
            f"the kernel refuses the overlay: {last.strerror}",
            where=plan.target,
            hint="verity needs Linux 6.6" if plan.verity else "see `wherry doctor`; a checkout works everywhere",
        ) from last
    raise map_os_error(last, "cannot mount the overlay", where=plan.target) from last


def lowerdir_options(image_mount: Path, objects: Path, *, layer: DataLayer = DataLayer.DATA_ONLY) -> str:
    """Returns the options of overlayfs for a mounted image over its repository's objects.

    With ``upperdir=`` and ``workdir=`` added the mount can be written to. Add ``ro`` as a flag, not as an option.

    Args:
        image_mount: where the image is mounted.
        objects: the repository's ``objects`` folder.
        layer: how the objects are given.
    """
    colons = "::" if layer is DataLayer.DATA_ONLY else ":"
    return f"lowerdir={escape_path(image_mount)}{colons}{escape_path(objects)},metacopy=on,redirect_dir=on"


def escape_path(path: Path) -> str:
    """Returns a path as it stands in overlayfs' options, where colon, comma and backslash mean something."""
    return "".join("\\" + char if char in ":,\\" else char for char in str(path))


@contextmanager
def _temporary_folder() -> Iterator[str]:
    """Gives a folder for a mount that is passed on; only root gets in."""
    path = tempfile.mkdtemp(prefix=".wherry-mount-")
    try:
        yield path
    finally:
        os.rmdir(path)


@contextmanager
def _memory() -> Iterator[tuple[Path, Path]]:
    """Gives the two folders of a writable overlay, in memory that is freed with the last mount that uses it."""
    from wherry.linux.mount import MNT_DETACH, mount, umount

    with _temporary_folder() as folder:
        try:
            mount("wherry", folder, "tmpfs", 0, "mode=0755")
        except OSError as error:
            raise map_os_error(error, "cannot mount memory for the changes", where=folder) from error
        try:
            upper, work = Path(folder, "upper"), Path(folder, "work")
            upper.mkdir()
            work.mkdir()
            yield upper, work
        finally:
            umount(folder, MNT_DETACH)


def unmount(target: Path, *, lazy: bool = False) -> Checksum:
    """Ends a mount of a commit.

    Args:
        target: where it is mounted.
        lazy: take it away now, even while it is in use.

    Returns:
        The commit that was mounted there.

    Raises:
        NotFound: no commit is mounted there; other mounts are left alone.
        Conflict: it is in use.
    """
    from wherry.linux.mount import MNT_DETACH, UMOUNT_NOFOLLOW, umount

    place = Path(os.path.realpath(target))
    here = [seen for seen in mounts() if seen.target == place]
    if not here:
        raise NotFound("no commit is mounted here", where=target, hint="`wherry store mount` shows those that are")
    try:
        umount(place, UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0))
    except OSError as error:
        if error.errno == errno.EBUSY:
            from wherry.core.errors import Conflict

            raise Conflict("the mount is in use", where=target, hint="end what uses it, or give --lazy") from error
        raise map_os_error(error, "cannot unmount", where=target) from error
    return here[-1].commit
