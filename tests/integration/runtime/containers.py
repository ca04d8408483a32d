"""Helpers of the runtime's tests: a specification as docker would make it, and containers that are removed again."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from wherry.core.value import replace
from wherry.linux import bpf
from wherry.runtime import container, default
from wherry.runtime.cgroup import hierarchies
from wherry.runtime.cgroup_devices import DeviceList
from wherry.runtime.container import Created, Stdio
from wherry.runtime.execute import exec_process
from wherry.runtime.resources import Resources
from wherry.runtime.spec import Capabilities, Process, Spec

CONTROLLERS_V1 = frozenset(name for found in hierarchies() if found.version == 1 for name in found.controllers)
"""Nothing on a host with version 2 alone."""


def _has_device_programs() -> bool:
    """Whether this kernel lets us load a program that decides about devices."""
    try:
        os.close(bpf.load_device_program(DeviceList(()).program()))
    except OSError:
        return False
    return True


DEVICES_CONTROLLED = "devices" in CONTROLLERS_V1 or _has_device_programs()
DEFAULT_CAPABILITIES = 0xA80425FB if DEVICES_CONTROLLED else 0xA00425FB
"""Docker's default; without CAP_MKNOD where there is no list of devices."""


class Result(NamedTuple):
    """What a container printed and how it ended: 128+N for signal N, as docker tells it."""

    status: int
    out: str


def status_fields(text: str) -> dict[str, str]:
    """Returns /proc/PID/status as a mapping."""
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def exit_status(pid: int) -> int:
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def make_spec(*args: str, **changes: Any) -> Spec:
    """Docker's defaults with a command; `process` takes changes of the process."""
    changed_process = changes.pop("process", {})
    capabilities: Capabilities = changed_process.pop("capabilities", default.capabilities())
    spec = Spec(
        process=replace(
            Process(args=args, env=("PATH=/bin", "HOME=/root"), capabilities=capabilities), **changed_process
        ),
        hostname="box",
        mounts=default.mounts(),
        namespaces=default.NAMESPACES,
        resources=Resources(devices=default.DEVICE_RULES),
        masked_paths=default.MASKED_PATHS,
        readonly_paths=default.READONLY_PATHS,
        seccomp=default.seccomp_profile(capabilities.bounding),
    )
    return replace(spec, **changes)


class Runner:
    """Makes containers and removes them again."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.states: list[Path] = []
        self.created: list[Created] = []
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)

    def create(self, spec: Spec, rootfs: Path, *, out_fd: int | None = None, stdin_fd: int | None = None) -> Created:
        name = f"test-{uuid.uuid4().hex[:12]}"
        state_dir = self.base / name
        self.states.append(state_dir)
        out = self._null if out_fd is None else out_fd
        stdio = Stdio(stdin_fd=self._null if stdin_fd is None else stdin_fd, stdout_fd=out, stderr_fd=out)
        created = container.create(
            spec,
            container_id=name,
            state_dir=state_dir,
            rootfs=rootfs,
            stdio=None if spec.process.terminal else stdio,
        )
        self.created.append(created)
        return created

    def start(self, spec: Spec, rootfs: Path, *, out_fd: int | None = None) -> Created:
        created = self.create(spec, rootfs, out_fd=out_fd)
        container.start(created)
        return created

    def run(self, spec: Spec, rootfs: Path) -> Result:
        """Runs a container to its end."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        with os.fdopen(read_end, "rb") as reader:
            try:
                created = self.start(spec, rootfs, out_fd=write_end)
            finally:
                os.close(write_end)
            out = reader.read().decode(errors="replace")
        status = exit_status(created.pid)
        container.delete(created.state_dir)
        return Result(status, out)

    def exec(self, state_dir: str | Path, process: Process) -> Result:
        """Runs a further process to its end."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        with os.fdopen(read_end, "rb") as reader:
            try:
                stdio = Stdio(stdin_fd=self._null, stdout_fd=write_end, stderr_fd=write_end)
                executed = exec_process(state_dir, process, stdio=stdio)
            finally:
                os.close(write_end)
            os.close(executed.pidfd)
            out = reader.read().decode(errors="replace")
        return Result(exit_status(executed.pid), out)

    def close(self) -> None:
        for state_dir in self.states:
            container.delete(state_dir)
        for created in self.created:
            with suppress(ChildProcessError):
                os.waitpid(created.pid, 0)
            for fd in (created.pidfd, created.console_fd):
                if fd is not None:
                    with suppress(OSError):
                        os.close(fd)
            created.end.close()
        os.close(self._null)
