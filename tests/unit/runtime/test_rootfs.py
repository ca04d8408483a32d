"""The mount plan that a specification becomes, read as text."""

from __future__ import annotations

from typing import Any

import pytest

from wherry.core.errors import InvalidInput
from wherry.core.value import replace
from wherry.linux.mountplan import describe
from wherry.runtime import default
from wherry.runtime.cgroup import Hierarchy
from wherry.runtime.rootfs import plan
from wherry.runtime.spec import Device, IdMapping, Mount, Process, Spec

V2 = (Hierarchy(2, ("cpu", "memory"), "/sys/fs/cgroup"),)
HYBRID = (
    Hierarchy(1, ("cpu", "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct"),
    Hierarchy(1, ("name=systemd",), "/sys/fs/cgroup/systemd"),
    Hierarchy(2, (), "/sys/fs/cgroup/unified"),
)
SPEC = Spec(process=Process(args=("true",)), mounts=default.mounts(), namespaces=default.NAMESPACES)


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
        "mkdir -p -m 755 /dev/pts",
        "mkdir -p -m 755 /dev/shm",
        "mkdir -p -m 755 /dev/mqueue",
        "mount -t devpts devpts /dev/pts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
        "mount -t tmpfs shm /dev/shm -o nosuid,nodev,noexec,mode=1777,size=67108864",
        "mount -t mqueue mqueue /dev/mqueue -o nosuid,nodev,noexec",
        "mount -t sysfs sysfs /sys -o ro,nosuid,nodev,noexec",
        "mount -t cgroup2 cgroup /sys/fs/cgroup -o ro,nosuid,nodev,noexec",
    )


def test_control_groups_of_both_versions() -> None:
    lines = describe(plan(SPEC, HYBRID))
    begin = lines.index("mount -t tmpfs tmpfs /sys/fs/cgroup -o nosuid,nodev,noexec,mode=755,size=1m")
    assert lines[begin + 1 :] == (
        "mkdir -p -m 755 /sys/fs/cgroup/cpu,cpuacct",
        "ln -s cpu,cpuacct /sys/fs/cgroup/cpu",
        "ln -s cpu,cpuacct /sys/fs/cgroup/cpuacct",
        "mkdir -p -m 755 /sys/fs/cgroup/systemd",
        "mkdir -p -m 755 /sys/fs/cgroup/unified",
        "mount -t cgroup cgroup /sys/fs/cgroup/cpu,cpuacct -o ro,nosuid,nodev,noexec,cpu,cpuacct",
        "mount -t cgroup cgroup /sys/fs/cgroup/systemd -o ro,nosuid,nodev,noexec,none,name=systemd",
        "mount -t cgroup2 cgroup /sys/fs/cgroup/unified -o ro,nosuid,nodev,noexec",
        "mount -o remount,bind,ro /sys/fs/cgroup",
    )


def test_the_rest_comes_after_the_mounts_in_order() -> None:
    spec = replace(
        SPEC,
        process=replace(SPEC.process, cwd="/srv/app"),
        mounts=(
            Mount(destination="/dev", type="bind", source="/dev", options=("rbind",)),
            Mount(destination="/data", type="bind", source="/srv", options=("bind", "ro", "nosuid")),
        ),
        devices=(Device(path="/dev/kvm", type="c", major=10, minor=232, file_mode=0o660),),  # not in the host's /dev
        masked_paths=("/proc/kcore",),
        readonly_paths=("/proc/sys",),
        root_read_only=True,
    )
    assert describe(plan(spec, V2)) == (
        "mount --rbind /dev /dev",
        "mount --bind /srv /data -o ro,nosuid",
        "mkdir -p -m 755 /srv/app",
        "mask /proc/kcore",
        "mount -o bind,ro /proc/sys /proc/sys",
        "mount -o remount,bind,ro /",
    )


@pytest.mark.parametrize(
    ("mount", "what"),
    [
        (Mount(destination="", type="tmpfs"), "without '..'"),
        (Mount(destination="/a", type="cgroup", options=("xattr",)), "no option 'xattr'"),
        (Mount(destination="/a", type=""), "is a bind"),
        (Mount(destination="/a", type="ramfs", options=("tmpcopyup",)), "for a tmpfs"),
        (Mount(destination="/a", type="tmpfs", options=("idmap",)), "needs maps"),
        (Mount(destination="/a", type="tmpfs", options=("copy-symlink",)), "for bind mounts"),
        (Mount(destination="/a/../b", type="tmpfs"), "without '..'"),
        (Mount(destination="/a", type="bind", source="relative"), "absolute source"),
        (Mount(destination="/a", type="bind", source="/b", options=("sized",)), "no option 'sized'"),
        (Mount(destination="/a", type="none", source="/b", options=("rbind", "wide")), "no option 'wide'"),
    ],
)
def test_bad_mounts(mount: Mount, what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        plan(replace(SPEC, mounts=(mount,)), V2)


def lines(*mounts: Mount, **changes: Any) -> tuple[str, ...]:
    """The plan of some mounts over a /dev of the host, which nothing is made in."""
    host_dev = Mount(destination="/dev", type="bind", source="/dev", options=("rbind",))
    return describe(plan(replace(SPEC, mounts=(host_dev, *mounts), **changes), V2))[1:]


def test_a_relative_place_begins_at_the_root() -> None:
    assert lines(Mount(destination="./srv//data/", type="tmpfs")) == ("mount -t tmpfs tmpfs /srv/data",)


def test_nodes_are_made_in_the_image_where_nothing_is_mounted_at_dev() -> None:
    device = Device(path="/dev/net/tun", type="u", major=10, minor=200, uid=3)
    seen = describe(plan(replace(SPEC, mounts=(), devices=(device,)), V2))
    assert seen[0] == "mknod -m 666 /dev/null c 1 3"
    assert "mknod -m 666 /dev/net/tun c 10 200 # owner 3:0" in seen


def test_a_device_and_a_mount_in_a_fresh_dev_have_their_places_made_at_once() -> None:
    spec = replace(
        SPEC,
        mounts=(
            *SPEC.mounts,
            Mount(destination="/dev/one", type="bind", source="/srv/file", options=("bind",)),
            Mount(destination="/dev/hugepages", type="tmpfs"),
        ),
        devices=(Device(path="/dev/fifo", type="p", file_mode=0o600),),
    )
    seen = describe(plan(spec, V2))
    assert seen.index("mknod -m 600 /dev/fifo p") < seen.index("mkdir -p -m 755 /dev/hugepages")
    assert "mkdir -p -m 755 /dev/one" not in seen  # a bind may be of a file


@pytest.mark.parametrize(
    ("mount", "line"),
    [
        (
            Mount(destination="/x", type="ext4", source="/dev/vdb", options=("ro", "sync")),
            "ext4 /dev/vdb /x -o ro,ro,sync",
        ),
        (
            Mount(destination="/x", type="tmpfs", options=("ro", "noatime", "size=1m")),
            "tmpfs tmpfs /x -o ro,noatime,size=1m",
        ),
        (Mount(destination="/x", type="tmpfs", options=("rro", "tmpcopyup")), "tmpfs tmpfs /x -o ro,tmpcopyup"),
        (Mount(destination="/x", type="tmpfs", options=("iversion", "rshared")), "tmpfs tmpfs /x -o iversion,rshared"),
        (Mount(destination="/proc", type="proc", options=("hidepid=2",)), "proc proc /proc -o hidepid=2"),
    ],
)
def test_new_file_systems(mount: Mount, line: str) -> None:
    assert lines(mount) == (f"mount -t {line}",)


@pytest.mark.parametrize(
    ("mount", "line"),
    [
        (Mount(destination="/x", type="none", options=("remount", "bind", "ro")), "remount,bind,ro /x"),
        (Mount(destination="/x", type="tmpfs", options=("remount", "size=2m", "rw")), "remount,rw,size=2m /x"),
        (Mount(destination="/x", type="none", options=("rslave",)), "remount,bind,rslave /x"),
    ],
)
def test_remounts(mount: Mount, line: str) -> None:
    assert lines(mount) == (f"mount -o {line}",)


def test_binds_take_part_in_propagation_as_the_root_does() -> None:
    bind = Mount(destination="/x", type="bind", source="/srv", options=("rbind",))
    assert lines(bind) == ("mount --rbind /srv /x",)
    assert lines(bind, rootfs_propagation="rslave") == ("mount --rbind /srv /x -o rslave",)
    assert lines(bind, rootfs_propagation="unbindable") == ("mount --rbind /srv /x",)
    private = replace(bind, options=("rbind", "rprivate"))
    assert lines(private, rootfs_propagation="shared") == ("mount --rbind /srv /x -o rprivate",)


def test_in_a_user_namespace() -> None:
    spec = replace(
        SPEC,
        namespaces={"user": "", "mount": ""},
        uid_mappings=(IdMapping(container_id=0, host_id=1000, size=1),),
        gid_mappings=(IdMapping(container_id=0, host_id=1000, size=1),),
    )
    seen = describe(plan(spec, V2))
    assert "mount -t devpts devpts /dev/pts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=0620" in seen
    assert "mount -t sysfs sysfs /sys -o ro,nosuid,nodev,noexec || mount --rbind /sys /sys" in seen
    mapped = replace(spec, gid_mappings=(IdMapping(container_id=0, host_id=1000, size=65536),))
    assert any(line.endswith("mode=0620,gid=5") for line in describe(plan(mapped, V2)))


def test_own_groups_are_bound_without_a_cgroup_namespace() -> None:
    mount = Mount(destination="/sys/fs/cgroup", type="cgroup", options=("ro",))
    spec = replace(SPEC, mounts=(mount,), namespaces={"mount": ""}, process=replace(SPEC.process, cwd="/"))
    paths = {item.mount: f"{item.mount}/wherry/box" for item in HYBRID}
    seen = describe(plan(spec, HYBRID, cgroup_paths=paths))
    assert "mount --bind /sys/fs/cgroup/systemd/wherry/box /sys/fs/cgroup/systemd -o ro" in seen
    assert "mount --bind /sys/fs/cgroup/unified/wherry/box /sys/fs/cgroup/unified -o ro" in seen
    seen = describe(plan(spec, V2, cgroup_paths={"/sys/fs/cgroup": "/sys/fs/cgroup/wherry/box"}))
    assert seen[0] == "mount --bind /sys/fs/cgroup/wherry/box /sys/fs/cgroup -o ro"
