"""Limits of version 2, read back: run by `test_cgroup_v2_uml.py` alone, as this host's controllers are version 1."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.core.errors import InvalidInput, Unsupported
from wherry.runtime import cgroup_place
from wherry.runtime.cgroup import Cgroup, hierarchies
from wherry.runtime.resources import Resources, Throttle

MIB = 1 << 20


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    made = Cgroup.create(f"/wherry/cgroup-{uuid.uuid4().hex[:12]}")
    yield made
    made.remove()


def value(cgroup: Cgroup, name: str) -> str:
    (group,) = cgroup.groups
    return (Path(group.path) / name).read_text().strip()


def test_cgroup_memory(cgroup: Cgroup) -> None:
    cgroup.apply(Resources(memory_limit_bytes=64 * MIB, memory_swap_bytes=64 * MIB, memory_reservation_bytes=32 * MIB))
    assert value(cgroup, "memory.max") == str(64 * MIB)
    assert value(cgroup, "memory.low") == str(32 * MIB)
    cgroup.update(Resources(memory_limit_bytes=-1))
    assert value(cgroup, "memory.max") == "max"
    with pytest.raises(InvalidInput, match="needs a memory limit"):
        cgroup.update(Resources(memory_swap_bytes=MIB))


def test_cgroup_cpu(cgroup: Cgroup) -> None:
    cgroup.apply(Resources(cpu_shares=1024, cpu_quota_us=40_000, cpu_period_us=80_000, cpu_burst_us=20_000))
    assert [value(cgroup, name) for name in ("cpu.weight", "cpu.max", "cpu.max.burst")] == [
        "39",
        "40000 80000",
        "20000",
    ]
    cgroup.update(Resources(cpu_quota_us=10_000, cpu_burst_us=5_000))
    assert value(cgroup, "cpu.max") == "10000 80000"
    cgroup.update(Resources(cpu_period_us=50_000))
    assert value(cgroup, "cpu.max") == "10000 50000"
    cgroup.update(Resources(cpu_idle=1, cpu_shares=2048))
    assert value(cgroup, "cpu.idle") == "1"


def test_cgroup_files_by_name(cgroup: Cgroup) -> None:
    cgroup.apply(Resources(unified={"memory.high": "33554432", "pids.max": "9"}))
    assert value(cgroup, "memory.high") == "33554432"
    assert value(cgroup, "pids.max") == "9"
    for name, what in (
        ("memory.nothing", "this group has no memory.nothing: no such file or directory"),
        ("hugetlb.2MB.max", "the requested cgroup controller `hugetlb` is not available"),
    ):
        with pytest.raises(Unsupported, match=what):
            cgroup.apply(Resources(unified={name: "1"}))


@pytest.mark.parametrize(
    ("resources", "what"),
    [
        (Resources(cpuset_cpus="0"), "no cpuset controller"),
        (Resources(network_class_id=1), "no net_cls controller"),
        (Resources(memory_swappiness=1), "no swappiness"),
        (Resources(memory_disable_oom_killer=True), "always kill"),
        (Resources(memory_kernel_bytes=MIB), "no limit of kernel memory"),
        (Resources(cpu_realtime_runtime_us=1000), "no limits of real time"),
        (Resources(block_leaf_weight=100), "no leaf weights"),
    ],
)
def test_cgroup_refusals(cgroup: Cgroup, resources: Resources, what: str) -> None:
    with pytest.raises(Unsupported, match=what):
        cgroup.apply(resources)


def test_cgroup_throttles_of_a_disk(cgroup: Cgroup) -> None:
    disks = [path for path in sorted(Path("/sys/block").iterdir()) if not path.name.startswith("ram")]
    major, _, minor = (disks[0] / "dev").read_text().strip().partition(":")
    rate = Throttle(major=int(major), minor=int(minor), rate=1_000_000)
    try:
        cgroup.apply(Resources(block_read_bytes=(rate,)))
    except Unsupported:
        pytest.fail("io is offered here")
    assert value(cgroup, "io.max") == f"{major}:{minor} rbps=1000000 wbps=max riops=max wiops=max"


def test_cgroup_delegation_below_the_own_group() -> None:
    """A process that is alone in its group steps aside, so that its group can hand controllers down."""
    (root,) = hierarchies()
    own = f"{root.mount}/delegated-{uuid.uuid4().hex[:8]}"
    cgroup_place.enable(root.mount, ("memory", "pids"))
    os.mkdir(own)
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = "failed"
        try:
            (Path(own) / "cgroup.procs").write_text("0")
            made = Cgroup.create("wherry/inner")
            made.apply(Resources(pids_limit=5))
            found = (Path(made.groups[0].path) / "pids.max").read_text().strip()
            text = f"{made.groups[0].path} {found} {Path('/proc/self/cgroup').read_text().strip()}"
            made.remove()
        finally:
            os.write(write_end, text.encode())
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as reader:
        seen = reader.read()
    os.waitpid(pid, 0)
    os.rmdir(f"{own}/supervisor")
    os.rmdir(own)
    name = os.path.basename(own)
    assert seen == f"{own}/wherry/inner 5 0::/{name}/supervisor"


def test_cgroup_in_a_threaded_part() -> None:
    (root,) = hierarchies()
    top = Path(root.mount) / f"threaded-{uuid.uuid4().hex[:8]}"
    (top / "one").mkdir(parents=True)
    try:
        (top / "one/cgroup.type").write_text("threaded")
        with pytest.raises(Unsupported, match="type 'domain invalid'"):
            Cgroup.create(f"/{top.name}/one/box")
        assert not (top / "one/box").exists()
    finally:
        (top / "one").rmdir()
        top.rmdir()


def test_cgroup_groups_that_a_container_made_go_with_it(cgroup: Cgroup) -> None:
    (group,) = cgroup.groups
    below = Path(group.path) / "a/b"
    below.mkdir(parents=True)
    pid = os.fork()
    if pid == 0:
        (below / "cgroup.procs").write_text("0")
        signal.pause()
        os._exit(0)
    try:
        while not cgroup.pids():
            assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        cgroup.remove()
    finally:
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert not os.path.exists(group.path)
