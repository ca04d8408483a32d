"""``config.json`` of an OCI bundle: read into a `Spec`, and a `Spec` written as one.

Reading refuses every key that is not honoured, by its path: a runtime that ignores a limit or a mask has broken a
promise. A value that asks for nothing (an empty list, null) is let through.
Source: Runtime Specification 1.2.0, config.md, config-linux.md; JSON names are those of schema/config-schema.json.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from wherry.core import jsonio
from wherry.core.errors import InvalidInput, Unsupported
from wherry.runtime import config_seccomp
from wherry.runtime.resources import DeviceRule, Resources
from wherry.runtime.spec import (
    OCI_VERSION,
    Capabilities,
    Device,
    Mount,
    Namespace,
    Process,
    Rlimit,
    Spec,
)

T = TypeVar("T")
MAX_CONFIG_BYTES = 4 * 1024 * 1024
_MAX_SIGNED_RLIMIT = (1 << 63) - 1
_DEFAULT_MODE = 0o666
_NAMESPACES = (*(Namespace.PID, Namespace.NETWORK, Namespace.MOUNT, Namespace.IPC, Namespace.UTS, Namespace.CGROUP),)


class Config(NamedTuple):
    """A bundle's configuration."""

    spec: Spec
    root_path: str
    """As written: relative to the bundle, or absolute."""


class _Object:
    """One JSON object being read: every key is taken once, and what is left at the end is refused."""

    def __init__(self, value: Any, path: str, where: object) -> None:
        if not isinstance(value, dict):
            raise InvalidInput(f"{path or 'config'}: must be an object", where=where)
        self._left = {key: item for key, item in value.items() if item not in (None, [], {}, "")}
        self._path = path
        self._where = where

    def __enter__(self) -> _Object:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self._left:
            raise Unsupported(f"{self.at(min(self._left))}: this is not done yet", where=self._where)

    def at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def take(self, key: str, kind: type[T], default: T) -> T:
        value = self._left.pop(key, default)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise InvalidInput(f"{self.at(key)}: must be of type {kind.__name__}", where=self._where)
        return value

    def has(self, key: str) -> bool:
        return key in self._left

    def number(self, key: str) -> int | None:
        return self.take(key, int, 0) if key in self._left else None

    def strings(self, key: str) -> tuple[str, ...]:
        found = self.take(key, list, [])
        if not all(isinstance(item, str) for item in found):
            raise InvalidInput(f"{self.at(key)}: must be a list of strings", where=self._where)
        return tuple(found)

    def mapping(self, key: str) -> dict[str, str]:
        found = self.take(key, dict, {})
        if not all(isinstance(item, str) for item in found.values()):
            raise InvalidInput(f"{self.at(key)}: must map to strings", where=self._where)
        return found

    def below(self, key: str) -> _Object:
        return _Object(self.take(key, dict, {}), self.at(key), self._where)

    def each(self, key: str) -> list[_Object]:
        items = self.take(key, list, [])
        return [_Object(item, f"{self.at(key)}[{index}]", self._where) for index, item in enumerate(items)]

    def wrong(self, key: str, what: str) -> InvalidInput:
        return InvalidInput(f"{self.at(key)}: {what}", where=self._where)


def parse_config(data: bytes, *, where: object = None) -> Config:
    """Reads a ``config.json``.

    Raises:
        InvalidInput: it is malformed; names the key.
        Unsupported: it asks for something that is not done yet; names the key.
    """
    with _Object(jsonio.loads(data, where=where, max_bytes=MAX_CONFIG_BYTES), "", where) as top:
        version = top.take("ociVersion", str, "")
        if not version.startswith("1."):
            raise top.wrong("ociVersion", f"must be 1.x, not {version!r}")
        with top.below("root") as root:
            root_path, read_only = root.take("path", str, ""), root.take("readonly", bool, False)
        with top.below("process") as process, top.below("linux") as linux:
            with linux.below("resources") as resources:
                limits = _resources(resources)
            propagation = linux.take("rootfsPropagation", str, "rprivate")
            if propagation not in ("private", "rprivate"):
                raise Unsupported(f"linux.rootfsPropagation: {propagation} is not done yet", where=where)
            filters = linux.take("seccomp", dict, {}) if linux.has("seccomp") else None
            spec = Spec(
                process=_process(process),
                root_read_only=read_only,
                hostname=top.take("hostname", str, ""),
                domainname=top.take("domainname", str, ""),
                mounts=tuple(_mount(item) for item in top.each("mounts")),
                namespaces=dict(_namespace(item) for item in linux.each("namespaces")),
                resources=limits,
                cgroups_path=linux.take("cgroupsPath", str, ""),
                devices=tuple(_device(item) for item in linux.each("devices")),
                masked_paths=linux.strings("maskedPaths"),
                readonly_paths=linux.strings("readonlyPaths"),
                sysctl=linux.mapping("sysctl"),
                seccomp=None if filters is None else config_seccomp.parse(filters, where=where),
                annotations=top.mapping("annotations"),
            )
    return Config(spec, root_path)


def _process(found: _Object) -> Process:
    with found.below("user") as user, found.below("capabilities") as sets, found.below("consoleSize") as size:
        return Process(
            args=found.strings("args"),
            env=found.strings("env"),
            cwd=found.take("cwd", str, ""),
            uid=user.take("uid", int, 0),
            gid=user.take("gid", int, 0),
            additional_gids=tuple(user.take("additionalGids", list, [])),
            umask=user.number("umask"),
            capabilities=Capabilities(
                bounding=sets.strings("bounding"),
                effective=sets.strings("effective"),
                permitted=sets.strings("permitted"),
                inheritable=sets.strings("inheritable"),
                ambient=sets.strings("ambient"),
            ),
            no_new_privileges=found.take("noNewPrivileges", bool, False),
            rlimits=tuple(_rlimit(item) for item in found.each("rlimits")),
            oom_score_adj=found.number("oomScoreAdj"),
            terminal=found.take("terminal", bool, False),
            console_columns=size.take("width", int, 80),
            console_rows=size.take("height", int, 24),
        )


def _rlimit(item: _Object) -> Rlimit:
    def limit(key: str) -> int:
        value = item.take(key, int, 0)
        return -1 if value > _MAX_SIGNED_RLIMIT else value

    with item:
        return Rlimit(type=item.take("type", str, ""), soft=limit("soft"), hard=limit("hard"))


def _mount(item: _Object) -> Mount:
    with item:
        options = item.strings("options")
        bind = "bind" in options or "rbind" in options
        return Mount(
            destination=item.take("destination", str, ""),
            type="bind" if bind and item.take("type", str, "") in ("", "none", "bind") else item.take("type", str, ""),
            source=item.take("source", str, ""),
            options=options,
        )


def _namespace(item: _Object) -> tuple[str, str]:
    with item:
        kind = item.take("type", str, "")
        if kind not in _NAMESPACES:
            raise Unsupported(f"{item.at('type')}: a {kind} namespace is not done yet")
        return kind, item.take("path", str, "")


def _device(item: _Object) -> Device:
    with item:
        return Device(
            path=item.take("path", str, ""),
            type="c" if item.take("type", str, "c") in ("c", "u") else "b",
            major=item.take("major", int, 0),
            minor=item.take("minor", int, 0),
            file_mode=item.take("fileMode", int, _DEFAULT_MODE),
            uid=item.take("uid", int, 0),
            gid=item.take("gid", int, 0),
        )


def _resources(found: _Object) -> Resources:
    with found.below("memory") as memory, found.below("cpu") as cpu, found.below("pids") as pids:
        return Resources(
            memory_limit_bytes=memory.number("limit"),
            memory_swap_bytes=memory.number("swap"),
            cpu_shares=cpu.number("shares"),
            cpu_quota_us=cpu.number("quota"),
            cpu_period_us=cpu.number("period"),
            pids_limit=pids.number("limit"),
            devices=tuple(_device_rule(item) for item in found.each("devices")),
        )


def _device_rule(item: _Object) -> DeviceRule:
    with item:
        return DeviceRule(
            allow=item.take("allow", bool, False),
            type=item.take("type", str, "a"),
            major=_any(item.number("major")),
            minor=_any(item.number("minor")),
            access=item.take("access", str, "rwm"),
        )


def _any(number: int | None) -> int | None:
    return None if number is None or number < 0 else number


def serialize_config(spec: Spec, root_path: str) -> dict[str, Any]:
    """Returns a specification as the JSON value of a ``config.json``, for other runtimes and for people."""
    process, sets, limits = spec.process, spec.process.capabilities, spec.resources
    value: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "root": {"path": root_path, "readonly": spec.root_read_only},
        "process": {
            "args": list(process.args),
            "env": list(process.env),
            "cwd": process.cwd,
            "user": {
                "uid": process.uid,
                "gid": process.gid,
                "additionalGids": list(process.additional_gids),
                **_given(umask=process.umask),
            },
            "capabilities": {
                name: list(getattr(sets, name))
                for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
            },
            "noNewPrivileges": process.no_new_privileges,
            "rlimits": [{"type": item.type, "soft": item.soft, "hard": item.hard} for item in process.rlimits],
            "terminal": process.terminal,
        },
        "hostname": spec.hostname,
        "mounts": [
            {
                "destination": item.destination,
                "type": item.type,
                "source": item.source,
                "options": list(item.options),
            }
            for item in spec.mounts
        ],
        "linux": {
            "namespaces": [
                {"type": str(name), **({"path": path} if path else {})} for name, path in spec.namespaces.items()
            ],
            "resources": {
                "memory": _given(limit=limits.memory_limit_bytes, swap=limits.memory_swap_bytes),
                "cpu": _given(shares=limits.cpu_shares, quota=limits.cpu_quota_us, period=limits.cpu_period_us),
                "pids": _given(limit=limits.pids_limit),
                "devices": [
                    {
                        "allow": rule.allow,
                        "access": rule.access,
                        **_given(type=rule.type, major=rule.major, minor=rule.minor),
                    }
                    for rule in limits.devices
                ],
            },
            "devices": [
                {
                    "path": item.path,
                    "type": item.type,
                    "major": item.major,
                    "minor": item.minor,
                    "fileMode": item.file_mode,
                    "uid": item.uid,
                    "gid": item.gid,
                }
                for item in spec.devices
            ],
            "maskedPaths": list(spec.masked_paths),
            "readonlyPaths": list(spec.readonly_paths),
            "sysctl": dict(spec.sysctl),
            **_given(cgroupsPath=spec.cgroups_path or None),
        },
        "annotations": dict(spec.annotations),
    }
    if process.oom_score_adj is not None:
        value["process"]["oomScoreAdj"] = process.oom_score_adj
    if process.terminal:
        value["process"]["consoleSize"] = {"height": process.console_rows, "width": process.console_columns}
    if spec.domainname:
        value["domainname"] = spec.domainname
    if spec.seccomp is not None:
        value["linux"]["seccomp"] = config_seccomp.serialize(spec.seccomp)
    return value


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
