"""The same container by runc and by Wherry: what its process sees must be equal, line by line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.busybox import make_tree

from wherry.core.value import replace
from wherry.runtime import container, default
from wherry.runtime.cgroup import hierarchies
from wherry.runtime.config import parse_config
from wherry.runtime.container import Stdio
from wherry.runtime.resources import Resources
from wherry.runtime.serialize import serialize_config
from wherry.runtime.spec import Mount, Process, Rlimit, Spec

_APPLETS = (
    "sh",
    "cat",
    "ls",
    "id",
    "env",
    "hostname",
    "stat",
    "sort",
    "grep",
    "sed",
    "pwd",
    "sleep",
    "touch",
    "echo",
    "wc",
)
_LOOK = """exec 2>&1  # runc copies the two streams apart
sed -n 's/^\\(Cap[A-Za-z]*\\|NoNewPrivs\\|SigBlk\\|SigIgn\\|Uid\\|Gid\\|Groups\\):/&/p' /proc/self/status
id -u; id -g; hostname; pwd; umask; ulimit -n; env | sort
ls -l /dev | sed 's/[A-Z][a-z][a-z] .* [0-9]*:[0-9]* //'
ls /proc/self/fd | wc -l
cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us
cat /sys/fs/cgroup/devices/devices.list | sort
cat /proc/keys | wc -c; ls /sys/firmware | wc -l; touch /x /sys/x /proc/sys/x /mnt/ro/x
"""


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "rootfs", " ".join(_APPLETS), folders="proc sys dev tmp")


@pytest.fixture
def runc_id(tmp_path: Path) -> Iterator[str]:
    name = f"compat-{uuid.uuid4().hex[:8]}"
    yield name
    subprocess.run(["runc", "--root", tmp_path / "runc", "delete", "--force", name], capture_output=True, check=False)


def make_spec(tmp_path: Path, *args: str) -> Spec:
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    return Spec(
        process=Process(
            args=args,
            env=("PATH=/bin", "GREETING=hello world"),
            cwd="/tmp/work",
            capabilities=default.capabilities(),
            rlimits=(Rlimit(type="RLIMIT_NOFILE", soft=512, hard=1024),),
        ),
        root_read_only=True,
        hostname="same",
        mounts=(
            *default.mounts(),
            Mount(destination="/mnt/ro", type="bind", source=str(data), options=("rbind", "ro", "rprivate")),
        ),
        namespaces=default.NAMESPACES,
        resources=Resources(
            memory_limit_bytes=64 << 20,
            memory_swap_bytes=64 << 20,
            pids_limit=77,
            cpu_quota_us=25_000,
            cpu_period_us=100_000,
            devices=default.DEVICE_RULES,
        ),
        masked_paths=default.MASKED_PATHS,
        readonly_paths=default.READONLY_PATHS,
    )


def by_runc(spec: Spec, rootfs: Path, tmp_path: Path, name: str) -> tuple[int, str]:
    bundle = tmp_path / "bundle"
    bundle.mkdir(exist_ok=True)
    config = serialize_config(replace(spec, cgroups_path=f"/wherry-compat/{name}"), str(rootfs))
    config["ociVersion"] = "1.0.2"
    (bundle / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        ["runc", "--root", tmp_path / "runc", "run", "--bundle", bundle, name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    for found in hierarchies():
        parent = Path(found.mount) / "wherry-compat"
        if parent.is_dir():
            parent.rmdir()
    return done.returncode, done.stdout.decode()


def by_wherry(spec: Spec, rootfs: Path, tmp_path: Path, name: str) -> tuple[int, str]:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    state_dir = tmp_path / "state"
    with os.fdopen(read_end, "rb") as reader:
        try:
            created = container.create(
                spec,
                container_id=name,
                state_dir=state_dir,
                rootfs=rootfs,
                stdio=Stdio(stdin_fd=null, stdout_fd=write_end, stderr_fd=write_end),
            )
            try:
                container.start(created)
            finally:
                os.close(write_end)
                os.close(null)
                os.close(created.pidfd)
            out = reader.read().decode()
            status = os.waitstatus_to_exitcode(os.waitpid(created.pid, 0)[1])
        finally:
            container.delete(state_dir)
    return status if status >= 0 else 128 - status, out


def test_a_process_sees_the_same(rootfs: Path, tmp_path: Path, runc_id: str) -> None:
    spec = make_spec(tmp_path, "sh", "-c", _LOOK)
    theirs, ours = by_runc(spec, rootfs, tmp_path, runc_id), by_wherry(spec, rootfs, tmp_path, runc_id)
    assert "CapBnd:\t00000000a80425fb" in ours[1]
    assert "SigIgn:\t0000000000000000" in ours[1]
    # runc 1.1 adds /dev/core where the host has it, and a rule for /dev/net/tun; and it hands down signals 32 and
    # 33 ignored when a program like make(1) started it so.
    expected = [line for line in theirs[1].splitlines() if not re.search(r" core ->|^c 10:200 |^SigIgn:", line)]
    assert [line for line in ours[1].splitlines() if not line.startswith("SigIgn:")] == expected
    assert theirs[0] == ours[0]


def mounts_of(text: str) -> dict[str, tuple[str, frozenset[str]]]:
    found = {}
    for line in text.splitlines():
        _, target, kind, options, *_ = line.split()
        words = frozenset(options.split(",")) & {"ro", "rw", "nosuid", "nodev", "noexec"}
        found[target] = (kind, words)
    return found


def test_mounts_are_the_same(rootfs: Path, tmp_path: Path, runc_id: str) -> None:
    spec = make_spec(tmp_path, "cat", "/proc/self/mounts")
    theirs = mounts_of(by_runc(spec, rootfs, tmp_path, runc_id)[1])
    ours = mounts_of(by_wherry(spec, rootfs, tmp_path, runc_id)[1])
    groups = "/sys/fs/cgroup/"
    # runc joins cpuset and blkio too, where nothing is set; it leaves cgroup v2 of a hybrid host alone.
    assert {target for target in set(theirs) ^ set(ours) if not target.startswith(groups)} == set()
    for target in set(theirs) & set(ours):
        (kind, words), (our_kind, our_words) = theirs[target], ours[target]
        if target in default.MASKED_PATHS and our_kind == "devtmpfs":
            continue  # covered by /dev/null: the host's here, the container's own in runc
        assert our_kind == kind, target
        # Nothing is weaker here: an attribute that runc sets is set.
        assert our_words >= words - {"rw"}, target


@pytest.mark.parametrize("script", ["exit 0", "exit 42", "kill -9 $$", "kill -15 $$; sleep 0; exit 5"])
def test_statuses_are_the_same(rootfs: Path, tmp_path: Path, runc_id: str, script: str) -> None:
    spec = make_spec(tmp_path, "sh", "-c", script)
    assert by_wherry(spec, rootfs, tmp_path, runc_id)[0] == by_runc(spec, rootfs, tmp_path, runc_id)[0]


@pytest.mark.parametrize("tool", ["runc", "crun"])
def test_the_configurations_of_others_are_read(tmp_path: Path, tool: str) -> None:
    subprocess.run([tool, "spec"], cwd=tmp_path, check=True)
    config = parse_config((tmp_path / "config.json").read_bytes())
    assert config.root_path == "rootfs"
    assert config.spec.process.args == ("sh",)
    assert len(config.spec.namespaces) >= 5


OPTIONS = (
    *("ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "noatime", "atime", "nodiratime", "diratime"),
    *("relatime", "norelatime", "strictatime", "nostrictatime", "sync", "async", "dirsync"),
    *("private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"),
    *("rro", "rrw", "rnosuid", "rsuid", "rnodev", "rdev", "rnoexec", "rexec", "rnodiratime", "rdiratime"),
    *("rnoatime", "rrelatime", "rstrictatime"),
)


def shown(mountinfo: str) -> dict[str, tuple[str, ...]]:
    """Place -> attributes, kinds of propagation, and file system options."""
    found = {}
    for line in mountinfo.splitlines():
        fields = line.split()
        end = fields.index("-")
        propagation = sorted(field.partition(":")[0] for field in fields[6:end])
        found[fields[4]] = (fields[5], *propagation, fields[-1])
    return {place: words for place, words in found.items() if place.startswith(("/new", "/bind"))}


def test_options_of_mounts_are_the_same(rootfs: Path, tmp_path: Path, runc_id: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "data", data], check=True)
    (data / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "below", data / "below"], check=True)
    mounts = []
    for word in OPTIONS:
        mounts.append(Mount(destination=f"/bind/{word}", type="bind", source=str(data), options=("rbind", word)))
        if not word.startswith("r") or word in ("ro", "rw", "relatime"):
            mounts.append(Mount(destination=f"/new/{word}", type="tmpfs", source="tmpfs", options=("mode=700", word)))
    spec = make_spec(tmp_path, "cat", "/proc/self/mountinfo")
    spec = replace(spec, mounts=(*spec.mounts, *mounts), root_read_only=False)
    try:
        theirs = shown(by_runc(spec, rootfs, tmp_path, runc_id)[1])
        ours = shown(by_wherry(spec, rootfs, tmp_path, runc_id)[1])
    finally:
        subprocess.run(["umount", "-R", data], check=True)
    assert len(ours) > len(OPTIONS) * 2
    assert {place: (words, theirs.get(place)) for place, words in ours.items() if words != theirs.get(place)} == {}
