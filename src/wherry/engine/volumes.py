"""Named volumes, and what stands behind each mount of a container.

::

    <root>/volumes/<name>/data         what containers see
    <root>/volumes/<name>/volume.json  Volume: labels, options, when it was made; durable, and written before ``data``
    <root>/volumes/<name>/.new         half filled from an image: garbage whenever <run>/volumes.lock is free

A volume is made when a container first asks for it, and filled with what the image has at the mount point, as
docker does; ``data`` appears by rename, so that it is never seen half filled. It stays until it is removed by name;
an anonymous volume goes with its container. A volume that was made with options is a directory of the host
(``type=none,o=bind,device=DIR``), or is mounted in each container that has it (``type=tmpfs``: each container's own;
``type=nfs``): such a one is never filled. What is *not* promised: metadata of
volumes that were made before there was any; they count as made when their folder was.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from wherry.core import jsonio
from wherry.core.durable import fsync_dir, make_dirs, map_os_error, write_file
from wherry.core.errors import Conflict, InvalidInput, NotFound
from wherry.core.lock import file_lock
from wherry.core.value import EMPTY
from wherry.engine import volume_mounts
from wherry.engine.events import emit
from wherry.engine.removing import remove_tree
from wherry.engine.state import Paths, all_ids, read_config
from wherry.engine.volume_mounts import MAX_METADATA_BYTES, METADATA, Volume
from wherry.linux.beneath import open_in_root
from wherry.spec.codec import decode, encode
from wherry.spec.container import MountType

_COPY_BYTES = 1 << 20
MAX_DEPTH = 256


def prepare_volume(paths: Paths, name: str, *, root_fd: int | None, target: str) -> Path:
    """Returns the directory of a volume; makes and fills it when it is new.

    Args:
        paths: of the engine root.
        name: the volume's.
        root_fd: the container's root, from which a new volume is filled; None leaves it empty.
        target: the mount point in it.

    Raises:
        NoSpace: the content does not fit; the volume is as it was.
    """
    folder = Path(paths.volumes) / name
    data = folder / "data"
    if (folder / METADATA).exists():
        device = volume_mounts.source_of(read_volume(paths, name), data)
        if device is not None:
            return device
    if data.is_dir():
        return data
    with file_lock(Path(paths.run) / "volumes.lock", what="the volumes"):
        if data.is_dir():
            return data
        make_dirs(folder, mode=0o711)
        new = folder / ".new"
        remove_tree(new)
        try:
            new.mkdir(mode=0o755)
            if root_fd is not None:
                _fill(new, root_fd, target)
            fsync_dir(new)
            new.rename(data)
            fsync_dir(folder)
        except OSError as error:
            remove_tree(new)
            raise map_os_error(error, "cannot fill the volume", where=folder) from error
    return data


def create_volume(
    paths: Paths, name: str = "", *, labels: Mapping[str, str] = EMPTY, options: Mapping[str, str] = EMPTY
) -> Volume:
    """Makes a volume, durably; one that is there with the same options is returned as it is.

    Args:
        paths: of the engine root.
        name: unique; made up when empty, and the volume anonymous then.
        labels: for filters.
        options: docker's of the driver ``local``: ``type``, ``o``, ``device``.

    Raises:
        Conflict: there is one of that name with other options.
        InvalidInput: the name or an option is malformed.
    """
    anonymous = not name
    name = name or os.urandom(32).hex()
    check_name(name)
    volume = Volume(name=name, created_s=time.time(), labels=labels, options=options, anonymous=anonymous)
    volume_mounts.check(volume)
    with file_lock(Path(paths.run) / "volumes.lock", what="the volumes"):
        folder = Path(paths.volumes) / name
        if is_volume(folder):
            there = read_volume(paths, name)
            if dict(there.options) != dict(options):
                raise Conflict(f"a volume {name!r} with other options is there", hint="remove it, or use another name")
            return there
        make_dirs(folder, mode=0o711)
        write_file(folder / METADATA, jsonio.pretty(encode(volume)).encode(), mode=0o600)
        if not options:
            make_dirs(folder / "data")
    emit(paths, "create", type="volume", actor_id=name, attributes={"driver": "local"})
    return volume


def check_name(name: str) -> None:
    """Refuses what is no volume's name.

    Raises:
        InvalidInput: says what one looks like.
    """
    fine = name[:1].isalnum() and len(name) <= 128 and all(char.isalnum() or char in "_.-" for char in name)
    if not fine or not name.isascii():
        raise InvalidInput(f"not a volume name: {name!r}", hint="use letters, digits, _ . and -, at most 128")


def is_volume(folder: Path) -> bool:
    """Tells whether a folder is a volume's."""
    return (folder / METADATA).exists() or (folder / "data").is_dir()


def read_volume(paths: Paths, name: str) -> Volume:
    """Returns what is known of a volume.

    Raises:
        NotFound: there is none of that name.
    """
    folder = Path(paths.volumes) / name
    if "/" in name or name.startswith(".") or not name or not is_volume(folder):
        raise NotFound(f"no volume {name!r}", hint="`wherry volume ls` lists them")
    try:
        data = (folder / METADATA).read_bytes()
    except FileNotFoundError:
        anonymous = name.startswith("anon-")
        return Volume(name=name, created_s=folder.stat().st_mtime, anonymous=anonymous)
    where = folder / METADATA
    return decode(Volume, jsonio.loads(data, where=where, max_bytes=MAX_METADATA_BYTES), where=where)


def list_volumes(paths: Paths) -> tuple[str, ...]:
    """Returns the names of all volumes."""
    if not Path(paths.volumes).is_dir():
        return ()
    return tuple(sorted(path.name for path in Path(paths.volumes).iterdir() if is_volume(path)))


def users_of(paths: Paths) -> dict[str, list[str]]:
    """Returns the volumes that containers have, with the containers' names."""
    users: dict[str, list[str]] = {}
    for container_id in all_ids(paths):
        try:
            config = read_config(paths, container_id)
        except NotFound:
            continue
        for mount in config.mounts:
            if mount.type == MountType.VOLUME:
                users.setdefault(mount.source, []).append(config.name)
    return users


def remove_volume(paths: Paths, name: str) -> None:
    """Removes a volume and what is in it; not what a bind or a server's directory has.

    Raises:
        NotFound: there is none of that name.
        Conflict: a container uses it.
    """
    read_volume(paths, name)
    with file_lock(Path(paths.run) / "volumes.lock", what="the volumes"):
        users = users_of(paths).get(name)
        if users:
            raise Conflict(f"volume {name!r} is used by container {users[0]}", hint="remove the container first")
        remove_tree(Path(paths.volumes) / name)
    emit(paths, "destroy", type="volume", actor_id=name, attributes={"driver": "local"})


def _fill(new: Path, root_fd: int, target: str) -> None:
    try:
        source = open_in_root(root_fd, target, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return
    dest = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _copy_directory(source, dest, 0)
    finally:
        os.close(dest)
        os.close(source)


def _copy_directory(source: int, dest: int, depth: int) -> None:
    """Copies what is in one open directory into another: contents, owners, modes, times, extended attributes."""
    if depth > MAX_DEPTH:
        raise InvalidInput(f"the image's directory is nested more than {MAX_DEPTH} deep")
    with os.scandir(source) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        _copy_entry(source, dest, name, depth)
    _copy_metadata(source, dest)


def _copy_entry(source: int, dest: int, name: str, depth: int) -> None:
    status = os.stat(name, dir_fd=source, follow_symlinks=False)
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        os.mkdir(name, 0o700, dir_fd=dest)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        inner, made = os.open(name, flags, dir_fd=source), os.open(name, flags, dir_fd=dest)
        try:
            _copy_directory(inner, made, depth + 1)
        finally:
            os.close(inner)
            os.close(made)
    elif kind == stat.S_IFREG:
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        inner = os.open(name, os.O_RDONLY | flags, dir_fd=source)
        try:
            made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=dest)
            try:
                while os.sendfile(made, inner, None, _COPY_BYTES):
                    pass
                _copy_metadata(inner, made)
                os.fsync(made)
            finally:
                os.close(made)
        finally:
            os.close(inner)
    elif kind == stat.S_IFLNK:
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=dest)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=dest, follow_symlinks=False)
    elif kind in (stat.S_IFIFO, stat.S_IFSOCK):
        os.mknod(name, status.st_mode, dir_fd=dest)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=dest, follow_symlinks=False)
    # device nodes are not copied: a volume is mounted without devices


def _copy_metadata(source: int, dest: int) -> None:
    status = os.fstat(source)
    os.fchown(dest, status.st_uid, status.st_gid)
    for name in os.listxattr(source):
        if name.startswith(("user.", "security.capability", "system.posix_acl_")):
            os.setxattr(dest, name, os.getxattr(source, name))
    os.fchmod(dest, stat.S_IMODE(status.st_mode))
    os.utime(dest, ns=(status.st_atime_ns, status.st_mtime_ns))
