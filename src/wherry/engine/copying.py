"""``cp``: files and trees between the host and a container, by docker's rules about where things go.

Both sides are walked entry by entry below open directories, and no link is followed in a walk; the two paths that
the user gave are resolved first, that in the container as its own processes would. So a container that plants links,
or swaps directories for links while it is copied, reaches nothing outside its root, and gets nothing from there. A
file is read as far as it was long when it was opened: one that grows for ever ends. Of what is no file, directory or
link, fifos are made anew, and sockets and devices left out: a device node on the host, with the mode that a container
chose, would be a hole.

Without `archive` new files belong to root in a container, and to the caller on the host, without set-user-ID bits.

Source: docker's command line reference, "docker container cp".
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from wherry.core.durable import map_os_error
from wherry.core.errors import Conflict, InvalidInput, NotFound
from wherry.engine.idranges import AS_SEEN, Owners
from wherry.engine.view import is_kernel_file_system, refuse_kernel_file_system
from wherry.linux.beneath import open_in_root

MAX_DEPTH = 256
"""Each level holds two descriptors open."""
_CHUNK_BYTES = 1 << 20
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTRIBUTES = ("user.", "security.capability", "system.posix_acl_")

Note = Callable[[str], None]


class Side:
    """One side of a copy: the host, or a container's root.

    Args:
        root_fd: of the container's root; None is the host.
        owners: whose its files are.
        name: the container's, for errors.
    """

    def __init__(self, root_fd: int | None = None, owners: Owners = AS_SEEN, *, name: str = "") -> None:
        self.root_fd, self.owners, self._name = root_fd, owners, name

    def shown(self, path: str) -> str:
        """Returns a path of this side as a person writes it."""
        return f"{self._name}:{path}" if self._name else path

    @property
    def is_host(self) -> bool:
        """Whether it is the host."""
        return self.root_fd is None

    def open(self, path: str, flags: int) -> int:
        """Opens a path as the user of this side means it; links on the way are followed, the last by `flags`."""
        if self.root_fd is None:
            return os.open(path, flags | os.O_CLOEXEC)
        fd = open_in_root(self.root_fd, path, flags)
        try:
            refuse_kernel_file_system(fd, path)
        except BaseException:
            os.close(fd)
            raise
        return fd


class Source:
    """What is copied: an entry `name` of the open directory `parent_fd`, or that directory itself (`name` is "")."""

    def __init__(self, side: Side, path: str, *, follow: bool) -> None:
        """Opens what `path` means.

        Args:
            side: where.
            path: as the user wrote it; at its end ``/`` and ``/.`` follow a link.
            follow: follow a link at its end.

        Raises:
            NotFound: nothing is there.
        """
        self.side, self.path = side, path
        self.contents = path.endswith("/.") or path == "."
        stripped = path.rstrip("/") or "/"
        into = path != stripped or self.contents
        try:
            self.fd = side.open(path, os.O_PATH | (0 if follow or into else os.O_NOFOLLOW))
        except FileNotFoundError:
            raise NotFound("nothing is there to copy", where=side.shown(path)) from None
        except NotADirectoryError:
            raise InvalidInput("not a directory", where=side.shown(path)) from None
        except OSError as error:
            raise map_os_error(error, "cannot open", where=side.shown(path)) from error
        self.status = os.fstat(self.fd)
        if into and not self.is_directory:
            os.close(self.fd)
            raise InvalidInput("not a directory", where=side.shown(path))
        name = os.path.basename(stripped.removesuffix("/."))
        self.name = name if name not in ("", ".", "..") else ""

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)

    def close(self) -> None:
        """Closes it."""
        os.close(self.fd)


class Place:
    """Where something goes: the entry `name` of an open directory, or with "" that directory's own contents."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd, self.name = fd, name


def find_place(side: Side, path: str, *, name: str, directory: bool, contents: bool) -> Place:
    """Decides where a source goes, by docker's rules.

    Args:
        side: where.
        path: the destination, as the user wrote it.
        name: the source's own name.
        directory: whether the source is a directory.
        contents: whether it ended in ``/.``, so that its contents are meant.

    Raises:
        NotFound: the directory above is not there.
        Conflict: a directory would replace a file.
    """
    try:
        fd = side.open(path, os.O_PATH)
    except FileNotFoundError:
        return _new_place(side, path, directory=directory)
    except OSError as error:
        raise map_os_error(error, "cannot open", where=side.shown(path)) from error
    is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    if is_directory:
        return Place(_readable(fd), "" if contents or not name else name)
    os.close(fd)
    if directory:
        raise Conflict("a directory cannot be copied over a file", where=side.shown(path))
    if path.endswith(("/", "/.")):
        raise Conflict("not a directory", where=side.shown(path))
    return _beside(side, path)


def _new_place(side: Side, path: str, *, directory: bool) -> Place:
    if path.endswith("/") and not directory:
        raise NotFound("no such directory", where=side.shown(path), hint="make it first, or leave the last / out")
    return _beside(side, path.removesuffix("/.").rstrip("/"))


def _beside(side: Side, path: str) -> Place:
    """Returns the place of a last part of a path; one that is a link leads on to what it points to."""
    for _ in range(40):  # as the kernel's own limit
        parent, _, name = path.rpartition("/")
        above = (parent or "/") if path.startswith("/") else parent or "."
        if name in ("", ".", ".."):
            raise InvalidInput("not a name for a new file", where=side.shown(path))
        try:
            fd = side.open(above, os.O_PATH | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound("no such directory", where=side.shown(above), hint="make it first") from None
        try:
            target = os.readlink(name, dir_fd=fd)
        except OSError:
            return Place(_readable(fd), name)
        os.close(fd)
        path = target if target.startswith("/") else f"{above.rstrip('/')}/{target}"
    raise InvalidInput("symbolic links go in circles", where=side.shown(path))


def _readable(fd: int) -> int:
    """Opens anew what an O_PATH descriptor of a directory means, and closes that."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(fd)


def copy(
    source: Source,
    dest: Side,
    path: str,
    *,
    archive: bool = False,
    follow: bool = False,
    note: Note = lambda text: None,
) -> None:
    """Copies a file or a tree.

    Args:
        source: what.
        dest: to which side.
        path: where to, as the user wrote it.
        archive: keep owners and attributes.
        follow: unused by the tree below `source`: its links stay links, as with docker.
        note: is told what was left out.

    Raises:
        Conflict: a directory and something else are in each other's way.
        NoSpace: it does not fit; what was copied before stays.
    """
    place = find_place(dest, path, name=source.name, directory=source.is_directory, contents=source.contents)
    copier = _Copier(source.side, dest, archive=archive, note=note)
    try:
        if source.is_directory:
            fd = os.open(f"/proc/self/fd/{source.fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                copier.directory(fd, place.fd, place.name, source.path, 0)
            finally:
                os.close(fd)
        else:
            copier.entry(source.fd, source.status, place.fd, place.name, source.path)
    except OSError as error:
        raise map_os_error(error, "cannot copy", where=error.filename or source.path) from error
    finally:
        os.close(place.fd)


class _Copier:
    """Copies entries between open directories."""

    def __init__(self, source: Side, dest: Side, *, archive: bool, note: Note) -> None:
        self._archive, self._note = archive, note
        self._strip, self._guarded = dest.is_host and not archive, not source.is_host
        self._from, self._to = source.owners, dest.owners

    def directory(self, source: int, dest: int, name: str, path: str, depth: int) -> None:
        """Copies what is in the open directory `source` into the directory `name` of `dest`, made when missing."""
        if depth > MAX_DEPTH:
            raise InvalidInput(f"nested more than {MAX_DEPTH} deep", where=path[:200])
        if self._guarded and depth and is_kernel_file_system(source):
            self._note(f"left out a file system of the kernel: {path}")
            return
        made = _make_directory(dest, name, path)
        try:
            with os.scandir(source) as entries:
                names = [entry.name for entry in entries]
            for inner in names:
                self._child(source, inner, made, f"{path.rstrip('/')}/{inner}", depth)
            if name:
                self._metadata(source, made)
        finally:
            os.close(made)

    def _child(self, source: int, name: str, dest: int, path: str, depth: int) -> None:
        try:
            fd = os.open(name, _PLACE, dir_fd=source)
        except FileNotFoundError:
            return  # it went while we looked
        try:
            status = os.fstat(fd)
            if not stat.S_ISDIR(status.st_mode):
                self.entry(fd, status, dest, name, path)
                return
            inner = os.open(name, _READ_DIRECTORY, dir_fd=source)
            try:
                self.directory(inner, dest, name, path, depth + 1)
            finally:
                os.close(inner)
        finally:
            os.close(fd)

    def entry(self, fd: int, status: os.stat_result, dest: int, name: str, path: str) -> None:
        """Copies what is no directory; `fd` is an O_PATH descriptor of it."""
        kind = stat.S_IFMT(status.st_mode)
        if kind in (stat.S_IFBLK, stat.S_IFCHR, stat.S_IFSOCK):
            self._note(f"left out a {'socket' if kind == stat.S_IFSOCK else 'device'}: {path}")
            return
        if _is_directory(dest, name):
            raise Conflict("a file cannot be copied over a directory", where=path)
        if self._guarded and is_kernel_file_system(fd):
            self._note(f"left out a file of the kernel: {path}")
            return
        if kind == stat.S_IFREG:
            self._file(fd, dest, name)
            return
        temporary = f".{os.urandom(6).hex()}.wherry"
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink("", dir_fd=fd), temporary, dir_fd=dest)
        else:
            os.mkfifo(temporary, stat.S_IMODE(status.st_mode) & 0o777, dir_fd=dest)
        try:
            if self._archive:
                os.chown(temporary, *self._to.to(self._from.of(status)), dir_fd=dest, follow_symlinks=False)
            os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=dest, follow_symlinks=False)
            os.rename(temporary, name, src_dir_fd=dest, dst_dir_fd=dest)
        except BaseException:
            os.unlink(temporary, dir_fd=dest)
            raise

    def _file(self, fd: int, dest: int, name: str) -> None:
        source = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            temporary = f".{os.urandom(6).hex()}.wherry"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            made = os.open(temporary, flags, 0o600, dir_fd=dest)
            try:
                copy_bytes(source, made, os.fstat(source).st_size)
                self._metadata(source, made)
                try:
                    os.rename(temporary, name, src_dir_fd=dest, dst_dir_fd=dest)
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise
                    self._overwrite(source, dest, name)  # something is mounted there: /etc/hosts, say
                    os.unlink(temporary, dir_fd=dest)
            except BaseException:
                _unlink(temporary, dest)
                raise
            finally:
                os.close(made)
        finally:
            os.close(source)

    def _overwrite(self, source: int, dest: int, name: str) -> None:
        place = os.open(name, _PLACE, dir_fd=dest)
        try:
            if not stat.S_ISREG(os.fstat(place).st_mode):
                raise Conflict("not a regular file", where=name)
            refuse_kernel_file_system(place, name)
            made = os.open(f"/proc/self/fd/{place}", os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        finally:
            os.close(place)
        try:
            os.lseek(source, 0, os.SEEK_SET)
            copy_bytes(source, made, os.fstat(source).st_size)
        finally:
            os.close(made)

    def _metadata(self, source: int, dest: int) -> None:
        status = os.fstat(source)
        mode = stat.S_IMODE(status.st_mode)
        if self._archive:
            os.fchown(dest, *self._to.to(self._from.of(status)))
            _copy_attributes(source, dest)
        os.fchmod(dest, mode & 0o1777 if self._strip else mode)
        os.utime(dest, ns=(status.st_atime_ns, status.st_mtime_ns))


def copy_bytes(source: int, dest: int, size: int) -> None:
    """Copies the first `size` bytes of a file; what is a hole there is one here."""
    place = 0
    while place < size:
        try:
            begin = os.lseek(source, place, os.SEEK_DATA)
            end = min(size, os.lseek(source, begin, os.SEEK_HOLE))
        except OSError as error:
            if error.errno == errno.ENXIO:
                break  # a hole up to the end
            if error.errno != errno.EINVAL:
                raise
            begin, end = place, size
        os.lseek(dest, begin, os.SEEK_SET)
        place = begin
        while place < end:
            count = os.sendfile(dest, source, place, min(_CHUNK_BYTES, end - place))
            if not count:
                return  # it was cut short meanwhile
            place += count
    if os.fstat(dest).st_size < size:
        os.ftruncate(dest, size)


def _make_directory(dest: int, name: str, path: str) -> int:
    if not name:
        return os.dup(dest)
    try:
        os.mkdir(name, 0o700, dir_fd=dest)
    except FileExistsError:
        pass
    try:
        return os.open(name, _READ_DIRECTORY, dir_fd=dest)
    except (NotADirectoryError, OSError) as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise Conflict("a directory cannot be copied over a file", where=path) from None
        raise


def _is_directory(dest: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=dest, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _unlink(name: str, dest: int) -> None:
    try:
        os.unlink(name, dir_fd=dest)
    except FileNotFoundError:
        pass


def _copy_attributes(source: int, dest: int) -> None:
    for name in os.listxattr(source):
        if name.startswith(_ATTRIBUTES):
            try:
                os.setxattr(dest, name, os.getxattr(source, name))
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EPERM):
                    raise
