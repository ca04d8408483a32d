"""``config.json`` read and written, and everything refused that would not be honoured."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wherry.core.errors import InvalidInput, Unsupported
from wherry.core.value import replace
from wherry.linux.seccomp_profile import ALLOW, Profile, Rule, error
from wherry.runtime import default
from wherry.runtime.config import parse_config, serialize_config
from wherry.runtime.resources import Resources
from wherry.runtime.spec import Capabilities, Device, Mount, Namespace, Process, Rlimit, Spec

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
    ),
    root_read_only=True,
    hostname="box",
    domainname="nis",
    mounts=(*default.mounts(), Mount(destination="/d", type="bind", source="/s", options=("rbind", "ro"))),
    namespaces={**default.NAMESPACES, Namespace.NETWORK: "/run/netns/x"},
    resources=Resources(
        memory_limit_bytes=1,
        memory_swap_bytes=2,
        cpu_shares=3,
        cpu_quota_us=4,
        cpu_period_us=5,
        pids_limit=6,
        devices=default.DEVICE_RULES,
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
    assert parse_config(data) == (spec, "rootfs")


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
        ("hooks", {"prestart": [{"path": "/x"}]}),
        ("solaris", {"milestone": "x"}),
        ("linux.uidMappings", [{"containerID": 0, "hostID": 1, "size": 2}]),
        ("linux.intelRdt", {"closID": "x"}),
        ("linux.rootfsPropagation", "shared"),
        ("linux.resources.cpu.cpus", "0-1"),
        ("linux.resources.memory.kernel", 1),
        ("linux.resources.hugepageLimits", [{"pageSize": "2MB", "limit": 1}]),
        ("linux.resources.unified", {"memory.high": "1"}),
        ("process.apparmorProfile", "x"),
        ("process.selinuxLabel", "x"),
        ("process.scheduler", {"policy": "SCHED_FIFO"}),
        ("process.commandLine", "x"),
        ("root.other", 1),
    ],
)
def test_what_is_not_done_is_refused_by_name(path: str, value: Any) -> None:
    with pytest.raises(Unsupported, match=f"{path}: ") as found:
        parse_config(changed(path, value), where="config.json")
    assert found.value.where == "config.json"


@pytest.mark.parametrize("path", ["hooks", "linux.uidMappings", "linux.resources.blockIO", "process.apparmorProfile"])
@pytest.mark.parametrize("nothing", [None, [], {}, ""])
def test_asking_for_nothing_is_no_request(path: str, nothing: Any) -> None:
    assert parse_config(changed(path, nothing)).spec == FULL


@pytest.mark.parametrize(
    ("path", "value", "what"),
    [
        ("ociVersion", "2.0.0", "must be 1.x"),
        ("process.args", "true", "must be of type list"),
        ("process.args", [1], "must be a list of strings"),
        ("process.user.uid", "0", "process.user.uid: must be of type int"),
        ("process.user.uid", True, "process.user.uid: must be of type int"),
        ("process.noNewPrivileges", 1, "must be of type bool"),
        ("mounts", ["/x"], r"mounts\[0\]: must be an object"),
        ("linux.sysctl", {"a": 1}, "must map to strings"),
        ("linux.namespaces", [{"type": "user"}], "a user namespace is not done"),
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
