"""Trees of a container as tar streams: ``cp`` with ``-``, and ``export``.

Written as pax archives, as docker's are, with numeric owners, extended attributes (``SCHILY.xattr``) and hard links.
Read entry by entry; a name cannot leave the directory that it goes to: ``..`` is refused, and what is above it is
opened as the container's own processes would open it. Sockets are left out, and devices when unpacking.

Source: POSIX.1-2017, pax; docker's command line reference, "docker container cp", "docker container export".
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from wherry.core.durable import map_os_error
from wherry.core.errors import Conflict, InvalidInput
from wherry.engine.copying import MAX_DEPTH, Source
from wherry.engine.idranges import AS_SEEN, Owners
from wherry.engine.view import is_kernel_file_system, refuse_kernel_file_system
from wherry.linux.beneath import make_directory, open_in_root

MAX_NAME_BYTES = 4096
MAX_ENTRIES = 10_000_000
_ATTRIBUTE = "SCHILY.xattr."
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Note = Callable[[str], None]


def _quiet(text: str) -> None:
    return None


def write_source(source: Source, out: BinaryIO, *, note: Note = _quiet) -> None:
    """Writes a file or a tree as docker's ``cp CONTAINER:PATH -`` does: under its own name, or ``./`` for contents."""
    with _Writer(out, source.side.owners, note) as writer:
        name = "." if source.contents or not source.name else source.name
        if source.is_directory:
            fd = os.open(f"/proc/self/fd/{source.fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                writer.directory(fd, name, 0)
            finally:
                os.close(fd)
        else:
            writer.entry(source.fd, source.status, name)


def write_root(root_fd: int, out: BinaryIO, *, owners: Owners = AS_SEEN, note: Note = _quiet) -> None:
    """Writes all below a root directory, as docker's ``export`` does: names without a ``./`` before them."""
    fd = os.open(f"/proc/self/fd/{root_fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with _Writer(out, owners, note) as writer:
            writer.directory(fd, "", 0)
    finally:
        os.close(fd)


class _Padded:
    """The first `size` bytes of a file; zeros where it has become shorter."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd, self._left = fd, size

    def read(self, count: int = -1) -> bytes:
        wanted = self._left if count < 0 else min(count, self._left)
        data = os.read(self._fd, wanted)
        if not data and wanted:
            data = b"\0" * wanted
        self._left -= len(data)
        return data


class _Output:
    """Where an archive goes; after a write that failed, nowhere: tarfile flushes once more when it is forgotten."""

    def __init__(self, out: BinaryIO) -> None:
        self._out: BinaryIO | None = out

    def write(self, data: bytes) -> int:
        out, self._out = self._out, None
        if out is not None:
            out.write(data)
            self._out = out
        return len(data)

    def forget(self) -> None:
        """Writes nothing any more."""
        self._out = None


class _Writer:
    def __init__(self, out: BinaryIO, owners: Owners, note: Note) -> None:
        self._output = output = _Output(out)
        self._tar = tarfile.open(  # noqa: SIM115 closed by __exit__
            fileobj=cast("Any", output), mode="w|", format=tarfile.PAX_FORMAT, bufsize=tarfile.RECORDSIZE * 16
        )
        self._owners, self._note = owners, note
        self._links: dict[tuple[int, int], str] = {}

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._tar.close()
        else:
            self._output.forget()

    def directory(self, fd: int, name: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise InvalidInput(f"nested more than {MAX_DEPTH} deep", where=name[:200])
        if depth and is_kernel_file_system(fd):
            self._note(f"left out a kernel's file system: {name}")
            return
        if name:
            self._tar.addfile(self._info(fd, os.fstat(fd), name, tarfile.DIRTYPE))
        with os.scandir(fd) as entries:
            names = sorted(entry.name for entry in entries)
        for inner in names:
            self._child(fd, inner, f"{name}/{inner}" if name else inner, depth)

    def _child(self, parent: int, inner: str, name: str, depth: int) -> None:
        try:
            place = os.open(inner, _PLACE, dir_fd=parent)
        except FileNotFoundError:
            return
        try:
            status = os.fstat(place)
            if not stat.S_ISDIR(status.st_mode):
                self.entry(place, status, name)
                return
            fd = os.open(inner, _READ_DIRECTORY, dir_fd=parent)
            try:
                self.directory(fd, name, depth + 1)
            finally:
                os.close(fd)
        finally:
            os.close(place)

    def entry(self, place: int, status: os.stat_result, name: str) -> None:
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFSOCK:
            self._note(f"left out a socket: {name}")
            return
        inode = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and inode in self._links:
            info = self._info(-1, status, name, tarfile.LNKTYPE)
            info.linkname = self._links[inode]
            self._tar.addfile(info)
            return
        if status.st_nlink > 1:
            self._links[inode] = name
        if kind == stat.S_IFREG:
            fd = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                info = self._info(fd, os.fstat(fd), name, tarfile.REGTYPE)
                info.size = os.fstat(fd).st_size
                self._tar.addfile(info, _Padded(fd, info.size))
            finally:
                os.close(fd)
            return
        types = {stat.S_IFLNK: tarfile.SYMTYPE, stat.S_IFIFO: tarfile.FIFOTYPE, stat.S_IFCHR: tarfile.CHRTYPE}
        info = self._info(-1, status, name, types.get(kind, tarfile.BLKTYPE))
        if kind == stat.S_IFLNK:
            info.linkname = os.readlink("", dir_fd=place)
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        self._tar.addfile(info)

    def _info(self, fd: int, status: os.stat_result, name: str, kind: bytes) -> tarfile.TarInfo:
        info = tarfile.TarInfo(f"{name}/" if kind == tarfile.DIRTYPE else name)
        info.type = kind
        info.mode = stat.S_IMODE(status.st_mode)
        info.uid, info.gid = self._owners.of(status)
        info.mtime = int(status.st_mtime)
        if fd >= 0:
            headers: dict[str, str] = {}
            for attribute in os.listxattr(fd):
                if attribute.startswith(("user.", "security.capability", "system.posix_acl_")):
                    value = os.getxattr(fd, attribute)
                    headers[_ATTRIBUTE + attribute] = value.decode("utf-8", errors="surrogateescape")
            info.pax_headers = headers
        return info


def unpack(
    stream: BinaryIO,
    root_fd: int,
    path: str,
    *,
    archive: bool = False,
    owners: Owners = AS_SEEN,
    note: Note = _quiet,
) -> None:
    """Unpacks a tar stream into a directory of a container that is there.

    Args:
        stream: the archive, compressed by gzip, bzip2 or xz or not.
        root_fd: the container's root.
        path: the directory.
        archive: keep owners; otherwise all belongs to root.
        owners: whose the container's files are.
        note: is told what was left out.

    Raises:
        Conflict: there is no such directory; an entry is in the way.
        InvalidInput: it is no archive, or a name in it leads out of the directory.
    """
    try:
        dest = open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        raise Conflict("not a directory in the container", where=path, hint="make it first") from None
    try:
        refuse_kernel_file_system(dest, path)
        with tarfile.open(fileobj=stream, mode="r|*") as archive_file:
            directories: list[tuple[str, tarfile.TarInfo]] = []
            for count, info in enumerate(archive_file):
                if count >= MAX_ENTRIES:
                    raise InvalidInput(f"the archive has more than {MAX_ENTRIES} entries")
                name = _clean(info.name)
                _Unpacker(root_fd, path, archive=archive, owners=owners, note=note).add(archive_file, info, name)
                if info.isdir():
                    directories.append((name, info))
            for name, info in reversed(directories):  # their times change with what is put in
                _times(root_fd, f"{path}/{name}", info)
    except tarfile.TarError as error:
        raise InvalidInput(f"not a tar archive: {error}") from error
    except OSError as error:
        raise map_os_error(error, "cannot unpack", where=error.filename or path) from error
    finally:
        os.close(dest)


def _clean(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidInput("a name in the archive leads out of the directory", where=name[:200])
    if len(os.fsencode(name)) > MAX_NAME_BYTES:
        raise InvalidInput("a name in the archive is too long", where=name[:200])
    return "/".join(parts)


class _Unpacker:
    def __init__(self, root_fd: int, path: str, *, archive: bool, owners: Owners, note: Note) -> None:
        self._root_fd, self._path, self._archive, self._note = root_fd, path.rstrip("/"), archive, note
        self._owners = owners

    def add(self, archive_file: tarfile.TarFile, info: tarfile.TarInfo, name: str) -> None:
        if not name:
            return  # the directory itself
        if info.ischr() or info.isblk():
            self._note(f"left out a device: {name}")
            return
        above, _, last = name.rpartition("/")
        parent = make_directory(self._root_fd, f"{self._path}/{above}")
        try:
            refuse_kernel_file_system(parent, above)
            self._put(archive_file, info, parent, last, name)
        finally:
            os.close(parent)

    def _put(self, archive_file: tarfile.TarFile, info: tarfile.TarInfo, parent: int, last: str, name: str) -> None:
        existing = _status(parent, last)
        is_directory = existing is not None and stat.S_ISDIR(existing.st_mode)
        if existing is not None and is_directory != info.isdir():
            raise Conflict("a directory and something else are in each other's way", where=f"{self._path}/{name}")
        if info.isdir():
            if not is_directory:
                os.mkdir(last, 0o700, dir_fd=parent)
            fd = os.open(last, _READ_DIRECTORY, dir_fd=parent)
            try:
                self._metadata(fd, info)
            finally:
                os.close(fd)
            return
        if existing is not None:
            os.unlink(last, dir_fd=parent)
        if info.islnk():
            target = open_in_root(self._root_fd, f"{self._path}/{_clean(info.linkname)}", os.O_PATH | os.O_NOFOLLOW)
            try:
                if stat.S_ISDIR(os.fstat(target).st_mode):
                    raise InvalidInput("a hard link to a directory", where=name)
                os.link(f"/proc/self/fd/{target}", last, dst_dir_fd=parent, follow_symlinks=True)
            finally:
                os.close(target)
        elif info.issym():
            os.symlink(info.linkname, last, dir_fd=parent)
            self._owner(parent, last, info)
        elif info.isfifo():
            os.mkfifo(last, info.mode & 0o777, dir_fd=parent)
            self._owner(parent, last, info)
        else:
            self._file(archive_file, info, parent, last)

    def _file(self, archive_file: tarfile.TarFile, info: tarfile.TarInfo, parent: int, last: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(last, flags, 0o600, dir_fd=parent)
        with os.fdopen(fd, "wb") as file:
            content = archive_file.extractfile(info)
            while content is not None and (chunk := content.read(1 << 20)):
                file.write(chunk)
            file.flush()
            self._metadata(fd, info)

    def _metadata(self, fd: int, info: tarfile.TarInfo) -> None:
        if self._archive:
            os.fchown(fd, *self._owners.to((info.uid, info.gid)))
            for key, value in info.pax_headers.items():
                if key.startswith((f"{_ATTRIBUTE}user.", f"{_ATTRIBUTE}security.capability")):
                    os.setxattr(fd, key.removeprefix(_ATTRIBUTE), value.encode("utf-8", errors="surrogateescape"))
        os.fchmod(fd, info.mode & 0o7777)
        os.utime(fd, (info.mtime, info.mtime))

    def _owner(self, parent: int, last: str, info: tarfile.TarInfo) -> None:
        if self._archive:
            os.chown(last, *self._owners.to((info.uid, info.gid)), dir_fd=parent, follow_symlinks=False)


def _status(parent: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _times(root_fd: int, path: str, info: tarfile.TarInfo) -> None:
    try:
        fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK)
    except OSError:
        return
    try:
        os.utime(fd, (info.mtime, info.mtime))
    finally:
        os.close(fd)
