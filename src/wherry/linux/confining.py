"""A process that may write below one directory and nowhere else, and talk to nobody: for tools on a stranger's files.

Called in a child between fork and exec. All mounts are made read-only in a mount namespace of its own but for one
bind mount; network and IPC are new and empty. Needs CAP_SYS_ADMIN, in a user namespace at least, and Linux 5.12.
"""

from __future__ import annotations

import os

from wherry.linux import x
from wherry.linux.mount import MS_BIND, MS_PRIVATE, MS_REC, mount
from wherry.linux.namespaces import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, unshare


def confine(writable: str) -> None:
    """Confines this process, and has it be in the directory.

    Args:
        writable: the directory that it may write below; devices and set-user-ID bits mean nothing there.

    Raises:
        OSError: the kernel refuses; then the process must not go on.
    """
    unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount(writable, writable, None, MS_BIND)
    for path, recursive in (("/", True), (writable, False)):
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if recursive:
                x.mount_setattr(fd, attr_set=x.MOUNT_ATTR_RDONLY, recursive=True)
            else:
                x.mount_setattr(fd, attr_clr=x.MOUNT_ATTR_RDONLY, attr_set=x.MOUNT_ATTR_NODEV | x.MOUNT_ATTR_NOSUID)
        finally:
            os.close(fd)
    os.chdir(writable)  # through the bind mount
