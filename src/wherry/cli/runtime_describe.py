"""``wherry runtime``: spec, a configuration to begin with, and features, what this runtime can do."""

from __future__ import annotations

import os

from wherry.core import jsonio
from wherry.core.errors import Conflict
from wherry.core.value import replace
from wherry.linux.capabilities import NAMES
from wherry.runtime import default
from wherry.runtime.resources import DeviceRule, Resources
from wherry.runtime.serialize import serialize_config
from wherry.runtime.spec import OCI_VERSION, Capabilities, IdMapping, Mount, Namespace, Process, Rlimit, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.arguments import Arguments
    from wherry.cli.runtime import Context

_FEW = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")


def spec_command(context: Context, found: Arguments) -> int:
    """Writes a configuration into a bundle."""
    path = os.path.join(found.text("bundle", "."), "config.json")
    text = jsonio.pretty(serialize_config(_spec(rootless=found.flag("rootless")), "rootfs")) + "\n"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise Conflict("there is a configuration already", where=path, hint="remove it first") from None
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    return 0


def _spec(*, rootless: bool) -> Spec:
    spec = Spec(
        process=Process(
            args=("sh",),
            env=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"),
            terminal=True,
            capabilities=Capabilities(bounding=_FEW, effective=_FEW, permitted=_FEW),
            rlimits=(Rlimit(type="RLIMIT_NOFILE", soft=1024, hard=1024),),
        ),
        root_read_only=True,
        hostname="wherry",
        mounts=default.mounts(),
        namespaces=default.NAMESPACES,
        resources=Resources(devices=(DeviceRule(allow=False),)),
        masked_paths=default.MASKED_PATHS,
        readonly_paths=default.READONLY_PATHS,
    )
    if not rootless:
        return spec
    spaces = {name: path for name, path in spec.namespaces.items() if name != Namespace.NETWORK}
    return replace(
        spec,
        namespaces={**spaces, Namespace.USER: ""},
        uid_mappings=(IdMapping(container_id=0, host_id=os.geteuid(), size=1),),
        gid_mappings=(IdMapping(container_id=0, host_id=os.getegid(), size=1),),
        resources=Resources(),
        mounts=tuple(_for_rootless(item) for item in spec.mounts if item.type != "cgroup"),
    )


def _for_rootless(item: Mount) -> Mount:
    """Returns a mount as it can be in a user namespace with one id, that has the host's network."""
    if item.type == "sysfs":
        return Mount(
            destination=item.destination,
            type="none",
            source="/sys",
            options=("rbind", "nosuid", "noexec", "nodev", "ro"),
        )
    return replace(item, options=tuple(option for option in item.options if not option.startswith("gid=")))


def features_command(context: Context, found: Arguments) -> int:
    """Prints what this runtime can do: Runtime Specification 1.2.0, features.md."""
    print(jsonio.pretty(_features()))
    return 0


def _features() -> dict[str, Any]:
    from wherry.linux.seccomp_profile import ARCHITECTURES, FLAGS, OPS
    from wherry.runtime.config_seccomp import ACTIONS
    from wherry.runtime.mountoptions import known_options
    from wherry.version import __version__

    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": list(known_options()),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": list(NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": list(ACTIONS),
                "operators": list(OPS),
                "archs": list(ARCHITECTURES),
                "knownFlags": list(FLAGS),
                "supportedFlags": list(FLAGS),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
        },
        "annotations": {"dev.wherry.version": __version__},
        "potentiallyUnsafeConfigAnnotations": [],
    }
