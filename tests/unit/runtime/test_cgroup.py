"""Control groups over trees of plain files: which file gets which value, on version 1, version 2 and both."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.core.errors import Conflict, InvalidInput, Unsupported
from wherry.runtime.cgroup import Cgroup, Group, Hierarchy, Stats
from wherry.runtime.cgroup_devices import device_line
from wherry.runtime.cgroup_hierarchies import parse_hierarchies
from wherry.runtime.cgroup_v2 import weight_of_shares
from wherry.runtime.default import DEVICE_RULES
from wherry.runtime.resources import DeviceRule, Resources

HYBRID = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
30 25 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
35 30 0:28 /docker/abc /mnt/part rw - cgroup cgroup rw,memory
36 30 0:28 / /mnt/with\\040space rw - cgroup cgroup rw,memory
"""


def test_hierarchies_of_mountinfo() -> None:
    assert parse_hierarchies(HYBRID) == (
        Hierarchy(1, ("cpu", "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct"),
        Hierarchy(1, ("memory",), "/sys/fs/cgroup/memory"),
        Hierarchy(1, ("name=systemd",), "/sys/fs/cgroup/systemd"),
        Hierarchy(2, (), "/sys/fs/cgroup/unified"),
    )
    assert parse_hierarchies("1 2 0:1 / /a\\040b rw - cgroup2 x rw\n") == (Hierarchy(2, (), "/a b"),)
    assert parse_hierarchies("") == parse_hierarchies("garbage\nof - cgroup\n") == ()


def group(base: Path, version: int, *controllers: str, **files: str) -> Group:
    path = base / f"v{version}-{'-'.join(controllers)}"
    path.mkdir()
    for name in ("cgroup.procs", *files):
        (path / name.replace("__", ".")).write_text(files.get(name, ""))
    return Group(version, controllers, str(path))


def written(found: Group, name: str) -> str:
    return (Path(found.path) / name).read_text()


RESOURCES = Resources(
    memory_limit_bytes=1 << 20,
    memory_swap_bytes=3 << 20,
    cpu_shares=1024,
    cpu_quota_us=50_000,
    pids_limit=10,
    devices=DEVICE_RULES,
)


def test_values_of_version_1(tmp_path: Path) -> None:
    memory = group(tmp_path, 1, "memory", memory__limit_in_bytes="", memory__memsw__limit_in_bytes="")
    cpu = group(tmp_path, 1, "cpu", cpu__shares="", cpu__cfs_quota_us="", cpu__cfs_period_us="")
    pids = group(tmp_path, 1, "pids", pids__max="")
    devices = group(tmp_path, 1, "devices", devices__allow="", devices__deny="")
    cgroup = Cgroup((memory, cpu, pids, devices))
    cgroup.apply(RESOURCES)
    assert written(memory, "memory.limit_in_bytes") == str(1 << 20)
    assert written(memory, "memory.memsw.limit_in_bytes") == str(3 << 20)
    assert written(cpu, "cpu.shares") == "1024"
    assert written(cpu, "cpu.cfs_quota_us") == "50000"
    assert written(cpu, "cpu.cfs_period_us") == "", "what is not asked for stays"
    assert written(pids, "pids.max") == "10"
    assert written(devices, "devices.deny") == "a *:* rwm"
    assert cgroup.controls_devices


def test_values_of_version_2(tmp_path: Path) -> None:
    files = {"memory__max": "", "memory__swap__max": "", "cpu__weight": "", "cpu__max": "", "pids__max": ""}
    both = group(tmp_path, 2, "memory", "cpu", "pids", **files)
    cgroup = Cgroup((both,))
    cgroup.apply(RESOURCES)
    assert written(both, "memory.max") == str(1 << 20)
    assert written(both, "memory.swap.max") == str(2 << 20)
    assert written(both, "cpu.weight") == "39"
    assert written(both, "cpu.max") == "50000 100000"
    assert written(both, "pids.max") == "10"
    assert not cgroup.controls_devices


def test_no_limits_are_max(tmp_path: Path) -> None:
    both = group(tmp_path, 2, "memory", "cpu", "pids", memory__max="", memory__swap__max="", cpu__max="", pids__max="")
    Cgroup((both,)).apply(
        Resources(memory_limit_bytes=-1, memory_swap_bytes=-1, cpu_quota_us=-1, cpu_period_us=50_000, pids_limit=-1)
    )
    assert [written(both, f"{name}.max") for name in ("memory", "memory.swap", "pids")] == ["max"] * 3
    assert written(both, "cpu.max") == "max 50000"


def test_version_1_is_taken_where_it_is_mounted(tmp_path: Path) -> None:
    new = group(tmp_path, 2, "memory", "pids", memory__max="", pids__max="")
    old = group(tmp_path, 1, "memory", memory__limit_in_bytes="")
    for groups in ((new, old), (old, new)):
        Cgroup(groups).apply(Resources(memory_limit_bytes=4096, pids_limit=3))
        assert (written(old, "memory.limit_in_bytes"), written(new, "memory.max")) == ("4096", "")
        assert written(new, "pids.max") == "3"


def test_without_swap_accounting_swap_is_left_alone(tmp_path: Path) -> None:
    memory = group(tmp_path, 1, "memory", memory__limit_in_bytes="")
    Cgroup((memory,)).apply(Resources(memory_limit_bytes=4096, memory_swap_bytes=4096))
    assert written(memory, "memory.limit_in_bytes") == "4096"


@pytest.mark.parametrize(
    ("resources", "what"),
    [
        (Resources(memory_limit_bytes=1), "a memory limit is asked for, but this host has no memory controller"),
        (Resources(cpu_quota_us=1000), "no cpu controller"),
        (Resources(pids_limit=1), "no pids controller"),
    ],
)
def test_a_limit_that_nobody_keeps_is_refused(tmp_path: Path, resources: Resources, what: str) -> None:
    with pytest.raises(Unsupported, match=what):
        Cgroup((group(tmp_path, 2, "hugetlb"),)).apply(resources)


def test_contradictions(tmp_path: Path) -> None:
    cgroup = Cgroup((group(tmp_path, 1, "memory", memory__limit_in_bytes=""),))
    with pytest.raises(InvalidInput, match="needs a memory limit"):
        cgroup.apply(Resources(memory_swap_bytes=1))
    with pytest.raises(InvalidInput, match="cannot be less"):
        cgroup.apply(Resources(memory_limit_bytes=2, memory_swap_bytes=1))


def test_stats(tmp_path: Path) -> None:
    memory = group(
        tmp_path,
        1,
        "memory",
        memory__usage_in_bytes="10\n",
        memory__max_usage_in_bytes="20\n",
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    )
    cpuacct = group(tmp_path, 1, "cpuacct", cpuacct__usage="77\n")
    assert Cgroup((memory, cpuacct)).stats() == Stats(memory_bytes=10, memory_peak_bytes=20, oom_kills=3, cpu_ns=77)
    new = group(
        tmp_path,
        2,
        "memory",
        "pids",
        memory__current="1\n",
        memory__peak="2\n",
        memory__events="low 0\noom 1\noom_kill 1\noom_group_kill 0\n",
        cpu__stat="usage_usec 5\nuser_usec 3\n",
        pids__current="4\n",
    )
    assert Cgroup((new,)).stats() == Stats(memory_bytes=1, memory_peak_bytes=2, oom_kills=1, cpu_ns=5000, pids=4)
    assert Cgroup((group(tmp_path, 2, "hugetlb"),)).stats() == Stats()


def test_pids_of_groups_below_too(tmp_path: Path) -> None:
    found = group(tmp_path, 2, "pids", cgroup__procs="12\n7\n0\n")
    (Path(found.path) / "below").mkdir()
    (Path(found.path) / "below/cgroup.procs").write_text("99\n")
    assert Cgroup((found,)).pids() == {7, 12, 99}


def test_create_hands_controllers_down(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    other = tmp_path / "other"
    other.mkdir()
    cgroup = Cgroup.create(
        "/wherry/one",
        found=(
            Hierarchy(2, ("cpuset", "cpu", "memory", "pids"), str(tmp_path)),
            Hierarchy(1, ("freezer",), str(other)),
            Hierarchy(1, ("net_cls",), str(tmp_path / "not-joined")),
        ),
    )
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert [group.path for group in cgroup.groups] == [f"{tmp_path}/wherry/one", f"{other}/wherry/one"]
    assert cgroup.procs_files == (f"{tmp_path}/wherry/one/cgroup.procs", f"{other}/wherry/one/tasks")
    assert cgroup.procs_files_after_clone == (f"{other}/wherry/one/tasks",)
    cgroup.remove()
    assert not (tmp_path / "wherry").exists()
    assert not (other / "wherry").exists()


def test_the_parent_stays_while_another_is_in_it(tmp_path: Path) -> None:
    found = (Hierarchy(1, ("pids",), str(tmp_path)),)
    first, second = Cgroup.create("/wherry/one", found=found), Cgroup.create("/wherry/two", found=found)
    first.remove()
    assert (tmp_path / "wherry/two").is_dir()
    second.remove()
    assert not (tmp_path / "wherry").exists()


def test_a_used_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wherry/one").mkdir(parents=True)
    (tmp_path / "wherry/one/cgroup.procs").write_text("1\n")
    with pytest.raises(Conflict, match="has processes"):
        Cgroup.create("/wherry/one", found=(Hierarchy(1, ("pids",), str(tmp_path)),))


def test_no_hierarchy_at_all() -> None:
    with pytest.raises(Unsupported, match="no control groups"):
        Cgroup.create("/wherry/one", found=())


def test_device_lines() -> None:
    assert device_line(DeviceRule(allow=True, type="c", major=136)) == "c 136:* rwm"
    assert device_line(DeviceRule(allow=False)) == "a *:* rwm"
    assert device_line(DeviceRule(allow=True, type="b", major=8, minor=0, access="r")) == "b 8:0 r"


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (0, 1), (1024, 39), (262144, 10000), (10**9, 10000)])
def test_weights(shares: int, weight: int) -> None:
    assert weight_of_shares(shares) == weight
