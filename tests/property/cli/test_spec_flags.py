"""Flags to a request and back: ``generate systemd --new`` writes words that mean the same container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.cli.container_flags import RUN_FLAGS
from wherry.cli.container_spec import build
from wherry.cli.quick_flags import parse
from wherry.core.errors import Unsupported
from wherry.core.value import replace
from wherry.engine.spec import BareSettings, ContainerSpec, resolve
from wherry.engine.systemd_units import run_command

WORDS: dict[str, tuple[str, ...]] = {
    "env": ("A=b", "B=", "C=50% $x \"y\"\n'z'", "D=a=b,c:d"),
    "user": ("app", "0:0"),
    "group_add": ("5", "12"),
    "workdir": ("/srv",),
    "umask": ("0027", "0"),
    "platform": ("linux/arm64",),
    "volume": (
        "/srv:/srv",
        "/srv:/s2:ro,rslave",
        "data:/data",
        "data:/d2:ro,nocopy",
        "/anonymous",
        "/a:/b:norbind",
        "/o:/o1:O",
        "data:/o2:O",
    ),
    "mount": (
        "type=bind,source=/a:b,target=/colon",
        "type=volume,target=/fresh,readonly",
        "type=volume,source=data,target=/part,volume-subpath=a/b",
        "type=bind,source=/x,target=/y,readonly,bind-recursive=writable",
        "type=tmpfs,target=/t2,tmpfs-size=1m",
    ),
    "tmpfs": ("/t", "/u:size=64m,mode=700,ro,exec,uid=5"),
    "shm_size": ("1m",),
    "network": ("back", "name=front,alias=a,alias=b,ip=10.1.2.3", "interface:eth7", "host", "none", "ns:/run/n"),
    "network_alias": ("x", "y"),
    "ip": ("10.9.8.7",),
    "ip6": ("fd00::7",),
    "mac_address": ("02:00:00:00:00:07",),
    "publish": ("80", "8080:80", "127.0.0.1:53:53/udp", "[::1]:8000-8002:80-82", "127.0.0.1::9"),
    "expose": ("81", "90-92/udp"),
    "dns": ("192.0.2.1",),
    "dns_search": ("example", "."),
    "dns_option": ("ndots:1",),
    "add_host": ("a:192.0.2.9", "b:fd00::9", "c:host-gateway"),
    "hostname": ("boat",),
    "domainname": ("sea",),
    "cap_add": ("NET_ADMIN", "ALL"),
    "cap_drop": ("CHOWN",),
    "security_opt": ("no-new-privileges=false", "seccomp=unconfined", "apparmor=p", "mask=/a:/b", "unmask=ALL"),
    "device": ("/dev/fuse", "/dev/sda:/dev/xvda:r"),
    "device_cgroup_rule": ("c 189:* rwm", "a *:* r"),
    "sysctl": ("net.ipv4.ip_forward=1",),
    "ulimit": ("nofile=1024", "core=0:-1"),
    "pid": ("host", "container:x"),
    "ipc": ("shareable", "none"),
    "uts": ("host",),
    "cgroupns": ("host",),
    "userns": ("auto", "auto:size=70000", "host"),
    "uidmap": ("0:100000:65536", "65536:0"),
    "gidmap": ("0:200000:1000",),
    "memory": ("64m",),
    "memory_reservation": ("32m",),
    "memory_swap": ("-1", "128m"),
    "memory_swappiness": ("0", "60"),
    "oom_score_adj": ("0", "-5"),
    "cpus": ("0.5", "1.25", "12"),
    "cpu_shares": ("512",),
    "cpu_period": ("50000",),
    "cpu_quota": ("-1", "20000"),
    "cpu_rt_period": ("1000000",),
    "cpu_rt_runtime": ("1000",),
    "cpuset_cpus": ("0-1",),
    "cpuset_mems": ("0",),
    "cpu_affinity": ("0,2-3", "0x5"),
    "pids_limit": ("-1", "10"),
    "blkio_weight": ("100",),
    "blkio_weight_device": ("/dev/sda:200",),
    "device_read_bps": ("/dev/sda:1mb",),
    "device_write_bps": ("/dev/sda:2mb",),
    "device_read_iops": ("/dev/sda:100",),
    "device_write_iops": ("/dev/sda:200",),
    "cgroup_parent": ("/x",),
    "stop_signal": ("SIGINT",),
    "stop_timeout": ("0", "30"),
    "health_cmd": ("true; exit 0",),
    "health_interval": ("10s",),
    "health_timeout": ("1500ms",),
    "health_retries": ("5",),
    "health_start_period": ("1m",),
    "health_start_interval": ("2s",),
    "label": ("a=b", "c="),
    "annotation": ("a=b",),
    "log_driver": ("none",),
    "log_opt": ("max-size=1m", "max-file=7"),
    "pidfile": ("/run/x.pid",),
}
"""What each flag is tried with."""
NOT_OF_THE_REQUEST = {
    *(
        "detach",
        "attach",
        "detach_keys",
        "preserve_fds",
        "pull",
        "quiet",
        "cidfile",
        "machine",
        "kernel",
    ),  # of the call, not of the container
    *("env_file", "label_file", "volumes_from", "secret", "x11", "tz", "sdnotify"),  # become other fields
    *("subuidname", "subgidname"),  # become --uidmap and --gidmap, by the host's tables
    *("name", "rm", "restart", "entrypoint", "rootfs"),  # looked at below, or systemd's
}


def request(words: list[str]) -> ContainerSpec:
    found = parse(RUN_FLAGS, words)
    assert found is not None, words
    values, (image, *command) = found
    return build({**values, "image": image, "command": tuple(command)}, {}, cwd="/work")


def again(spec: ContainerSpec) -> ContainerSpec:
    config = resolve(
        spec,
        BareSettings(cmd=("sh",)),
        container_id="0" * 64,
        name="web",
        created_s=0,
        image="busybox",
        commit="",
    )
    config = replace(config, spec=spec)
    run, *words = run_command(config)
    assert run == "run"
    return request(words)


def test_every_flag_is_tried() -> None:
    switches = {flag.key for flag in RUN_FLAGS if not flag.metavar}
    assert {flag.key for flag in RUN_FLAGS} - switches - NOT_OF_THE_REQUEST == set(WORDS)


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    words: list[str] = []
    flags = [flag for flag in RUN_FLAGS if flag.key not in NOT_OF_THE_REQUEST]
    for flag in draw(st.lists(st.sampled_from(flags), max_size=8, unique_by=lambda flag: flag.key)):
        name = flag.names[-1]
        if not flag.metavar:
            words.append(name)
            continue
        choice = st.sampled_from(WORDS[flag.key])
        for value in draw(st.lists(choice, min_size=1, max_size=3, unique=True)) if flag.many else [draw(choice)]:
            words += [name, value]
    return words


def same(words: list[str]) -> None:
    from wherry.core.errors import WherryError

    try:
        first = request([*words, "busybox", "httpd", "-f"])
    except WherryError:
        return  # two flags contradict each other
    assert in_order(replace(again(first), name="", rm=False)) == in_order(first)


def in_order(spec: ContainerSpec) -> ContainerSpec:
    """Returns a request with sorted mounts: which flag of them comes first means nothing."""
    return replace(spec, mounts=tuple(sorted(spec.mounts, key=lambda item: item.target)))


@given(lines())
def test_many_flags_mean_the_same_again(words: list[str]) -> None:
    same(words)


@pytest.mark.parametrize(
    ("name", "value"),
    [(flag.names[-1], value) for flag in RUN_FLAGS for value in WORDS.get(flag.key, ())]
    + [(flag.names[-1], None) for flag in RUN_FLAGS if not flag.metavar and flag.key not in NOT_OF_THE_REQUEST],
)
def test_each_flag_means_the_same_again(name: str, value: str | None) -> None:
    words = [name] if value is None else [name, value]
    first = request([*words, "busybox"])
    assert replace(again(first), name="", rm=False) == first
    if (name, value) != ("--userns", "host"):  # that is the default
        assert first != request(["busybox"]), "the flag does nothing"


@pytest.mark.parametrize(
    "words",
    [
        ["--entrypoint", "", "busybox", "true"],
        ["--entrypoint", "/init", "busybox", "--", "-x"],
        ["--rootfs", "/srv/tree", "sh"],
        ["--rootfs", "/srv/tree:direct", "sh"],
        ["busybox", "--", "--rm"],
    ],
)
def test_what_runs_is_the_same(words: list[str]) -> None:
    first = request(words)
    found = again(first)
    argv = [(*(spec.entrypoint or ()), *(spec.args or ())) for spec in (first, found)]
    assert argv[0] == argv[1]
    assert (found.image, found.rootfs, found.rootfs_direct) == (first.image, first.rootfs, first.rootfs_direct)


def test_what_no_flag_says_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "filter.json").write_text("{}")
    refused: list[tuple[dict[str, Any], str]] = [
        ({"layers": ("/x",)}, "layers"),
        ({"user": ""}, "user"),
        ({"add_hosts": ("odd line",)}, "/etc/hosts"),
    ]
    for fields, word in refused:
        with pytest.raises(Unsupported, match=word):
            again(ContainerSpec(image="busybox", **fields))
    with pytest.raises(Unsupported, match="system calls"):
        again(request(["--security-opt", f"seccomp={tmp_path}/filter.json", "busybox"]))


def test_every_field_of_a_request_has_flags_or_a_reason() -> None:
    from wherry.core.value import fields_of
    from wherry.engine.spec_flags import _FLAGS, ELSEWHERE

    assert set(fields_of(ContainerSpec)) - set(_FLAGS) - set(ELSEWHERE) == {"layers"}


def test_an_interface_keeps_its_address() -> None:
    same(["--network", "interface:eth7", "--ip", "10.9.8.7"])
