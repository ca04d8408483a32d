"""``config.json`` of an OCI bundle, read into a `Spec`; ``serialize.py`` writes it.

Reading refuses every key that is not honoured, by its path; what the specification does not know is told of and
ignored, as it asks for, where there is somebody to tell. What each part of the specification is read by:
``config_process.py`` the process, ``config_resources.py`` the limits, ``config_seccomp.py`` the filter.
Source: Runtime Specification 1.2.0, config.md, config-linux.md; JSON names are those of schema/config-schema.json.
"""

from __future__ import annotations

from wherry.core import jsonio
from wherry.core.errors import InvalidInput
from wherry.core.value import Value
from wherry.runtime.config_process import MAX_CONFIG_BYTES, parse_process_object
from wherry.runtime.config_resources import parse_resources_object
from wherry.runtime.reader import Reader
from wherry.runtime.spec import (
    Device,
    Hook,
    Hooks,
    IdMapping,
    IntelRdt,
    Mount,
    Namespace,
    Personality,
    Spec,
    TimeOffset,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_ID_MAPPINGS = 340
"""As the kernel has it: user_namespaces(7)."""
_DEFAULT_MODE = 0o666
_NAMESPACES = (
    *(Namespace.PID, Namespace.NETWORK, Namespace.MOUNT, Namespace.IPC, Namespace.UTS, Namespace.CGROUP),
    *(Namespace.USER, Namespace.TIME),
)
_NEWER = ("netDevices", "memoryPolicy")
"""Of specification 1.3: known enough not to be ignored."""
_OTHER_PLATFORMS = ("vm", "windows", "solaris", "zos")
_PROPAGATIONS = ("shared", "slave", "private", "unbindable")
_BIND_TYPES = ("", "none", "bind")


class Config(Value):
    """A bundle's configuration."""

    spec: Spec
    root_path: str
    """As written: relative to the bundle, or absolute."""


def parse_config(data: bytes, *, where: object = None, warn: Callable[[str], None] | None = None) -> Config:
    """Reads a ``config.json``.

    Args:
        data: the file's content.
        where: the file, for messages.
        warn: told of keys and capabilities that are not known, which are ignored then; without it they are errors.

    Raises:
        InvalidInput: it is malformed; names the key.
        Unsupported: it asks for something that is not done here; names the key.
    """
    return parse_config_value(jsonio.loads(data, where=where, max_bytes=MAX_CONFIG_BYTES), where=where, warn=warn)


def parse_config_value(value: Any, *, where: object = None, warn: Callable[[str], None] | None = None) -> Config:
    """Reads the JSON value of a ``config.json``; see `parse_config`."""
    with Reader(value, "", where, warn) as top:
        for other in _OTHER_PLATFORMS:
            if top.has(other):
                raise top.unsupported(other, "this runtime makes Linux containers")
        version = top.text("ociVersion")
        if not version.startswith("1."):
            raise top.wrong("ociVersion", f"must be 1.x, not {version!r}")
        with top.below("root") as root:
            root_path, read_only = root.text("path"), root.flag("readonly")
        with top.below("linux") as linux, linux.below("resources") as limits:
            for key in _NEWER:
                if linux.has(key):
                    raise linux.unsupported(key, "it is of a later specification, and not done")
            seccomp = None
            if linux.has("seccomp"):
                from wherry.runtime import config_seccomp

                seccomp = config_seccomp.parse(linux.take("seccomp", dict, {}), where=where)
            spec = Spec(
                process=parse_process_object(top.below("process")),
                root_read_only=read_only,
                hostname=top.text("hostname"),
                domainname=top.text("domainname"),
                mounts=tuple(_mount(item) for item in top.each("mounts")),
                namespaces=_namespaces(linux),
                uid_mappings=_mappings(linux, "uidMappings"),
                gid_mappings=_mappings(linux, "gidMappings"),
                time_offsets=_time_offsets(linux),
                resources=parse_resources_object(limits),
                cgroups_path=linux.text("cgroupsPath"),
                rootfs_propagation=_propagation(linux),
                devices=tuple(_device(item) for item in linux.each("devices")),
                masked_paths=linux.strings("maskedPaths"),
                readonly_paths=linux.strings("readonlyPaths"),
                mount_label=linux.text("mountLabel"),
                sysctl=linux.mapping("sysctl"),
                seccomp=seccomp,
                personality=_personality(linux),
                intel_rdt=_intel_rdt(linux),
                hooks=parse_hooks_object(top.below("hooks")),
                annotations=top.mapping("annotations"),
            )
    return Config(spec=spec, root_path=root_path)


def parse_hooks_object(found: Reader) -> Hooks:
    """Reads the ``hooks``."""
    with found:
        return Hooks(
            prestart=_hooks(found, "prestart"),
            create_runtime=_hooks(found, "createRuntime"),
            create_container=_hooks(found, "createContainer"),
            start_container=_hooks(found, "startContainer"),
            poststart=_hooks(found, "poststart"),
            poststop=_hooks(found, "poststop"),
        )


def _hooks(found: Reader, key: str) -> tuple[Hook, ...]:
    return tuple(_hook(item) for item in found.each(key))


def _hook(item: Reader) -> Hook:
    with item:
        path = item.text("path")
        if not path.startswith("/"):
            raise item.wrong("path", f"must be absolute, not {path!r}")
        return Hook(
            path=path,
            args=item.strings("args"),
            env=item.strings("env"),
            timeout_s=item.number("timeout", low=1, high=(1 << 31) - 1),
        )


def _mount(item: Reader) -> Mount:
    with item:
        options = item.strings("options")
        kind = item.text("type")
        if kind in _BIND_TYPES and (kind == "bind" or "bind" in options or "rbind" in options):
            kind = "bind"
        return Mount(
            destination=item.text("destination"),
            type=kind,
            source=item.text("source"),
            options=options,
            uid_mappings=_mappings(item, "uidMappings"),
            gid_mappings=_mappings(item, "gidMappings"),
        )


def _namespaces(linux: Reader) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in linux.each("namespaces"):
        with item:
            kind, path = item.text("type"), item.text("path")
            if kind not in _NAMESPACES:
                raise item.wrong("type", f"no kind of namespace: {kind!r}")
            if kind in found:
                raise item.wrong("type", f"the {kind} namespace stands twice")
            if path and not path.startswith("/"):
                raise item.wrong("path", f"must be absolute, not {path!r}")
            found[kind] = path
    return found


def _mappings(found: Reader, key: str) -> tuple[IdMapping, ...]:
    items = found.each(key)
    if len(items) > MAX_ID_MAPPINGS:
        raise found.wrong(key, f"more than {MAX_ID_MAPPINGS} ranges")
    mappings = []
    for item in items:
        with item:
            size = item.natural("size")
            if not size:
                raise item.wrong("size", "must be at least 1")
            mappings.append(
                IdMapping(container_id=item.natural("containerID"), host_id=item.natural("hostID"), size=size)
            )
    return tuple(mappings)


def _time_offsets(linux: Reader) -> dict[str, TimeOffset]:
    offsets = {}
    for clock, item in linux.objects("timeOffsets").items():
        with item:
            if clock not in ("monotonic", "boottime"):
                raise linux.wrong(f"timeOffsets.{clock}", "only monotonic and boottime have an offset")
            offsets[clock] = TimeOffset(
                secs=item.take("secs", int, 0), nanosecs=item.natural("nanosecs", high=999_999_999)
            )
    return offsets


def _propagation(linux: Reader) -> str:
    found = linux.text("rootfsPropagation")
    if found and found not in _PROPAGATIONS and found.removeprefix("r") not in _PROPAGATIONS:
        raise linux.wrong("rootfsPropagation", f"no kind of propagation: {found!r}")
    return found


def _device(item: Reader) -> Device:
    with item:
        kind = item.text("type")
        if kind not in ("c", "u", "b", "p"):
            raise item.wrong("type", f"must be c, u, b or p, not {kind!r}")
        path = item.text("path")
        if not path.startswith("/"):
            raise item.wrong("path", f"must be absolute, not {path!r}")
        return Device(
            path=path,
            type="c" if kind == "u" else kind,
            major=item.natural("major"),
            minor=item.natural("minor"),
            file_mode=item.natural("fileMode", _DEFAULT_MODE) & 0o7777,
            uid=item.natural("uid"),
            gid=item.natural("gid"),
        )


def _personality(linux: Reader) -> Personality | None:
    if not linux.has("personality"):
        return None
    with linux.below("personality") as item:
        domain = item.text("domain")
        if domain not in ("LINUX", "LINUX32"):
            raise item.wrong("domain", f"must be LINUX or LINUX32, not {domain!r}")
        if item.has("flags"):
            raise item.unsupported("flags", "the specification has no flags yet")
        return Personality(domain=domain)


def _intel_rdt(linux: Reader) -> IntelRdt | None:
    if not linux.has("intelRdt"):
        return None
    with linux.below("intelRdt") as item:
        return IntelRdt(
            clos_id=item.text("closID"),
            l3_cache_schema=item.text("l3CacheSchema"),
            mem_bw_schema=item.text("memBwSchema"),
            enable_cmt=item.flag("enableCMT"),
            enable_mbm=item.flag("enableMBM"),
        )


def root_path_of(config: Config, bundle: str) -> str:
    """Returns where a bundle's root tree is.

    Raises:
        InvalidInput: the configuration names none.
    """
    if not config.root_path:
        raise InvalidInput("root.path: a container needs a root file system", where=bundle)
    return config.root_path if config.root_path.startswith("/") else f"{bundle}/{config.root_path}"
