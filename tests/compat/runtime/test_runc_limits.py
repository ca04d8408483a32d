"""The same limits by runc and by Wherry: what the kernel then has in the groups, and what is told of their use."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.compat.runtime.test_runc import make_spec
from tests.fixtures.busybox import make_tree

from wherry.core.value import replace
from wherry.runtime.cgroup import Cgroup, hierarchies
from wherry.runtime.cgroup_stats import runc_stats
from wherry.runtime.resources import DeviceRule, Resources, Throttle
from wherry.runtime.serialize import serialize_config

MIB = 1 << 20
FILES = {
    "memory": ("limit_in_bytes", "memsw.limit_in_bytes", "soft_limit_in_bytes", "swappiness", "oom_control"),
    "cpu": ("shares", "cfs_quota_us", "cfs_period_us"),
    "cpuset": ("cpus", "mems"),
    "pids": ("max",),
    "blkio": ("throttle.read_bps_device", "throttle.write_iops_device"),
    "devices": ("list",),
}
V1 = {name: found.mount for found in hierarchies() if found.version == 1 for name in found.controllers}
pytestmark = pytest.mark.skipif(not V1.keys() >= FILES.keys(), reason="this host has not all controllers as version 1")


def disk() -> tuple[int, int]:
    path = next(path for path in sorted(Path("/sys/block").iterdir()) if not path.name.startswith(("loop", "zram")))
    major, _, minor = (path / "dev").read_text().strip().partition(":")
    return int(major), int(minor)


def resources() -> Resources:
    major, minor = disk()
    return Resources(
        memory_limit_bytes=64 * MIB,
        memory_swap_bytes=96 * MIB,
        memory_reservation_bytes=32 * MIB,
        memory_swappiness=7,
        memory_disable_oom_killer=True,
        cpu_shares=300,
        cpu_quota_us=30_000,
        cpu_period_us=60_000,
        cpuset_cpus="0",
        cpuset_mems="0",
        pids_limit=33,
        block_read_bytes=(Throttle(major=major, minor=minor, rate=1_000_000),),
        block_write_operations=(Throttle(major=major, minor=minor, rate=100),),
        devices=(
            DeviceRule(allow=False),
            DeviceRule(allow=True, type="c", major=1, minor=3, access="rwm"),
            DeviceRule(allow=True, type="c", major=30, access="rw"),
            DeviceRule(allow=True, type="c", major=10, minor=229, access="rwm"),
            DeviceRule(allow=False, type="c", major=10, minor=229, access="m"),
        ),
    )


def files(path: str) -> dict[str, list[str]]:
    """What the kernel has, file by file; runc adds devices of its own, which every container gets."""
    return {
        f"{name}.{file}": sorted(Path(f"{V1[name]}{path}/{name}.{file}").read_text().splitlines())
        for name, names in FILES.items()
        for file in names
    }


@pytest.fixture
def by_runc(tmp_path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """A container of runc with the limits: (path of its groups, its statistics)."""
    name = f"compat-{uuid.uuid4().hex[:8]}"
    path = f"/wherry-compat-{name}"
    rootfs = make_tree(tmp_path / "rootfs", "sh sleep", folders="proc sys dev tmp")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    spec = replace(make_spec(tmp_path, "sleep", "1000"), resources=resources(), cgroups_path=path)
    config = serialize_config(spec, str(rootfs))
    config["ociVersion"] = "1.0.2"
    (bundle / "config.json").write_text(json.dumps(config))
    runc = ["runc", "--root", str(tmp_path / "runc")]
    try:
        done = subprocess.run(
            [*runc, "create", "--bundle", str(bundle), name],
            stdin=subprocess.DEVNULL,
            stdout=(tmp_path / "out").open("w"),
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == 0, (tmp_path / "out").read_text()
        told = subprocess.run([*runc, "events", "--stats", name], capture_output=True, check=True)
        yield path, json.loads(told.stdout)
    finally:
        subprocess.run([*runc, "delete", "--force", name], capture_output=True, check=False)


def test_the_kernel_has_the_same(by_runc: tuple[str, dict[str, Any]]) -> None:
    theirs = files(by_runc[0])
    path = f"/wherry-compat-{uuid.uuid4().hex[:8]}"
    cgroup = Cgroup.create(path)
    try:
        cgroup.apply(resources())
        ours = files(path)
    finally:
        cgroup.remove()
    assert set(ours.pop("devices.list")) <= set(theirs.pop("devices.list"))
    assert ours == theirs


def test_use_is_told_in_the_same_words(by_runc: tuple[str, dict[str, Any]]) -> None:
    path, theirs = by_runc
    ours = runc_stats(theirs["id"], Cgroup.open(path).usage())
    assert ours.keys() == theirs.keys()
    assert (ours["type"], ours["id"]) == (theirs["type"], theirs["id"])
    assert ours["data"].keys() == theirs["data"].keys() - {"cpuset"}
    for part in ("cpu", "memory", "pids"):
        assert theirs["data"][part].keys() <= ours["data"][part].keys() | {"percpu_kernel"}
    assert ours["data"]["pids"] == theirs["data"]["pids"]
    assert ours["data"]["memory"]["usage"]["limit"] == theirs["data"]["memory"]["usage"]["limit"]
    assert ours["data"]["memory"]["swap"]["limit"] == theirs["data"]["memory"]["swap"]["limit"]
    assert ours["data"]["memory"]["raw"].keys() == theirs["data"]["memory"]["raw"].keys()
    usage = theirs["data"]["cpu"]["usage"]
    assert usage.keys() - {"percpu_kernel", "percpu_user"} == ours["data"]["cpu"]["usage"].keys()
