"""Makes the image of a packed app: its files laid out in a scratch folder, and mksquashfs or mkfs.erofs over that.

tar lays them out, from a stream that is written here: so owners, links and times come from one place, and nothing is
followed on the way. (mksquashfs of Debian 12 reads such a stream itself, but gives the root the time of the day.)
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from wherry.core.durable import map_os_error
from wherry.core.errors import ToolError, Unsupported
from wherry.core.proc import run
from wherry.core.progress import QUIET, Progress
from wherry.engine.pack.header import FOLDERS, NODES, SPARE, Format, Header, tables
from wherry.engine.pack.needed import Needed
from wherry.engine.pack.tree import Tree
from wherry.engine.spec import DEFAULT_PATH

COMPRESSIONS = {
    Format.SQUASHFS: ("zstd", "gzip", "lz4", "lzo", "xz"),
    Format.EROFS: ("lz4hc", "lz4", "none"),
}
"""Of each format, its default first."""
_BLOCK_BYTES = 128 * 1024
_COPY_BYTES = 1024 * 1024
_CAPABILITY = "security.capability"
_FILES = ("/etc/resolv.conf", "/etc/hosts")
"""Empty where the tree has none, to be mounted on."""
_DEVICE_LINKS = {"/dev/fd": "/proc/self/fd", "/dev/stdin": "fd/0", "/dev/stdout": "fd/1", "/dev/stderr": "fd/2"}
_UUID = "00000000-0000-4000-8000-000000000000"
"""Of each EROFS image: a random one would make each pack another."""
_ENVIRONMENT = {"PATH": DEFAULT_PATH, "LC_ALL": "C"}
_MAX_SAID_CHARS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How an image is made."""

    format: Format = Format.SQUASHFS
    compression: str = ""
    """Empty: the format's default."""
    keep_owners: bool = True
    """Owners as in the tree; else everything is root's."""
    clamp_s: int | None = None
    """Times of files that are later become this."""
    folders: tuple[str, ...] = ()
    """Further empty folders."""
    progress: Progress = field(default=QUIET, compare=False)


def size_of(tree: Tree, path: str) -> int:
    """Returns the bytes of a regular file; 0 of anything else."""
    info = tree.lstat(path)
    return info.st_size if stat.S_ISREG(info.st_mode) else 0


def spare(tree: Tree, needed: Needed) -> tuple[str, ...]:
    """Returns those of SPARE in which nothing is packed, so that the machine's may be seen there."""
    found = []
    for path in SPARE:
        there = tree.find(path)
        used = any(name.startswith(f"{path}/") for name in needed.files)
        if not used and (there is None or (there.path == path and there.is_dir)):
            found.append(path)
    return tuple(found)


def make_image(tree: Tree, needed: Needed, header: Header, image: Path, recipe: Recipe) -> None:
    """Writes the image of an app.

    Args:
        tree: where the files are.
        needed: which of them.
        header: says what is mounted on.
        image: the file to make; its folder is for scratch files as well.
        recipe: how.

    Raises:
        Unsupported: a tool is missing.
        ToolError: it failed.
    """
    stream = _Stream(tree, needed, header, recipe)
    compression = recipe.compression or COMPRESSIONS[recipe.format][0]
    folder = image.with_name("laid-out")
    folder.mkdir()
    owners = "--same-owner" if recipe.keep_owners else "--no-same-owner"
    kept = ["--xattrs", f"--xattrs-include={_CAPABILITY}"] if recipe.keep_owners else []
    _feed(["tar", "-x", "-p", "-C", str(folder), "--numeric-owner", owners, *kept], stream, hint="apt-get install tar")
    folder.chmod(0o755)
    os.utime(folder, (0, 0))
    if recipe.format is Format.SQUASHFS:
        args = [
            *("mksquashfs", str(folder), str(image), "-quiet", "-no-progress", "-noappend", "-comp", compression),
            *("-b", str(_BLOCK_BYTES), "-mkfs-time", "0", "-processors", str(os.cpu_count() or 1)),
            *([] if recipe.keep_owners else ["-all-root"]),
        ]
        run(args, env=_ENVIRONMENT, hint="apt-get install squashfs-tools")
        return
    args = ["mkfs.erofs", "--quiet", "-x-1", "-U", _UUID, str(image), str(folder)]
    if compression != "none":
        args.insert(1, f"-z{compression}")
    if not recipe.keep_owners:
        args.insert(1, "--all-root")
    # Unlike -T it leaves earlier times as they are.
    run(args, env={**_ENVIRONMENT, "SOURCE_DATE_EPOCH": str(stream.latest_s)}, hint="apt-get install erofs-utils")


class _Stream:
    """The files of an app as a tar stream."""

    def __init__(self, tree: Tree, needed: Needed, header: Header, recipe: Recipe) -> None:
        self._tree, self._needed, self._header, self._recipe = tree, needed, header, recipe
        self._texts = {path: text.encode() for path, text in tables(header).items()}
        self._texts |= {f"/dev/{name}": b"" for name in NODES if f"/dev/{name}" not in needed.files}
        self._links = {path: target for path, target in _DEVICE_LINKS.items() if path not in needed.files}
        self._hard: dict[tuple[int, int], str] = {}
        self.latest_s = 0
        """The latest time of a file in it, once it is written."""

    def write(self, file: IO[bytes]) -> None:
        """Writes it to a pipe."""
        tree, needed = self._tree, self._needed
        total = sum(size_of(tree, path) for path in needed.files)
        done = 0
        with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_COPY_BYTES) as tar:
            for path in sorted({*needed.files, *self._mount_points(), *self._texts, *self._links} - {"/"}):
                info = self._made(path) or self._entry(path)
                if info is None:
                    continue
                if not info.isreg() or not info.size:
                    tar.addfile(info)
                elif path in self._texts:
                    tar.addfile(info, io.BytesIO(self._texts[path]))
                else:
                    self._add_file(tar, info, path)
                    done += info.size
                    self._recipe.progress.update("packing", done, total, unit="B")

    def _add_file(self, tar: tarfile.TarFile, info: tarfile.TarInfo, path: str) -> None:
        try:
            with open(self._tree.disk(path), "rb") as content:
                tar.addfile(info, content)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise map_os_error(error, "a file of the tree cannot be read", where=path) from error

    def _mount_points(self) -> Iterable[str]:
        """Returns what must be there to be mounted on, with its folders; a folder that is a link stays one."""
        header = self._header
        places = (*FOLDERS, *header.spare, *header.binds, *header.memory, *self._recipe.folders, header.workdir)
        for path in places:
            here = path
            while here != "/":
                parent = os.path.dirname(here)
                found = self._tree.find(parent)
                if here in self._needed.files or found is None or found.path == parent:
                    yield here
                here = parent

    def _made(self, path: str) -> tarfile.TarInfo | None:
        """Returns the entry of what the tree does not give: tables, devices' names, mount points."""
        info = tarfile.TarInfo(path[1:])
        info.mode = 0o644
        if path in self._links:
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, self._links[path], 0o777
            return info
        if path in self._texts:
            info.size = len(self._texts[path])
            return info
        tree, header = self._tree, self._header
        mounted_on = path in (*header.binds, *FOLDERS)
        if path in self._needed.files and not (mounted_on and stat.S_ISLNK(tree.lstat(path).st_mode)):
            return None
        # What the tree has there says only whether it is a file or a folder.
        there = tree.find(path)
        if path not in _FILES and (there is None or not there.is_file):
            info.type, info.mode = tarfile.DIRTYPE, 0o755
        return info

    def _entry(self, path: str) -> tarfile.TarInfo | None:
        """Returns the entry of a path of the tree; None for what an image has no use for, sockets."""
        info = tarfile.TarInfo(path[1:])
        tree = self._tree
        found = tree.lstat(path)
        info.mode = stat.S_IMODE(found.st_mode)
        if self._recipe.keep_owners:
            info.uid, info.gid = found.st_uid, found.st_gid
        if stat.S_ISLNK(found.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, os.readlink(tree.disk(path))
        elif stat.S_ISDIR(found.st_mode):
            info.type = tarfile.DIRTYPE
        elif stat.S_ISREG(found.st_mode):
            key = (found.st_dev, found.st_ino)
            if found.st_nlink > 1 and key in self._hard:
                info.type, info.linkname = tarfile.LNKTYPE, self._hard[key]
                return info
            self._hard[key] = path[1:]
            info.size = found.st_size
            clamp_s = self._recipe.clamp_s
            info.mtime = max(0, int(found.st_mtime)) if clamp_s is None else min(max(0, int(found.st_mtime)), clamp_s)
            self.latest_s = max(self.latest_s, int(info.mtime))
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


def _feed(args: list[str], stream: _Stream, *, hint: str) -> None:
    """Runs a program that reads the stream on standard input."""
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                args, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT, env=_ENVIRONMENT
            )
        except FileNotFoundError as error:
            raise Unsupported(f"program not found: {args[0]}", hint=hint) from error
        broken = False
        with process:
            if process.stdin is None:
                raise ToolError("no pipe to it", where=args[0])
            try:
                with process.stdin:
                    stream.write(process.stdin)
            except BrokenPipeError:
                broken = True  # it has ended; it said why
            except BaseException:
                process.kill()
                raise
        said.seek(0)
        text = said.read().decode(errors="replace").strip().replace("\n", " | ")[-_MAX_SAID_CHARS:]
    if process.returncode != 0 or broken:
        raise ToolError(f"exit status {process.returncode}: {text or 'no message'}", where=args[0])


def _capability(path: str) -> bytes:
    """Returns a file's capabilities; the one attribute that is kept."""
    try:
        return os.getxattr(path, _CAPABILITY, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
            return b""
        raise map_os_error(error, "an attribute cannot be read", where=path) from error
