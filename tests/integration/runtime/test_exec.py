"""Further processes in a container that runs, and terminals."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.integration.runtime.containers import (
    CONTROLLERS_V1,
    DEFAULT_CAPABILITIES,
    Runner,
    exit_status,
    make_spec,
    status_fields,
)

from wherry.core.errors import CannotInvoke, CommandNotFound, Conflict
from wherry.runtime import container
from wherry.runtime.execute import exec_process
from wherry.runtime.spec import Process
from wherry.runtime.state import Status, load_state


@pytest.fixture
def long_running(runner: Runner, busybox_tree: Path) -> str:
    spec = make_spec("sh", "-c", "sleep 1000 & wait", root_read_only=True)
    return runner.start(spec, busybox_tree).state_dir


def exec_spec(*args: str) -> Process:
    return make_spec(*args).process


def test_exec_is_inside(runner: Runner, long_running: str) -> None:
    state = load_state(long_running)
    seen = runner.exec(
        long_running,
        exec_spec(
            "sh",
            "-c",
            "for f in /proc/self/ns/*; do readlink $f; done; hostname; cat /proc/self/cgroup /proc/self/status; "
            "ls /proc/self/fd",
        ),
    )
    for name in ("cgroup", "ipc", "mnt", "net", "pid", "uts"):
        assert os.readlink(f"/proc/{state.pid}/ns/{name}") in seen.out.splitlines()
    assert "box" in seen.out.splitlines()
    assert ("memory:/\n" if CONTROLLERS_V1 else "0::/\n") in seen.out  # the container's own group looks like the root
    fields = status_fields(seen.out)
    assert fields["CapBnd"] == fields["CapEff"] == f"{DEFAULT_CAPABILITIES:016x}"
    assert (fields["Seccomp"], fields["NoNewPrivs"]) == ("2", "1")
    assert seen.out.split()[-4:] == ["0", "1", "2", "3"]
    assert os.readlink("/proc/self/ns/pid") == os.readlink("/proc/self/ns/pid_for_children")


def test_exec_ends_with_its_own_status(runner: Runner, long_running: str) -> None:
    assert runner.exec(long_running, exec_spec("sh", "-c", "exit 9")).status == 9
    assert runner.exec(long_running, exec_spec("sh", "-c", "kill -9 $$")).status == 137
    with pytest.raises(CommandNotFound):
        runner.exec(long_running, exec_spec("no-such-command"))
    with pytest.raises(CannotInvoke):
        runner.exec(long_running, exec_spec("/proc/self/exe"))
    assert load_state(long_running).status is Status.RUNNING


def test_exec_into_what_does_not_run(runner: Runner, long_running: str) -> None:
    container.kill(long_running, signal.SIGKILL)
    exit_status(load_state(long_running).pid)
    with pytest.raises(Conflict, match="does not run"):
        runner.exec(long_running, exec_spec("true"))


def read_terminal(fd: int) -> str:
    found = b""
    while True:
        try:
            data = os.read(fd, 4096)
        except OSError:  # EIO: the last one that had it open is gone
            return found.decode()
        if not data:
            return found.decode()
        found += data


def test_a_terminal(runner: Runner, busybox_tree: Path) -> None:
    script = "tty; test -c /dev/console; stty size; readlink /proc/self/fd/0; read line; echo got $line; ps -o tty"
    spec = make_spec(
        "sh", "-c", script, process={"terminal": True, "console_rows": 40, "console_columns": 132, "uid": 1000}
    )
    created = runner.start(spec, busybox_tree)
    assert created.console_fd is not None
    os.write(created.console_fd, b"hello\n")
    out = read_terminal(created.console_fd)
    assert exit_status(created.pid) == 0
    lines = out.splitlines()
    assert "/dev/pts/0" in lines
    assert "40 132" in lines
    assert "got hello" in lines


def test_control_c_reaches_the_terminals_process(runner: Runner, busybox_tree: Path) -> None:
    script = "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.01; done"
    created = runner.start(make_spec("sh", "-c", script, process={"terminal": True}), busybox_tree)
    assert created.console_fd is not None
    assert os.read(created.console_fd, 100).startswith(b"ready")
    os.write(created.console_fd, b"\x03")
    assert "caught" in read_terminal(created.console_fd)
    assert exit_status(created.pid) == 3


def test_exec_with_a_terminal(runner: Runner, long_running: str) -> None:
    process = make_spec("sh", "-c", "tty; stty size", process={"terminal": True}).process
    executed = exec_process(long_running, process)
    os.close(executed.pidfd)
    assert executed.console_fd is not None
    assert read_terminal(executed.console_fd).split() == ["/dev/pts/0", "24", "80"]
    os.close(executed.console_fd)
    assert exit_status(executed.pid) == 0
