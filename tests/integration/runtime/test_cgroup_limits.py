"""Every limit of version 1 in force or read back, on this host's own groups."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.core.errors import Conflict, Unsupported
from wherry.runtime.cgroup import Cgroup, hierarchies
from wherry.runtime.cgroup_hierarchies import own_group
from wherry.runtime.resources import (
    DeviceRule,
    DeviceWeight,
    HugepageLimit,
    InterfacePriority,
    RdmaLimit,
    Resources,
    Throttle,
)

FOUND = hierarchies()
V1 = frozenset(name for found in FOUND if found.version == 1 for name in found.controllers)
NEEDED = {"memory", "cpu", "cpuset", "pids", "blkio", "freezer", "devices"}
pytestmark = pytest.mark.skipif(not V1 >= NEEDED, reason="this host has not all controllers as version 1")
MIB = 1 << 20


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    made = Cgroup.create(f"/wherry/test-{uuid.uuid4().hex[:12]}")
    yield made
    made.remove()


@pytest.fixture
def child(cgroup: Cgroup) -> Iterator[int]:
    """A process in the groups."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    cgroup.attach(pid)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def value(cgroup: Cgroup, controller: str, name: str) -> str:
    group = next(group for group in cgroup.groups if group.version == 1 and controller in group.controllers)
    return (Path(group.path) / name).read_text().strip()


def disk() -> tuple[int, int]:
    """A whole block device that the kernel's throttles take."""
    for path in sorted(Path("/sys/block").iterdir()):
        if not path.name.startswith(("loop", "ram", "zram")):
            major, _, minor = (path / "dev").read_text().strip().partition(":")
            return int(major), int(minor)
    raise AssertionError("a machine without a disk")


def test_memory(cgroup: Cgroup) -> None:
    cgroup.apply(
        Resources(
            memory_limit_bytes=64 * MIB,
            memory_swap_bytes=128 * MIB,
            memory_reservation_bytes=32 * MIB,
            memory_swappiness=10,
            memory_disable_oom_killer=True,
            memory_use_hierarchy=True,
        )
    )
    assert value(cgroup, "memory", "memory.limit_in_bytes") == str(64 * MIB)
    assert value(cgroup, "memory", "memory.memsw.limit_in_bytes") == str(128 * MIB)
    assert value(cgroup, "memory", "memory.soft_limit_in_bytes") == str(32 * MIB)
    assert value(cgroup, "memory", "memory.swappiness") == "10"
    assert "oom_kill_disable 1" in value(cgroup, "memory", "memory.oom_control")
    cgroup.apply(Resources(memory_disable_oom_killer=False))
    assert "oom_kill_disable 0" in value(cgroup, "memory", "memory.oom_control")


@pytest.mark.parametrize(
    ("first", "then"), [((64, 64), (256, 256)), ((256, 256), (64, 64)), ((64, 128), (96, -1)), ((64, 64), (-1, None))]
)
def test_memory_and_swap_are_changed_up_and_down(
    cgroup: Cgroup, first: tuple[int, int], then: tuple[int, int | None]
) -> None:
    def size(count: int | None) -> int | None:
        return count if count is None or count < 0 else count * MIB

    cgroup.apply(Resources(memory_limit_bytes=size(first[0]), memory_swap_bytes=size(first[1])))
    cgroup.update(Resources(memory_limit_bytes=size(then[0]), memory_swap_bytes=size(then[1])))
    usage = cgroup.usage().memory
    assert usage.limit_bytes == (None if then[0] < 0 else then[0] * MIB)
    swap = -1 if then[1] is None else then[1]
    assert usage.swap_limit_bytes == (None if swap < 0 else (swap - then[0]) * MIB)


def test_swap_alone_is_changed(cgroup: Cgroup) -> None:
    cgroup.apply(Resources(memory_limit_bytes=64 * MIB, memory_swap_bytes=64 * MIB))
    cgroup.update(Resources(memory_swap_bytes=96 * MIB))
    assert cgroup.usage().memory.swap_limit_bytes == 32 * MIB


def test_less_memory_than_is_in_use_is_refused(cgroup: Cgroup) -> None:
    pid = os.fork()
    if pid == 0:
        cgroup.attach(os.getpid())
        held = bytearray(os.urandom(1) * (32 * MIB))
        signal.pause()
        os._exit(len(held) & 1)
    try:
        while (cgroup.stats().memory_bytes or 0) < 32 * MIB:
            assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        with pytest.raises(Conflict, match="more memory is in use"):
            cgroup.update(Resources(memory_limit_bytes=4 * MIB, memory_check_before_update=True))
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_cpu(cgroup: Cgroup) -> None:
    cgroup.apply(Resources(cpu_shares=512, cpu_quota_us=40_000, cpu_period_us=80_000, cpu_burst_us=20_000))
    names = ("cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us")
    assert [value(cgroup, "cpu", name) for name in names] == ["512", "40000", "80000", "20000"]
    cgroup.update(Resources(cpu_quota_us=10_000, cpu_burst_us=5_000))
    assert [value(cgroup, "cpu", name) for name in names] == ["512", "10000", "80000", "5000"]
    cgroup.update(Resources(cpu_quota_us=-1, cpu_idle=1))
    assert value(cgroup, "cpu", "cpu.cfs_quota_us") == "-1"
    assert value(cgroup, "cpu", "cpu.idle") == "1"
    cgroup.update(Resources(cpu_idle=0, cpu_shares=100))
    assert value(cgroup, "cpu", "cpu.shares") == "100"


def test_a_cpuset_holds_and_may_come_late(cgroup: Cgroup, child: int) -> None:
    assert not any("cpuset" in group.controllers for group in cgroup.groups)
    cgroup.update(Resources(cpuset_cpus="0"))
    assert os.sched_getaffinity(child) == {0}
    assert value(cgroup, "cpuset", "cpuset.mems") == (Path(mount("cpuset")) / "cpuset.mems").read_text().strip()
    assert any("cpuset" in group.controllers for group in Cgroup.parse(cgroup.serialize()).groups)


def mount(controller: str) -> str:
    return next(found.mount for found in FOUND if found.version == 1 and controller in found.controllers)


def test_block_devices(cgroup: Cgroup) -> None:
    major, minor = disk()
    cgroup.apply(
        Resources(
            block_read_bytes=(Throttle(major=major, minor=minor, rate=1_000_000),),
            block_write_bytes=(Throttle(major=major, minor=minor, rate=2_000_000),),
            block_read_operations=(Throttle(major=major, minor=minor, rate=300),),
            block_write_operations=(Throttle(major=major, minor=minor, rate=400),),
        )
    )
    names = ("read_bps", "write_bps", "read_iops", "write_iops")
    found = [value(cgroup, "blkio", f"blkio.throttle.{name}_device") for name in names]
    assert found == [f"{major}:{minor} {rate}" for rate in (1_000_000, 2_000_000, 300, 400)]
    cgroup.update(Resources(block_read_bytes=(Throttle(major=major, minor=minor, rate=0),)))
    assert value(cgroup, "blkio", "blkio.throttle.read_bps_device") == ""


def test_weights_of_block_devices(cgroup: Cgroup) -> None:
    major, minor = disk()
    group = next(group for group in cgroup.groups if "blkio" in group.controllers)
    if not (Path(group.path) / "blkio.bfq.weight").exists():
        with pytest.raises(Unsupported, match=r"no blkio\.weight"):
            cgroup.apply(Resources(block_weight=200))
        return
    cgroup.apply(Resources(block_weight=200))
    assert value(cgroup, "blkio", "blkio.bfq.weight").split()[-1] == "200"
    with pytest.raises(Unsupported, match=r"no blkio\.leaf_weight_device"):
        cgroup.apply(Resources(block_device_weights=(DeviceWeight(major=major, minor=minor, leaf_weight=20),)))


@pytest.mark.parametrize(
    ("controller", "resources"),
    [
        ("hugetlb", Resources(hugepages=(HugepageLimit(page_size="2MB", limit_bytes=2 * MIB),))),
        ("net_cls", Resources(network_class_id=1)),
        ("net_prio", Resources(network_priorities=(InterfacePriority(name="lo", priority=1),))),
        ("rdma", Resources(rdma={"mlx5_0": RdmaLimit(hca_handles=1)})),
    ],
)
def test_a_controller_that_is_nowhere_or_joined_late(cgroup: Cgroup, controller: str, resources: Resources) -> None:
    if any(controller in found.controllers for found in FOUND):
        cgroup.apply(resources)
        assert any(controller in group.controllers for group in cgroup.groups)
        return
    with pytest.raises(Unsupported, match=f"this host has no {controller} controller"):
        cgroup.apply(resources)


def test_files_of_version_2_are_refused(cgroup: Cgroup) -> None:
    with pytest.raises(Unsupported, match="this host uses version 1"):
        cgroup.apply(Resources(unified={"memory.high": "1000"}))


def test_devices(cgroup: Cgroup, child: int) -> None:
    rules = (
        DeviceRule(allow=False),
        DeviceRule(allow=True, type="c", major=1, minor=3, access="rw"),
        DeviceRule(allow=True, type="c", major=5),
        DeviceRule(allow=True, type="b", access="m"),
    )
    cgroup.apply(Resources(devices=rules))
    assert value(cgroup, "devices", "devices.list").split("\n") == ["c 1:3 rw", "c 5:* rwm", "b *:* m"]
    cgroup.update(Resources(devices=rules[:2]))
    assert value(cgroup, "devices", "devices.list") == "c 1:3 rw"


def test_freezing_and_killing(cgroup: Cgroup, child: int) -> None:
    cgroup.freeze()
    assert cgroup.is_frozen()
    cgroup.thaw()
    assert not cgroup.is_frozen()
    assert cgroup.pids() == {child}


@pytest.mark.parametrize("where", ["beside", "below"])
def test_what_is_frozen_in_another_group_dies_too(where: str) -> None:
    cgroup = Cgroup.create(f"/wherry/test-{uuid.uuid4().hex[:12]}")
    own = next(Path(group.path) for group in cgroup.groups if "freezer" in group.controllers)
    other = own / "below" if where == "below" else own.parent.parent / f"wherry-{own.name}"
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    try:
        cgroup.attach(pid)
        other.mkdir()
        (other / "tasks").write_text(str(pid))
        (other / "freezer.state").write_text("FROZEN")
        while (other / "freezer.state").read_text().strip() != "FROZEN":
            time.sleep(0.01)
        cgroup.remove(timeout_s=20)
        assert os.waitpid(pid, os.WNOHANG) == (pid, signal.SIGKILL)
        pid = 0
        assert not any(Path(group.path).exists() for group in cgroup.groups)
    finally:
        if other.exists():
            (other / "freezer.state").write_text("THAWED")
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            cgroup.remove()
        if other.exists():
            other.rmdir()


def test_below_the_own_group() -> None:
    name = f"wherry-test-{uuid.uuid4().hex[:12]}/inner"
    memory = next(found for found in FOUND if "memory" in found.controllers and found.version == 1)
    path = f"{own_group(memory)}/{name}"
    cgroup = Cgroup.create(name)
    try:
        assert path in [group.path for group in cgroup.groups]
        assert {group.path for group in Cgroup.open(name).groups} == {group.path for group in cgroup.groups}
    finally:
        cgroup.remove()
    assert not os.path.exists(os.path.dirname(path)), "what was made on the way is gone, too"
