"""What a container's first process, or one that is added, is given: worked out before the clone. Pure."""

from __future__ import annotations

import os

from wherry.core.errors import InvalidInput
from wherry.core.value import Value, replace
from wherry.linux import capabilities
from wherry.runtime.become import Sets, Task
from wherry.runtime.spec import Capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.linux.seccomp import Program
    from wherry.runtime.spec import Process


class Stdio(Value):
    """The descriptors that become 0, 1 and 2 in the container; they stay open in the caller."""

    stdin_fd: int
    stdout_fd: int
    stderr_fd: int


def make_task(
    process: Process,
    stdio: Stdio | None,
    channel_fd: int,
    keyring: str,
    program: Program | None,
) -> Task:
    """Returns the task of a process.

    Raises:
        InvalidInput: a variable of the environment, or a capability, that cannot be.
    """
    environment: dict[bytes, bytes] = {}
    for item in process.env:
        name, equals, value = item.partition("=")
        if not name or not equals or "\0" in item:
            raise InvalidInput("not NAME=VALUE", where=f"process.env: {item}")
        environment[os.fsencode(name)] = os.fsencode(value)
    if process.user or b"HOME" not in environment:
        import wherry.runtime.users  # noqa: F401 for `become.identify`
    return Task(
        process=process,
        sets=_sets(process.capabilities),
        filter=program,
        environment=environment,
        stdio=None if process.terminal or stdio is None else (stdio.stdin_fd, stdio.stdout_fd, stdio.stderr_fd),
        channel_fd=channel_fd,
        keyring=keyring,
    )


def _sets(wanted: Capabilities) -> Sets:
    return Sets(
        bounding=capabilities.mask(wanted.bounding),
        effective=capabilities.mask(wanted.effective),
        permitted=capabilities.mask(wanted.permitted),
        inheritable=capabilities.mask(wanted.inheritable),
        ambient=capabilities.mask(wanted.ambient),
    )


def without_mknod(process: Process) -> Process:
    """Returns the process without CAP_MKNOD, for hosts on which nothing else keeps it from the host's devices."""

    def less(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if name != "CAP_MKNOD")

    sets = process.capabilities
    return replace(
        process,
        capabilities=Capabilities(
            bounding=less(sets.bounding),
            effective=less(sets.effective),
            permitted=less(sets.permitted),
            inheritable=less(sets.inheritable),
            ambient=less(sets.ambient),
        ),
    )


def need_stdio(process: Process, stdio: Stdio | None) -> None:
    """Refuses a process that would have nothing to read from and write to."""
    if stdio is None and not process.terminal:
        raise InvalidInput("a process without a terminal needs standard descriptors")
