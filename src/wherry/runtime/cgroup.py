"""Control groups of a container, version 1, version 2 and both at once.

A container is one directory of the same name in every hierarchy that matters::

    v1   /sys/fs/cgroup/memory/wherry/ID   (and cpu, cpuacct, pids, devices, freezer, blkio, name=systemd)
    v2   /sys/fs/cgroup/wherry/ID          (hybrid: /sys/fs/cgroup/unified/wherry/ID, for kill and pressure alone)

Where a controller is mounted as version 1, its version 1 files are used; the others come from version 2. A limit
whose controller is in neither is refused. The other hierarchies of version 1 (cpuset, hugetlb, net_cls, net_prio,
rdma) are joined when a limit asks for them, also later, as each costs a container 0.3 ms.

Beside this file: `cgroup_hierarchies` (what is mounted), `cgroup_place` (making and removing directories),
`cgroup_check` (values), `cgroup_v1` and `cgroup_v2` (limits as files), `cgroup_devices`, `cgroup_stats`,
`cgroup_events`. What is *not* promised: that two processes may change one container at the same time.
Source: Documentation/admin-guide/cgroup-v1/*.rst and cgroup-v2.rst of Linux 6.12.
"""

from __future__ import annotations

import os

from wherry.core.errors import Timeout, Unsupported
from wherry.core.value import Value
from wherry.runtime import cgroup_place as place
from wherry.runtime.cgroup_check import check_resources
from wherry.runtime.cgroup_files import keyed, number, numbers, read, there, write
from wherry.runtime.cgroup_hierarchies import Hierarchy, hierarchies
from wherry.runtime.cgroup_place import Group, default_path
from wherry.runtime.resources import Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from wherry.runtime.cgroup_events import OomWatch, PressureWatch
    from wherry.runtime.cgroup_stats import Usage

__all__ = ["Cgroup", "Group", "Hierarchy", "Stats", "default_path", "hierarchies"]

_V1_JOINED = frozenset(("memory", "cpu", "cpuacct", "pids", "devices", "freezer", "blkio", "name=systemd"))
_V2_OF_V1 = {"blkio": "io", "cpuacct": "cpu"}
_TIMEOUT_S = 10.0
_SIGKILL = 9
_ATTACH_ROUNDS = 64
_SECTIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "memory",
        "a memory limit",
        (
            *("memory_limit_bytes", "memory_reservation_bytes", "memory_swap_bytes", "memory_kernel_bytes"),
            *("memory_kernel_tcp_bytes", "memory_swappiness", "memory_disable_oom_killer", "memory_use_hierarchy"),
        ),
    ),
    (
        "cpu",
        "a CPU limit",
        (
            *("cpu_shares", "cpu_quota_us", "cpu_burst_us", "cpu_period_us", "cpu_idle"),
            *("cpu_realtime_runtime_us", "cpu_realtime_period_us"),
        ),
    ),
    ("cpuset", "a set of CPUs or memory nodes", ("cpuset_cpus", "cpuset_mems")),
    ("pids", "a limit of processes", ("pids_limit",)),
    (
        "blkio",
        "a limit of block devices",
        (
            *("block_weight", "block_leaf_weight", "block_device_weights", "block_read_bytes", "block_write_bytes"),
            *("block_read_operations", "block_write_operations"),
        ),
    ),
    ("hugetlb", "a limit of huge pages", ("hugepages",)),
    ("net_cls", "a network class", ("network_class_id",)),
    ("net_prio", "a network priority", ("network_priorities",)),
    ("rdma", "a limit of RDMA devices", ("rdma",)),
)
"""(controller, its words, the fields that need it), in the order of writing."""


class Stats(Value):
    """What a container uses, in short; None where no controller tells."""

    memory_bytes: int | None = None
    memory_peak_bytes: int | None = None
    oom_kills: int | None = None
    """How many of its processes were killed as its memory was at its limit."""
    cpu_ns: int | None = None
    pids: int | None = None


class Cgroup:
    """The control groups of one container; see the module for where they lie. Without any, nothing is limited.

    Attributes:
        groups: where they are; more are added when a limit needs them.
    """

    def __init__(self, groups: tuple[Group, ...] = ()) -> None:
        self._has_program = False
        self._set(groups)

    def _set(self, groups: tuple[Group, ...]) -> None:
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
            path: such as ``/wherry/ID``: below the root of each hierarchy; without the slash, below the group in
                which this process is.
            found: the hierarchies; those that are mounted, unless given.

        Raises:
            InvalidInput: the path would leave the hierarchy.
            Conflict: there are processes in a group of that name.
            Unsupported: no hierarchy is mounted, or the place is in a threaded group.
            OSError: the kernel refuses; names the directory.
        """
        parts = place.parse_path(path)
        found = hierarchies() if found is None else found
        groups: list[Group] = []
        try:
            for hierarchy in found:
                if hierarchy.version == 2 or not _V1_JOINED.isdisjoint(hierarchy.controllers):
                    groups.append(place.make_group(hierarchy, parts, relative=not path.startswith("/")))
        except BaseException:
            cls(tuple(groups)).remove()
            raise
        if not groups:
            raise Unsupported(
                "no control groups are mounted", hint="mount -t cgroup2 cgroup2 /sys/fs/cgroup, then try again"
            )
        return cls(tuple(groups))

    @classmethod
    def open(cls, path: str, *, found: tuple[Hierarchy, ...] | None = None) -> Cgroup:
        """Returns groups that exist, by the path by which they were made.

        Raises:
            NotFound: there are none.
        """
        return cls(place.find_groups(hierarchies() if found is None else found, path))

    @classmethod
    def parse(cls, saved: Iterable[Mapping[str, Any]]) -> Cgroup:
        """Returns the groups that `serialize` told of."""
        return cls(
            tuple(
                Group(int(g["version"]), tuple(g["controllers"]), str(g["path"]), int(g.get("made", 0))) for g in saved
            )
        )

    def serialize(self) -> list[dict[str, Any]]:
        """Returns the groups as JSON, for a container's state."""
        return [
            {"controllers": list(g.controllers), "made": g.made, "path": g.path, "version": g.version}
            for g in self.groups
        ]

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
        """Whether access to devices is limited here: by version 1's list, or by a program that `apply` attached."""
        return "devices" in self._by_controller or self._has_program

    @property
    def filters_devices(self) -> bool:
        """Whether a program of version 2 says which devices may be opened, to whoever is in the group."""
        return self._has_program

    def attach(self, pid: int) -> None:
        """Moves a process into the groups."""
        for group in self.groups:
            write(group.path, "cgroup.procs", str(pid))

    def delegate(self, uid: int, gid: int) -> None:
        """Gives the groups to a user, who may then divide them: those of version 2, and named ones.

        The other hierarchies of version 1 stay the host's: there, who owns a directory may lift its limits.
        """
        for group in self.groups:
            if group.version == 2 or group.controllers[0].startswith("name="):
                place.give(group, uid, gid)

    def apply(self, resources: Resources) -> None:
        """Sets limits; those that are None stay as they are. Groups that a limit needs are joined.

        Raises:
            InvalidInput: a value is out of range, or contradicts another.
            Unsupported: a limit is asked for that no controller here can keep.
            Conflict: less memory is asked for than is in use.
            OSError: the kernel refuses a value; names the file.
        """
        check_resources(resources)
        wanted = [
            (name, words)
            for name, words, fields in _SECTIONS
            if any(getattr(resources, field) not in (None, "", (), {}) for field in fields)
        ]
        if resources.unified and (self._v2 is None or any(group.version == 1 for group in self.groups)):
            raise Unsupported("files of version 2 are asked for, but this host uses version 1", where="unified")
        for name, words in wanted:
            self._need(name, words)
        for name in dict.fromkeys(file.partition(".")[0] for file in resources.unified):
            if name not in self._by_controller:
                self._join(name)
        for name, words in wanted:
            group = self._need(name, words)
            if group.version == 1:
                from wherry.runtime import cgroup_v1

                getattr(cgroup_v1, name)(group.path, resources)
            else:
                from wherry.runtime import cgroup_v2

                getattr(cgroup_v2, _V2_OF_V1.get(name, name))(group.path, resources)
        if resources.devices:
            self._apply_devices(resources)
        if resources.unified and self._v2 is not None:
            from wherry.runtime import cgroup_v2

            cgroup_v2.unified(self._v2.path, resources)

    update = apply
    """The same for a container that runs; its state is to be saved again, as groups may have been joined."""

    def _apply_devices(self, resources: Resources) -> None:
        from wherry.runtime import cgroup_devices

        group = self._by_controller.get("devices")
        if group is not None:
            cgroup_devices.write_list(group.path, resources.devices)
        elif self._v2 is not None:
            try:
                cgroup_devices.attach_program(self._v2.path, resources.devices)
                self._has_program = True
            except OSError:
                pass  # told by `controls_devices`: the runtime then keeps device nodes away in another way

    def _need(self, controller: str, what: str) -> Group:
        group = self._find(controller)
        if group is None:
            self._join(controller)
            group = self._find(controller)
        if group is None:
            if not self.groups:
                raise Unsupported(f"{what} is asked for, but control groups are disabled")
            raise Unsupported(
                f"{what} is asked for, but this host has no {controller} controller",
                hint=f"enable {_V2_OF_V1.get(controller, controller)} in cgroup.subtree_control of the root of cgroup2",
            )
        return group

    def _find(self, controller: str) -> Group | None:
        return self._by_controller.get(controller) or self._by_controller.get(_V2_OF_V1.get(controller, controller))

    def _join(self, controller: str) -> None:
        """Takes the container into one more hierarchy, or has version 2's controller handed down to it."""
        made = place.join(self.groups, controller, _V2_OF_V1.get(controller, controller))
        if made is None:
            return
        if made.version == 1:
            for _ in range(_ATTACH_ROUNDS):  # what forks meanwhile is found in the next round
                there_now = {int(pid) for pid in read(made.path, "cgroup.procs").split()}
                left = self.pids() - there_now
                if not left:
                    break
                for pid in left:
                    try:
                        write(made.path, "cgroup.procs", str(pid))
                    except ProcessLookupError:
                        pass
        self._set((*(group for group in self.groups if group.path != made.path), made))

    def oom_kills(self) -> int | None:
        """Returns how many processes the kernel has killed for want of memory; None when nothing counts them."""
        memory = self._by_controller.get("memory")
        if memory is None:
            return None
        return keyed(read(memory.path, "memory.oom_control" if memory.version == 1 else "memory.events"), "oom_kill")

    def stats(self) -> Stats:
        """Returns, in short, what the container uses now and has used."""
        memory, cpu = self._by_controller.get("memory"), self._by_controller.get("cpuacct")
        peak = usage = cpu_ns = None
        if memory is not None and memory.version == 1:
            usage = number(memory.path, "memory.usage_in_bytes")
            peak = number(memory.path, "memory.max_usage_in_bytes")
        elif memory is not None:
            usage, peak = number(memory.path, "memory.current"), number(memory.path, "memory.peak")
        if cpu is not None:
            cpu_ns = number(cpu.path, "cpuacct.usage")
        elif self._v2 is not None:
            cpu_us = keyed(read(self._v2.path, "cpu.stat"), "usage_usec")
            cpu_ns = None if cpu_us is None else cpu_us * 1000
        pids = self._by_controller.get("pids")
        return Stats(
            memory_bytes=usage,
            memory_peak_bytes=peak,
            oom_kills=self.oom_kills(),
            cpu_ns=cpu_ns,
            pids=None if pids is None else number(pids.path, "pids.current"),
        )

    def usage(self) -> Usage:
        """Returns all that the groups count."""
        from wherry.runtime.cgroup_stats import read_usage

        paths = {name: (group.version, group.path) for name, group in self._by_controller.items()}
        return read_usage(paths, None if self._v2 is None else self._v2.path)

    def watch_oom(self) -> OomWatch:
        """Returns a descriptor that tells when memory lacks; the caller closes it.

        Raises:
            Unsupported: no controller here counts memory.
        """
        from wherry.runtime.cgroup_events import watch_oom

        memory = self._need("memory", "an event of lacking memory")
        return watch_oom(memory.version, memory.path)

    def watch_pressure(self, what: str, *, full: bool = False, stall_us: int, window_us: int) -> PressureWatch:
        """Returns a descriptor that tells when tasks wait for ``cpu``, ``memory`` or ``io``; the caller closes it.

        Raises:
            Unsupported: there is no group of version 2, or the kernel has no pressure information.
        """
        from wherry.runtime.cgroup_events import watch_pressure

        if self._v2 is None:
            raise Unsupported("no pressure information here", hint="it needs control groups of version 2")
        return watch_pressure(self._v2.path, what, full=full, stall_us=stall_us, window_us=window_us)

    def pids(self) -> frozenset[int]:
        """Returns the processes that are in any of the groups or in groups below them."""
        found: set[int] = set()
        for group in self.groups:
            for directory in place.tree(group.path):
                found.update(int(pid) for pid in read(directory, "cgroup.procs").split())
        found.discard(0)  # a process of another pid namespace
        return frozenset(found)

    def freeze(self, timeout_s: float = _TIMEOUT_S) -> None:
        """Stops every process, whatever it does, until `thaw`.

        Raises:
            Timeout: one of them could not be stopped, as it waits in the kernel; all run on.
        """
        try:
            self._set_frozen(True, timeout_s)
        except Timeout:
            self._set_frozen(False, timeout_s)
            raise

    def thaw(self, timeout_s: float = _TIMEOUT_S) -> None:
        """Lets the processes run on."""
        self._set_frozen(False, timeout_s)

    def is_frozen(self) -> bool:
        """Tells whether `freeze` holds."""
        freezer = self._by_controller.get("freezer")
        if freezer is not None:
            return read(freezer.path, "freezer.state").strip() == "FROZEN"
        return self._v2 is not None and numbers(read(self._v2.path, "cgroup.events")).get("frozen") == 1

    def _set_frozen(self, frozen: bool, timeout_s: float) -> None:
        from wherry.runtime.cgroup_wait import Deadline, wait_for_event

        freezer = self._by_controller.get("freezer")
        deadline = Deadline(timeout_s, "the processes do not freeze", "" if freezer is None else freezer.path)
        if freezer is not None:
            state = "FROZEN" if frozen else "THAWED"
            write(freezer.path, "freezer.state", state)
            while read(freezer.path, "freezer.state").strip() != state:
                deadline.pause()  # version 1 tells nobody; writing again helps a process that forked meanwhile
                write(freezer.path, "freezer.state", state)
        elif self._v2 is not None:
            write(self._v2.path, "cgroup.freeze", str(int(frozen)))
            deadline.where = self._v2.path
            wait_for_event(self._v2.path, "frozen", int(frozen), deadline)
        else:
            raise Unsupported("this host has no control group that can freeze a container")

    def kill(self) -> None:
        """Kills every process in the groups; returns when they are told, not when they are gone."""
        if self._v2 is not None and there(self._v2.path, "cgroup.kill"):
            write(self._v2.path, "cgroup.kill", "1")
        left = self.pids()
        freezer = self._by_controller.get("freezer")
        if not left:
            return
        if freezer is not None:
            # Somebody took them out of it, or made groups below it: what is frozen elsewhere would not die.
            place.take_back(freezer, left)
            write(freezer.path, "freezer.state", "FROZEN")  # so that none forks away meanwhile
        try:
            for pid in self.pids():
                try:
                    os.kill(pid, _SIGKILL)
                except ProcessLookupError:
                    pass
        finally:
            if freezer is not None:
                write(freezer.path, "freezer.state", "THAWED")

    def remove(self, timeout_s: float = _TIMEOUT_S) -> None:
        """Kills what is left in the groups and removes them, with those below and those above that were made for them.

        Raises:
            Timeout: a process does not die.
        """
        left = [group for group in self.groups if not place.remove_group(group)]
        if left:
            from wherry.runtime.cgroup_wait import Deadline, wait_for_end

            deadline = Deadline(timeout_s, "the processes of a control group do not die", left[0].path)
            while left:
                self.kill()
                wait_for_end(self.pids(), deadline)
                left = [group for group in self.groups if not place.remove_group(group)]  # all: one may be there again
                if left:
                    deadline.where = left[0].path
                    deadline.pause()
        place.remove_above(self.groups)
