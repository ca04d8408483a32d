"""An image of metadata, mounted: EROFS from its file, or through a loop device where the kernel wants a block device.

Budget: part of the start of every container, so nothing is imported that costs anything.
"""

from __future__ import annotations

import errno
import os

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, Unsupported
from wherry.linux.mount import MS_NODEV, MS_RDONLY, MS_SILENT, mount

_HEADER_BYTES = 12
_MAGIC = 0xD078629A
_HAS_ACL = 1


def mount_image(image: str | os.PathLike[str], target: str | os.PathLike[str], *, loop: bool | None = False) -> bool:
    """Mounts an image file at `target`, read-only.

    Args:
        image: the file.
        target: the folder.
        loop: through a loop device; None: where the kernel does not mount the file itself.

    Returns:
        Whether a loop device was used.

    Raises:
        Unsupported: this kernel has no EROFS, or cannot mount a file.
        NotPermitted: root is needed.
        InvalidInput: it is no image.
    """
    options = None if _has_acl(image) else "noacl"
    if not loop:
        try:
            mount(image, target, "erofs", MS_RDONLY | MS_NODEV | MS_SILENT, options)
            return False
        except OSError as error:
            if error.errno != errno.ENOTBLK or loop is False:
                raise _refused(error, image) from error
    from wherry.linux.loop import attach_read_only

    try:
        with open(image, "rb") as file:
            device = attach_read_only(file.fileno(), str(image))
    except OSError as error:
        raise Unsupported(
            f"no loop device for the image: {error.strerror}",
            where=image,
            hint="Linux 6.12 with CONFIG_EROFS_FS_BACKED_BY_FILE needs none; `modprobe loop`, or check the tree out",
        ) from error
    try:
        mount(os.readlink(f"/proc/self/fd/{device}"), target, "erofs", MS_RDONLY | MS_NODEV | MS_SILENT, options)
    except OSError as error:
        raise _refused(error, image) from error
    finally:
        os.close(device)
    return True


def _refused(error: OSError, image: str | os.PathLike[str]) -> Exception:
    if error.errno in (errno.ENODEV, errno.ENOTBLK):
        return Unsupported(
            "this kernel cannot mount an EROFS image from a file",
            where=image,
            hint="Linux 6.12 with CONFIG_EROFS_FS_BACKED_BY_FILE can; a checkout works everywhere",
        )
    if error.errno == errno.EINVAL:
        return InvalidInput("not an EROFS image", where=image)
    return map_os_error(error, "cannot mount the image", where=image)


def _has_acl(image: str | os.PathLike[str]) -> bool:
    """Tells whether an image has access control lists; without, the kernel need not look for them."""
    with open(image, "rb", buffering=0) as file:
        head = file.read(_HEADER_BYTES)
    if len(head) < _HEADER_BYTES:
        raise InvalidInput("not an EROFS image", where=image)
    magic, flags = int.from_bytes(head[:4], "little"), int.from_bytes(head[8:12], "little")
    return magic != _MAGIC or bool(flags & _HAS_ACL)
