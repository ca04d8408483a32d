"""Entering a root with a mount plan and nothing else of a runtime, and running a script in it."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from wherry.linux.namespaces import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    clone,
)
from wherry.runtime import default, rootfs
from wherry.runtime.cgroup import hierarchies
from wherry.runtime.spec import Mount, Namespace, Process, Spec

ALL = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP
REFUSED = 99
PATIENCE_S = 60
"""After this the process is killed: it hangs."""


class Entered(NamedTuple):
    """How it ended, and what was printed; with `REFUSED`, why the root could not be entered."""

    status: int
    out: str


def spec_of(*mounts: Mount, defaults: bool = True, **changes: Any) -> Spec:
    """A specification with these mounts behind docker's."""
    given: dict[str, Any] = {
        "process": Process(args=("sh",)),
        "mounts": (*(default.mounts() if defaults else ()), *mounts),
        "namespaces": {Namespace.MOUNT: "", Namespace.PID: "", Namespace.CGROUP: "", Namespace.NETWORK: ""},
    }
    return Spec(**{**given, **changes})


def bind(source: Path | str, target: str, *options: str, **changes: Any) -> Mount:
    return Mount(destination=target, type="bind", source=str(source), options=options or ("rbind",), **changes)


def entered(
    tree: Path,
    spec: Spec,
    script: str = ":",
    *,
    flags: int = ALL,
    before: Callable[[], str | int] | None = None,
    cgroup_paths: Mapping[str, str] | None = None,
    maps: tuple[str, str] | None = None,
    **options: Any,
) -> Entered:
    """Enters `tree` with the plan of `spec` and runs a shell script there.

    Args:
        tree: a root tree with /bin/sh.
        spec: its mounts.
        script: what is run.
        flags: the new namespaces.
        before: called in the child; returns the root to enter instead of `tree`.
        cgroup_paths: as of `plan`.
        maps: of a new user namespace; the child is its root.
        options: of `enter`.
    """
    steps = rootfs.plan(spec, hierarchies(), cgroup_paths=cgroup_paths or {})
    reader, writer = os.pipe2(os.O_CLOEXEC)
    mapped, map_it = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = clone(flags | (CLONE_NEWUSER if maps else 0))
    if pid == 0:
        try:
            os.close(map_it)
            if maps and os.read(mapped, 1):
                os.setresgid(0, 0, 0)
                os.setresuid(0, 0, 0)
            root: str | int = str(tree) if before is None else before()
            options.setdefault("propagation", spec.rootfs_propagation)
            sys.meta_path.clear()  # as a container's first process: nothing of the container may be imported
            rootfs.enter(root, steps, **options)
            for target in (1, 2):
                os.dup2(writer, target)
            os.execve("/bin/sh", ["sh", "-c", script], {"PATH": "/bin"})
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(REFUSED)
    os.close(writer)
    for name, text in zip(("uid_map", "gid_map"), maps or (), strict=False):
        Path(f"/proc/{pid}/{name}").write_text(text)
    os.write(map_it, b"1")
    os.close(map_it)
    os.close(mapped)
    out = b""
    with os.fdopen(reader, "rb", buffering=0) as file:
        while select.select([file], [], [], PATIENCE_S)[0]:
            some = file.read(1 << 16)
            out += some
            if not some:
                break
        else:
            os.kill(pid, signal.SIGKILL)
    os.close(pidfd)
    _, status = os.waitpid(pid, 0)
    return Entered(os.waitstatus_to_exitcode(status), out.decode(errors="replace"))


def mount_line(mountinfo: str, place: str) -> list[str]:
    """Returns the fields of the last line of mountinfo about a place: the mount's options are the sixth."""
    return [line.split() for line in mountinfo.splitlines() if line.split()[4:5] == [place]][-1]
