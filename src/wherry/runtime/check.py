"""What a specification must hold before anything is made for it.

`check_spec` and `check_process` are pure but for asking whether this host has a security module that is named.
"""

from __future__ import annotations

from wherry.core.errors import InvalidInput, Unsupported
from wherry.linux.attributes import RLIMITS, has_apparmor, has_selinux, processors
from wherry.runtime.cgroup_check import check_resources
from wherry.runtime.spec import Namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.runtime.spec import IdMapping, Process, Spec

_MAX_ID_CHARS = 1024
_MAX_HOST_NAME_BYTES = 64
_ID_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_IPC_SYSCTLS = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.")
_REFUSED_ANNOTATIONS = {
    "run.oci.keep_original_groups": "the caller's groups are never kept: name them with process.user.additionalGids",
    "run.oci.handler": "only programs of the container itself are run",
}
"""crun's own, which ask for what this runtime does not do: to overlook them would run something else than was asked."""
_UTS_SYSCTLS = ("kernel.domainname", "kernel.hostname")


def check_id(container_id: str) -> None:
    """Refuses what cannot be the name of a container, as it becomes a name of directories.

    Raises:
        InvalidInput: it cannot.
    """
    if _ID_CHARS.issuperset(container_id) and container_id[:1] not in ("", *".-+"):
        if len(container_id) > _MAX_ID_CHARS:
            raise InvalidInput(f"a container id has at most {_MAX_ID_CHARS} characters", where=container_id)
        return
    what = "a container id begins with a letter, a digit or '_'"
    for char in container_id:
        if char not in _ID_CHARS:
            what = f"invalid character `{repr(char)[1:-1]}` in the ID"  # crun's words, for who looks for them
            break
    raise InvalidInput(what, where=repr(container_id), hint="use letters, digits, '_', '+', '.' and '-'")


def check_spec(spec: Spec, container_id: str) -> None:
    """Refuses a specification that contradicts itself, or asks for what cannot be here.

    Raises:
        InvalidInput: a value is wrong; names it.
        Unsupported: it is right, but this host or this runtime cannot do it.
    """
    check_id(container_id)
    spaces = spec.namespaces
    if spaces.get(Namespace.MOUNT) != "":
        raise Unsupported(
            "linux.namespaces: a container needs a mount namespace of its own, neither shared nor joined",
            hint='add {"type": "mount"}',
        )
    if (spec.hostname or spec.domainname) and Namespace.UTS not in spaces:
        raise InvalidInput("hostname: a host name needs a uts namespace", hint='add {"type": "uts"}')
    for name in (spec.hostname, spec.domainname):
        if len(name.encode()) > _MAX_HOST_NAME_BYTES:
            raise InvalidInput(f"hostname: longer than {_MAX_HOST_NAME_BYTES} bytes", where=name)
    if spaces.get(Namespace.USER) == "":
        if not spec.uid_mappings or not spec.gid_mappings:
            raise InvalidInput("linux.uidMappings: a new user namespace needs ranges of user and group ids")
        _check_mappings("linux.uidMappings", spec.uid_mappings)
        _check_mappings("linux.gidMappings", spec.gid_mappings)
    elif (spec.uid_mappings or spec.gid_mappings) and Namespace.USER not in spaces:
        raise InvalidInput("linux.uidMappings: ranges of ids need a user namespace", hint='add {"type": "user"}')
    if spec.time_offsets and spaces.get(Namespace.TIME) != "":
        raise InvalidInput("linux.timeOffsets: offsets need a new time namespace", hint='add {"type": "time"}')
    for key in spec.sysctl:
        _check_sysctl(key, spec)
    if spec.intel_rdt is not None:
        raise Unsupported("linux.intelRdt: not done", hint="remove it, and set a schema of resctrl beside the runtime")
    if spec.mount_label and not has_selinux():
        raise Unsupported("linux.mountLabel: this host has no SELinux", hint="remove the label")
    for name, hint in _REFUSED_ANNOTATIONS.items():
        if spec.annotations.get(name, "0") != "0":
            raise Unsupported(f"annotations: {name} is not done", where=spec.annotations[name], hint=hint)
    check_process(spec.process)
    check_resources(spec.resources)


def _check_mappings(key: str, mappings: tuple[IdMapping, ...]) -> None:
    """Refuses ranges that overlap, as the kernel would, with a name."""
    for place in ("container_id", "host_id"):
        end = -1
        for first, size in sorted((getattr(item, place), item.size) for item in mappings):
            if first <= end:
                raise InvalidInput(f"{key}: two ranges overlap", where=first)
            end = first + size - 1


def _check_sysctl(key: str, spec: Spec) -> None:
    """Refuses what would change the host: only what belongs to a namespace of the container's own is set."""
    normal = key.replace("/", ".")
    if normal == "kernel.hostname" or (normal == "kernel.domainname" and spec.domainname not in ("", spec.sysctl[key])):
        raise InvalidInput("has a field of its own", where=f"sysctl: {key}", hint=f"use {normal.partition('.')[2]}")
    needs = None
    if normal.startswith("net."):
        needs = Namespace.NETWORK
    elif normal.startswith(_IPC_SYSCTLS):
        needs = Namespace.IPC
    elif normal in _UTS_SYSCTLS:
        needs = Namespace.UTS
    # A network namespace by a path is one that somebody made for this container; the host's own has no entry.
    theirs = needs is not None and needs in spec.namespaces and (needs != Namespace.UTS or not spec.namespaces[needs])
    if not theirs or ".." in normal:
        raise InvalidInput("not a setting of a namespace that the container has of its own", where=f"sysctl: {key}")


def check_process(process: Process) -> None:
    """Refuses a process that cannot be.

    Raises:
        InvalidInput: a value is wrong; names it.
        Unsupported: this host has no security module that it names a label of.
    """
    if not process.args:
        raise InvalidInput("no command", where="process.args")
    if not process.cwd.startswith("/"):
        raise InvalidInput("not an absolute path", where=f"process.cwd: {process.cwd!r}")
    if any("\0" in item for item in process.args):
        raise InvalidInput("a NUL character", where="process.args")
    for limit in process.rlimits:
        if limit.type not in RLIMITS:
            raise InvalidInput(f"no resource limit is called {limit.type!r}", where="process.rlimits")
        if limit.hard >= 0 and (limit.soft < 0 or limit.soft > limit.hard):
            raise InvalidInput(f"{limit.type}: soft is above hard", where="process.rlimits")
    for text in (process.cpu_affinity_initial, process.cpu_affinity_final):
        if text:
            processors(text)
    if process.apparmor_profile and not has_apparmor():
        raise Unsupported("process.apparmorProfile: this host has no AppArmor", hint="remove the profile")
    if process.selinux_label and not has_selinux():
        raise Unsupported("process.selinuxLabel: this host has no SELinux", hint="remove the label")
