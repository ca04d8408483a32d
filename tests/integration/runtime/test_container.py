"""Containers, for real: what a process sees of the machine, and what it has of its own."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.runtime.containers import (
    CONTROLLERS_V1,
    DEVICES_CONTROLLED,
    Result,
    Runner,
    make_spec,
)

from wherry.core.errors import InvalidInput, WherryError
from wherry.runtime import container, default
from wherry.runtime.spec import Device, Namespace, Rlimit

Shell = Callable[..., Result]


def test_it_is_alone(sh: Shell) -> None:
    seen = sh("echo $$; hostname; ps -o pid | wc -l; for f in /proc/self/ns/*; do readlink $f; done")
    pid, host, processes, *spaces = seen.out.split()
    assert (seen.status, pid, host) == (0, "1", "box")
    assert int(processes) <= 4  # a heading, sh, ps, wc
    own = {name: os.readlink(f"/proc/self/ns/{name}") for name in ("cgroup", "ipc", "mnt", "net", "pid", "uts")}
    for name, link in own.items():
        assert link not in spaces, name


def test_its_file_systems(sh: Shell) -> None:
    seen = sh("cat /proc/self/mounts; ls /dev; for d in null zero full random urandom tty; do test -c /dev/$d; done")
    mounts = {line.split()[1]: line.split() for line in seen.out.splitlines() if line.count(" ") == 5}
    assert mounts["/proc"][2] == "proc"
    assert mounts["/dev"][2] == "tmpfs"
    assert mounts["/dev/pts"][2] == "devpts"
    assert mounts["/dev/shm"][2] == "tmpfs"
    assert mounts["/dev/mqueue"][2] == "mqueue"
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(mounts["/sys"][3].split(","))
    assert {"nosuid", "nodev", "noexec"} <= set(mounts["/proc"][3].split(","))
    groups = "/sys/fs/cgroup/memory" if CONTROLLERS_V1 else "/sys/fs/cgroup"
    for path in ("/proc/sys", "/proc/bus", "/proc/irq", groups):
        assert "ro" in mounts[path][3].split(","), path
    # Nothing of the host can be seen.
    assert not [target for target in mounts if target.startswith(("/work", "/run", "/mnt", "/boot"))]


def test_masked_and_read_only_paths(sh: Shell) -> None:
    seen = sh(
        "wc -c < /proc/keys; ls -A /sys/firmware /proc/acpi | grep -v :; "
        "echo 1 > /proc/sys/kernel/panic; echo b > /proc/sysrq-trigger; echo x > /proc/keys && echo masked; "
        "mkdir /sys/fs/cgroup/memory/x /sys/fs/cgroup/x; touch /sys/x"
    )
    lines = [line for line in seen.out.splitlines() if line]
    assert lines[0] == "0"
    assert "can't create /proc/sys/kernel/panic: Read-only file system" in seen.out
    assert "sysrq-trigger: Read-only file system" in seen.out or "sysrq-trigger: nonexistent" in seen.out
    assert "masked" in seen.out
    assert seen.out.count("Read-only file system") >= 3


def test_only_standard_descriptors_are_open(sh: Shell, tmp_path: Path) -> None:
    held = [os.open(tmp_path, os.O_RDONLY) for _ in range(30)]  # the last of them far above any that setup uses
    for fd in held:
        os.set_inheritable(fd, True)
    try:
        # ls itself has the directory open as 3.
        assert sh("ls /proc/self/fd").out.split() == ["0", "1", "2", "3"]
    finally:
        for fd in held:
            os.close(fd)


def test_limits_of_the_process(sh: Shell) -> None:
    limits = (Rlimit(type="RLIMIT_NOFILE", soft=100, hard=200), Rlimit(type="RLIMIT_CORE", soft=0, hard=0))
    seen = sh("ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj", process={"rlimits": limits, "oom_score_adj": 500})
    assert seen.out.split() == ["100", "200", "500"]


def test_a_limit_that_cannot_be_raised_names_itself(runner: Runner, busybox_tree: Path) -> None:
    limits = (Rlimit(type="RLIMIT_NOFILE", soft=100, hard=2**40),)
    created = runner.create(make_spec("true", process={"rlimits": limits}), busybox_tree)
    with pytest.raises(WherryError, match=r"setting resource limits.*RLIMIT_NOFILE"):
        container.start(created)


def test_sysctls_of_its_own_namespaces(sh: Shell) -> None:
    seen = sh(
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced",
        sysctl={"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shm_rmid_forced": "1"},
    )
    assert seen.out.split() == ["0", "1"]


@pytest.mark.parametrize("key", ["kernel.panic", "vm.swappiness", "net/../kernel/panic", "fs.file-max"])
def test_sysctls_of_the_host_are_refused(runner: Runner, busybox_tree: Path, key: str) -> None:
    with pytest.raises(InvalidInput, match="sysctl"):
        runner.create(make_spec("true", sysctl={key: "1"}), busybox_tree)


def test_a_shared_network_namespace(sh: Shell) -> None:
    spaces = {name: path for name, path in default.NAMESPACES.items() if name is not Namespace.NETWORK}
    assert sh("readlink /proc/self/ns/net", namespaces=spaces).out.strip() == os.readlink("/proc/self/ns/net")


def test_joining_a_network_namespace(runner: Runner, busybox_tree: Path) -> None:
    first = runner.start(make_spec("sleep", "1000"), busybox_tree)
    path = f"/proc/{first.pid}/ns/net"
    spec = make_spec("readlink", "/proc/self/ns/net", namespaces={**default.NAMESPACES, Namespace.NETWORK: path})
    assert runner.run(spec, busybox_tree).out.strip() == os.readlink(path)


def test_devices(sh: Shell) -> None:
    ram = Device(path="/dev/ram-of-the-host", type="b", major=1, minor=0, file_mode=0o660, gid=7)
    seen = sh(
        "stat -c '%a %g %t:%T' /dev/ram-of-the-host; cat /dev/ram-of-the-host; echo x > /dev/null", devices=(ram,)
    )
    assert seen.out.splitlines()[0] == "660 7 1:0"
    if DEVICES_CONTROLLED:  # a device that is given to a container needs a rule too
        assert "Operation not permitted" in seen.out


def test_devices_of_its_own_making(sh: Shell) -> None:
    seen = sh(
        "cd /tmp; mknod block b 1 0 && cat block; mknod null c 1 3 && echo x > null && echo made; rm -f block null"
    )
    if DEVICES_CONTROLLED:
        assert "can't open 'block': Operation not permitted" in seen.out
        assert "made" in seen.out
    else:
        assert seen.out.count("mknod: ") == seen.out.count("Operation not permitted") == 2


def test_device_nodes_of_an_image_without_a_devices_list(sh: Shell, rootfs: Path) -> None:
    os.mknod(rootfs / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    seen = sh("head -c 1 /zero | wc -c; grep ' / ' /proc/self/mounts", tree=rootfs)
    if DEVICES_CONTROLLED:
        assert seen.out.splitlines()[0] == "1"
    else:
        assert "Permission denied" in seen.out
        assert "nodev" in seen.out
