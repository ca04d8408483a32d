"""The files of a file system in a disk image, as a directory: mounted by the kernel, or read by its own tools.

====================  ======================================================================================
way                   how
====================  ======================================================================================
kernel                a loop device of that stretch alone, mounted read-only, nosuid and nodev, with no
                      journal replayed; the mount is at no path, so that nobody sees it and it goes with
                      this process
tools                 ``unsquashfs``, ``fsck.erofs --extract``, ``debugfs`` rdump, ``mcopy``, into a directory
                      of the repository's ``tmp/``; nothing of the image is read by the kernel
====================  ======================================================================================

A tool runs where it can write to that directory alone (``linux/confining.py``), whatever names stand in the image.
Kernel code for file systems is not written for images that somebody made to break it; a stranger's image is read by
tools (``--no-mount``). They keep less: ``debugfs`` and ``fsck.erofs`` no extended attributes, and so no file
capabilities either; ``fsck.erofs`` no set-user-ID bits. Those of ``debugfs`` are put back here.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.errors import InvalidInput, NotPermitted, ToolError, Unsupported
from wherry.core.trace import reach
from wherry.image.scratch import scratch_folder

if TYPE_CHECKING:
    from wherry.image.disks import Disk, Volume

MOUNTED = ("ext4", "squashfs", "erofs", "xfs", "btrfs", "vfat")
EXTRACTED = ("ext4", "squashfs", "erofs", "vfat")
_OPTIONS = {
    "ext4": ("ro", "noload"),
    "xfs": ("ro", "norecovery", "nouuid"),
    "btrfs": ("ro", "rescue=nologreplay"),
}
_TOOL_S = 3600
_SECTOR_BYTES = 512
_FILES, _SAID = "files", "said"
_LIST_FIELDS = 8
_SPECIAL_BITS = 0o7000
_COPY_BYTES = 4 * 1024 * 1024
_CANNOT = (errno.ENODEV, errno.ENOENT, errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENXIO, errno.EOPNOTSUPP)


@contextmanager
def opened_files(
    disk: Disk, volume: Volume, *, scratch: Path, may_mount: bool = True, note: Callable[[str], None]
) -> Iterator[Path]:
    """Gives the files of a volume as a directory, to be read only.

    Args:
        disk: where it is.
        volume: which.
        scratch: a directory with room for the files, for tools.
        may_mount: whether the kernel may read it.
        note: is told what a tool does not keep.

    Raises:
        InvalidInput: it holds no file system that is read, or a damaged one.
        Unsupported: neither this kernel nor a tool reads it.
        NotPermitted: only root could.
    """
    found = volume.filesystem
    if found is None or not found.has_files:
        what = found.kind if found else "nothing that is known"
        raise Unsupported(f"no file system that is read here, but {what}", where=_name(disk, volume))
    mount_fd: int | None = None
    refused: OSError | None = None
    if may_mount:
        try:
            mount_fd = _mount(disk, volume, found.kind)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise InvalidInput(
                    f"the kernel cannot mount this {found.kind}: {error.strerror or error}", where=_name(disk, volume)
                ) from error
            refused = error
    if mount_fd is not None:
        try:
            reach("image.system.mounted")
            yield Path(f"/proc/self/fd/{mount_fd}/.")
        finally:
            os.close(mount_fd)
        return
    if found.kind not in EXTRACTED:
        raise _no_way(found.kind, refused, _name(disk, volume))
    with scratch_folder(scratch) as folder:
        _extract(disk, volume, found.kind, folder, note)
        reach("image.system.extracted")
        yield folder / _FILES


def _name(disk: Disk, volume: Volume) -> str:
    return f"{disk.where}{f', partition {volume.partition.number}' if volume.partition else ''}"


def _no_way(kind: str, refused: OSError | None, where: str) -> Unsupported | NotPermitted:
    if refused is None:
        return Unsupported(f"{kind} is read by mounting it alone", where=where, hint="leave --no-mount out")
    if refused.errno in (errno.EPERM, errno.EACCES):
        return NotPermitted(f"only root can mount {kind}", where=where)
    return Unsupported(f"this kernel cannot mount {kind}: {refused.strerror}", where=where)


def _mount(disk: Disk, volume: Volume, kind: str) -> int:
    """Returns a descriptor of a mount that is at no path."""
    from wherry.linux import x
    from wherry.linux.loop import attach_read_only

    device = attach_read_only(
        disk.fd,
        "wherry image import",
        block_bytes=_SECTOR_BYTES,
        offset_bytes=volume.offset_bytes,
        size_bytes=volume.size_bytes // _SECTOR_BYTES * _SECTOR_BYTES,
    )
    try:
        return x.new_mount(
            kind,
            source=os.readlink(f"/proc/self/fd/{device}"),
            options=_OPTIONS.get(kind, ("ro",)),
            attributes=x.MOUNT_ATTR_RDONLY | x.MOUNT_ATTR_NOSUID | x.MOUNT_ATTR_NODEV | x.MOUNT_ATTR_NOEXEC,
        )
    finally:
        os.close(device)


# --- tools, each in the folder that it may write to


def _extract(disk: Disk, volume: Volume, kind: str, folder: Path, note: Callable[[str], None]) -> None:
    """Copies the files of a volume to ``files`` in a folder."""
    offset, where = volume.offset_bytes, _name(disk, volume)
    target = folder / _FILES
    if kind in ("ext4", "erofs"):
        lost = "extended attributes" if kind == "ext4" else "extended attributes and set-user-ID bits"
        note(f"{lost} of the {kind} are not kept: its files were read by a tool, not by the kernel")
    if kind == "squashfs":
        args = ["unsquashfs", "-no-progress", "-quiet", "-offset", str(offset), "-dest", _FILES, disk.path]
        _run(args, folder, "squashfs-tools", where)
    elif kind == "vfat":
        target.mkdir()
        args = ["mcopy", "-s", "-n", "-m", "-i", f"{disk.path}@@{offset}", "::/*", _FILES]
        _run(args, folder, "mtools", where)
    elif kind == "ext4":
        target.mkdir()
        _dump_ext(f"{disk.path}?offset={offset}" if offset else disk.path, folder, where)
    else:
        with _own_file(disk, volume, folder) as path:
            owners = ["--preserve"] if os.geteuid() == 0 else []
            _run(["fsck.erofs", f"--extract={_FILES}", *owners, path], folder, "erofs-utils", where)
    if not target.is_dir():
        raise InvalidInput("the tool took nothing out of it", where=where)


def _run(args: list[str], folder: Path, package: str, where: str) -> str:
    """Runs a tool in a folder, the only one that it can write to; returns what it printed on standard error."""
    from wherry.core.proc import run
    from wherry.linux.confining import confine

    hint = f"{args[0]} is in the package {package}"
    try:
        done = run(args, timeout_s=_TOOL_S, hint=hint, before_exec=lambda: confine(str(folder)))
    except ToolError as error:
        raise InvalidInput(f"{args[0]} cannot read it: {error.what}", where=where) from error
    folder.joinpath(_SAID).write_bytes(done.stdout)
    return done.stderr.decode(errors="replace")


def _dump_ext(image: str, folder: Path, where: str) -> None:
    """Has debugfs copy all; it ends with 0 in any case, so its words are looked at."""
    lines = _run(["debugfs", "-c", "-R", f"rdump / {_FILES}", image], folder, "e2fsprogs", where).splitlines()
    said = [line for line in lines if not line.startswith("debugfs ") and "while changing ownership" not in line]
    if said or not any(folder.joinpath(_FILES).iterdir()):
        raise InvalidInput(f"debugfs cannot read it: {said[0][:300] if said else 'it is empty'}", where=where)
    _restore_modes(image, folder, where)


def _restore_modes(image: str, folder: Path, where: str) -> None:
    """Puts set-user-ID bits back, which the kernel takes from a file that debugfs gives an owner.

    The modes come from ``ls -p``: ``/INODE/MODE/UID/GID/NAME/SIZE/``. A directory in whose name debugfs sees more
    than a name is left alone. Whatever the image says, only modes of its own files change, and no link is followed.
    """
    target = folder / _FILES
    folders = [
        name
        for name, _, _ in os.walk(target)
        if not any(char in name for char in '"\\\n\r') and os.fsencode(name).isascii()
    ]
    orders = "".join(f'ls -p "/{os.path.relpath(name, target)}"\n' for name in folders)
    folder.joinpath("orders").write_text(orders)
    _run(["debugfs", "-c", "-f", "orders", image], folder, "e2fsprogs", where)
    blocks = folder.joinpath(_SAID).read_text(errors="surrogateescape").split('debugfs: ls -p "')[1:]
    for name, block in zip(folders, blocks, strict=False):
        for line in block.splitlines()[1:]:
            fields = line.split("/")
            if len(fields) != _LIST_FIELDS or set(fields[2]) - set("01234567") or fields[5] in ("", ".", ".."):
                continue
            mode = int(fields[2] or "0", 8)
            path = os.path.join(name, fields[5])
            if mode & _SPECIAL_BITS and stat.S_ISREG(mode) and os.path.isfile(path) and not os.path.islink(path):
                os.chmod(path, stat.S_IMODE(mode))


@contextmanager
def _own_file(disk: Disk, volume: Volume, folder: Path) -> Iterator[str]:
    """Gives a volume as a file of its own, for a tool that knows of no offsets."""
    if not volume.offset_bytes:
        yield disk.path
        return
    path = folder / "volume"
    with open(path, "wb") as out:
        done = 0
        while done < volume.size_bytes:
            data = disk.read(volume.offset_bytes + done, min(_COPY_BYTES, volume.size_bytes - done))
            if not data:
                break
            if data[0] or data.count(0) != len(data):
                out.seek(done)
                out.write(data)
            done += len(data)
        out.truncate(done)
    yield str(path)
