"""What becomes of a container's command: how it is found, what it is started with, how it ends."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.runtime.containers import (
    Result,
    Runner,
    exit_status,
    make_spec,
    status_fields,
)

from wherry.core.errors import CannotInvoke, CommandNotFound, Conflict
from wherry.linux.libc import number as libc_number
from wherry.runtime import container

Shell = Callable[..., Result]


def test_signals_that_the_caller_ignores_are_not_ignored(runner: Runner, busybox_tree: Path) -> None:
    """Those of the C library too, as a program has that make(1) started."""
    old = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    ignore = (ctypes.c_ulong * 8)(1)  # struct sigaction with SIG_IGN
    libc = ctypes.CDLL(None, use_errno=True)
    number = libc_number("rt_sigaction")
    try:
        assert libc.syscall(number, 32, ignore, None, 8) == 0
        fields = status_fields(runner.run(make_spec("cat", "/proc/self/status"), busybox_tree).out)
    finally:
        libc.syscall(number, 32, (ctypes.c_ulong * 8)(), None, 8)
        signal.signal(signal.SIGUSR1, old)
    assert fields["SigIgn"] == "0" * 16


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_exit_statuses(sh: Shell, status: int) -> None:
    assert sh(f"exit {status}").status == status


def test_a_signal_is_seen(runner: Runner, busybox_tree: Path) -> None:
    created = runner.start(make_spec("sleep", "1000"), busybox_tree)
    container.kill(created.state_dir, signal.SIGTERM)  # pid 1 without a handler: ignored, as with every runtime
    container.kill(created.state_dir, signal.SIGKILL)
    assert exit_status(created.pid) == 128 + signal.SIGKILL
    with pytest.raises(Conflict, match="does not run"):
        container.kill(created.state_dir, signal.SIGTERM)


def test_a_handler_gets_the_signal(runner: Runner, busybox_tree: Path) -> None:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done"
    created = runner.start(make_spec("sh", "-c", script), busybox_tree, out_fd=write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as reader:
        assert reader.readline() == b"ready\n"
    container.kill(created.state_dir, signal.SIGTERM)
    assert exit_status(created.pid) == 9


def test_a_missing_command(runner: Runner, busybox_tree: Path) -> None:
    for command in ("no-such-command", "/bin/no-such-command", ""):
        created = runner.create(make_spec(command), busybox_tree)
        with pytest.raises(CommandNotFound) as found:
            container.start(created)
        assert found.value.exit_code == 127
        assert exit_status(created.pid) == 1
        container.delete(created.state_dir)


def test_a_command_that_is_no_program(runner: Runner, rootfs: Path) -> None:
    (rootfs / "bin/text").write_text("not a program\n")
    (rootfs / "bin/text").chmod(0o755)
    (rootfs / "bin/plain").write_text("#!/bin/sh\n")
    (rootfs / "bin/nowhere").write_text("#!/bin/absent\n")
    (rootfs / "bin/nowhere").chmod(0o755)
    for command, kind in (
        ("text", CannotInvoke),
        ("plain", CannotInvoke),
        ("/etc", CannotInvoke),
        ("/etc/passwd/x", CommandNotFound),
        ("nowhere", CommandNotFound),  # as the shell says it too: the interpreter is what is not found
    ):
        created = runner.create(make_spec(command), rootfs)
        with pytest.raises(CannotInvoke) as found:
            container.start(created)
        assert type(found.value) is kind, command
        exit_status(created.pid)
        container.delete(created.state_dir)


def test_the_first_on_the_path_that_can_be_executed_wins(runner: Runner, rootfs: Path) -> None:
    for folder, mode in (("a", 0o644), ("b", 0o755), ("c", 0o755)):
        (rootfs / folder).mkdir()
        (rootfs / folder / "tool").write_text(f"#!/bin/sh\necho {folder}\n")
        (rootfs / folder / "tool").chmod(mode)
    spec = make_spec("tool", process={"env": ("PATH=/none:/a:/b:/c",)})
    assert runner.run(spec, rootfs) == Result(0, "b\n")


def test_the_environment_is_what_was_asked_for(runner: Runner, busybox_tree: Path) -> None:
    spec = make_spec("env", process={"env": ("PATH=/bin", "A=b=c", "EMPTY=", "UML=äöü")})
    # HOME is added where it is missing, out of the container's passwd file, as runc and crun do.
    expected = {"PATH=/bin", "A=b=c", "EMPTY=", "UML=äöü", "HOME=/root"}
    assert set(runner.run(spec, busybox_tree).out.splitlines()) == expected
