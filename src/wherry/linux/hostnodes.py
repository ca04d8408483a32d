"""Device nodes for a container in a user namespace, which may not make them, made by somebody who may.

A helper process makes them in a tmpfs that is mounted in a mount namespace of its own alone, and hands over a mount of
each; the tmpfs goes with the last of them. Only nodes that the host does not have are made: others are bound from it.
"""

from __future__ import annotations

import os
import socket

from wherry.linux import x
from wherry.linux.mount import MS_PRIVATE, MS_REC, mount
from wherry.linux.namespaces import CLONE_NEWNS, unshare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from wherry.linux.mountplan import MakeNode

_MAX_TEXT_BYTES = 512
_DONE = b"+"
_FAILED = b"-"


def make_nodes(nodes: Sequence[MakeNode]) -> list[int]:
    """Makes nodes whose owners are ids of this user namespace.

    Returns:
        a descriptor of a mount of each, in their order; closed on exec, the caller's to close.

    Raises:
        OSError: the kernel refuses one.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        _make_and_send(nodes, theirs)
    found: list[int] = []
    try:
        theirs.close()
        for node in nodes:
            text, fds, _, _ = socket.recv_fds(ours, _MAX_TEXT_BYTES, 1)
            found += fds
            if not fds:
                number, _, what = text.removeprefix(_FAILED).decode(errors="replace").partition(" ")
                raise OSError(int(number or 0), what or "the process that makes device nodes has ended", node.target)
    except BaseException:
        for fd in found:
            os.close(fd)
        raise
    finally:
        ours.close()
        os.waitpid(pid, 0)
    return found


def _make_and_send(nodes: Sequence[MakeNode], end: socket.socket) -> NoReturn:
    try:
        os.umask(0)  # modes are those that are asked for
        unshare(CLONE_NEWNS)
        mount(None, "/", None, MS_REC | MS_PRIVATE)
        made = x.new_mount("tmpfs", source="tmpfs", options=("mode=700",), attributes=0)
        place = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        x.attach(made, place)  # as a mount that is nowhere cannot be cloned before Linux 6.15
        for index, node in enumerate(nodes):
            node.make(made, str(index))
            socket.send_fds(end, [_DONE], [x.open_tree(str(index), dir_fd=made)])
    except OSError as error:
        end.send(_FAILED + f"{error.errno} {error.strerror}".encode()[: _MAX_TEXT_BYTES - 1])
    finally:
        os._exit(0)
