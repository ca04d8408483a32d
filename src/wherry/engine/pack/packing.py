"""Writes a packed app: the files that are needed as squashfs, behind the header.

mksquashfs gets the files as a tar stream, in order, with all times zero: what it makes depends on the files alone, and
owners and attributes are kept without being root. Two packs of the same files are equal byte for byte (with one version
of mksquashfs).
"""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from wherry.core.durable import map_os_error, replacing
from wherry.core.errors import InvalidInput, ToolError, Unsupported
from wherry.core.progress import QUIET, Progress
from wherry.engine.pack import header as headers
from wherry.engine.pack.header import FOLDERS, Header
from wherry.engine.pack.needed import DEFAULT_PATH, Needed
from wherry.engine.pack.tree import Tree

COMPRESSIONS = ("gzip", "lz4", "lzo", "xz", "zstd")
_BLOCK_BYTES = 128 * 1024
_COPY_BYTES = 1024 * 1024
_CAPABILITY = "security.capability"
_APP_MODE = 0o755
_FILES = ("/etc/resolv.conf", "/etc/hosts")
"""Empty where the tree has none, to be mounted on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What was written."""

    path: Path
    header: Header
    files: int
    content_bytes: int
    """Of the regular files, before compression."""
    size_bytes: int
    """Of the app."""


def pack(
    tree: Tree,
    needed: Needed,
    header: Header,
    output: Path,
    *,
    compression: str = "gzip",
    keep_owners: bool = True,
    progress: Progress = QUIET,
) -> Packed:
    """Writes an app.

    Args:
        tree: where the files are.
        needed: which of them.
        header: what the app is; offset and size are found here.
        output: the file to make or to replace, durably, when all of it is there.
        compression: one of COMPRESSIONS.
        keep_owners: owners as in the tree; else everything is root's.
        progress: is told of bytes.

    Raises:
        Unsupported: there is no mksquashfs.
        ToolError: it failed.
        NoSpace: the disk is full.
    """
    total = sum(size_of(tree, path) for path in needed.files)
    output = output.absolute()
    if not output.parent.is_dir():
        raise InvalidInput("no such folder", where=output.parent)
    with tempfile.TemporaryDirectory(prefix=".wherry-pack-", dir=output.parent) as scratch:
        image = Path(scratch) / "image"
        _make_image(tree, needed, header, image, compression, keep_owners, progress, total)
        full = replace(header, size=image.stat().st_size)
        head = headers.write(full)
        full = replace(full, offset=len(head))
        with replacing(output, mode=_APP_MODE) as file, open(image, "rb") as source:
            file.write(head)
            while chunk := source.read(_COPY_BYTES):
                file.write(chunk)
    size = len(head) + full.size
    return Packed(path=output, header=full, files=len(needed.files), content_bytes=total, size_bytes=size)


def size_of(tree: Tree, path: str) -> int:
    """Returns the bytes of a regular file; 0 of anything else."""
    info = tree.lstat(path)
    return info.st_size if stat.S_ISREG(info.st_mode) else 0


def _make_image(
    tree: Tree,
    needed: Needed,
    header: Header,
    image: Path,
    compression: str,
    keep_owners: bool,
    progress: Progress,
    total: int,
) -> None:
    args = [
        *("mksquashfs", "-", str(image), "-tar", "-quiet", "-no-progress", "-noappend", "-comp", compression),
        *("-b", str(_BLOCK_BYTES), "-mkfs-time", "0", "-all-time", "0", "-root-mode", "0755"),
        *("-root-uid", "0", "-root-gid", "0", "-processors", str(os.cpu_count() or 1)),
    ]
    # SOURCE_DATE_EPOCH is not handed down: mksquashfs refuses it beside -mkfs-time.
    environment = {"PATH": DEFAULT_PATH}
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                args, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT, env=environment
            )
        except FileNotFoundError as error:
            raise Unsupported("program not found: mksquashfs", hint="apt-get install squashfs-tools") from error
        broken = False
        with process, _opened(process.stdin) as stream:
            try:
                _write_tar(tree, needed, header, stream, keep_owners, progress, total)
                stream.close()
            except BrokenPipeError:
                broken = True  # mksquashfs has ended; it said why
            except BaseException:
                process.kill()
                raise
        said.seek(0)
        text = said.read().decode(errors="replace").strip().replace("\n", " | ")[-600:]
    if process.returncode != 0 or broken:
        raise ToolError(f"exit status {process.returncode}: {text or 'no message'}", where="mksquashfs")


def _opened(stream: IO[bytes] | None) -> IO[bytes]:
    """Returns a pipe that was asked for."""
    if stream is None:
        raise ToolError("no pipe to it", where="mksquashfs")
    return stream


def _write_tar(
    tree: Tree,
    needed: Needed,
    header: Header,
    stream: IO[bytes],
    keep_owners: bool,
    progress: Progress,
    total: int,
) -> None:
    links: dict[tuple[int, int], str] = {}
    done = 0
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_COPY_BYTES) as tar:
        for path in sorted({*needed.files, *_mount_points(tree, needed, header)}):
            if path == "/":
                continue
            info = _entry(tree, path, header, links, keep_owners=keep_owners, packed=path in needed.files)
            if info is None:
                continue
            if info.isreg() and info.size:
                try:
                    with open(tree.disk(path), "rb") as file:
                        tar.addfile(info, file)
                except OSError as error:
                    if error.errno == errno.EPIPE:
                        raise
                    raise map_os_error(error, "a file of the tree cannot be read", where=path) from error
                done += info.size
                progress.update("packing", done, total, unit="B")
            else:
                tar.addfile(info, io.BytesIO())


def _mount_points(tree: Tree, needed: Needed, header: Header) -> Iterable[str]:
    """Returns what must be there to be mounted on, with its folders; a folder that is a symlink is left to be one."""
    for path in (*FOLDERS, *header.binds):
        here = path
        while here != "/":
            parent = os.path.dirname(here)
            found = tree.find(parent)
            if here in needed.files or found is None or found.path == parent:
                yield here
            here = parent


def _entry(
    tree: Tree, path: str, header: Header, links: dict[tuple[int, int], str], *, keep_owners: bool, packed: bool
) -> tarfile.TarInfo | None:
    """Returns the entry of a path; None for what an image has no use for, sockets."""
    info = tarfile.TarInfo(path[1:])
    info.mtime = 0
    there = tree.find(path)
    is_bind = path in (*header.binds, *FOLDERS)
    if not packed or (is_bind and stat.S_ISLNK(tree.lstat(path).st_mode)):
        # A mount point: what the tree has there says only whether it is a file or a folder.
        is_file = path in _FILES or (there is not None and there.is_file)
        info.type = tarfile.REGTYPE if is_file else tarfile.DIRTYPE
        info.mode = 0o644 if is_file else 0o755
        return info
    found = tree.lstat(path)
    info.mode = stat.S_IMODE(found.st_mode)
    if keep_owners:
        info.uid, info.gid = found.st_uid, found.st_gid
    if stat.S_ISLNK(found.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(tree.disk(path))
    elif stat.S_ISDIR(found.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISREG(found.st_mode):
        key = (found.st_dev, found.st_ino)
        if found.st_nlink > 1 and key in links:
            info.type, info.linkname = tarfile.LNKTYPE, links[key]
            return info
        links[key] = path[1:]
        info.size = found.st_size
        capability = _capability(tree.disk(path))
        if capability:
            info.pax_headers = {f"SCHILY.xattr.{_CAPABILITY}": capability.decode("utf-8", "surrogateescape")}
    elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        info.type = tarfile.CHRTYPE if stat.S_ISCHR(found.st_mode) else tarfile.BLKTYPE
        info.devmajor, info.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
    elif stat.S_ISFIFO(found.st_mode):
        info.type = tarfile.FIFOTYPE
    else:
        return None
    return info


def _capability(path: str) -> bytes:
    """Returns a file's capabilities; the one attribute that is kept."""
    try:
        return os.getxattr(path, _CAPABILITY, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
            return b""
        raise map_os_error(error, "an attribute cannot be read", where=path) from error
