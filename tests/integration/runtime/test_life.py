"""A container's life: created, started, stopped, deleted; and what is left when something fails on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.runtime.containers import (
    Result,
    Runner,
    exit_status,
    make_spec,
)

from wherry.core.errors import Conflict, NotFound, Unsupported, WherryError
from wherry.runtime import container, default
from wherry.runtime.spec import Mount
from wherry.runtime.state import Status, load_state

Shell = Callable[..., Result]


def test_created_started_stopped_deleted(runner: Runner, busybox_tree: Path) -> None:
    created = runner.create(make_spec("sleep", "1000"), busybox_tree)
    assert load_state(created.state_dir).status is Status.CREATED
    assert Path(f"/proc/{created.pid}/root/dev/null").exists()
    container.start(created)
    assert load_state(created.state_dir).status is Status.RUNNING
    with pytest.raises(Conflict, match="started already"):
        container.start(created)
    with pytest.raises(Conflict, match="there is a container"):
        container.create(
            make_spec("true"),
            container_id="other",
            state_dir=created.state_dir,
            rootfs=busybox_tree,
            stdio=container.Stdio(stdin_fd=0, stdout_fd=1, stderr_fd=2),
        )
    os.kill(created.pid, signal.SIGKILL)
    exit_status(created.pid)
    assert load_state(created.state_dir).status is Status.STOPPED
    groups = load_state(created.state_dir).cgroup.groups
    assert groups
    assert all(Path(group.path).is_dir() for group in groups)
    container.delete(created.state_dir)
    container.delete(created.state_dir)
    assert not any(Path(group.path).exists() for group in groups)
    with pytest.raises(NotFound):
        load_state(created.state_dir)


def test_delete_kills(runner: Runner, busybox_tree: Path) -> None:
    created = runner.start(make_spec("sh", "-c", "for i in 1 2 3; do sleep 1000 & done; wait"), busybox_tree)
    container.delete(created.state_dir)
    assert exit_status(created.pid) == 128 + signal.SIGKILL


def test_a_container_may_be_abandoned(runner: Runner, busybox_tree: Path) -> None:
    created = runner.create(make_spec("true"), busybox_tree)
    groups = load_state(created.state_dir).cgroup.groups
    container.abandon(created)
    assert not Path(f"/proc/{created.pid}").exists()
    assert not any(Path(group.path).exists() for group in groups)


def test_a_failed_setup_leaves_nothing(runner: Runner, busybox_tree: Path) -> None:
    bad = Mount(destination="/data", type="bind", source="/no/such/source", options=("bind",))
    before = set(Path("/sys/fs/cgroup").rglob("*wherry*"))
    with pytest.raises(WherryError, match="No such file or directory: mount --bind /no/such/source /data"):
        runner.create(make_spec("true", mounts=(*default.mounts(), bad)), busybox_tree)
    assert set(Path("/sys/fs/cgroup").rglob("*wherry*")) == before
    assert not (runner.states[-1] / "runtime.json").exists()


def test_a_bad_option_names_the_file_systems_word(runner: Runner, busybox_tree: Path) -> None:
    bad = Mount(destination="/data", type="tmpfs", source="tmpfs", options=("wrong=1",))
    with pytest.raises(WherryError, match="Unknown parameter 'wrong'"):
        runner.create(make_spec("true", mounts=(*default.mounts(), bad)), busybox_tree)


_PARENT = """
import os, sys, time
from pathlib import Path
from tests.integration.runtime.containers import make_spec, status_fields
from wherry.runtime import container
created = container.create(make_spec("sleep", "1000"), container_id=sys.argv[1], state_dir=Path(sys.argv[2]),
    rootfs=Path(sys.argv[3]), stdio=container.Stdio(stdin_fd=0, stdout_fd=1, stderr_fd=2))
print(created.pid, flush=True)
time.sleep(1000)
"""


def test_the_parents_death_before_the_start_ends_it(busybox_tree: Path, tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, f"orphan-{os.getpid()}", state_dir, busybox_tree], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while load_state(state_dir).status is not Status.STOPPED:
        assert time.monotonic() < deadline, f"{pid} lives on"
        time.sleep(0.01)
    groups = load_state(state_dir).cgroup.groups
    container.delete(state_dir)
    assert not any(Path(group.path).exists() for group in groups)


def test_several_threads_are_refused(busybox_tree: Path, tmp_path: Path) -> None:
    import threading

    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    try:
        with pytest.raises(Unsupported, match="several threads"):
            container.create(
                make_spec("true"),
                container_id="threads",
                state_dir=tmp_path / "state",
                rootfs=busybox_tree,
                stdio=container.Stdio(stdin_fd=0, stdout_fd=1, stderr_fd=2),
            )
    finally:
        event.set()
        thread.join()
