"""Which files a command opens: by running it once under strace, in a chroot of its tree.

The tree is not written: the command has an overlay over it that goes to memory. It runs in namespaces of its own,
without a network, and all of its processes are killed at the end. It runs as root, and a chroot is no wall against
root: a tree of strangers is not for tracing.
"""

from __future__ import annotations

import os
import posixpath
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry.core.durable import map_os_error
from wherry.core.errors import Timeout
from wherry.core.proc import run
from wherry.engine.pack.tree import Tree
from wherry.linux import mount as mounts
from wherry.linux.namespaces import CLONE_NEWNS, unshare

MAX_TRACE_BYTES = 512 * 1024 * 1024
_STRING = re.compile(rb'(?:(AT_FDCWD|\d+)(?:<([^>"]*)>)?, )?"((?:[^"\\]|\\.)*)"(\.\.\.)?')
_CALL = re.compile(rb"^(?:\d+ +)?([a-z0-9_]+)\(")
_OCTAL = re.compile(rb"\\([0-7]{1,3})")
_ESCAPES = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f", b'"': b'"', b"\\": b"\\"}
_MAKES = frozenset(
    {b"unlink", b"unlinkat", b"rmdir", b"mkdir", b"mkdirat", b"mknod", b"mknodat", b"symlink", b"symlinkat"}
)
"""Calls whose path is not there before, or not after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """What one run touched."""

    paths: tuple[str, ...]
    """As the tree's processes see them; sorted."""
    status: int | None
    """The exit status; None: it had not ended in time."""
    error: str
    """The end of what it wrote to standard error."""


def trace(tree: Tree, command: Sequence[str], *, env: Mapping[str, str], timeout_s: float) -> Traced:
    """Runs a command in a tree and tells what it opened, ran or asked for, with success.

    Args:
        tree: whose root is the command's.
        command: the program's path and its arguments.
        env: its environment.
        timeout_s: after which it is killed; what it has opened counts.

    Raises:
        Unsupported: strace or unshare is missing.
        ToolError: the mounts cannot be made.
    """
    with tempfile.TemporaryDirectory(prefix="wherry-trace-") as scratch:
        place = Path(scratch)
        root, memory, log = place / "root", place / "memory", place / "log"
        root.mkdir()
        memory.mkdir()
        args = [
            *("unshare", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--net", f"--mount-proc={root}/proc"),
            *("strace", "-ff", "-qq", "-y", "-s", "4096", "-e", "trace=%file,execve", "-e", "signal=none"),
            *("-o", str(log), "chroot", str(root), *command),
        ]
        try:
            done = run(
                args,
                env={**env, "PATH": f"/usr/sbin:/usr/bin:/sbin:/bin:{env.get('PATH', '')}"},
                timeout_s=timeout_s,
                check=False,
                hint="apt-get install strace util-linux",
                before_exec=lambda: _mount(tree, root, memory),
            )
            status, error = done.returncode, done.stderr.decode(errors="replace")[-500:]
        except Timeout:
            status, error = None, ""
        paths: set[str] = set()
        left = MAX_TRACE_BYTES
        for one in sorted(place.glob("log.*")):  # one for each process: calls of several do not cut each other there
            try:
                with open(one, "rb") as file:
                    data = file.read(left)
            except OSError as failure:
                raise map_os_error(failure, "the trace cannot be read", where=one) from failure
            left -= len(data)
            paths.update(touched(data, str(root)))
    return Traced(paths=tuple(sorted(paths)), status=status, error=error)


def touched(log: bytes, root: str) -> Iterator[str]:
    """Yields the paths of strace's successful calls, as they are below a root.

    Args:
        log: what ``strace -ff -y`` wrote of one process.
        root: where the tree's root was, for what strace itself and chroot did.
    """
    lines = log.splitlines()
    # What chroot(1) opened before it was in the tree is the machine's.
    entered = [at for at, line in enumerate(lines) if b'chroot("' + os.fsencode(root) + b'")' in line]
    for line in lines[entered[0] + 1 :] if entered else lines:
        call = _CALL.match(line)
        if call is None or call[1] in _MAKES or b"O_EXCL" in line:
            continue
        head, mark, result = line.rpartition(b" = ")
        if not mark or result.startswith((b"-", b"?")):
            continue
        for base, folder, text, cut in _STRING.findall(head) if call[1] != b"execve" else _first(head):
            if cut:
                continue
            path = _unescape(text).decode(errors="surrogateescape")
            if not path.startswith("/"):
                if not base or not folder:
                    continue
                path = posixpath.join(_below(folder.decode(errors="surrogateescape"), root), path)
            path = posixpath.normpath(path)
            if path.startswith("/") and not path.startswith(("/proc/", "/sys/", "/dev/", root)):
                yield path
            if call[1] in (b"readlink", b"readlinkat"):
                break


def _first(head: bytes) -> list[tuple[bytes, bytes, bytes, bytes]]:
    """Returns only the path of an execve; the other strings are arguments."""
    return _STRING.findall(head)[:1]


def _below(folder: str, root: str) -> str:
    """Returns a folder of strace's ``-y`` as the command sees it: strace reads the link from outside."""
    return folder[len(root) :] or "/" if folder == root or folder.startswith(root + "/") else folder


def _unescape(text: bytes) -> bytes:
    """Reads strace's C string."""
    out = bytearray()
    at = 0
    while at < len(text):
        if text[at : at + 1] != b"\\":
            out += text[at : at + 1]
            at += 1
            continue
        octal = _OCTAL.match(text, at)
        if octal is not None:
            out.append(int(octal[1], 8) & 0xFF)
            at = octal.end()
        else:
            out += _ESCAPES.get(text[at + 1 : at + 2], text[at + 1 : at + 2])
            at += 2
    return bytes(out)


def _mount(tree: Tree, root: Path, memory: Path) -> None:
    """Called in the new process: makes the command's root in a mount namespace that ends with it."""
    unshare(CLONE_NEWNS)
    mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
    mounts.mount("tmpfs", memory, "tmpfs", 0, "mode=700")
    for name in ("upper", "work"):
        (memory / name).mkdir(mode=0o755)
    lower = str(tree.root.absolute()).replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
    mounts.mount("overlay", root, "overlay", 0, f"lowerdir={lower},upperdir={memory}/upper,workdir={memory}/work")
    for name in ("proc", "dev", "tmp", "run"):
        place = root / name
        if place.is_symlink():
            place.unlink()
        place.mkdir(exist_ok=True)
    mounts.bind("/dev", root / "dev", recursive=True)
    mounts.mount("tmpfs", root / "tmp", "tmpfs", 0, "mode=1777")
    mounts.mount("tmpfs", root / "run", "tmpfs", 0, "mode=755")
