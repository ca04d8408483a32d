"""Values before they reach a kernel: ranges, conversions, lists of devices, what files of statistics say."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.runtime.test_cgroup import group, written

from wherry.core.errors import Conflict, InvalidInput, Unsupported
from wherry.runtime.cgroup import Cgroup
from wherry.runtime.cgroup_check import check_resources
from wherry.runtime.cgroup_devices import DeviceList
from wherry.runtime.cgroup_hierarchies import Hierarchy, own_group, parse_hierarchies
from wherry.runtime.cgroup_place import default_path
from wherry.runtime.cgroup_stats import BlockUsage, Usage, parse_pressure, runc_stats
from wherry.runtime.cgroup_v2 import weight_of_block_weight
from wherry.runtime.default import DEVICE_RULES
from wherry.runtime.resources import (
    DeviceRule,
    DeviceWeight,
    HugepageLimit,
    InterfacePriority,
    RdmaLimit,
    Resources,
    Throttle,
)

DENY = DeviceRule(allow=False)


@pytest.mark.parametrize(
    ("resources", "where"),
    [
        (Resources(memory_limit_bytes=-2), "memory_limit_bytes"),
        (Resources(memory_limit_bytes=2, memory_swap_bytes=1), "cannot be less"),
        (Resources(memory_limit_bytes=-1, memory_swap_bytes=1), "needs a memory limit"),
        (Resources(memory_swappiness=101), "memory_swappiness"),
        (Resources(cpu_shares=1), "cpu_shares"),
        (Resources(cpu_shares=262145), "cpu_shares"),
        (Resources(cpu_quota_us=999), "cpu_quota_us"),
        (Resources(cpu_period_us=1_000_001), "cpu_period_us"),
        (Resources(cpu_quota_us=2000, cpu_burst_us=2001), "a burst"),
        (Resources(cpu_idle=2), "cpu_idle"),
        (Resources(cpu_realtime_runtime_us=2, cpu_realtime_period_us=1), "more real time"),
        (Resources(cpuset_cpus="0-"), "cpuset_cpus"),
        (Resources(cpuset_mems="a"), "cpuset_mems"),
        (Resources(cpuset_cpus="0\n1"), "cpuset_cpus"),
        (Resources(pids_limit=-2), "pids_limit"),
        (Resources(block_weight=9), "block_weight"),
        (Resources(block_device_weights=(DeviceWeight(major=8, minor=0, weight=1001),)), "8:0"),
        (Resources(block_read_bytes=(Throttle(major=8, minor=1, rate=-1),)), "8:1"),
        (Resources(hugepages=(HugepageLimit(page_size="2MB/..", limit_bytes=1),)), "huge pages"),
        (Resources(network_class_id=1 << 32), "network_class_id"),
        (Resources(network_priorities=(InterfacePriority(name="a b", priority=1),)), "not a name"),
        (Resources(rdma={"a\nb": RdmaLimit(hca_handles=1)}), "not a name"),
        (Resources(unified={"../memory.max": "1"}), "has not the form CONTROLLER.VALUE `../memory.max`"),
        (Resources(unified={"cgroup.procs": "1"}), "has not the form CONTROLLER.VALUE `cgroup.procs`"),
        (Resources(unified={"SWAP": "1"}), "the specified key has not the form CONTROLLER.VALUE `SWAP`"),
        (Resources(devices=(DeviceRule(allow=True, access="x"),)), "access is of"),
        (Resources(devices=(DeviceRule(allow=True, type="p"),)), "not a type"),
    ],
)
def test_values_that_cannot_be(resources: Resources, where: str) -> None:
    with pytest.raises(InvalidInput, match=where):
        check_resources(resources)


def test_values_that_can_be() -> None:
    check_resources(
        Resources(
            memory_limit_bytes=-1,
            memory_swap_bytes=-1,
            cpu_shares=0,
            cpu_quota_us=-1,
            cpu_burst_us=0,
            cpuset_cpus="0-2,4",
            block_weight=0,
            pids_limit=-1,
            hugepages=(HugepageLimit(page_size="1GB", limit_bytes=-1),),
            devices=DEVICE_RULES,
        )
    )


@pytest.mark.parametrize(("weight", "converted"), [(10, 1), (1000, 10000), (500, 4950)])
def test_weights_of_block_devices(weight: int, converted: int) -> None:
    assert weight_of_block_weight(weight) == converted


def test_block_devices_of_version_2(tmp_path: Path) -> None:
    io = group(tmp_path, 2, "io", io__weight="", io__max="")
    Cgroup((io,)).apply(Resources(block_weight=1000, block_write_operations=(Throttle(major=8, minor=0, rate=5),)))
    assert written(io, "io.weight") == "10000"
    assert written(io, "io.max") == "8:0 wiops=5"
    (tmp_path / "bfq").mkdir()
    bfq = group(tmp_path / "bfq", 2, "io", io__weight="", io__bfq__weight="", io__max="")
    Cgroup((bfq,)).apply(Resources(block_device_weights=(DeviceWeight(major=8, minor=0, weight=70),)))
    assert written(bfq, "io.bfq.weight") == "8:0 70"
    Cgroup((bfq,)).apply(Resources(block_read_bytes=(Throttle(major=8, minor=0, rate=0),)))
    assert written(bfq, "io.max") == "8:0 rbps=max"


def test_files_of_version_2_by_name(tmp_path: Path) -> None:
    both = group(tmp_path, 2, "memory", memory__high="", cgroup__controllers="memory pids\n")
    Cgroup((both,)).apply(Resources(unified={"memory.high": "9"}))
    assert written(both, "memory.high") == "9"
    with pytest.raises(Unsupported, match=r"this group has no memory\.none: no such file or directory"):
        Cgroup((both,)).apply(Resources(unified={"memory.none": "9"}))
    with pytest.raises(Unsupported, match=r"the requested cgroup controller `foo` is not available: unified: foo\.bar"):
        Cgroup((both,)).apply(Resources(unified={"foo.bar": "9"}))


def test_huge_pages(tmp_path: Path) -> None:
    pages = Resources(hugepages=(HugepageLimit(page_size="2MB", limit_bytes=4 << 20),))
    new = group(tmp_path, 2, "hugetlb", hugetlb__2MB__max="", hugetlb__2MB__rsvd__max="")
    Cgroup((new,)).apply(pages)
    assert written(new, "hugetlb.2MB.max") == written(new, "hugetlb.2MB.rsvd.max") == str(4 << 20)
    old = group(tmp_path, 1, "hugetlb", hugetlb__2MB__limit_in_bytes="")
    Cgroup((old,)).apply(pages)
    assert written(old, "hugetlb.2MB.limit_in_bytes") == str(4 << 20)
    with pytest.raises(Unsupported, match="no huge pages of 1GB"):
        Cgroup((old,)).apply(Resources(hugepages=(HugepageLimit(page_size="1GB", limit_bytes=0),)))


def test_networks_and_rdma_of_version_1(tmp_path: Path) -> None:
    cls = group(tmp_path, 1, "net_cls", net_cls__classid="")
    prio = group(tmp_path, 1, "net_prio", net_prio__ifpriomap="")
    rdma = group(tmp_path, 1, "rdma", rdma__max="")
    Cgroup((cls, prio, rdma)).apply(
        Resources(
            network_class_id=0x100001,
            network_priorities=(InterfacePriority(name="eth0", priority=5),),
            rdma={"mlx5_1": RdmaLimit(hca_handles=3, hca_objects=10000)},
        )
    )
    assert written(cls, "net_cls.classid") == "1048577"
    assert written(prio, "net_prio.ifpriomap") == "eth0 5"
    assert written(rdma, "rdma.max") == "mlx5_1 hca_handle=3 hca_object=10000"


def test_swap_that_is_not_accounted_for(tmp_path: Path) -> None:
    for version, files in ((1, {"memory__limit_in_bytes": ""}), (2, {"memory__max": ""})):
        memory = group(tmp_path, version, "memory", **files)
        for harmless in (4096, -1):
            Cgroup((memory,)).apply(Resources(memory_limit_bytes=4096, memory_swap_bytes=harmless))
        with pytest.raises(Unsupported, match="does not account for swap"):
            Cgroup((memory,)).apply(Resources(memory_limit_bytes=4096, memory_swap_bytes=8192))


def test_check_before_update(tmp_path: Path) -> None:
    memory = group(tmp_path, 2, "memory", memory__max="max\n", memory__current="5000\n")
    with pytest.raises(Conflict, match="more memory is in use"):
        Cgroup((memory,)).apply(Resources(memory_limit_bytes=4096, memory_check_before_update=True))
    assert written(memory, "memory.max") == "max\n"


def test_disabled_groups_refuse_limits_and_nothing_else() -> None:
    none = Cgroup()
    none.apply(Resources(devices=DEVICE_RULES))
    assert not none.controls_devices
    assert none.pids() == frozenset()
    assert none.open_for_clone() == -1
    none.kill()
    none.remove()
    with pytest.raises(Unsupported, match="control groups are disabled"):
        none.apply(Resources(pids_limit=1))


def rule(allow: bool, major: int | None, minor: int | None, access: str = "rwm") -> DeviceRule:
    return DeviceRule(allow=allow, type="c", major=major, minor=minor, access=access)


def test_a_list_of_devices() -> None:
    found = DeviceList((rule(True, 1, 1), DENY, rule(True, 1, 3, "r"), rule(True, 1, 3, "m"), rule(True, 5, None)))
    assert not found.allow
    assert found.lines() == (
        ("devices.deny", "a *:* rwm"),
        ("devices.allow", "c 1:3 rm"),
        ("devices.allow", "c 5:* rwm"),
    )
    gone = DeviceList((DENY, rule(True, 1, 3), rule(False, 1, 3, "rw"), rule(False, 1, 3, "m"), rule(False, 9, 9)))
    assert gone.exceptions == {}
    assert DeviceList((rule(False, 1, 3, "w"),)).lines()[1] == ("devices.deny", "c 1:3 w")


def test_a_part_of_a_wildcard_cannot_be_taken_out() -> None:
    with pytest.raises(Unsupported, match=r"c 1:3 takes a part out of the one for c 1:\*"):
        DeviceList((DENY, rule(True, 1, None), rule(False, 1, 3)))
    DeviceList((DENY, rule(True, 1, None, "m"), rule(False, 1, 3, "rw")))


@pytest.mark.parametrize(
    ("rules", "allowed", "denied"),
    [
        ((DENY, rule(True, 1, 3, "rw")), ["c1:3r", "c1:3rw"], ["c1:3m", "c1:3rm", "c1:4r", "b1:3r"]),
        ((DENY, rule(True, 1, None)), ["c1:9rwm"], ["c2:9r"]),
        ((rule(False, 1, 3, "w"),), ["c1:3r", "b1:3w", "c1:4w"], ["c1:3w", "c1:3rw"]),
        ((DENY,), [], ["c1:3r"]),
        ((), ["c1:3rwm"], []),
    ],
)
def test_programs(rules: tuple[DeviceRule, ...], allowed: list[str], denied: list[str]) -> None:
    program = DeviceList(rules).program()
    assert [run(program, text) for text in (*allowed, *denied)] == [1] * len(allowed) + [0] * len(denied)


def run(program: bytes, text: str) -> int:
    """A machine for the few instructions that programs have; `text` is such as ``c1:3rw``."""
    letters = text.lstrip("bc0123456789:")
    major, _, minor = text[1:].removesuffix(letters).partition(":")
    access = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in letters)
    context = {0: access << 16 | (1 if text[0] == "b" else 2), 4: int(major), 8: int(minor)}
    registers = [0] * 11
    at = 0
    while True:
        code, regs = program[at], program[at + 1]
        offset = int.from_bytes(program[at + 2 : at + 4], "little", signed=True)
        value = int.from_bytes(program[at + 4 : at + 8], "little", signed=True)
        dst, src = regs & 15, regs >> 4
        at += 8
        match code:
            case 0x61:
                registers[dst] = context[offset]
            case 0xBF:
                registers[dst] = registers[src]
            case 0xB7:
                registers[dst] = value
            case 0x57:
                registers[dst] &= value
            case 0x77:
                registers[dst] >>= value
            case 0x15:
                at += 8 * offset * (registers[dst] == value)
            case 0x55 | 0x56:
                at += 8 * offset * (registers[dst] != value)
            case 0x95:
                return registers[0]
            case _:
                raise AssertionError(f"instruction {code:#x}")


def test_pressure() -> None:
    text = "some avg10=1.50 avg60=0.10 avg300=0.00 total=99\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
    found = parse_pressure(text)
    assert found is not None
    assert found.full is not None
    assert (found.some.avg10, found.some.total_us, found.full.total_us) == (1.5, 99, 7)
    assert parse_pressure("") is None


def test_block_devices_in_statistics(tmp_path: Path) -> None:
    new = group(tmp_path, 2, "io", io__stat="8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 \n")
    usage = Cgroup((new,)).usage()
    assert usage.block_total("Write") == 20
    assert BlockUsage(major=8, minor=0, operation="Read", value=1) in usage.block_operations
    text = "8:0 Read 4096\n8:0 Write 0\n8:0 Total 4096\nTotal 4096\n"
    old = group(tmp_path, 1, "blkio", blkio__throttle__io_service_bytes_recursive=text)
    assert Cgroup((old,)).usage().block_total("Read") == 4096


def test_what_runc_tells_of_nothing() -> None:
    data = runc_stats("x", Usage())["data"]
    assert data["memory"]["usage"] == {"limit": (1 << 64) - 1, "usage": 0, "max": 0, "failcnt": 0}
    assert data["cpu"]["throttling"] == {"periods": 0, "throttledPeriods": 0, "throttledTime": 0}
    assert "psi" not in data["cpu"]


def test_a_part_of_a_hierarchy_where_the_whole_is_not_mounted() -> None:
    (found,) = parse_hierarchies("35 30 0:28 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n")
    assert found == Hierarchy(1, ("memory",), "/sys/fs/cgroup/memory", "/docker/abc")
    assert own_group(found, "4:memory:/docker/abc/inner\n") == "/sys/fs/cgroup/memory/inner"
    assert own_group(found, "4:memory:/docker/abc\n0::/\n") == "/sys/fs/cgroup/memory"
    assert own_group(Hierarchy(2, (), "/c"), "4:memory:/x\n0::/user.slice\n") == "/c/user.slice"


def test_where_a_container_goes(tmp_path: Path) -> None:
    assert default_path("one", (Hierarchy(2, (), str(tmp_path)),)) == "/wherry/one"
    assert default_path("one", (Hierarchy(2, (), str(tmp_path / "not-there")),)) == "wherry/one"


def test_only_parents_that_were_made_go(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    cgroup = Cgroup.create("/theirs/ours/box", found=(Hierarchy(1, ("pids",), str(tmp_path)),))
    again = Cgroup.parse(cgroup.serialize())
    assert again.groups == cgroup.groups
    again.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]
    assert not list((tmp_path / "theirs").iterdir())
