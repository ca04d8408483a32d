"""Control groups of a container, version 1, version 2 and both at once.

A container is one directory of the same name in every hierarchy that matters::

    v1   /sys/fs/cgroup/memory/wherry/ID   (and cpu, cpuacct, pids, devices, freezer, name=systemd)
    v2   /sys/fs/cgroup/wherry/ID          (hybrid: /sys/fs/cgroup/unified/wherry/ID, for kill and freeze alone)

Where a controller is mounted as version 1, its version 1 files are used; the others come from version 2. A limit
whose controller is in neither is refused. cpuset and blkio are not joined, as nothing is set there.

What is *not* promised: version 2 has no devices list (it takes an eBPF program, a later piece of work); the
runtime then takes CAP_MKNOD from the container and mounts its root ``nodev``.
Source: Documentation/admin-guide/cgroup-v1/*.rst and cgroup-v2.rst of Linux 6.12.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from typing import NamedTuple

from wherry.core.errors import Conflict, InvalidInput, Timeout, Unsupported
from wherry.runtime.resources import DeviceRule, Resources

_V1_JOINED = ("memory", "cpu", "cpuacct", "pids", "devices", "freezer", "name=systemd")
_V2_ENABLED = ("cpu", "memory", "pids")
_REMOVE_TIMEOUT_S = 10.0
_POLL_S = 0.002
_CREATE_RETRIES = 16
_MAX_FILE_BYTES = 1 << 20
_MOUNTINFO_FIELDS = 6
_DEFAULT_CPU_PERIOD_US = 100_000
UNLIMITED = -1


class Hierarchy(NamedTuple):
    """One mounted tree of control groups."""

    version: int
    controllers: tuple[str, ...]
    """v1: those of the mount, ``name=systemd`` for a named one; v2: those that its root offers."""
    mount: str


class Group(NamedTuple):
    """A container's directory in one hierarchy."""

    version: int
    controllers: tuple[str, ...]
    path: str


class Stats(NamedTuple):
    """What a container uses; None where no controller tells."""

    memory_bytes: int | None
    memory_peak_bytes: int | None
    oom_kills: int | None
    """How many of its processes were killed as its memory was at its limit."""
    cpu_ns: int | None
    pids: int | None


def parse_hierarchies(mountinfo: str) -> tuple[Hierarchy, ...]:
    """Returns the hierarchies in the text of ``/proc/PID/mountinfo``; of v2 without its controllers.

    Source: proc_pid_mountinfo(5).
    """
    found: dict[tuple[str, ...], Hierarchy] = {}
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        kind, _, rest = right.partition(" ")
        if not separator or kind not in ("cgroup", "cgroup2"):
            continue
        fields = left.split()
        if len(fields) < _MOUNTINFO_FIELDS or fields[3] != "/":
            continue  # a part of a hierarchy, bound somewhere
        mount = _unescape(fields[4])
        if kind == "cgroup2":
            found.setdefault((), Hierarchy(2, (), mount))
            continue
        options = rest.rsplit(" ", 1)[-1].split(",")
        controllers = tuple(option for option in options if option.startswith("name=") or option in _V1_CONTROLLERS)
        found.setdefault(controllers, Hierarchy(1, controllers, mount))
    return tuple(found.values())


_V1_CONTROLLERS = frozenset(
    (
        *("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc"),
        *("net_cls", "net_prio", "perf_event", "pids", "rdma"),
    )
)


def hierarchies(mountinfo: str = "/proc/self/mountinfo") -> tuple[Hierarchy, ...]:
    """Returns the hierarchies that are mounted here."""
    return tuple(
        found
        if found.version == 1
        else found._replace(controllers=tuple(_read(found.mount, "cgroup.controllers").split()))
        for found in parse_hierarchies(_read("", mountinfo))
    )


class Cgroup:
    """The control groups of one container; see the module for where they lie."""

    def __init__(self, groups: tuple[Group, ...]) -> None:
        self.groups = groups
        self._by_controller = {name: group for group in reversed(groups) for name in group.controllers}
        for group in groups:
            if group.version == 1:
                self._by_controller.update(dict.fromkeys(group.controllers, group))
        self._v2 = next((group for group in groups if group.version == 2), None)

    @classmethod
    def create(cls, path: str, *, found: tuple[Hierarchy, ...] | None = None) -> Cgroup:
        """Makes the directories of a new container.

        Args:
            path: below the root of each hierarchy, such as ``/wherry/ID``.
            found: the hierarchies; those that are mounted, unless given.

        Raises:
            InvalidInput: the path would leave the hierarchy.
            Conflict: there are processes in a group of that name.
            Unsupported: no hierarchy is mounted.
        """
        parts = [part for part in path.split("/") if part]
        if not parts or ".." in parts or "." in parts:
            raise InvalidInput("not a control group path", where=path)
        found = hierarchies() if found is None else found
        groups: list[Group] = []
        try:
            for hierarchy in found:
                if hierarchy.version == 2 or any(name in _V1_JOINED for name in hierarchy.controllers):
                    groups.append(_make_group(hierarchy, parts))
        except BaseException:
            cls(tuple(groups)).remove()
            raise
        if not groups:
            raise Unsupported(
                "no control groups are mounted", hint="mount -t cgroup2 cgroup2 /sys/fs/cgroup, then try again"
            )
        return cls(tuple(groups))

    @property
    def procs_files(self) -> tuple[str, ...]:
        """The files into which a process with a single thread writes ``0`` to join all groups.

        On version 1 it is ``tasks``: moving the writing thread alone spares the kernel (5.5) the lock over all forks
        of the machine, which takes an RCU grace period, about 10 ms, when nobody used it just before.
        """
        return tuple(f"{group.path}/{'tasks' if group.version == 1 else 'cgroup.procs'}" for group in self.groups)

    @property
    def procs_files_after_clone(self) -> tuple[str, ...]:
        """The same for a process that was born in the group of `open_for_clone`."""
        return tuple(f"{group.path}/tasks" for group in self.groups if group.version == 1)

    def open_for_clone(self) -> int:
        """Returns the directory of the version 2 group, for `namespaces.clone`; -1 when there is none."""
        return -1 if self._v2 is None else os.open(self._v2.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @property
    def controls_devices(self) -> bool:
        """Whether access to devices can be limited here."""
        return "devices" in self._by_controller

    def attach(self, pid: int) -> None:
        """Moves a process into the groups."""
        for group in self.groups:
            _write(f"{group.path}/cgroup.procs", str(pid))

    def apply(self, resources: Resources) -> None:
        """Sets the limits.

        Raises:
            Unsupported: a limit is asked for that no controller here can keep.
            OSError: the kernel refuses a value; names the file.
        """
        self._apply_memory(resources)
        self._apply_cpu(resources)
        if resources.pids_limit is not None:
            group = self._need("pids", "a limit of processes")
            _write(f"{group.path}/pids.max", "max" if resources.pids_limit <= 0 else str(resources.pids_limit))
        devices = self._by_controller.get("devices")
        if devices is not None and resources.devices:
            for rule in resources.devices:
                _write(f"{devices.path}/devices.{'allow' if rule.allow else 'deny'}", device_line(rule))

    def _apply_memory(self, resources: Resources) -> None:
        limit, swap = resources.memory_limit_bytes, resources.memory_swap_bytes
        if limit is None and swap is None:
            return
        group = self._need("memory", "a memory limit")
        if limit is None:
            raise InvalidInput("a swap limit needs a memory limit")
        if swap is not None and swap != UNLIMITED and swap < limit:
            raise InvalidInput(f"memory and swap together ({swap}) cannot be less than memory ({limit})")
        if group.version == 1:
            _write(f"{group.path}/memory.limit_in_bytes", str(limit))
            if swap is not None and os.path.exists(f"{group.path}/memory.memsw.limit_in_bytes"):
                _write(f"{group.path}/memory.memsw.limit_in_bytes", str(swap))
            return
        _write(f"{group.path}/memory.max", "max" if limit == UNLIMITED else str(limit))
        if swap is not None and os.path.exists(f"{group.path}/memory.swap.max"):
            _write(f"{group.path}/memory.swap.max", "max" if swap == UNLIMITED else str(swap - limit))

    def _apply_cpu(self, resources: Resources) -> None:
        shares, quota, period = resources.cpu_shares, resources.cpu_quota_us, resources.cpu_period_us
        if shares is None and quota is None and period is None:
            return
        group = self._need("cpu", "a CPU limit")
        period = _DEFAULT_CPU_PERIOD_US if period is None else period
        if group.version == 1:
            if shares is not None:
                _write(f"{group.path}/cpu.shares", str(shares))
            if quota is not None:
                _write(f"{group.path}/cpu.cfs_period_us", str(period))
                _write(f"{group.path}/cpu.cfs_quota_us", str(quota))
            return
        if shares is not None:
            _write(f"{group.path}/cpu.weight", str(weight_of_shares(shares)))
        if quota is not None:
            _write(f"{group.path}/cpu.max", f"{'max' if quota <= 0 else quota} {period}")

    def _need(self, controller: str, what: str) -> Group:
        group = self._by_controller.get(controller)
        if group is None:
            raise Unsupported(
                f"{what} is asked for, but this host has no {controller} controller",
                hint=f"enable {controller} in cgroup.subtree_control of the root of cgroup2",
            )
        return group

    def stats(self) -> Stats:
        """Returns what the container uses now and has used."""
        memory, cpu = self._by_controller.get("memory"), self._by_controller.get("cpuacct")
        peak = usage = kills = cpu_ns = None
        if memory is not None and memory.version == 1:
            usage = _number(memory.path, "memory.usage_in_bytes")
            peak = _number(memory.path, "memory.max_usage_in_bytes")
            kills = _keyed(_read(memory.path, "memory.oom_control"), "oom_kill")
        elif memory is not None:
            usage, peak = _number(memory.path, "memory.current"), _number(memory.path, "memory.peak")
            kills = _keyed(_read(memory.path, "memory.events"), "oom_kill")
        if cpu is not None:
            cpu_ns = _number(cpu.path, "cpuacct.usage")
        elif self._v2 is not None:
            cpu_us = _keyed(_read(self._v2.path, "cpu.stat"), "usage_usec")
            cpu_ns = None if cpu_us is None else cpu_us * 1000
        pids = self._by_controller.get("pids")
        return Stats(usage, peak, kills, cpu_ns, None if pids is None else _number(pids.path, "pids.current"))

    def pids(self) -> frozenset[int]:
        """Returns the processes that are in any of the groups or in groups below them."""
        found: set[int] = set()
        for group in self.groups:
            for directory, _, _ in os.walk(group.path):
                found.update(int(pid) for pid in _read(directory, "cgroup.procs").split())
        found.discard(0)  # a process of another pid namespace
        return frozenset(found)

    def freeze(self) -> None:
        """Stops every process, whatever it does, until `thaw`.

        Raises:
            Timeout: one of them could not be stopped, as it waits in the kernel.
        """
        self._set_frozen(frozen=True)

    def thaw(self) -> None:
        """Lets the processes run on."""
        self._set_frozen(frozen=False)

    def _set_frozen(self, *, frozen: bool) -> None:
        freezer = self._by_controller.get("freezer")
        deadline = time.monotonic() + _REMOVE_TIMEOUT_S
        if freezer is not None:
            state = "FROZEN" if frozen else "THAWED"
            while _read(freezer.path, "freezer.state").strip() != state:
                _write(f"{freezer.path}/freezer.state", state)
                _wait_until(deadline, "the processes do not freeze", freezer.path)
        elif self._v2 is not None:
            _write(f"{self._v2.path}/cgroup.freeze", str(int(frozen)))
            while _keyed(_read(self._v2.path, "cgroup.events"), "frozen") != int(frozen):
                _wait_until(deadline, "the processes do not freeze", self._v2.path)
        else:
            raise Unsupported("this host has no control group that can freeze a container")

    def kill(self) -> None:
        """Kills every process in the groups; returns when they are told, not when they are gone."""
        if self._v2 is not None and os.path.exists(f"{self._v2.path}/cgroup.kill"):
            _write(f"{self._v2.path}/cgroup.kill", "1")
        freezer = self._by_controller.get("freezer")
        left = self.pids()
        if not left:
            return
        if freezer is not None:
            _write(f"{freezer.path}/freezer.state", "FROZEN")  # so that none forks away meanwhile
        try:
            for pid in self.pids():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        finally:
            if freezer is not None:
                _write(f"{freezer.path}/freezer.state", "THAWED")

    def remove(self) -> None:
        """Kills what is left in the groups and removes them, and their parent when it is empty.

        Raises:
            Timeout: a process does not die.
        """
        deadline = time.monotonic() + _REMOVE_TIMEOUT_S
        for group in self.groups:
            while not _remove_tree(group.path):
                self.kill()
                _wait_until(deadline, "the processes of a control group do not die", group.path)
            try:
                os.rmdir(os.path.dirname(group.path))
            except OSError:
                pass  # another container is there; or it is the root of the hierarchy


def device_line(rule: DeviceRule) -> str:
    """Returns a rule as devices.allow and devices.deny want it: ``c 1:3 rwm``."""
    major = "*" if rule.major is None else str(rule.major)
    minor = "*" if rule.minor is None else str(rule.minor)
    return f"{rule.type} {major}:{minor} {rule.access}"


def weight_of_shares(shares: int) -> int:
    """Returns the v2 weight (1 to 10000) for v1 shares (2 to 262144), by the formula that runc and crun use."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def _make_group(hierarchy: Hierarchy, parts: list[str]) -> Group:
    path = hierarchy.mount
    for _ in range(_CREATE_RETRIES):
        path = hierarchy.mount
        try:
            for part in parts:
                if hierarchy.version == 2:
                    _enable(path)
                path = f"{path}/{part}"
                try:
                    os.mkdir(path)
                except FileExistsError:
                    pass
            break
        except FileNotFoundError:
            continue  # another container's end took the empty parent away in between
    if _read(path, "cgroup.procs").split():
        raise Conflict("a control group of this name has processes", where=path)
    controllers = hierarchy.controllers
    if hierarchy.version == 2:
        controllers = tuple(_read(path, "cgroup.controllers").split())
    return Group(hierarchy.version, controllers, path)


def _enable(path: str) -> None:
    """Hands the controllers of a v2 group down to its children, as far as it has them and may."""
    there = _read(path, "cgroup.controllers").split()
    enabled = _read(path, "cgroup.subtree_control").split()
    for name in _V2_ENABLED:
        if name in there and name not in enabled:
            try:
                _write(f"{path}/cgroup.subtree_control", f"+{name}")
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT):
                    raise  # else: a limit that needs it is refused by name when it is asked for


def _remove_tree(path: str) -> bool:
    """Removes a group and those below it; tells whether it is gone."""
    try:
        os.rmdir(path)
        return True
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
    gone = True
    for directory, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise
            gone = False
    return gone


def _wait_until(deadline: float, what: str, where: str) -> None:
    if time.monotonic() >= deadline:
        raise Timeout(what, where=where, hint="look for processes in state D with ps")
    time.sleep(_POLL_S)


def _read(directory: str, name: str) -> str:
    """Returns the text of a control file, "" when it is not there."""
    try:
        fd = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    try:
        chunks = []
        while chunk := os.read(fd, _MAX_FILE_BYTES):
            chunks.append(chunk)
        return b"".join(chunks).decode(errors="replace")
    except OSError as error:
        if error.errno == errno.ENODEV:
            return ""  # the group was removed meanwhile
        raise
    finally:
        os.close(fd)


def _write(path: str, value: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror} (writing {value!r})", path) from None


def _number(directory: str, name: str) -> int | None:
    text = _read(directory, name).strip()
    return int(text) if text.isdigit() else None


def _keyed(text: str, key: str) -> int | None:
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return None


def _unescape(path: str) -> str:
    """Returns a path of mountinfo, in which white space and backslashes stand as octal numbers."""
    if "\\" not in path:
        return path
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, char)
    return path
