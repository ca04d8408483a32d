"""Every namespace: a new one, one joined by its path, user namespaces with ranges, clocks with offsets."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.runtime.containers import Result, Runner, make_spec

from wherry.core.errors import InvalidInput, Unsupported, WherryError
from wherry.core.value import replace
from wherry.runtime import default
from wherry.runtime.resources import Resources
from wherry.runtime.spec import Device, IdMapping, Mount, Namespace, Spec, TimeOffset

RANGES = (IdMapping(container_id=0, host_id=100_000, size=65_536),)
OWN = {**default.NAMESPACES, Namespace.USER: ""}


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[bytes]]:
    """A process in namespaces of its own."""
    words = ["unshare", "--user", "--map-root-user", "--net", "--ipc", "--uts", "--cgroup", "--time"]
    words += ["--fork", "--pid", "--kill-child", "sh", "-c", "echo $$; exec sleep 1000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def child_of(process: subprocess.Popen[bytes]) -> int:
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())


@pytest.fixture
def open_tree(busybox_tree: Path) -> Path:
    """The tree, reachable for users that are nobody."""
    place = busybox_tree
    while place != Path("/tmp"):
        place.chmod(0o755)
        place = place.parent
    return busybox_tree


def in_user_namespace(sh: Callable[..., Result], script: str, tree: Path, **changes: object) -> Result:
    return sh(script, tree=tree, namespaces=OWN, uid_mappings=RANGES, gid_mappings=RANGES, **changes)


def test_root_of_a_user_namespace_is_nobody_outside(sh: Callable[..., Result], open_tree: Path) -> None:
    found = in_user_namespace(sh, "id -u; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups", open_tree)
    assert found.status == 0
    assert [line.split() for line in found.out.splitlines()] == [
        ["0"],
        ["0", "100000", "65536"],
        ["0", "100000", "65536"],
        ["allow"],
    ]


def test_it_owns_its_other_namespaces(sh: Callable[..., Result], open_tree: Path) -> None:
    found = in_user_namespace(
        sh,
        "hostname other && hostname; mount -t tmpfs none /run; echo $?",
        open_tree,
        seccomp=None,
        process={"capabilities": default.capabilities(add=["SYS_ADMIN"])},
    )
    assert found.out.splitlines()[-2:] == ["other", "0"]


def test_a_user_of_it_by_a_number_that_is_not_mapped_is_refused(runner: Runner, open_tree: Path) -> None:
    spec = make_spec(
        "true",
        namespaces=OWN,
        uid_mappings=(IdMapping(container_id=0, host_id=100_000, size=1),),
        gid_mappings=(IdMapping(container_id=0, host_id=100_000, size=1),),
        process={"uid": 5},
    )
    spec = spec_without_gids(spec)
    with pytest.raises(WherryError, match="changing the user"):
        runner.start(spec, open_tree)


def spec_without_gids(spec: Spec) -> Spec:
    mounts = tuple(
        replace(item, options=tuple(option for option in item.options if not option.startswith("gid=")))
        for item in spec.mounts
    )
    return replace(spec, mounts=mounts)


def test_exec_enters_the_user_namespace_too(runner: Runner, open_tree: Path) -> None:
    spec = make_spec("sleep", "1000", namespaces=OWN, uid_mappings=RANGES, gid_mappings=RANGES)
    created = runner.start(spec, open_tree)
    found = runner.exec(
        created.state_dir, make_spec("sh", "-c", "id -u; cat /proc/self/uid_map; echo $$ $PPID").process
    )
    assert found.status == 0
    uid, ranges, pids = found.out.splitlines()
    assert (uid, ranges.split()) == ("0", ["0", "100000", "65536"])
    own, parent = pids.split()
    assert int(own) > 1
    assert parent == "0"
    assert Path(f"/proc/{created.pid}/uid_map").read_text().split() == ["0", "100000", "65536"]


def test_ranges_without_a_namespace_and_a_namespace_without_ranges_are_refused(
    runner: Runner, busybox_tree: Path
) -> None:
    with pytest.raises(InvalidInput, match="uidMappings: ranges"):
        runner.create(make_spec("true", uid_mappings=RANGES, gid_mappings=RANGES), busybox_tree)
    with pytest.raises(InvalidInput, match="uidMappings: a new user namespace"):
        runner.create(make_spec("true", namespaces=OWN), busybox_tree)
    twice = (*RANGES, IdMapping(container_id=5, host_id=1, size=1))
    with pytest.raises(InvalidInput, match="overlap"):
        runner.create(make_spec("true", namespaces=OWN, uid_mappings=twice, gid_mappings=RANGES), busybox_tree)


def test_the_mount_namespace_is_never_shared(runner: Runner, busybox_tree: Path) -> None:
    shared = {name: path for name, path in default.NAMESPACES.items() if name != Namespace.MOUNT}
    with pytest.raises(Unsupported, match="mount namespace of its own"):
        runner.create(make_spec("true", namespaces=shared), busybox_tree)


def test_clocks_have_their_offsets(sh: Callable[..., Result]) -> None:
    offsets = {"boottime": TimeOffset(secs=1_000_000), "monotonic": TimeOffset(secs=2_000_000, nanosecs=5)}
    spaces = {**default.NAMESPACES, Namespace.TIME: ""}
    found = sh("cat /proc/uptime; readlink /proc/self/ns/time", namespaces=spaces, time_offsets=offsets)
    uptime, space = found.out.splitlines()
    assert float(uptime.split()[0]) > 1_000_000
    assert space != os.readlink("/proc/self/ns/time")
    assert os.readlink("/proc/self/ns/time_for_children") == os.readlink("/proc/self/ns/time")


def test_clocks_have_offsets_in_a_user_namespace_and_for_exec(runner: Runner, open_tree: Path) -> None:
    spec = make_spec(
        *("sleep", "1000"),
        namespaces={**OWN, Namespace.TIME: ""},
        uid_mappings=RANGES,
        gid_mappings=RANGES,
        time_offsets={"boottime": TimeOffset(secs=3_000_000)},
    )
    created = runner.start(spec, open_tree)
    found = runner.exec(created.state_dir, make_spec("cat", "/proc/uptime").process)
    assert float(found.out.split()[0]) > 3_000_000


@pytest.mark.parametrize("kind", [Namespace.NETWORK, Namespace.IPC, Namespace.UTS, Namespace.CGROUP, Namespace.TIME])
def test_a_namespace_is_joined_by_its_path(
    sh: Callable[..., Result], holder: subprocess.Popen[bytes], kind: str
) -> None:
    name = {"network": "net"}.get(kind, kind)
    path = f"/proc/{child_of(holder)}/ns/{name}"
    changes = {"hostname": ""} if kind == Namespace.UTS else {}
    mounts = default.mounts() if kind != Namespace.CGROUP else default.mounts()[:-1]
    found = sh(
        f"readlink /proc/self/ns/{name}", namespaces={**default.NAMESPACES, kind: path}, mounts=mounts, **changes
    )
    assert found == Result(0, os.readlink(path) + "\n")


def test_a_pid_namespace_is_joined(runner: Runner, busybox_tree: Path) -> None:
    first = runner.start(make_spec("sleep", "1000"), busybox_tree)
    path = f"/proc/{first.pid}/ns/pid"
    own = os.readlink("/proc/self/ns/pid")
    found = runner.run(
        make_spec("sh", "-c", "echo $$; ps", namespaces={**default.NAMESPACES, Namespace.PID: path}), busybox_tree
    )
    assert int(found.out.splitlines()[0]) > 1
    assert "sleep 1000" in found.out
    assert os.readlink("/proc/self/ns/pid_for_children") == own


def test_a_user_namespace_is_joined_with_what_it_owns(
    sh: Callable[..., Result], holder: subprocess.Popen[bytes], open_tree: Path
) -> None:
    pid = child_of(holder)
    spaces = {
        **default.NAMESPACES,
        Namespace.USER: f"/proc/{pid}/ns/user",
        Namespace.NETWORK: f"/proc/{pid}/ns/net",
        Namespace.PID: f"/proc/{pid}/ns/pid",
    }
    mounts = tuple(
        item if item.type != "devpts" else Mount(destination="/dev/pts", type="devpts", options=("newinstance",))
        for item in default.mounts()
    )
    script = "for name in user net pid; do readlink /proc/self/ns/$name; done; id -u"
    found = sh(script, tree=open_tree, namespaces=spaces, mounts=mounts)
    expected = [os.readlink(f"/proc/{pid}/ns/{name}") for name in ("user", "net", "pid")]
    assert found.out.splitlines() == [*expected, "0"]
    assert found.status == 0


def test_a_path_that_is_no_namespace_is_named(runner: Runner, busybox_tree: Path) -> None:
    spaces = {**default.NAMESPACES, Namespace.NETWORK: "/proc/self/ns/uts"}
    with pytest.raises(WherryError, match=r"joining a namespace.*ns/uts"):
        runner.create(make_spec("true", namespaces=spaces), busybox_tree)
    spaces = {**default.NAMESPACES, Namespace.PID: "/nowhere"}
    with pytest.raises(WherryError, match="cannot join a namespace"):
        runner.create(make_spec("true", namespaces=spaces), busybox_tree)


def test_devices_that_the_host_has_not_are_made_outside(sh: Callable[..., Result], open_tree: Path) -> None:
    devices = (
        Device(path="/dev/foo", type="b", major=1, minor=250, file_mode=0o157, uid=10, gid=11),
        Device(path="/dev/deep/bar", type="c", major=240, minor=7),
        Device(path="/dev/null", type="c", major=1, minor=3),
    )
    script = "stat -c '%n %F %t:%T %a %u:%g' /dev/foo /dev/deep/bar /dev/null; cat /dev/deep/bar; mknod /dev/x b 1 250"
    found = in_user_namespace(sh, script, open_tree, devices=devices, resources=Resources())
    # ENXIO: nothing drives it. A mount without devices would say EACCES.
    assert found.out.splitlines() == [
        "/dev/foo block special file 1:fa 157 10:11",
        "/dev/deep/bar character special file f0:7 666 0:0",
        "/dev/null character special file 1:3 666 65534:65534",
        "cat: can't open '/dev/deep/bar': No such device or address",
        "mknod: /dev/x: Operation not permitted",
    ]
    assert not Path("/dev/foo").exists()


def test_a_device_of_somebody_who_is_not_mapped(runner: Runner, open_tree: Path) -> None:
    device = Device(path="/dev/foo", type="b", major=1, minor=250, uid=70_000)
    spec = make_spec("true", namespaces=OWN, uid_mappings=RANGES, gid_mappings=RANGES, devices=(device,))
    with pytest.raises(InvalidInput, match="the owner 70000 is not mapped in the user namespace: /dev/foo"):
        runner.create(spec, open_tree)
