"""``-v SOURCE:TARGET:O``: a directory that a container may write over, and that stays as it is.

::

    <root>/containers/<id>/over/<n>/upper, work     of the container's n-th mount; emptied when it is started

It is an overlay, which the container's first process mounts: the source below, a directory of the container's own on
top, which goes with it. What others write to the source meanwhile may be seen or not.
Source: podman-run(1), "Overlay Volume Mounts"; Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import os

from wherry.core.durable import make_dirs
from wherry.core.errors import InvalidInput
from wherry.engine.removing import remove_tree
from wherry.engine.volume_mounts import FileSystem
from wherry.linux import usernamespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.engine.spec import ContainerConfig
    from wherry.engine.state import Paths

OVERLAY = "overlay"
_SPECIAL = frozenset("\\:,")
"""What has a meaning in the options of an overlay."""


def empty_layers(paths: Paths, config: ContainerConfig) -> None:
    """Makes the container's own layers, and throws away what was written to them in the run before."""
    top = f"{paths.container(config.id)}/over"
    remove_tree(top)
    for index, item in enumerate(config.mounts):
        if item.overlaid:
            for name, mode in (("upper", 0o755), ("work", 0o700)):
                make_dirs(f"{top}/{index}/{name}", mode=mode)


def layered(paths: Paths, config: ContainerConfig, index: int, source: str | FileSystem) -> FileSystem:
    """Returns the overlay that stands for a mount.

    Args:
        paths: of the engine root.
        config: the container's.
        index: of the mount.
        source: what is mounted without an overlay.

    Raises:
        InvalidInput: it is no directory, or has a name that an overlay cannot have.
    """
    if isinstance(source, FileSystem) or not os.path.isdir(source):
        where = config.mounts[index].source
        raise InvalidInput("an overlay (:O) is of a directory of this host", where=where, hint="leave out O")
    own = f"{paths.container(config.id)}/over/{index}"
    for path in (source, own):
        if _SPECIAL & set(path):
            raise InvalidInput("an overlay (:O) has no \\, colon or comma in its path", where=path, hint="rename it")
    status = os.stat(source)
    if usernamespace.has_id("uid", status.st_uid) and usernamespace.has_id("gid", status.st_gid):
        os.chown(f"{own}/upper", status.st_uid, status.st_gid)
    os.chmod(f"{own}/upper", status.st_mode & 0o7777)
    options = (f"lowerdir={source}", f"upperdir={own}/upper", f"workdir={own}/work")
    return FileSystem(
        type=OVERLAY, device=OVERLAY, options=(*options, *(("userxattr",) if usernamespace.inside() else ()))
    )
