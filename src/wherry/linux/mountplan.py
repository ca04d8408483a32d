"""A plan of what is mounted and made below a new root: described as data, printed, tested, and then executed.

Every step names its place as a path in the root. Executing opens that place with ``beneath.py``, so a symbolic
link in the tree can lead to another place in the tree, never outside; file systems of the kernel's own (proc, sysfs
and so on) refuse any link on the way, so that an image cannot have them put where its own volume lies over them.
Nothing but the mask and read-only steps may touch a place inside procfs.

The order of the steps is the order of execution. A step that fails raises `StepError`, which names it. Steps are
named tuples rather than data classes, as this file is read at every cold start of a container.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from wherry.linux import x, xcompat
from wherry.linux.beneath import make_directory, make_file, open_in_root
from wherry.linux.process import file_system_type

PROC_SUPER_MAGIC = 0x9FA0

_ATTRIBUTE_WORDS = (
    (x.MOUNT_ATTR_RDONLY, "ro"),
    (x.MOUNT_ATTR_NOSUID, "nosuid"),
    (x.MOUNT_ATTR_NODEV, "nodev"),
    (x.MOUNT_ATTR_NOEXEC, "noexec"),
    (x.MOUNT_ATTR_NOATIME, "noatime"),
    (x.MOUNT_ATTR_STRICTATIME, "strictatime"),
    (x.MOUNT_ATTR_NODIRATIME, "nodiratime"),
    (x.MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"),
)


class NewMount(NamedTuple):
    """A new file system instance at a directory, which is made where it is missing."""

    fstype: str
    target: str
    source: str | None = None
    options: tuple[str, ...] = ()
    attributes: int = 0
    ordinary_path: bool = True
    """Refuse symbolic links on the way to the target."""

    def describe(self) -> str:
        """Returns the step as a mount command line."""
        words = _words(self.attributes) + self.options
        return f"mount -t {self.fstype} {self.source or self.fstype} {self.target}{_options(words)}"

    def execute(self, root_fd: int) -> None:
        """Does the step below the root."""
        made = x.new_mount(self.fstype, source=self.source, options=self.options, attributes=self.attributes)
        try:
            target = _directory(root_fd, self.target, no_symlinks=self.ordinary_path)
            try:
                _refuse_procfs(target, self.target)
                x.attach(made, target)
            finally:
                os.close(target)
        finally:
            os.close(made)


class BindMount(NamedTuple):
    """Something of the host at a place in the root; a file or directory is made there where it is missing."""

    source: str
    target: str
    attributes: int = 0
    recursive: bool = True
    recursive_attributes: bool = False
    propagation: int = 0

    def describe(self) -> str:
        """Returns the step as a mount command line."""
        verb = "--rbind" if self.recursive else "--bind"
        return f"mount {verb} {self.source} {self.target}{_options(_words(self.attributes))}"

    def execute(self, root_fd: int) -> None:
        """Does the step below the root."""
        copy = x.open_tree(self.source, recursive=self.recursive)
        try:
            if stat.S_ISDIR(os.fstat(copy).st_mode):
                target = make_directory(root_fd, self.target)
            else:
                target = make_file(root_fd, self.target)
            try:
                _refuse_procfs(target, self.target)
                xcompat.attach_with(copy, target, self.attributes, recursive=self.recursive_attributes)
            finally:
                os.close(target)
            if self.propagation:
                x.mount_setattr(copy, propagation=self.propagation, recursive=self.recursive)
        finally:
            os.close(copy)


class MakeDirectory(NamedTuple):
    """A directory in the root, with its parents; one that is there stays as it is."""

    target: str
    mode: int = 0o755

    def describe(self) -> str:
        """Returns the step as a command line."""
        return f"mkdir -p -m {self.mode:o} {self.target}"

    def execute(self, root_fd: int) -> None:
        """Does the step below the root."""
        os.close(make_directory(root_fd, self.target, mode=self.mode))


class MakeLink(NamedTuple):
    """A symbolic link in the root; one that is there already stays."""

    target: str
    points_to: str

    def describe(self) -> str:
        """Returns the step as a command line."""
        return f"ln -s {self.points_to} {self.target}"

    def execute(self, root_fd: int) -> None:
        """Does the step below the root."""
        parent, name = _split(self.target)
        directory = make_directory(root_fd, parent)
        try:
            os.symlink(self.points_to, name, dir_fd=directory)
        except FileExistsError:
            pass
        finally:
            os.close(directory)


class MakeNode(NamedTuple):
    """A device node in the root; where the kernel refuses to make one, the host's is bound there.

    The same node may be there already; another thing in its place is an error, and is never removed.
    """

    target: str
    kind: str
    """``c`` or ``b``."""
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0

    def describe(self) -> str:
        """Returns the step as a command line."""
        return f"mknod -m {self.mode:o} {self.target} {self.kind} {self.major} {self.minor}"

    def execute(self, root_fd: int) -> None:
        """Does the step below the root."""
        parent, name = _split(self.target)
        file_type = stat.S_IFCHR if self.kind == "c" else stat.S_IFBLK
        directory = make_directory(root_fd, parent)
        try:
            os.mknod(name, file_type | self.mode, os.makedev(self.major, self.minor), dir_fd=directory)
            os.chmod(name, self.mode, dir_fd=directory)
            if self.uid or self.gid:
                os.chown(name, self.uid, self.gid, dir_fd=directory, follow_symlinks=False)
        except FileExistsError:
            there = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_IFMT(there.st_mode) != file_type or there.st_rdev != os.makedev(self.major, self.minor):
                raise
        except PermissionError:
            BindMount(self.target, self.target, recursive=False).execute(root_fd)
        finally:
            os.close(directory)


class MaskPath(NamedTuple):
    """Something in the root is made to look empty: /dev/null over a file, a read-only tmpfs over a directory."""

    target: str

    def describe(self) -> str:
        """Returns the step as words."""
        return f"mask {self.target}"

    def execute(self, root_fd: int) -> None:
        """Does the step below the root; what is not there needs no mask."""
        try:
            target = open_in_root(root_fd, self.target)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            if stat.S_ISDIR(os.fstat(target).st_mode):
                cover = x.new_mount(
                    "tmpfs",
                    source="tmpfs",
                    options=("nr_inodes=1", "mode=555"),
                    attributes=x.MOUNT_ATTR_RDONLY | x.MOUNT_ATTR_NOSUID | x.MOUNT_ATTR_NODEV | x.MOUNT_ATTR_NOEXEC,
                )
            else:
                cover = x.open_tree("/dev/null")
                null = os.fstat(cover)
                if not stat.S_ISCHR(null.st_mode) or null.st_rdev != os.makedev(1, 3):
                    os.close(cover)
                    raise OSError(errno.ENODEV, "the host's /dev/null is not the null device", self.target)
            try:
                x.attach(cover, target)
            finally:
                os.close(cover)
        finally:
            os.close(target)


class ReadOnlyPath(NamedTuple):
    """Something in the root, with the mounts below it, is made read-only."""

    target: str

    def describe(self) -> str:
        """Returns the step as words."""
        return f"mount -o bind,ro {self.target} {self.target}"

    def execute(self, root_fd: int) -> None:
        """Does the step below the root; what is not there needs nothing."""
        try:
            target = open_in_root(root_fd, self.target)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            copy = x.open_tree("", dir_fd=target, recursive=True)
            try:
                # A path in procfs keeps procfs' own nosuid, noexec and nodev: attributes are only added.
                xcompat.attach_with(copy, target, x.MOUNT_ATTR_RDONLY)
            finally:
                os.close(copy)
        finally:
            os.close(target)


class SetAttributes(NamedTuple):
    """The mount at a place in the root gets further attributes."""

    target: str
    attributes: int

    def describe(self) -> str:
        """Returns the step as a mount command line."""
        return f"mount -o remount,bind,{','.join(_words(self.attributes))} {self.target}"

    def execute(self, root_fd: int) -> None:
        """Does the step below the root."""
        target = open_in_root(root_fd, self.target)
        try:
            xcompat.set_attributes(target, self.attributes)
        finally:
            os.close(target)


Step = NewMount | BindMount | MakeDirectory | MakeLink | MakeNode | MaskPath | ReadOnlyPath | SetAttributes


class StepError(OSError):
    """A step of a plan failed; ``filename`` is its description."""


def describe(plan: Sequence[Step]) -> tuple[str, ...]:
    """Returns the plan as lines for people."""
    return tuple(step.describe() for step in plan)


def execute(plan: Sequence[Step], root_fd: int) -> None:
    """Does every step in its order.

    Args:
        plan: the steps.
        root_fd: the root that they are below, O_PATH, on the mount that will be the root.

    Raises:
        StepError: a step failed; those before it stay done, in a mount namespace that is thrown away.
    """
    for step in plan:
        try:
            step.execute(root_fd)
        except OSError as error:
            raise StepError(error.errno, error.strerror, step.describe()) from error


def _directory(root_fd: int, path: str, *, no_symlinks: bool) -> int:
    if no_symlinks:
        try:
            return open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY, no_symlinks=True)
        except FileNotFoundError:
            os.close(make_directory(root_fd, path))
        return open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY, no_symlinks=True)
    return make_directory(root_fd, path)


def _refuse_procfs(target_fd: int, path: str) -> None:
    """Refuses a mount inside procfs, which would let a container's own files stand for the kernel's."""
    if file_system_type(target_fd) == PROC_SUPER_MAGIC:
        raise OSError(errno.EPERM, "nothing is mounted inside /proc", path)


def _split(path: str) -> tuple[str, str]:
    parent, _, name = path.rstrip("/").rpartition("/")
    return parent or "/", name


def _words(attributes: int) -> tuple[str, ...]:
    return tuple(word for attribute, word in _ATTRIBUTE_WORDS if attributes & attribute)


def _options(words: Sequence[str]) -> str:
    return f" -o {','.join(words)}" if words else ""
