"""Limits that hold, as the kernel of this host keeps them (version 1 here), and control groups that go away."""

from __future__ import annotations

import os
import signal
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.runtime.containers import Result, Runner, exit_status, make_spec

from wherry.core.errors import Conflict, InvalidInput
from wherry.core.value import replace
from wherry.runtime import container, default
from wherry.runtime.cgroup import Cgroup, hierarchies
from wherry.runtime.resources import Resources
from wherry.runtime.spec import Process
from wherry.runtime.state import load_state

Shell = Callable[..., Result]
MIB = 1 << 20
EAT_MEMORY = "exec dd if=/dev/zero of=/dev/null bs=64M count=1"
"""One buffer, all of it written to."""


def limits(**values: Any) -> Resources:
    return Resources(devices=default.DEVICE_RULES, **values)


def test_too_much_memory_is_an_oom_kill(runner: Runner, busybox_tree: Path) -> None:
    spec = make_spec("sh", "-c", EAT_MEMORY, resources=limits(memory_limit_bytes=32 * MIB, memory_swap_bytes=32 * MIB))
    created = runner.start(spec, busybox_tree)
    assert exit_status(created.pid) == 128 + signal.SIGKILL
    stats = load_state(created.state_dir).cgroup.stats()
    assert stats.oom_kills is not None
    assert stats.oom_kills >= 1
    assert stats.memory_peak_bytes is not None
    assert 16 * MIB < stats.memory_peak_bytes <= 32 * MIB


def test_an_exit_of_its_own_is_no_oom_kill(runner: Runner, busybox_tree: Path) -> None:
    created = runner.start(make_spec("sh", "-c", "kill -9 $$; exit 3"), busybox_tree)
    exit_status(created.pid)
    assert load_state(created.state_dir).cgroup.stats().oom_kills == 0


def test_limits_can_be_read_inside(sh: Shell) -> None:
    if any(hierarchy.version == 2 and "memory" in hierarchy.controllers for hierarchy in hierarchies()):
        script = "cd /sys/fs/cgroup; cat memory.max pids.max; set -- $(cat cpu.max); echo $1; echo $2"
    else:
        script = (
            "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us "
            "cpu/cpu.cfs_period_us"
        )
    resources = limits(memory_limit_bytes=64 * MIB, pids_limit=50, cpu_quota_us=30_000, cpu_period_us=60_000)
    assert sh(script, resources=resources).out.split() == [str(64 * MIB), "50", "30000", "60000"]


def test_too_many_processes(sh: Shell) -> None:
    seen = sh("for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 & done; echo never", resources=limits(pids_limit=5))
    assert "can't fork" in seen.out
    assert "never" not in seen.out


def test_a_quota_holds(runner: Runner, busybox_tree: Path) -> None:
    spec = make_spec("sh", "-c", "while :; do :; done", resources=limits(cpu_quota_us=10_000, cpu_period_us=100_000))
    created = runner.start(spec, busybox_tree)
    cgroup = load_state(created.state_dir).cgroup
    before, began = cgroup.stats().cpu_ns, time.monotonic_ns()
    time.sleep(1)
    after, ended = cgroup.stats().cpu_ns, time.monotonic_ns()
    assert before is not None
    assert after is not None
    assert 0.02 < (after - before) / (ended - began) < 0.2


def test_exec_is_limited_too(runner: Runner, busybox_tree: Path) -> None:
    resources = limits(memory_limit_bytes=32 * MIB, memory_swap_bytes=32 * MIB)
    created = runner.start(make_spec("sleep", "1000", resources=resources), busybox_tree)
    process = Process(args=("sh", "-c", EAT_MEMORY), env=("PATH=/bin",), capabilities=default.capabilities())
    assert runner.exec(created.state_dir, process).status == 128 + signal.SIGKILL


def test_freeze_and_thaw(runner: Runner, busybox_tree: Path) -> None:
    created = runner.start(make_spec("sh", "-c", "while :; do :; done"), busybox_tree)
    cgroup = load_state(created.state_dir).cgroup
    cgroup.freeze()
    frozen = cgroup.stats().cpu_ns
    time.sleep(0.1)
    assert cgroup.stats().cpu_ns == frozen
    cgroup.thaw()
    time.sleep(0.1)
    assert cgroup.stats().cpu_ns != frozen
    cgroup.freeze()  # and it can be removed while it is frozen
    container.delete(created.state_dir)
    assert exit_status(created.pid) == 128 + signal.SIGKILL


@pytest.fixture
def name() -> Iterator[str]:
    found = f"/wherry/test-{uuid.uuid4().hex[:12]}"
    yield found
    Cgroup.create(found).remove()


def fork_sleeper() -> int:
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    return pid


def test_kill_reaches_everyone_and_remove_leaves_nothing(name: str) -> None:
    cgroup = Cgroup.create(name)
    below = [Path(group.path) / "below" for group in cgroup.groups]
    for path in below:
        path.mkdir()
    children = [fork_sleeper() for _ in range(3)]
    try:
        cgroup.attach(children[0])
        cgroup.attach(children[1])
        Cgroup(tuple(replace(group, path=f"{group.path}/below") for group in cgroup.groups)).attach(children[2])
        assert cgroup.pids() == frozenset(children)
        with pytest.raises(Conflict, match="has processes"):
            Cgroup.create(name)
        cgroup.kill()
        for child in children:
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
        children = []
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    cgroup.remove()
    cgroup.remove()
    assert not any(Path(group.path).exists() for group in cgroup.groups)


def test_remove_kills_first(name: str) -> None:
    cgroup = Cgroup.create(name)
    child = fork_sleeper()
    cgroup.attach(child)
    cgroup.remove()
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert not any(Path(group.path).exists() for group in cgroup.groups)


@pytest.mark.parametrize("path", ["", "/", "/wherry/../..", "/a/./b"])
def test_a_path_that_leaves(path: str) -> None:
    with pytest.raises(InvalidInput):
        Cgroup.create(path)


def test_less_memory_with_swap_than_without(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be less"):
        Cgroup.create(name).apply(Resources(memory_limit_bytes=64 * MIB, memory_swap_bytes=32 * MIB))


def test_a_value_that_the_kernel_refuses_names_the_file(runner: Runner, busybox_tree: Path) -> None:
    with pytest.raises(Exception, match=r"cannot set a limit.*pids.max") as found:
        runner.create(make_spec("true", resources=limits(pids_limit=1 << 40)), busybox_tree)
    assert "Invalid argument" in str(found.value)
    assert not (runner.states[-1] / "runtime.json").exists()


def test_makers_and_removers_of_the_same_parent_do_not_meet() -> None:
    """Each takes the empty parent away at its end, under the feet of the others."""
    children = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                for turn in range(40):
                    Cgroup.create(f"/wherry/test-{os.getppid()}-{number}-{turn}").remove()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        children.append(pid)
    assert [exit_status(pid) for pid in children] == [0] * 4
    parents = [f"{found.mount}/wherry" for found in hierarchies()]
    left = [name for parent in parents if os.path.isdir(parent) for name in os.listdir(parent)]
    assert not [name for name in left if name.startswith(f"test-{os.getpid()}-")]
