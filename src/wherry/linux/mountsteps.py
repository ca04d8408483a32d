"""The steps of a plan that mount: a new file system, something of the host, and a change of what is mounted.

File systems of the kernel's own (proc, sysfs and so on) refuse any link on the way to their place, so that an image
cannot have them put where its own volume lies over them. Nothing is mounted inside procfs but over a few files that
only tell of the machine, and nothing but procfs at /proc. Sources of bind mounts may be opened before the rest
(`open_sources`): by the parent of a container in a user namespace, which may get at them when the container may not,
or before the mount namespace is cut off from the host's.
"""

from __future__ import annotations

import errno
import os
import stat

from wherry.linux import x, xcompat
from wherry.linux.beneath import make_directory, make_file, open_beneath, open_in_root
from wherry.linux.mount import MS_I_VERSION, MS_REC, MS_SHARED, MS_SLAVE, fd_path, mount
from wherry.linux.mountplan import (
    Made,
    MakeLink,
    MakeNode,
    Step,
    StepError,
    Work,
    attribute_words,
    option_list,
    propagation_words,
)
from wherry.linux.process import file_system_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry.linux.idmap import Range

PROC_SUPER_MAGIC = 0x9FA0
MAY_BE_BOUND_IN_PROC = frozenset(
    f"/proc/{name}"
    for name in ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo", "net/dev")
)
"""Files that tell of the machine, which lxcfs and others put their own over. None of them is ever written to."""


class NewMount(Step):
    """A new file system instance at a directory, which is made where it is missing."""

    fstype: str
    source: str = ""
    options: tuple[str, ...] = ()
    attributes: int = 0
    iversion: bool = False
    """``MS_I_VERSION``, which the calls of Linux 5.2 cannot say."""
    propagation: int = 0
    ordinary_path: bool = False
    """Refuse symbolic links on the way to the target."""
    contents: tuple[Made, ...] = ()
    """What is made in it, before it can be seen."""
    copy_up: bool = False
    """The contents of the directory below are copied into it."""
    bind_instead: str = ""
    """What of the host is bound, with all below it, where the kernel refuses the mount (in a user namespace)."""

    def describe(self) -> str:  # noqa: D102
        words = (
            *attribute_words(self.attributes),
            *(("iversion",) if self.iversion else ()),
            *(("tmpcopyup",) if self.copy_up else ()),
            *propagation_words(self.propagation),
            *self.options,
        )
        instead = f" || mount --rbind {self.bind_instead} {self.target}" if self.bind_instead else ""
        return f"mount -t {self.fstype} {self.source or self.fstype} {self.target}{option_list(words)}{instead}"

    def lines(self) -> tuple[str, ...]:  # noqa: D102
        return (self.describe(), *(item.describe() for item in self.contents))

    def execute(self, work: Work) -> None:  # noqa: D102
        # A place that is made here has nothing to copy, and a mode that is no wish of the image's.
        copies = self.copy_up and _is_there(work.root_fd, self.target)
        target = _directory(work.root_fd, self.target, no_symlinks=self.ordinary_path)
        try:
            if self.target == "/proc":
                if self.fstype != "proc":
                    raise OSError(errno.EPERM, "only procfs is mounted at /proc", self.target)
            else:
                refuse_procfs(target, self.target)
            # What is filled first becomes read-only afterwards.
            late = self.attributes & x.MOUNT_ATTR_RDONLY if self.contents or self.copy_up else 0
            made = self._made(target, self.attributes & ~late)
            try:
                if copies:
                    from wherry.linux.copyup import copy_up

                    copy_up(target, made)
                refused = self._fill(made)
                if made != target:
                    xcompat.attach_with(made, target, late)
                if self.propagation:
                    set_propagation(made, self.propagation)
            finally:
                if made != target:
                    os.close(made)
        finally:
            os.close(target)
        for node in refused:
            node.bind(work)

    def _made(self, target: int, attributes: int) -> int:
        """Returns the new mount, which is nowhere yet, or `target` itself when it is there already."""
        too_long = any(len(option) > x.MAX_STRING_BYTES for option in self.options)
        if self.iversion or too_long or self.fstype == "overlay":
            # overlay: a lowerdir= of several layers is understood by mount(2) alone on many kernels.
            flags = xcompat.flags_of(attributes) | (MS_I_VERSION if self.iversion else 0)
            mount(self.source or self.fstype, fd_path(target), self.fstype, flags, ",".join(self.options) or None)
            return target
        try:
            return x.new_mount(
                self.fstype, source=self.source or self.fstype, options=self.options, attributes=attributes
            )
        except PermissionError:
            if not self.bind_instead:
                raise
        copy = x.open_tree(self.bind_instead, recursive=True)
        xcompat.change(copy, attributes, recursive=True)
        return copy

    def _fill(self, made: int) -> list[MakeNode]:
        """Makes the contents; returns the nodes that the kernel refuses to make."""
        refused = []
        for item in self.contents:
            name = item.target.removeprefix(self.target.rstrip("/")).lstrip("/")
            parent, _, last = name.rpartition("/")
            directory = make_directory(made, parent) if parent else made
            try:
                item.make(directory, last)
            except PermissionError:
                if not isinstance(item, MakeNode):
                    raise
                refused.append(item)
            finally:
                if parent:
                    os.close(directory)
        return refused


class BindMount(Step):
    """Something of the host at a place in the root; a file or directory is made there where it is missing."""

    source: str
    beneath: str = ""
    """A path below the source, which is bound in its place; links in it do not lead out of the source."""
    recursive: bool = True
    attr_set: int = 0
    attr_clr: int = 0
    all_set: int = 0
    """As `attr_set`, for the mount and those below it."""
    all_clr: int = 0
    propagation: int = 0
    """0 means private: neither side sees what is mounted later on the other."""
    uids: tuple[Range, ...] = ()
    """The owners of files are shown by these maps, unless both are empty."""
    gids: tuple[Range, ...] = ()
    map_recursive: bool = False
    follow_source: bool = True
    """False: where the source is a symbolic link, it is mounted itself."""
    copy_symlink: bool = False
    """Where the source is a symbolic link, one like it is made, and nothing mounted."""
    follow_target: bool = True

    def describe(self) -> str:  # noqa: D102
        words = (
            *attribute_words(self.attr_set, self.attr_clr),
            *(f"r{word}" for word in attribute_words(self.all_set, self.all_clr)),
            *propagation_words(self.propagation),
            *self._map_words(),
            *(("src-nofollow",) if not self.follow_source else ()),
            *(("copy-symlink",) if self.copy_symlink else ()),
            *(("dest-nofollow",) if not self.follow_target else ()),
        )
        source = f"{self.source}/{self.beneath}" if self.beneath else self.source
        return f"mount --{'rbind' if self.recursive else 'bind'} {source} {self.target}{option_list(words)}"

    def _map_words(self) -> tuple[str, ...]:
        if not self.uids and not self.gids:
            return ()
        uids, gids = ("#".join("-".join(map(str, item)) for item in ranges) for ranges in (self.uids, self.gids))
        return (f"{'ridmap' if self.map_recursive else 'idmap'}=uids={uids};gids={gids}",)

    def open(self) -> tuple[int, bool]:
        """Opens the source as a mount that is nowhere yet, with everything that was asked for.

        Returns:
            a file descriptor, and whether the attributes are still to be set (Linux 5.10 and 5.11).
        """
        if self.beneath:
            fd = self._open_beneath()
        else:
            fd = self._open_source()
        try:
            return fd, not self._prepare(fd)
        except BaseException:
            os.close(fd)
            raise

    def _open_beneath(self) -> int:
        folder = os.open(self.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            place = open_beneath(folder, self.beneath)
        finally:
            os.close(folder)
        try:
            return x.open_tree("", dir_fd=place, recursive=self.recursive)
        finally:
            os.close(place)

    def _open_source(self) -> int:
        # A symbolic link that is to be copied is looked at first: `execute` reads it from the descriptor.
        follow = self.follow_source and not (self.copy_symlink and os.path.islink(self.source))
        return x.open_tree(self.source, recursive=self.recursive, follow_symlinks=follow)

    def _prepare(self, fd: int) -> bool:
        if self.uids or self.gids:
            from wherry.linux.idmap import open_user_namespace

            namespace = open_user_namespace(self.uids, self.gids)
            try:
                x.mount_setattr(fd, userns_fd=namespace, recursive=self.map_recursive)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    raise OSError(error.errno, "this file system cannot be id-mapped", self.source) from None
                raise
            finally:
                os.close(namespace)
        done = True
        if self.attr_set or self.attr_clr:
            done = xcompat.change(fd, self.attr_set, self.attr_clr)
        if self.all_set or self.all_clr:
            done = xcompat.change(fd, self.all_set, self.all_clr, recursive=True) and done
        return done

    def execute(self, work: Work) -> None:  # noqa: D102
        copy = work.sources.pop(work.index, -1)
        late = work.index in work.late
        if copy < 0:
            copy, late = self.open()
        try:
            mode = os.fstat(copy).st_mode
            if stat.S_ISLNK(mode) and self.copy_symlink:
                self._copy_symlink(copy, work)
                return
            target = self._target(work, copy, mode)
            try:
                self._check(target, copy)
                x.attach(copy, target)
            finally:
                os.close(target)
            if late:
                if self.attr_set or self.attr_clr:
                    xcompat.remount_with(copy, self.attr_set, self.attr_clr)
                if self.all_set or self.all_clr:
                    xcompat.remount_with(copy, self.all_set, self.all_clr, recursive=True)
            if self.propagation:
                set_propagation(copy, self.propagation)
        finally:
            os.close(copy)

    def _target(self, work: Work, copy: int, mode: int) -> int:
        if not self.follow_target or stat.S_ISLNK(mode):
            try:
                return open_in_root(work.root_fd, self.target, os.O_PATH | os.O_NOFOLLOW)
            except FileNotFoundError:
                if stat.S_ISLNK(mode):  # only a link can be mounted over by a link
                    self._copy_symlink(copy, work)
                    return open_in_root(work.root_fd, self.target, os.O_PATH | os.O_NOFOLLOW)
        if self.target in MAY_BE_BOUND_IN_PROC:
            return open_in_root(work.root_fd, self.target, no_symlinks=self.target != "/proc/net/dev")
        if stat.S_ISDIR(mode):
            return make_directory(work.root_fd, self.target)
        return make_file(work.root_fd, self.target)

    def _copy_symlink(self, copy: int, work: Work) -> None:
        points_to = os.readlink(b"", dir_fd=copy)
        MakeLink(target=self.target, points_to=os.fsdecode(points_to)).execute(work)

    def _check(self, target: int, copy: int) -> None:
        """Refuses what would stand in for the kernel's /proc, or hide parts of it (CVE-2019-16884)."""
        is_proc = self.target.rstrip("/") == "/proc"
        if is_proc:
            if file_system_type(copy) != PROC_SUPER_MAGIC:
                raise OSError(errno.EPERM, "only procfs is mounted at /proc", self.target)
        elif self.target not in MAY_BE_BOUND_IN_PROC:
            refuse_procfs(target, self.target)


class Remount(Step):
    """The mount at a place in the root is changed."""

    attr_set: int = 0
    attr_clr: int = 0
    all_set: int = 0
    all_clr: int = 0
    propagation: int = 0
    options: tuple[str, ...] = ()
    """Of the file system itself, so for every place where it is mounted."""

    def describe(self) -> str:  # noqa: D102
        words = (
            *attribute_words(self.attr_set, self.attr_clr),
            *(f"r{word}" for word in attribute_words(self.all_set, self.all_clr)),
            *propagation_words(self.propagation),
            *self.options,
        )
        kind = "remount" if self.options else "remount,bind"
        return f"mount -o {','.join((kind, *words))} {self.target}"

    def execute(self, work: Work) -> None:  # noqa: D102
        target = open_in_root(work.root_fd, self.target)
        try:
            if self.options:
                x.reconfigure(target, self.options)
            if self.attr_set or self.attr_clr:
                xcompat.set_attributes(target, self.attr_set, self.attr_clr)
            if self.all_set or self.all_clr:
                xcompat.set_attributes(target, self.all_set, self.all_clr, recursive=True)
            if self.propagation:
                set_propagation(target, self.propagation)
        finally:
            os.close(target)


def open_sources(plan: Sequence[Step], work: Work, *, with_host: bool = False) -> None:
    """Opens the sources of bind mounts, which stand by their numbers in ``work.sources``.

    Args:
        plan: the steps.
        work: the execution; those that it has stay.
        with_host: only those that shall go on receiving mounts from the host.

    Raises:
        StepError: a source cannot be opened, or not in the way that is wanted.
    """
    for index, step in enumerate(plan):
        if isinstance(step, BindMount) and index not in work.sources:
            if with_host and not step.propagation & (MS_SLAVE | MS_SHARED):
                continue
            try:
                work.sources[index], late = step.open()
            except OSError as error:
                raise StepError(error.errno, error.strerror, step.describe()) from error
            if late:
                work.late.add(index)


def refuse_procfs(target_fd: int, path: str) -> None:
    """Refuses a mount inside procfs, which would let a container's own files stand for the kernel's."""
    if file_system_type(target_fd) == PROC_SUPER_MAGIC:
        raise OSError(errno.EPERM, "nothing is mounted inside /proc", path)


def set_propagation(fd: int, propagation: int) -> None:
    """Sets how a mount takes part in propagation: one of ``MS_PRIVATE`` and so on, with ``MS_REC`` or without."""
    try:
        x.mount_setattr(fd, propagation=propagation & ~MS_REC, recursive=bool(propagation & MS_REC))
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        mount(None, fd_path(fd), None, propagation)


def _is_there(root_fd: int, path: str) -> bool:
    try:
        os.close(open_in_root(root_fd, path))
    except FileNotFoundError:
        return False
    return True


def _directory(root_fd: int, path: str, *, no_symlinks: bool) -> int:
    if no_symlinks:
        try:
            return open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY, no_symlinks=True)
        except FileNotFoundError:
            os.close(make_directory(root_fd, path))
        return open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY, no_symlinks=True)
    return make_directory(root_fd, path)
