"""What a specification must hold before anything is made for it. Pure."""

from __future__ import annotations

from wherry.core.errors import InvalidInput, Unsupported
from wherry.runtime.spec import Namespace, Process, Spec

_MAX_ID_CHARS = 128


def check_spec(spec: Spec, container_id: str) -> None:
    """Refuses a specification that contradicts itself, or asks for what is not done.

    Raises:
        InvalidInput: a value is wrong; names it.
        Unsupported: it is right, but not done yet.
    """
    plain = container_id.replace("-", "").replace("_", "").replace(".", "")
    if not plain.isalnum() or not container_id[0].isalnum() or len(container_id) > _MAX_ID_CHARS:
        raise InvalidInput("a container id is letters, digits, '_', '.' and '-'", where=container_id)
    if spec.namespaces.get(Namespace.MOUNT) != "":
        raise Unsupported("a container needs a mount namespace of its own")
    if spec.namespaces.get(Namespace.PID) or spec.namespaces.get(Namespace.CGROUP):
        raise Unsupported("joining a pid or cgroup namespace is not done yet")
    if (spec.hostname or spec.domainname) and Namespace.UTS not in spec.namespaces:
        raise InvalidInput("a host name needs a uts namespace")
    for key in spec.sysctl:
        _check_sysctl(key, spec)
    check_process(spec.process)


def _check_sysctl(key: str, spec: Spec) -> None:
    """Refuses what would change the host: only what belongs to a namespace of the container's own is set."""
    normal = key.replace("/", ".")
    needs = None
    if normal.startswith("net."):
        needs = Namespace.NETWORK
    elif normal.startswith(("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.")):
        needs = Namespace.IPC
    if needs is None or ".." in normal or spec.namespaces.get(needs) != "":
        raise InvalidInput("not a setting of a namespace that the container has of its own", where=f"sysctl: {key}")


def check_process(process: Process) -> None:
    """Refuses a process that cannot be.

    Raises:
        InvalidInput: a value is wrong; names it.
    """
    if not process.args:
        raise InvalidInput("no command", where="process.args")
    if not process.cwd.startswith("/"):
        raise InvalidInput("not an absolute path", where=f"process.cwd: {process.cwd}")
    if any("\0" in item for item in process.args):
        raise InvalidInput("a NUL character", where="process.args")
