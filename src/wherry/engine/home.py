"""The home namespace: the user namespace in which somebody without root has containers.

::

    <run>/home.lock            held while a namespace is looked for, entered, and the entry is written down
    <run>/home/<pid>           symbolic link to ``user:[INODE]``: this process entered that namespace
    <run>/c/<id>/run.json      of containers: theirs is the home, or a child of it

Root in it is the user outside; the ids from 1 on are the user's ranges of /etc/subuid and /etc/subgid. Every command
of the engine begins by entering it, so all the rest of the engine finds itself root and works as it does for root. It
has no process of its own: it lives as long as somebody is in it, a container, a supervisor or a command; the first
command after that makes it anew, with the same ranges, and so with the same owners of files. All that can join a
container must be in the namespace that owns the container's others, so whoever comes later has to find it: each process
that enters writes that down while it holds the lock, and of containers the state says which process it is.

A process found there is only a way to a namespace: the kernel lets nobody enter one of another user.
Source: user_namespaces(7); subuid(5).
"""

from __future__ import annotations

import errno
import fcntl
import os

from wherry.core.durable import make_dirs, map_os_error
from wherry.core.errors import NotPermitted, Unsupported, WherryError
from wherry.linux import subordinate, usernamespace
from wherry.linux.namespaces import CLONE_NEWUSER, setns, unshare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wherry.engine.state import Paths
    from wherry.runtime.spec import IdMapping

_PREFIX = "user:["


def check_private(path: str) -> None:
    """Makes a folder that is this user's alone, or sees to it that what is there is one.

    In a place such as /tmp anybody may have been there first.

    Raises:
        NotPermitted: somebody else can write there, or it is no folder.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise map_os_error(error, "cannot make the folder for state", where=path) from error
    found = os.lstat(path)
    hint = "remove it, or set XDG_RUNTIME_DIR or --run-root to a folder that is yours alone"
    if not os.path.isdir(path) or os.path.islink(path):
        raise NotPermitted("the folder for state is something else", where=path, hint=hint)
    if found.st_uid != os.geteuid():
        raise NotPermitted("the folder for state is another user's", where=path, hint=hint)
    if found.st_mode & 0o077:
        raise NotPermitted("others may enter the folder for state", where=path, hint=f"chmod 700 {path}")


def enter(paths: Paths) -> None:
    """Takes this process, which has one thread, into the user's home namespace; it is root there.

    Raises:
        Unsupported: this kernel gives no user namespaces to users.
        WherryError: the ranges cannot be set up.
    """
    make_dirs(f"{paths.run}/home", mode=0o700)
    lock = os.open(f"{paths.run}/home.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = _find(paths)
        if found is None:
            _make()
        else:
            try:
                setns(found, CLONE_NEWUSER)
            finally:
                os.close(found)
        usernamespace.forget()
        write_down(paths)
    finally:
        os.close(lock)


def write_down(paths: Paths) -> None:
    """Has those that come later find the home namespace by this process, as long as it lives."""
    link = f"{paths.run}/home/{os.getpid()}"
    try:
        os.unlink(link)
    except FileNotFoundError:
        pass
    os.symlink(os.readlink("/proc/self/ns/user"), link)


# --- the one that is there


def _find(paths: Paths) -> int | None:
    """Returns a descriptor of the home namespace, when somebody is in it; forgets those that have ended."""
    folder = f"{paths.run}/home"
    homes: set[str] = set()
    found: int | None = None
    for name in os.listdir(folder):
        try:
            noted = os.readlink(f"{folder}/{name}")
        except OSError:
            continue  # nothing of ours
        homes.add(noted)
        fd = _open(name, {noted})
        if fd is None:
            os.unlink(f"{folder}/{name}")
        elif found is None:
            found = fd
        else:
            os.close(fd)
    if found is not None:
        return found
    for pid in _container_pids(paths):
        found = _open(pid, homes)
        if found is not None:
            return found
    return None


def _container_pids(paths: Paths) -> Iterator[str]:
    from wherry.engine.state import read_run

    try:
        names = os.listdir(paths.running)
    except FileNotFoundError:
        return
    for name in names:
        if name.endswith(".lock"):
            continue
        try:
            run = read_run(paths, name)
        except WherryError:
            continue
        if run is not None and run.pid:
            yield str(run.pid)


def _open(pid: str, homes: set[str]) -> int | None:
    """Returns the user namespace of a process, or its parent, when it is one of `homes`."""
    try:
        fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None  # it has ended, or is another user's
    while True:
        if f"{_PREFIX}{os.fstat(fd).st_ino}]" in homes:
            return fd
        above = usernamespace.parent(fd)
        os.close(fd)
        if above is None:
            return None
        fd = above


# --- a new one


def _make() -> None:
    """Makes the namespace; a child that stays outside writes its ranges."""
    from wherry.runtime.userns import write_mappings

    uids, gids = ranges()
    pid = os.getpid()
    told, tell = os.pipe2(os.O_CLOEXEC)
    answer, answering = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(tell)
            if os.read(told, 1):
                write_mappings(pid, uids, gids)
                status = 0
        except WherryError as error:
            os.write(answering, str(error).encode())
        except OSError as error:
            os.write(answering, f"cannot map ids: {error.strerror}".encode())
        finally:
            os._exit(status)
    os.close(told)
    os.close(answering)
    try:
        unshare(CLONE_NEWUSER)
        os.write(tell, b"+")
    except OSError as error:
        raise _refused(error) from error
    finally:
        os.close(tell)
        with open(answer, "rb") as file:
            text = file.read().decode(errors="replace")
        status = os.waitpid(child, 0)[1]
    if status or text:
        raise NotPermitted(text or "the ids of the user namespace cannot be mapped", hint="see `wherry doctor`")


def _refused(error: OSError) -> WherryError:
    if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EINVAL, errno.EUSERS):
        return Unsupported(
            f"this kernel gives no user namespace to a user: {error.strerror}",
            hint="run it as root, or have user namespaces allowed: `wherry doctor` says how",
        )
    return map_os_error(error, "cannot make a user namespace")


def ranges() -> tuple[tuple[IdMapping, ...], tuple[IdMapping, ...]]:
    """Returns what is mapped for this user, uids and gids; the own id alone when there are no ranges, or no tools."""
    from wherry.runtime.spec import IdMapping

    uid, gid = os.geteuid(), os.getegid()
    own = (
        (IdMapping(container_id=0, host_id=uid, size=1),),
        (IdMapping(container_id=0, host_id=gid, size=1),),
    )
    if subordinate.find_tool("newuidmap") is None or subordinate.find_tool("newgidmap") is None:
        return own
    uids, gids = subordinate.ranges_of("/etc/subuid", uid), subordinate.ranges_of("/etc/subgid", uid)
    if not uids or not gids:
        return own
    return (*own[0], *_behind(uids)), (*own[1], *_behind(gids))


def _behind(found: Sequence[tuple[int, int]]) -> tuple[IdMapping, ...]:
    from wherry.runtime.spec import IdMapping

    mapped, next_id = [], 1
    for first, size in found:
        mapped.append(IdMapping(container_id=next_id, host_id=first, size=size))
        next_id += size
    return tuple(mapped)
