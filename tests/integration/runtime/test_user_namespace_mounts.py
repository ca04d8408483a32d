"""Roots and mounts of a container in a user namespace: what the parent opens, and what stands for what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.runtime.roots import ALL, REFUSED, Entered, bind, entered, mount_line, spec_of

from wherry.core.value import replace
from wherry.linux import x
from wherry.linux.idmap import open_user_namespace
from wherry.linux.namespaces import CLONE_NEWIPC, CLONE_NEWNET
from wherry.runtime import rootfs as rootfs_module
from wherry.runtime.cgroup import hierarchies
from wherry.runtime.spec import Device, IdMapping, Mount, Spec

FIRST, COUNT = 200000, 65536
MAPS = (f"0 {FIRST} {COUNT}\n",) * 2
MAPPING = (IdMapping(container_id=0, host_id=FIRST, size=COUNT),)
INFO = "cat /proc/self/mountinfo"
Enter = Callable[..., Entered]


@pytest.fixture
def enter(rootfs: Path) -> Enter:
    """Enters the tree as the root of a user namespace, by a mount that shows its files as that root's."""

    def run(spec: Spec, script: str = ":", **options: Any) -> Entered:
        namespace = open_user_namespace(((0, FIRST, COUNT),), ((0, FIRST, COUNT),))
        root = x.open_tree(str(rootfs))
        x.mount_setattr(root, userns_fd=namespace)
        sources = rootfs_module.open_sources(rootfs_module.plan(spec, hierarchies()))
        try:
            return entered(rootfs, spec, script, maps=MAPS, before=lambda: root, sources=sources, **options)
        finally:
            for fd in (root, namespace, *sources.values()):
                os.close(fd)

    return run


def user_spec(*mounts: Mount, **changes: Any) -> Spec:
    given = {"uid_mappings": MAPPING, "gid_mappings": MAPPING, **changes}
    namespaces = {"user": "", "mount": "", "pid": "", "network": "", "cgroup": ""}
    return spec_of(*mounts, **{"namespaces": namespaces, **given})


def test_the_usual_root(enter: Enter) -> None:
    device = Device(path="/dev/net/null", type="c", major=1, minor=3)
    unknown = Device(path="/dev/unknown", type="c", major=1, minor=200)
    spec = user_spec(devices=(Device(path="/dev/fifo", type="p"),), masked_paths=("/proc/keys", "/sys/firmware"))
    seen = enter(
        spec, "stat -c '%n %F %t:%T' /dev/null /dev/tty /dev/fifo /proc/keys; echo x > /dev/null; id -u; " + INFO
    )
    assert seen.status == 0, seen.out
    lines = seen.out.splitlines()
    assert lines[:5] == [
        "/dev/null character special file 1:3",
        "/dev/tty character special file 5:0",
        "/dev/fifo fifo 0:0",
        "/proc/keys character special file 1:3",
        "0",
    ]
    assert mount_line(seen.out, "/dev/null")[4] == "/dev/null"  # the host's, bound
    # the host has none of that path; the kernel knows the device by its number
    assert "1:3" in enter(user_spec(devices=(device,)), "stat -c %t:%T /dev/net/null").out
    assert enter(user_spec(devices=(unknown,))).status == REFUSED


def test_what_the_parent_opens_and_the_container_could_not(enter: Enter, tmp_path: Path) -> None:
    secret = tmp_path / "private"
    secret.mkdir(mode=0o700)
    (secret / "file").write_text("of the host\n")
    spec = user_spec(
        bind(secret, "/as-it-is", "rbind", "ro"),
        bind(secret, "/own", "rbind", "idmap"),
        bind(secret / "file", "/etc/file", "bind", "idmap", "noexec"),
    )
    script = "stat -c %u /as-it-is /own; cat /own/file /etc/file; echo new > /own/new; ls /as-it-is; " + INFO
    seen = enter(spec, script)
    assert seen.out.splitlines()[:4] == ["65534", "0", "of the host", "of the host"]
    assert (secret / "new").stat().st_uid == 0  # written as the owner that the mount maps
    assert "noexec" in mount_line(seen.out, "/etc/file")[5]
    assert "ro" in mount_line(seen.out, "/as-it-is")[5].split(",")


def test_devpts_leaves_out_a_group_that_is_not_there(rootfs: Path, enter: Enter) -> None:
    one = (IdMapping(container_id=0, host_id=FIRST, size=1),)
    spec = user_spec(gid_mappings=one)
    seen = enter(spec, "grep devpts /proc/mounts")
    assert "gid=" not in seen.out
    assert seen.status == 0
    assert f"gid={FIRST + 5}" in enter(user_spec(), "grep devpts /proc/mounts").out


def test_the_hosts_network_has_the_hosts_sysfs(enter: Enter) -> None:
    spec = user_spec(namespaces={"user": "", "mount": "", "pid": "", "cgroup": ""})
    spec = replace(spec, mounts=tuple(item for item in spec.mounts if item.type != "cgroup"))
    seen = enter(spec, "cat /proc/mounts; touch /sys/x", flags=ALL & ~CLONE_NEWNET)
    assert "sysfs /sys sysfs ro,nosuid,nodev,noexec" in seen.out
    assert "Read-only" in seen.out
    below = [line.split() for line in seen.out.splitlines() if line.split()[1].startswith("/sys/f")]
    assert below
    assert all("ro" in fields[3].split(",") for fields in below)  # the host's own mounts there, too


def test_the_hosts_message_queues_where_it_has_any(enter: Enter) -> None:
    seen = enter(user_spec(), "grep -c mqueue /proc/mounts", flags=ALL & ~CLONE_NEWIPC)
    if os.path.isdir("/dev/mqueue"):
        assert seen.out == "1\n"
    else:
        assert "mount --rbind /dev/mqueue /dev/mqueue" in seen.out


def test_copy_up_and_a_read_only_root(rootfs: Path, enter: Enter) -> None:
    (rootfs / "srv").mkdir()
    (rootfs / "srv/file").write_text("x")
    os.chown(rootfs / "srv/file", 5, 6)
    spec = user_spec(Mount(destination="/srv", type="tmpfs", options=("tmpcopyup",)), root_read_only=True)
    seen = enter(spec, "stat -c %u:%g /srv/file; touch /srv/new /etc/new; ls /srv")
    assert seen.out.splitlines()[0] == "5:6"
    assert "/etc/new: Read-only file system" in seen.out
    assert seen.out.splitlines()[-2:] == ["file", "new"]
