"""A plan of what is mounted and made below a new root: described as data, printed, tested, and then executed.

Every step names its place as a path in the root. Executing opens that place with ``beneath.py``, so a symbolic
link in the tree can lead to another place in the tree, never outside. What is made is here; what is mounted is in
``mountsteps.py``, what is covered in ``masking.py``.

The order of the steps is the order of execution. A step that fails raises `StepError`, which names it.
"""

from __future__ import annotations

import errno
import os
import stat

from wherry.core.value import Value
from wherry.linux import x
from wherry.linux.beneath import make_directory, make_file
from wherry.linux.mount import MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_SET_WORDS = (
    (x.MOUNT_ATTR_RDONLY, "ro", "rw"),
    (x.MOUNT_ATTR_NOSUID, "nosuid", "suid"),
    (x.MOUNT_ATTR_NODEV, "nodev", "dev"),
    (x.MOUNT_ATTR_NOEXEC, "noexec", "exec"),
    (x.MOUNT_ATTR_NOATIME, "noatime", ""),
    (x.MOUNT_ATTR_STRICTATIME, "strictatime", ""),
    (x.MOUNT_ATTR_NODIRATIME, "nodiratime", "diratime"),
    (x.MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow", "symfollow"),
)
_PROPAGATION_WORDS = {MS_PRIVATE: "private", MS_SLAVE: "slave", MS_SHARED: "shared", MS_UNBINDABLE: "unbindable"}


class Work:
    """One execution of a plan: the root, and what several steps use.

    Attributes:
        root_fd: the root that the steps are below, O_PATH.
        sources: what `open_sources` has opened, by the number of the step; what was made for nodes, by negative ones.
        nodes: device nodes that the host does not have and that were made outside: their places, and numbers there.
        late: numbers of those whose attributes wait until they are mounted (Linux 5.10 and 5.11).
        index: the number of the step that is done.
        null_fd: the null device, and
        empty_fd: an empty directory that is mounted somewhere: the covers of masks; -1 until they are needed.
    """

    __slots__ = ("empty_fd", "index", "late", "nodes", "null_fd", "root_fd", "sources")

    def __init__(self, root_fd: int, sources: Mapping[int, int] | None = None) -> None:
        self.root_fd = root_fd
        self.sources: dict[int, int] = dict(sources or {})
        self.nodes: dict[str, int] = {}
        self.late: set[int] = set()
        self.index = -1
        self.null_fd = self.empty_fd = -1

    def close(self) -> None:
        """Closes what was opened for the steps."""
        for fd in (*self.sources.values(), self.null_fd, self.empty_fd):
            if fd >= 0:
                os.close(fd)


class Step(Value):
    """One step of a plan."""

    target: str

    def describe(self) -> str:
        """Returns the step as a command line."""
        raise NotImplementedError

    def lines(self) -> tuple[str, ...]:
        """Returns the step with all that belongs to it as command lines."""
        return (self.describe(),)

    def execute(self, work: Work) -> None:
        """Does the step below the root."""
        raise NotImplementedError


class Made(Step):
    """Something that is made in a directory, rather than mounted."""

    def make(self, dir_fd: int, name: str) -> None:
        """Makes it in the directory that `dir_fd` is open on."""
        raise NotImplementedError

    def execute(self, work: Work) -> None:  # noqa: D102
        parent, name = _split(self.target)
        directory = make_directory(work.root_fd, parent)
        try:
            self.make(directory, name)
        finally:
            os.close(directory)


class MakeDirectory(Made):
    """A directory in the root, with its parents; one that is there stays as it is."""

    mode: int = 0o755

    def describe(self) -> str:  # noqa: D102
        return f"mkdir -p -m {self.mode:o} {self.target}"

    def make(self, dir_fd: int, name: str) -> None:  # noqa: D102
        os.mkdir(name, self.mode, dir_fd=dir_fd)

    def execute(self, work: Work) -> None:  # noqa: D102
        os.close(make_directory(work.root_fd, self.target, mode=self.mode))


class MakeLink(Made):
    """A symbolic link in the root; what is there already stays."""

    points_to: str

    def describe(self) -> str:  # noqa: D102
        return f"ln -s {self.points_to} {self.target}"

    def make(self, dir_fd: int, name: str) -> None:  # noqa: D102
        try:
            os.symlink(self.points_to, name, dir_fd=dir_fd)
        except FileExistsError:
            pass


_MAX_UEVENT_BYTES = 4096
"""A page: what a file of sysfs has at most."""


class MakeNode(Made):
    """A device node or a FIFO in the root, of exactly this mode and owner.

    The same node may be there already, and keeps what it has. Where the kernel refuses to make one (in a user
    namespace), or an ordinary file is in its place, the host's node is bound there. Another thing in its place is an
    error, and nothing is ever removed.
    """

    kind: str
    """``c``, ``b`` or ``p``."""
    major: int = 0
    minor: int = 0
    mode: int = 0o666
    uid: int = 0
    gid: int = 0

    def describe(self) -> str:  # noqa: D102
        owner = f" # owner {self.uid}:{self.gid}" if self.uid or self.gid else ""
        numbers = "" if self.kind == "p" else f" {self.major} {self.minor}"
        return f"mknod -m {self.mode:o} {self.target} {self.kind}{numbers}{owner}"

    def make(self, dir_fd: int, name: str) -> None:
        """Makes it, in a directory that nobody else has; `execute` does it in one that may hold anything."""
        file_type = {"c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}[self.kind]
        os.mknod(name, file_type | self.mode, os.makedev(self.major, self.minor), dir_fd=dir_fd)
        if self.uid or self.gid:
            os.chown(name, self.uid, self.gid, dir_fd=dir_fd, follow_symlinks=False)

    def execute(self, work: Work) -> None:  # noqa: D102
        parent, name = _split(self.target)
        directory = make_directory(work.root_fd, parent)
        try:
            self.make(directory, name)
        except FileExistsError:
            there = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISREG(there.st_mode) and self.kind != "p":
                self.bind(work)
            elif not self._is(there):
                raise
        except PermissionError:
            self.bind(work)
        finally:
            os.close(directory)

    def bind(self, work: Work) -> None:
        """Puts the host's node there, or one that was made outside (`hostnodes`) where the host has none."""
        if self.target in work.nodes:
            host = work.sources.pop(work.nodes.pop(self.target))
        else:
            host = self.open_host()
        if host < 0:
            raise OSError(errno.ENODEV, "the host has no such node", self.target)
        try:
            place = make_file(work.root_fd, self.target, follow_symlinks=False)
            try:
                x.attach(host, place)
            finally:
                os.close(place)
        finally:
            os.close(host)

    def open_host(self) -> int:
        """Opens the host's node by the same path, or where the kernel says that it is (sysfs, DEVNAME); -1: none."""
        host = self._open_host(self.target)
        return host if host >= 0 else self._open_host(self._name_of_kernel())

    def _open_host(self, path: str) -> int:
        try:
            host = x.open_tree(path)
        except (FileNotFoundError, NotADirectoryError):
            return -1
        if self._is(os.fstat(host)):
            return host
        os.close(host)
        return -1

    def _name_of_kernel(self) -> str:
        kind = "block" if self.kind == "b" else "char"
        try:
            fd = os.open(f"/sys/dev/{kind}/{self.major}:{self.minor}/uevent", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return self.target
        try:
            text = os.read(fd, _MAX_UEVENT_BYTES).decode(errors="replace")
        finally:
            os.close(fd)
        name = next((line[8:] for line in text.splitlines() if line.startswith("DEVNAME=")), "")
        return f"/dev/{name}" if name else self.target

    def _is(self, there: os.stat_result) -> bool:
        file_type = {"c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}[self.kind]
        same_type = stat.S_IFMT(there.st_mode) == file_type
        return same_type and (self.kind == "p" or there.st_rdev == os.makedev(self.major, self.minor))


class StepError(OSError):
    """A step of a plan failed; ``filename`` is its description."""


def describe(plan: Sequence[Step]) -> tuple[str, ...]:
    """Returns the plan as lines for people."""
    return tuple(line for step in plan for line in step.lines())


def nodes_of(plan: Sequence[Step]) -> list[MakeNode]:
    """Returns the device nodes of a plan, those in new file systems among them."""
    items = (item for step in plan for item in (step, *getattr(step, "contents", ())))
    return [item for item in items if isinstance(item, MakeNode)]


def execute(plan: Sequence[Step], work: Work) -> None:
    """Does every step in its order.

    Args:
        plan: the steps.
        work: the root that they are below, on the mount that will be the root, and what was opened before.

    Raises:
        StepError: a step failed; those before it stay done, in a mount namespace that is thrown away.
    """
    for work.index, step in enumerate(plan):
        try:
            step.execute(work)
        except OSError as error:
            raise StepError(error.errno, error.strerror, step.describe()) from error


def attribute_words(attr_set: int, attr_clr: int = 0) -> tuple[str, ...]:
    """Returns attributes as the words of mount(8)."""
    words = [word for bit, word, _ in _SET_WORDS if attr_set & bit]
    words += [word for bit, _, word in _SET_WORDS if word and attr_clr & bit]
    if attr_clr & x.MOUNT_ATTR__ATIME and not attr_set & x.MOUNT_ATTR__ATIME:
        words.append("relatime")
    return tuple(words)


def propagation_words(propagation: int) -> tuple[str, ...]:
    """Returns how a mount takes part in propagation as a word of mount(8); none for 0."""
    prefix = "r" if propagation & MS_REC else ""
    return tuple(prefix + word for flag, word in _PROPAGATION_WORDS.items() if propagation & flag)


def option_list(words: Sequence[str]) -> str:
    """Returns words as the option of a mount command line; "" for none."""
    return f" -o {','.join(words)}" if words else ""


def _split(path: str) -> tuple[str, str]:
    parent, _, name = path.rstrip("/").rpartition("/")
    return parent or "/", name
