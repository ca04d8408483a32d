"""Flags, the request that they make, and what the runtime is asked for: every flag arrives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wherry.cli import container_flags, container_spec
from wherry.core.errors import InvalidInput, NotFound, UsageError
from wherry.engine import bundle
from wherry.engine.net.setup import NetworkSetup
from wherry.engine.prepare import Prepared
from wherry.engine.spec import BareSettings, ContainerSpec, check, resolve
from wherry.runtime.resources import DeviceRule
from wherry.runtime.spec import Mount, Rlimit, Spec

ID = "a" * 64


def request(**flags: Any) -> ContainerSpec:
    given = {**container_flags.defaults(), "entrypoint": None, "image": "i", "command": ("true",), **flags}
    assert given.keys() == container_flags.defaults().keys() | {"image", "command"}
    return container_spec.build(given, {}, cwd="/work")


def spec(**flags: Any) -> Spec:
    found = request(**flags)
    check(found)
    config = resolve(found, BareSettings(), container_id=ID, name="n", created_s=0, image="i", commit="c")
    prepared = Prepared(
        sources=tuple(item.source for item in config.mounts),
        network=NetworkSetup(namespace=None if config.spec.network == "host" else ""),
    )
    return bundle.build_spec(config, prepared)


def mount_at(found: Spec, target: str) -> Mount:
    return next(item for item in found.mounts if item.destination == target)


def test_every_flag_has_a_name_of_its_own() -> None:
    names = [name for flag in container_flags.FLAGS for name in flag.names]
    assert len(names) == len(set(names))
    assert not set(names) & container_flags.REFUSED.keys()
    assert all(flag.help for flag in container_flags.FLAGS)


def test_nothing_given() -> None:
    assert request() == ContainerSpec(image="i", args=("true",))


@pytest.mark.parametrize(
    ("flags", "resource", "value"),
    [
        ({"memory": "64m"}, "memory_limit_bytes", 64 << 20),
        ({"memory": "64m"}, "memory_swap_bytes", 128 << 20),
        ({"memory": "64m", "memory_swap": "-1"}, "memory_swap_bytes", -1),
        ({"memory": "64m", "memory_swap": "64m"}, "memory_swap_bytes", 64 << 20),
        ({"memory_reservation": "32m"}, "memory_reservation_bytes", 32 << 20),
        ({"memory_swappiness": "0"}, "memory_swappiness", 0),
        ({"memory": "64m", "oom_kill_disable": True}, "memory_disable_oom_killer", True),
        ({"cpus": "1.5"}, "cpu_quota_us", 150_000),
        ({"cpu_shares": "512"}, "cpu_shares", 512),
        ({"cpu_period": "50000"}, "cpu_period_us", 50_000),
        ({"cpu_quota": "25000"}, "cpu_quota_us", 25_000),
        ({"cpu_rt_period": "1000000"}, "cpu_realtime_period_us", 1_000_000),
        ({"cpu_rt_runtime": "1000"}, "cpu_realtime_runtime_us", 1000),
        ({"cpuset_cpus": "0-1"}, "cpuset_cpus", "0-1"),
        ({"cpuset_mems": "0"}, "cpuset_mems", "0"),
        ({"pids_limit": "10"}, "pids_limit", 10),
        ({"pids_limit": "-1"}, "pids_limit", -1),
        ({"blkio_weight": "300"}, "block_weight", 300),
    ],
)
def test_limits(flags: dict[str, Any], resource: str, value: object) -> None:
    assert getattr(spec(**flags).resources, resource) == value


def test_devices() -> None:
    found = spec(device=("/dev/null:/dev/nothing:r",), device_cgroup_rule=("c 189:* rw",))
    assert [(item.path, item.major, item.minor) for item in found.devices] == [("/dev/nothing", 1, 3)]
    rules = found.resources.devices
    assert DeviceRule(allow=True, type="c", major=1, minor=3, access="r") in rules
    assert rules[-1] == DeviceRule(allow=True, type="c", major=189, access="rw")
    with pytest.raises(NotFound, match="no such device"):
        spec(device=("/dev/nonsense",))
    with pytest.raises(InvalidInput, match="not a device"):
        spec(device=("/etc/passwd",))
    with pytest.raises(InvalidInput, match="not a block device"):
        spec(device_read_bps=("/dev/null:1m",))


def test_process() -> None:
    process = spec(
        group_add=("44", "7"),
        umask="077",
        ulimit=("nofile=10:20", "core=-1"),
        oom_score_adj="5",
        security_opt=("apparmor=x",),
    ).process
    assert process.groups == ("44", "7")
    assert process.umask == 0o077
    assert process.rlimits == (
        Rlimit(type="RLIMIT_NOFILE", soft=10, hard=20),
        Rlimit(type="RLIMIT_CORE", soft=-1, hard=-1),
    )
    assert process.oom_score_adj == 5
    assert process.apparmor_profile == "x"


def test_names_and_groups() -> None:
    found = spec(
        hostname="h", domainname="d", sysctl=("net.ipv4.ip_forward=1",), annotation=("a=b",), cgroup_parent="/up"
    )
    assert (found.hostname, found.domainname, found.annotations) == ("h", "d", {"a": "b"})
    assert found.sysctl["net.ipv4.ip_forward"] == "1"
    assert found.cgroups_path == f"/up/{ID}"


def test_namespaces() -> None:
    assert {"pid", "ipc", "uts", "cgroup", "network", "mount"} == spec().namespaces.keys()
    found = spec(pid="host", ipc="host", uts="host", cgroupns="host", network=("host",))
    assert found.namespaces.keys() == {"mount"}
    assert mount_at(found, "/dev/shm").type == "bind"
    assert (found.sysctl, found.hostname) == ({}, "")
    assert all(item.destination != "/dev/shm" for item in spec(ipc="none").mounts)


def test_masks() -> None:
    usual = spec()
    assert "/proc/kcore" in usual.masked_paths
    assert "/proc/sys" in usual.readonly_paths
    opened = spec(security_opt=("systempaths=unconfined",))
    assert (opened.masked_paths, opened.readonly_paths) == ((), ())
    some = spec(security_opt=("unmask=/proc/kcore", "mask=/etc/secret"))
    assert "/proc/kcore" not in some.masked_paths
    assert "/etc/secret" in some.masked_paths


def test_profile_of_system_calls(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []}],'
        ' "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},'
        ' {"names": ["rmdir"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_ADMIN"]}},'
        ' {"names": ["unlink"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "3.0"}},'
        ' {"names": ["symlink"], "action": "SCMP_ACT_ERRNO", "excludes": {"minKernel": "3.0"}}]}'
    )
    found = spec(security_opt=(f"seccomp={file}",)).seccomp
    assert found is not None
    assert {name for rule in found.rules for name in rule.names} == {"mkdir", "unlink"}
    found = spec(security_opt=(f"seccomp={file}",), cap_add=("SYS_ADMIN",)).seccomp
    assert found is not None
    assert {name for rule in found.rules for name in rule.names} == {"rmdir", "unlink"}
    assert spec(security_opt=("seccomp=unconfined",)).seccomp is None
    file.write_text('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [1]}')
    with pytest.raises(InvalidInput, match="must be an object"):
        spec(security_opt=(f"seccomp={file}",))


def test_mounts() -> None:
    found = spec(
        mount=(
            "type=bind,src=/a,dst=/b,ro,bind-propagation=rslave",
            "type=bind,src=/a,dst=/c,ro,bind-recursive=writable",
        ),
        tmpfs=("/t:size=1m,exec",),
        volume=("/x:/y:shared,norbind",),
        shm_size="1m",
    )
    assert mount_at(found, "/b").options == ("rbind", "rslave", "rro")
    assert mount_at(found, "/c").options == ("rbind", "rprivate", "ro")
    assert mount_at(found, "/y").options == ("bind", "shared")
    assert {"size=1048576", "exec"} <= set(mount_at(found, "/t").options)
    assert "size=1048576" in mount_at(found, "/dev/shm").options
    assert spec(tmpfs=("/dev/shm",)).mounts[-1].destination == "/dev/shm"


def test_own_strengths() -> None:
    found = spec(usedev=True, debugfs=True)
    assert mount_at(found, "/dev").type == "devtmpfs"
    assert mount_at(found, "/sys/kernel/debug").type == "debugfs"
    assert request(cpu_affinity="0x3").cpu_affinity == (0, 1)
    assert request(rootfs=True, image="tree:direct").rootfs == "/work/tree"
    assert request(rootfs=True, image="tree:direct").rootfs_direct
    assert not request(rootfs=True, image="/tree:O").rootfs_direct


def test_init(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "INIT_PROGRAMS", ("/nowhere", "/bin/true"))
    found = spec(init=True)
    assert found.process.args == (bundle.INIT, "--", "true")
    assert mount_at(found, bundle.INIT).source == "/bin/true"
    monkeypatch.setattr(bundle, "INIT_PROGRAMS", ("/nowhere",))
    with pytest.raises(NotFound, match="package tini"):
        spec(init=True)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"memory_swap": "64m"}, "needs --memory"),
        ({"memory": "64m", "memory_swap": "32m"}, "not below --memory"),
        ({"memory": "64m", "memory_reservation": "128m"}, "not above --memory"),
        ({"memory_swappiness": "101"}, "0 to 100"),
        ({"oom_kill_disable": True}, "needs --memory"),
        ({"cpus": "1", "cpu_quota": "1000"}, "leave out one"),
        ({"cpu_period": "10"}, "from 1000"),
        ({"cpu_quota": "10"}, "at least 1000"),
        ({"cpu_shares": "1"}, "from 2"),
        ({"blkio_weight": "5"}, "from 10"),
        ({"oom_score_adj": "2000"}, "from -1000"),
        ({"ulimit": ("nonsense=1",)}, "no such limit"),
        ({"ulimit": ("nofile=20:10",)}, "above the hard"),
        ({"sysctl": ("kernel.panic=1",)}, "whole host"),
        ({"sysctl": ("net.core.somaxconn=1",), "network": ("host",)}, "on the host"),
        ({"sysctl": ("kernel.msgmax=1",), "ipc": "host"}, "on the host"),
        ({"pid": "sideways"}, "no mode"),
        ({"uts": "container:x"}, "no mode"),
        ({"uts": "host", "hostname": "h"}, "cannot have its own"),
        ({"init": True, "pid": "host"}, "process namespace"),
        ({"privileged": True, "device_cgroup_rule": ("c 1:1 r",)}, "has every device"),
        ({"image": "t:direct"}, ""),
        ({"userns": "keep-id"}, "--userns"),
        ({"network": ("nonsense:speed=1",)}, "--network"),
        ({"pids_limit": "x"}, "--pids-limit"),
    ],
)
def test_refused(flags: dict[str, Any], says: str) -> None:
    if not says:
        assert request(**flags).rootfs == ""  # a colon in an image's name is no rootfs
        return
    with pytest.raises((InvalidInput, UsageError), match=says):
        check(request(**flags))


def test_pull() -> None:
    assert [container_spec.check_pull(word) for word in ("", "always", "never")] == ["missing", "always", "never"]
    for word in ("Always", "x"):
        with pytest.raises(UsageError):
            container_spec.check_pull(word)
