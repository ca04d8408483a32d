"""``config.json`` read and written, and everything refused that would not be honoured."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wherry.core.errors import InvalidInput, Unsupported
from wherry.core.value import replace
from wherry.linux.seccomp_profile import ALLOW, Profile, Rule, error
from wherry.runtime import default
from wherry.runtime.config import Config, parse_config
from wherry.runtime.config_process import parse_process_of_config
from wherry.runtime.resources import (
    DeviceWeight,
    HugepageLimit,
    InterfacePriority,
    RdmaLimit,
    Resources,
    Throttle,
)
from wherry.runtime.serialize import serialize_config
from wherry.runtime.spec import (
    Capabilities,
    Device,
    Hook,
    Hooks,
    IdMapping,
    IntelRdt,
    IoPriority,
    Mount,
    Namespace,
    Personality,
    Process,
    Rlimit,
    Scheduler,
    Spec,
    TimeOffset,
)

FULL = Spec(
    process=Process(
        args=("sh", "-c", "true"),
        env=("PATH=/bin", "A="),
        cwd="/srv",
        uid=1,
        gid=2,
        additional_gids=(3, 4),
        umask=0o077,
        capabilities=Capabilities(bounding=("CAP_CHOWN",), ambient=("CAP_KILL",)),
        no_new_privileges=False,
        rlimits=(Rlimit(type="RLIMIT_NOFILE", soft=1, hard=2),),
        oom_score_adj=7,
        terminal=True,
        console_columns=100,
        console_rows=50,
        scheduler=Scheduler(policy="SCHED_DEADLINE", flags=("SCHED_FLAG_RECLAIM",), runtime_ns=1, deadline_ns=2),
        io_priority=IoPriority(io_class="IOPRIO_CLASS_BE", priority=3),
        cpu_affinity_initial="0",
        cpu_affinity_final="0-1",
        apparmor_profile="a",
        selinux_label="s",
    ),
    root_read_only=True,
    hostname="box",
    domainname="nis",
    mounts=(*default.mounts(), Mount(destination="/d", type="bind", source="/s", options=("rbind", "ro"))),
    namespaces={**default.NAMESPACES, Namespace.NETWORK: "/run/netns/x", Namespace.USER: "", Namespace.TIME: ""},
    resources=Resources(
        memory_limit_bytes=1,
        memory_swap_bytes=2,
        cpu_shares=3,
        cpu_quota_us=4,
        cpu_period_us=5,
        pids_limit=6,
        memory_reservation_bytes=7,
        memory_swappiness=8,
        memory_disable_oom_killer=True,
        cpu_burst_us=9,
        cpu_idle=1,
        cpuset_cpus="0",
        cpuset_mems="0",
        block_weight=10,
        block_device_weights=(DeviceWeight(major=1, minor=2, weight=11),),
        block_read_bytes=(Throttle(major=1, minor=2, rate=3),),
        block_write_operations=(Throttle(major=1, minor=2, rate=4),),
        hugepages=(HugepageLimit(page_size="2MB", limit_bytes=0),),
        network_class_id=1,
        network_priorities=(InterfacePriority(name="eth0", priority=2),),
        rdma={"mlx": RdmaLimit(hca_handles=1)},
        unified={"memory.high": "1"},
        devices=default.DEVICE_RULES,
    ),
    uid_mappings=(IdMapping(container_id=0, host_id=1, size=2),),
    gid_mappings=(IdMapping(container_id=0, host_id=3, size=4),),
    time_offsets={"boottime": TimeOffset(secs=-5, nanosecs=6)},
    rootfs_propagation="rslave",
    mount_label="l",
    personality=Personality(domain="LINUX32"),
    intel_rdt=IntelRdt(clos_id="c", enable_cmt=True),
    hooks=Hooks(
        prestart=(Hook(path="/a"),),
        create_runtime=(Hook(path="/b", args=("b", "c"), env=("A=1",), timeout_s=1),),
        create_container=(Hook(path="/c"),),
        start_container=(Hook(path="/d"),),
        poststart=(Hook(path="/e"),),
        poststop=(Hook(path="/f"),),
    ),
    cgroups_path="/wherry/x",
    devices=(Device(path="/dev/kvm", type="c", major=10, minor=232, file_mode=0o660, uid=1, gid=2),),
    masked_paths=default.MASKED_PATHS,
    readonly_paths=default.READONLY_PATHS,
    sysctl={"net.ipv4.ip_forward": "1"},
    seccomp=Profile(default_action=error(1), rules=(Rule(names=("read", "write"), action=ALLOW),)),
    annotations={"org.example": "x"},
)


@pytest.mark.parametrize("spec", [FULL, Spec(process=Process(args=("true",))), replace(FULL, seccomp=None)])
def test_round_trip(spec: Spec) -> None:
    data = json.dumps(serialize_config(spec, "rootfs")).encode()
    assert parse_config(data) == Config(spec=spec, root_path="rootfs")


def test_the_process_alone_is_the_same() -> None:
    data = json.dumps(serialize_config(FULL, "rootfs")).encode()
    assert parse_process_of_config(data) == parse_config(data).spec.process
    with pytest.raises(InvalidInput, match="process"):
        parse_process_of_config(b"[]")


def test_the_default_filter_survives_too() -> None:
    spec = Spec(process=Process(args=("true",)), seccomp=default.seccomp_profile(default.CAPABILITIES))
    assert parse_config(json.dumps(serialize_config(spec, "/")).encode()).spec.seccomp == spec.seccomp


def changed(path: str, value: Any) -> bytes:
    config = serialize_config(FULL, "rootfs")
    place = config
    *parents, last = path.split(".")
    for name in parents:
        place = place.setdefault(name, {})
    place[last] = value
    return json.dumps(config).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("solaris", {"milestone": "x"}),
        ("vm", {"kernel": {"path": "/x"}}),
        ("windows", {"layerFolders": ["x"]}),
        ("zos", {"namespaces": [{"type": "pid"}]}),
        ("linux.netDevices", {"eth0": {"name": "x"}}),
        ("linux.resources.memory.other", 1),
        ("linux.personality.flags", ["x"]),
        ("process.commandLine", "x"),
        ("process.user.username", "x"),
        ("root.other", 1),
        ("hooks.other", [{"path": "/x"}]),
    ],
)
def test_what_is_not_done_is_refused_by_name(path: str, value: Any) -> None:
    config = changed(path, value)
    if "personality" in path:
        config = changed("linux.personality", {"domain": "LINUX", "flags": ["x"]})
    with pytest.raises(Unsupported, match=f"{path}: ") as found:
        parse_config(config, where="config.json")
    assert found.value.where == "config.json"


@pytest.mark.parametrize("path", ["vm", "linux.netDevices", "linux.resources.other", "process.commandLine"])
@pytest.mark.parametrize("nothing", [None, [], {}, ""])
def test_asking_for_nothing_is_no_request(path: str, nothing: Any) -> None:
    assert parse_config(changed(path, nothing)).spec == FULL


@pytest.mark.parametrize(
    ("path", "value", "what"),
    [
        ("ociVersion", "2.0.0", "must be 1.x"),
        ("process.args", "true", "must be a list"),
        ("process.args", [1], "must be a list of texts"),
        ("process.user.uid", "0", "process.user.uid: must be a number"),
        ("process.user.uid", True, "process.user.uid: must be a number"),
        ("process.noNewPrivileges", 1, "must be true or false"),
        ("mounts", ["/x"], r"mounts\[0\]: must be an object"),
        ("linux.sysctl", {"a": 1}, "must map to texts"),
        ("linux.namespaces", [{"type": "users"}], r"linux.namespaces\[0\].type: no kind of namespace"),
        ("linux.namespaces", [{"type": "pid"}, {"type": "pid"}], "stands twice"),
        ("linux.namespaces", [{"type": "pid", "path": "x"}], "must be absolute"),
        ("linux.uidMappings", [{"containerID": 0, "hostID": 0}], "size: must be at least 1"),
        ("linux.uidMappings", [{"containerID": -1, "hostID": 0, "size": 1}], "out of range"),
        ("linux.timeOffsets", {"realtime": {"secs": 1}}, "only monotonic and boottime"),
        ("linux.rootfsPropagation", "public", "no kind of propagation"),
        ("linux.personality", {"domain": "BSD"}, "must be LINUX or LINUX32"),
        ("linux.devices", [{"type": "x", "path": "/dev/x"}], "must be c, u, b or p"),
        ("linux.devices", [{"type": "c", "path": "dev/x"}], "must be absolute"),
        ("linux.resources.devices", [{"allow": True, "access": "x"}], "letters r, w and m"),
        ("linux.resources.unified", {"../x": "1"}, "not the name of a control file"),
        ("linux.resources.cpu", {"idle": 2}, "out of range"),
        ("process.rlimits", [{"type": "RLIMIT_X", "soft": 1, "hard": 1}], "RLIMIT_X"),
        ("process.rlimits", [{"type": "RLIMIT_AS", "soft": 1, "hard": 1}] * 2, "stands twice"),
        ("process.scheduler", {"policy": "SCHED_X"}, "SCHED_X"),
        ("process.scheduler", {"policy": "SCHED_OTHER", "flags": ["X"]}, "process.scheduler.flags"),
        ("process.ioPriority", {"class": "X"}, "process.ioPriority.class"),
        ("process.oomScoreAdj", 1001, "out of range"),
        ("process.env", ["A=\0"], "must be a list of texts"),
        ("hooks.prestart", [{"path": "x"}], r"hooks.prestart\[0\].path: must be absolute"),
        ("hooks.prestart", [{"path": "/x", "timeout": 0}], "out of range"),
        ("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY", "SCMP_ACT_NOTIFY"),
        ("linux.seccomp.other", 1, "linux.seccomp.other: there is no such key"),
    ],
)
def test_bad_values(path: str, value: Any, what: str) -> None:
    with pytest.raises((InvalidInput, Unsupported), match=what):
        parse_config(changed(path, value))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"ociVersion":"1.0","ociVersion":"1.0"}', b"null"])
def test_no_json(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_config(data)
