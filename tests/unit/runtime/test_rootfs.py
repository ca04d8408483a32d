"""The mount plan that a specification becomes, read as text."""

from __future__ import annotations

import pytest

from wherry.core.errors import InvalidInput
from wherry.core.value import replace
from wherry.linux.mountplan import describe
from wherry.runtime import default
from wherry.runtime.cgroup import Hierarchy
from wherry.runtime.rootfs import plan
from wherry.runtime.spec import Device, Mount, Process, Spec

V2 = (Hierarchy(2, ("cpu", "memory"), "/sys/fs/cgroup"),)
HYBRID = (
    Hierarchy(1, ("cpu", "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct"),
    Hierarchy(1, ("name=systemd",), "/sys/fs/cgroup/systemd"),
    Hierarchy(2, (), "/sys/fs/cgroup/unified"),
)
SPEC = Spec(process=Process(args=("true",)), mounts=default.mounts())


def test_the_default_plan_on_version_2() -> None:
    assert describe(plan(SPEC, V2)) == (
        "mount -t proc proc /proc -o nosuid,nodev,noexec",
        "mount -t tmpfs tmpfs /dev -o nosuid,strictatime,mode=755,size=65536k",
        "mknod -m 666 /dev/null c 1 3",
        "mknod -m 666 /dev/zero c 1 5",
        "mknod -m 666 /dev/full c 1 7",
        "mknod -m 666 /dev/random c 1 8",
        "mknod -m 666 /dev/urandom c 1 9",
        "mknod -m 666 /dev/tty c 5 0",
        "ln -s /proc/self/fd /dev/fd",
        "ln -s /proc/self/fd/0 /dev/stdin",
        "ln -s /proc/self/fd/1 /dev/stdout",
        "ln -s /proc/self/fd/2 /dev/stderr",
        "ln -s pts/ptmx /dev/ptmx",
        "mount -t devpts devpts /dev/pts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
        "mount -t tmpfs shm /dev/shm -o nosuid,nodev,noexec,mode=1777,size=67108864",
        "mount -t mqueue mqueue /dev/mqueue -o nosuid,nodev,noexec",
        "mount -t sysfs sysfs /sys -o ro,nosuid,nodev,noexec",
        "mount -t cgroup2 cgroup /sys/fs/cgroup -o ro,nosuid,nodev,noexec",
    )


def test_control_groups_of_both_versions() -> None:
    lines = describe(plan(SPEC, HYBRID))
    begin = lines.index("mount -t tmpfs tmpfs /sys/fs/cgroup -o nosuid,nodev,noexec,mode=755,size=1m")
    assert lines[begin + 1 : begin + 7] == (
        "mount -t cgroup cgroup /sys/fs/cgroup/cpu,cpuacct -o ro,nosuid,nodev,noexec,cpu,cpuacct",
        "ln -s cpu,cpuacct /sys/fs/cgroup/cpu",
        "ln -s cpu,cpuacct /sys/fs/cgroup/cpuacct",
        "mount -t cgroup cgroup /sys/fs/cgroup/systemd -o ro,nosuid,nodev,noexec,none,name=systemd",
        "mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified -o ro,nosuid,nodev,noexec",
        "mount -o remount,bind,ro /sys/fs/cgroup",
    )


def test_the_rest_comes_after_the_mounts_in_order() -> None:
    spec = replace(
        SPEC,
        process=replace(SPEC.process, cwd="/srv/app"),
        mounts=(Mount(destination="/data", type="bind", source="/srv", options=("bind", "ro", "nosuid")),),
        devices=(Device(path="/dev/kvm", type="c", major=10, minor=232, file_mode=0o660),),
        masked_paths=("/proc/kcore",),
        readonly_paths=("/proc/sys",),
        root_read_only=True,
    )
    assert describe(plan(spec, V2)) == (
        "mount --bind /srv /data -o ro,nosuid",
        "mknod -m 660 /dev/kvm c 10 232",
        "mkdir -p -m 755 /srv/app",
        "mask /proc/kcore",
        "mount -o bind,ro /proc/sys /proc/sys",
        "mount -o remount,bind,ro /",
    )


@pytest.mark.parametrize(
    ("mount", "what"),
    [
        (Mount(destination="data", type="tmpfs"), "absolute path"),
        (Mount(destination="/a/../b", type="tmpfs"), "without '..'"),
        (Mount(destination="/a", type="bind", source="relative"), "absolute source"),
        (Mount(destination="/a", type="bind", source="/b", options=("size=1",)), "no option 'size=1'"),
        (Mount(destination="/a", type="none", source="/b", options=("rbind", "uid=0")), "no option 'uid=0'"),
    ],
)
def test_bad_mounts(mount: Mount, what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        plan(replace(SPEC, mounts=(mount,)), V2)
