"""What the kernel tells by itself, and what groups count, on whichever version this kernel has."""

from __future__ import annotations

import json
import os
import select
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.core.errors import Unsupported
from wherry.runtime.cgroup import Cgroup
from wherry.runtime.cgroup_stats import runc_stats
from wherry.runtime.resources import Resources

MIB = 1 << 20
PATIENCE_MS = 60_000


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    made = Cgroup.create(f"/wherry/test-{uuid.uuid4().hex[:12]}")
    yield made
    made.remove()


def eat(cgroup: Cgroup, size: int) -> int:
    pid = os.fork()
    if pid == 0:
        cgroup.attach(os.getpid())
        held = [os.urandom(MIB) for _ in range(size // MIB)]
        os._exit(len(held) & 1)
    return pid


def test_lack_of_memory_is_told(cgroup: Cgroup) -> None:
    cgroup.apply(Resources(memory_limit_bytes=16 * MIB, memory_swap_bytes=16 * MIB))
    with cgroup.watch_oom() as watch:
        poll = select.poll()
        poll.register(watch.fileno(), watch.events)
        assert poll.poll(0) == []
        assert (watch.read().times, watch.read().kills) == (0, 0)
        pid = eat(cgroup, 256 * MIB)
        assert poll.poll(PATIENCE_MS), "an event"
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        seen = watch.read()
        assert seen.times >= 1
        assert seen.kills >= 1
    usage = cgroup.usage().memory
    assert usage.oom_kills == seen.kills
    assert usage.failures is not None
    assert usage.limit_bytes == 16 * MIB


def test_usage_is_counted(cgroup: Cgroup, tmp_path: Path) -> None:
    cgroup.apply(Resources(pids_limit=7, cpu_quota_us=5_000, cpu_period_us=10_000))
    pid = os.fork()
    if pid == 0:
        cgroup.attach(os.getpid())
        held = bytearray(b"x" * MIB)
        while held:
            held[0] = 1
    try:
        while (cgroup.usage().cpu.throttled_periods or 0) < 3:
            assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        usage = cgroup.usage()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert (usage.pids, usage.pids_limit) == (1, 7)
    assert usage.cpu.total_ns is not None
    assert usage.cpu.total_ns > 10_000_000
    assert usage.cpu.user_ns is not None
    assert usage.cpu.throttled_ns is not None
    assert usage.memory.usage_bytes
    assert usage.memory.raw
    told = json.loads(json.dumps(runc_stats("box", usage)))
    assert told["id"] == "box"
    assert told["data"]["pids"] == {"current": 1, "limit": 7}
    assert told["data"]["cpu"]["usage"]["total"] == usage.cpu.total_ns
    assert told["data"]["memory"]["usage"]["usage"] == usage.memory.usage_bytes


def test_pressure_is_told_where_the_kernel_has_it(cgroup: Cgroup) -> None:
    pressure = cgroup.usage().cpu.pressure
    if pressure is None:
        with pytest.raises(Unsupported, match="no pressure information"):
            cgroup.watch_pressure("cpu", stall_us=1_000, window_us=2_000_000)
        return
    assert pressure.some.total_us == 0
    pids = []
    with cgroup.watch_pressure("cpu", stall_us=1_000, window_us=2_000_000) as watch:
        poll = select.poll()
        poll.register(watch.fileno(), watch.events)
        for _ in range(2 * (os.cpu_count() or 1) + 1):
            pid = os.fork()
            if pid == 0:
                cgroup.attach(os.getpid())
                while True:
                    pass
            pids.append(pid)
        try:
            assert poll.poll(PATIENCE_MS), "an event"
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    assert cgroup.usage().cpu.pressure is not None


def test_memory_level_of_version_1(cgroup: Cgroup) -> None:
    memory = next(group for group in cgroup.groups if "memory" in group.controllers)
    if memory.version == 2:
        assert not os.path.exists(f"{memory.path}/memory.pressure_level")
        return
    from wherry.runtime.cgroup_events import watch_memory_level

    with watch_memory_level(memory.path, "low") as watch:
        poll = select.poll()
        poll.register(watch.fileno(), watch.events)
        cgroup.apply(Resources(memory_limit_bytes=16 * MIB, memory_swap_bytes=16 * MIB))
        pid = eat(cgroup, 256 * MIB)
        assert poll.poll(PATIENCE_MS), "an event"
        os.waitpid(pid, 0)
        assert watch.read() >= 1


def test_a_group_that_is_given_away(cgroup: Cgroup) -> None:
    cgroup.delegate(1000, 1001)
    for group in cgroup.groups:
        given = group.version == 2 or group.controllers[0].startswith("name=")
        for name in ("", "cgroup.procs"):
            found = os.stat(f"{group.path}/{name}")
            assert ((found.st_uid, found.st_gid) == (1000, 1001)) == given
        if group.version == 2:
            assert os.stat(f"{group.path}/cgroup.subtree_control").st_uid == 1000
            assert os.stat(f"{group.path}/cgroup.max.depth").st_uid == 0


def test_freezing_a_stopped_tree_waits_for_nobody(cgroup: Cgroup) -> None:
    cgroup.freeze(timeout_s=5)
    assert cgroup.is_frozen()
    cgroup.thaw()
    assert not cgroup.is_frozen()
