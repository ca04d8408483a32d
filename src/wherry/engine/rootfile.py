"""A root tree in one image file, squashfs or EROFS, as it is given with ``--rootfs FILE``."""

from __future__ import annotations

import os

from wherry.core.errors import InvalidInput, NotFound, Unsupported
from wherry.linux import mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SQUASHFS = b"hsqs"
_EROFS, _EROFS_AT = b"\xe2\xe1\xf5\xe0", 1024
HINT = "give a directory, or an image of squashfs or EROFS"


def check(path: str, *, direct: bool) -> str:
    """Refuses what cannot be a container's root.

    Args:
        path: a directory, or an image file.
        direct: whether it shall be written to itself.

    Returns:
        What a directory is for, as ``linux/arm64``; "" when that is not known.

    Raises:
        NotFound: there is no such thing.
        InvalidInput: it is no root, or an image that shall be written to.
    """
    if os.path.isdir(path):
        from wherry.engine.foreign import platform_of_tree

        return platform_of_tree(path)
    kind_of(path)
    if direct:
        raise InvalidInput("an image file is not written to", where=path, hint="leave out :direct")
    return ""


def kind_of(path: str) -> str:
    """Returns ``squashfs`` or ``erofs``, by the file's first bytes.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is neither.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_EROFS_AT + len(_EROFS))
    except OSError as error:
        raise NotFound("no such root directory or image", where=path, hint=HINT) from error
    if head.startswith(_SQUASHFS):
        return "squashfs"
    if head[_EROFS_AT:] == _EROFS:
        return "erofs"
    raise InvalidInput("not an image of a root tree", where=path, hint=HINT)


def mounter(path: str, target: str) -> Callable[[], None]:
    """Returns what mounts an image file at `target`, read-only.

    Raises:
        NotFound, InvalidInput: see `kind_of`.
        Unsupported (when it is called): this kernel cannot mount it.
    """
    kind = kind_of(path)
    if kind == "erofs":
        from wherry.linux.erofs import mount_image

        def mount_erofs() -> None:
            mount_image(path, target, loop=None)

        return mount_erofs
    from wherry.linux.loop import attach_read_only

    def mount_squashfs() -> None:
        try:
            with open(path, "rb", buffering=0) as file:
                device = attach_read_only(file.fileno(), path)
            try:
                flags = mount.MS_RDONLY | mount.MS_NODEV
                mount.mount(os.readlink(f"/proc/self/fd/{device}"), target, "squashfs", flags)
            finally:
                os.close(device)
        except OSError as error:
            hint = "`modprobe -a loop squashfs`, or unpack it"
            raise Unsupported(f"this kernel cannot mount it: {error.strerror}", where=path, hint=hint) from error

    return mount_squashfs
