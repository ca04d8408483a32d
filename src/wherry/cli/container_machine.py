"""``wherry run --machine qemu|uml``: a container's root under a kernel of its own.

The container is made as any other, and its root mounted as it is for ``wherry cp``, with what is written to it in a
layer of its own; the machine sees that by 9p or hostfs. So the container is there afterwards, unless ``--rm`` was
given: ``wherry diff``, ``cp`` and ``commit`` work. Flags that have no meaning for a machine are refused by name.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.cli.container_flags import RUN_FLAGS
from wherry.core.errors import InvalidInput, UsageError
from wherry.spec.architecture import ARCHITECTURES, Architecture, of_machine
from wherry.spec.container import MountType

if TYPE_CHECKING:
    from wherry.engine.engine import Engine
    from wherry.engine.info import ContainerInfo
    from wherry.machine.jobs import Job

KINDS = ("qemu", "uml")
TAKEN = frozenset(
    (
        *("machine", "kernel", "interactive", "tty", "rm", "name", "env", "env_file", "entrypoint", "user", "workdir"),
        *("platform", "pull", "quiet", "volume", "mount", "tmpfs", "read_only", "rootfs", "network", "publish"),
        *("add_host", "hostname", "memory", "cpus", "label", "label_file", "cidfile"),
    )
)
"""Flags that mean for a machine what they mean for a container."""
_SIGNAL = 128


def run_in_machine(engine: Engine, given: dict[str, Any]) -> int:
    """Makes a container and runs its command in a machine; returns the command's exit status."""
    from wherry.cli.container_work import create_container
    from wherry.machine.session import Interrupted

    kind = given["machine"]
    check_flags(given)
    container_id = create_container(engine, {**given, "machine": "", "kernel": ""}, runs_here=False)
    info = engine.inspect(container_id)
    try:
        return _run(engine, info, given, uml=kind == "uml")
    except Interrupted as error:
        return _SIGNAL + error.number
    finally:
        if given["rm"]:
            engine.remove(container_id)


def check_flags(given: Mapping[str, Any]) -> None:
    """Refuses what has no meaning for a machine.

    Raises:
        UsageError: names the flag.
    """
    if given["machine"] not in KINDS:
        raise UsageError(f"--machine: no {given['machine']!r}", hint="use qemu or uml")
    for flag in RUN_FLAGS:
        if flag.key not in TAKEN and given[flag.key] != flag.default:
            why = "a machine runs in the foreground" if flag.key == "detach" else "that is the machine's own kernel's"
            raise UsageError(f"{flag.names[-1]} does not go with --machine: {why}")
    if any(network not in ("bridge", "none") for network in given["network"]):
        raise UsageError("--network with --machine is none, or the machine's own", hint="leave it out, and use -p")


def _run(engine: Engine, info: ContainerInfo, given: Mapping[str, Any], *, uml: bool) -> int:
    from wherry.cli.container_work import terminal_fd
    from wherry.engine import view
    from wherry.machine import jobs
    from wherry.machine.kernels import kernel_for

    kernel = kernel_for(engine.paths.root, _architecture(info), uml=uml, file=given["kernel"])
    streams = jobs.Streams(
        stdin_fd=0 if given["interactive"] else None,
        terminal_fd=terminal_fd() if given["tty"] else None,
        tty=given["tty"],
    )
    with view.open_root(engine.paths, engine.repo if info.config.commit else None, info) as root_fd:
        return jobs.run(_job(info, given, root_fd), kernel, streams, uml=uml)


def _architecture(info: ContainerInfo) -> Architecture:
    """Returns the architecture of a container's programs; this machine's where its image does not say.

    Raises:
        InvalidInput: there are no machines of it.
    """
    from wherry.engine.platforms import parts_of

    text = info.config.platform
    if not text:
        return of_machine(platform.machine())
    wanted = parts_of(text)
    for each in ARCHITECTURES.values():
        known = parts_of(each.platform)
        if known == wanted or (known[:2] == wanted[:2] and not wanted[2]):
            return each
    # arm64/v8 and the like: the variant is none that a kernel would know
    found = next((each for each in ARCHITECTURES.values() if parts_of(each.platform)[:2] == wanted[:2]), None)
    if found is None:
        raise InvalidInput(f"no machine for {text}")
    return found


def _job(info: ContainerInfo, given: Mapping[str, Any], root_fd: int) -> Job:
    from wherry.linux.beneath import make_directory
    from wherry.machine import jobs
    from wherry.machine.words import parse_forward
    from wherry.runtime.users import read_identity

    config = info.config
    identity = read_identity(root_fd, config.user)
    os.close(make_directory(root_fd, config.working_dir))
    env = dict(item.partition("=")[::2] for item in config.env)
    env.setdefault("HOME", identity.home)
    resources = config.spec.resources
    return jobs.Job(
        argv=config.argv,
        env=env,
        uid=identity.uid,
        gid=identity.gid,
        working_dir=config.working_dir,
        hostname=config.hostname or config.id[:12],
        root=Path(f"/proc/self/fd/{root_fd}"),
        inherited=(root_fd,),
        read_only=config.spec.read_only,
        as_root=os.geteuid() == 0,
        memory_file_systems=tuple(
            (mount.target, _tmpfs_options(mount)) for mount in config.mounts if mount.type == MountType.TMPFS
        ),
        hosts="".join(_host_line(text) for text in config.spec.add_hosts),
        forwards=tuple(parse_forward(text) for text in given["publish"]),
        network="none" not in given["network"],
        memory_bytes=resources.memory_bytes or jobs.DEFAULT_MEMORY_BYTES,
        cpus=max(1, -(-(resources.milli_cpus or 1000) // 1000)),
    )


def _tmpfs_options(mount: Any) -> str:
    options = ["nosuid", "nodev", f"mode={0o1777 if mount.tmpfs_mode is None else mount.tmpfs_mode:o}"]
    if mount.tmpfs_size_bytes is not None:
        options.append(f"size={mount.tmpfs_size_bytes}")
    return ",".join((*options, *(("ro",) if mount.read_only else ())))


def _host_line(text: str) -> str:
    name, _, address = text.partition(":")
    return f"{'10.0.2.2' if address == 'host-gateway' else address}\t{name}\n"
