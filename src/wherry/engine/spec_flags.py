"""The flags of ``run`` that make such a container again: `ContainerSpec` to words, as ``container_spec`` reads them.

Pure. What no flag can say is refused by its name, never left out: a unit that starts another container than the one
that was tried is worse than none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from wherry.core.errors import Unsupported
from wherry.core.value import defaults_of, fields_of
from wherry.engine.net.request import HOST_GATEWAY, INTERFACE
from wherry.engine.spec import ContainerSpec
from wherry.spec.container import MountType

if TYPE_CHECKING:
    from wherry.engine.isolation import Isolation
    from wherry.engine.net.request import DnsSettings, NetworkAttachment
    from wherry.spec.container import DeviceRate, Healthcheck, Mount, PortMapping, Resources

HINT = "leave out --new"
_OF_THE_NETWORK = {"ip": "--ip", "ip6": "--ip6", "mac": "--mac-address", "alias": "--network-alias"}
ANYWHERE = ("", "0.0.0.0")  # noqa: S104 a comparison


def spec_flags(spec: ContainerSpec) -> list[str]:
    """Returns the flags of a request, without those of `ELSEWHERE`.

    Raises:
        Unsupported: something in it has no flag.
    """
    words: list[str] = []
    defaults = defaults_of(ContainerSpec)
    for field in fields_of(ContainerSpec):
        value = getattr(spec, field)
        if field in ELSEWHERE or value == defaults.get(field):
            continue
        flags = _FLAGS.get(field)
        if flags is None:
            raise _no_flag(f"a container's {field}")
        words += flags(value)
    return words


def _no_flag(what: str) -> Unsupported:
    return Unsupported(f"no flag of `wherry run` says {what}", hint=HINT)


def _each(flag: str) -> Callable[[Any], list[str]]:
    return lambda values: [word for value in values for word in (flag, str(value))]


def _one(flag: str) -> Callable[[Any], list[str]]:
    return lambda value: [flag, str(value)]


def _text(flag: str, field: str) -> Callable[[Any], list[str]]:
    """Returns a flag with a text of which "" means that it was not given."""

    def words(value: Any) -> list[str]:
        if not value:
            raise _no_flag(f"an empty {field}")
        return [flag, value]

    return words


def _switch(flag: str) -> Callable[[Any], list[str]]:
    return lambda value: [flag] if value else []


def _pairs(flag: str) -> Callable[[Any], list[str]]:
    return lambda values: [word for key, value in values.items() for word in (flag, f"{key}={value}")]


def _mounts(mounts: Iterable[Mount]) -> list[str]:
    return [word for mount in mounts for word in (_tmpfs(mount) if mount.type == MountType.TMPFS else _mount(mount))]


def _tmpfs(mount: Mount) -> list[str]:
    options = [f"size={mount.tmpfs_size_bytes}"] if mount.tmpfs_size_bytes is not None else []
    options += [f"mode={mount.tmpfs_mode:o}"] if mount.tmpfs_mode is not None else []
    options += ["ro"] if mount.read_only else []
    options += mount.tmpfs_options
    if ":" in mount.target:
        raise _no_flag(f"a tmpfs at {mount.target!r}")
    return ["--tmpfs", f"{mount.target}:{','.join(options)}" if options else mount.target]


def _mount(mount: Mount) -> list[str]:
    if mount.overlaid:
        if ":" in f"{mount.source}{mount.target}":
            raise _no_flag(f"an overlay at {mount.target!r}")
        return ["-v", f"{mount.source}:{mount.target}:{'nocopy,O' if mount.no_copy else 'O'}"]
    plain = not mount.propagation and mount.recursive == "enabled" and not mount.no_copy and not mount.subpath
    if plain and ":" not in f"{mount.source}{mount.target}":
        source = f"{mount.source}:" if mount.source else ""
        if source or not mount.read_only:
            return ["-v", f"{source}{mount.target}{':ro' if mount.read_only else ''}"]
    parts = [f"type={mount.type}", *([f"source={mount.source}"] if mount.source else []), f"target={mount.target}"]
    parts += ["readonly"] if mount.read_only else []
    parts += [f"bind-propagation={mount.propagation}"] if mount.propagation else []
    parts += [f"bind-recursive={mount.recursive}"] if mount.recursive != "enabled" else []
    parts += ["volume-nocopy"] if mount.no_copy else []
    parts += [f"volume-subpath={mount.subpath}"] if mount.subpath else []
    if any("," in part for part in parts):
        raise _no_flag(f"a mount with a comma: {mount.target!r}")
    if mount.type == MountType.VOLUME and mount.recursive != "enabled":
        raise _no_flag("a volume without the mounts below it")
    if mount.type == MountType.VOLUME and mount.propagation:
        raise _no_flag("a volume's propagation")
    return ["--mount", ",".join(parts)]


def _ports(ports: Iterable[PortMapping]) -> list[str]:
    words: list[str] = []
    for port in ports:
        ip = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip
        address = "" if port.host_ip in ANYWHERE else f"{ip}:"
        host = f"{port.host_port}:" if port.host_port else ":" if address else ""
        words += ["-p", f"{address}{host}{port.container_port}/{port.protocol}"]
    return words


def _networks(networks: Iterable[NetworkAttachment]) -> list[str]:
    words: list[str] = []
    every = list(networks)
    for item in every:
        values = [(key, getattr(item, key)) for key in ("ip", "ip6", "mac") if getattr(item, key)]
        values += [("alias", alias) for alias in item.aliases]
        if not values:
            words += ["--network", item.network]
        elif item.network.startswith(INTERFACE):
            if len(every) > 1:  # the flags are of the only network
                raise _no_flag(f"an address of {item.network} beside other networks")
            words += ["--network", item.network]
            words += [word for key, value in values for word in (_OF_THE_NETWORK[key], value)]
        else:
            named = ",".join((f"name={item.network}", *(f"{key}={value}" for key, value in values)))
            words += ["--network", named]
    return words


def _dns(dns: DnsSettings) -> list[str]:
    pairs = (("--dns", dns.servers), ("--dns-search", dns.search), ("--dns-option", dns.options))
    return [word for flag, values in pairs for value in values for word in (flag, value)]


def _hosts(lines: Iterable[str]) -> list[str]:
    words: list[str] = []
    for line in lines:
        address, tab, name = line.partition("\t")
        if not tab or not name or any(char in name for char in "=: \t"):
            raise _no_flag(f"a line {line!r} of /etc/hosts")
        words += ["--add-host", f"{name}={HOST_GATEWAY if address == HOST_GATEWAY else address}"]
    return words


_LIMITS = (
    ("memory_bytes", "--memory"),
    ("memory_reservation_bytes", "--memory-reservation"),
    ("memory_swap_bytes", "--memory-swap"),
    ("memory_swappiness", "--memory-swappiness"),
    ("pids", "--pids-limit"),
    ("cpu_shares", "--cpu-shares"),
    ("cpu_period_us", "--cpu-period"),
    ("cpu_quota_us", "--cpu-quota"),
    ("cpu_rt_period_us", "--cpu-rt-period"),
    ("cpu_rt_runtime_us", "--cpu-rt-runtime"),
    ("cpuset_cpus", "--cpuset-cpus"),
    ("cpuset_mems", "--cpuset-mems"),
    ("blkio_weight", "--blkio-weight"),
)
_RATES = (
    ("blkio_device_weights", "--blkio-weight-device"),
    ("device_read_bps", "--device-read-bps"),
    ("device_write_bps", "--device-write-bps"),
    ("device_read_iops", "--device-read-iops"),
    ("device_write_iops", "--device-write-iops"),
)


def _resources(limits: Resources) -> list[str]:
    words: list[str] = []
    for field, flag in _LIMITS:
        value = getattr(limits, field)
        if value not in (None, ""):
            words += [flag, str(value)]
    if limits.milli_cpus is not None:
        words += ["--cpus", f"{limits.milli_cpus // 1000}.{limits.milli_cpus % 1000:03}"]
    words += ["--oom-kill-disable"] if limits.oom_kill_disable else []
    for field, flag in _RATES:
        rates: Iterable[DeviceRate] = getattr(limits, field)
        words += [word for item in rates for word in (flag, f"{item.path}:{item.rate}")]
    return words


def _isolation(parts: Isolation) -> list[str]:
    if parts.seccomp_profile:
        # its file may have gone, or have changed: the unit would be for another filter
        raise _no_flag("a filter of system calls without its file")
    words: list[str] = []
    for flag, mode in (("pid", parts.pid), ("ipc", parts.ipc), ("uts", parts.uts), ("cgroupns", parts.cgroup)):
        words += [f"--{flag}", mode] if mode != "private" else []
    if parts.auto_ids:
        words += ["--userns", f"auto:size={parts.auto_ids}"]  # another range each time, as `auto` means
    else:
        for flag, ranges in (("--uidmap", parts.uids), ("--gidmap", parts.gids)):
            words += _each(flag)(f"{item.container_id}:{item.host_id}:{item.size}" for item in ranges)
    options = [f"apparmor={parts.apparmor}"] if parts.apparmor else []
    for word, paths in (("mask", parts.masked), ("unmask", parts.unmasked)):
        if any(":" in path for path in paths):
            raise _no_flag(f"a path with a colon to {word}")
        options += [f"{word}={path}" for path in paths]
    return [*words, *_each("--security-opt")(options)]


def _number(value: int | None) -> str:
    return "*" if value is None else str(value)


def _device_rules(rules: Iterable[Any]) -> Iterator[str]:
    for rule in rules:
        if not rule.allow:
            raise _no_flag("a device that is forbidden")
        yield f"{rule.type} {_number(rule.major)}:{_number(rule.minor)} {rule.access}"


def _health(check: Healthcheck) -> list[str]:
    if check.test[:1] == ("NONE",):
        return ["--no-healthcheck"]
    if check.test and check.test[0] != "CMD-SHELL":
        raise _no_flag("a health check that is no shell command")
    return [
        *(("--health-cmd", check.test[1]) if check.test else ()),
        *("--health-interval", f"{check.interval_ms}ms", "--health-timeout", f"{check.timeout_ms}ms"),
        *("--health-retries", str(check.retries)),
        *(("--health-start-period", f"{check.start_period_ms}ms") if check.start_period_ms else ()),
        *("--health-start-interval", f"{check.start_interval_ms}ms"),
    ]


def _log(log: Any) -> list[str]:
    if log.driver == "none":
        return ["--log-driver", "none"]
    return ["--log-opt", f"max-size={log.max_bytes}", "--log-opt", f"max-file={log.files}"]


def _labels(labels: Mapping[str, str]) -> list[str]:
    return _pairs("--label")(labels)


ELSEWHERE = ("image", "rootfs", "rootfs_direct", "name", "args", "entrypoint", "rm", "restart")
"""What is said by other words than flags, or is systemd's own: the restart policy."""
_FLAGS: dict[str, Callable[[Any], list[str]]] = {
    "platform": _one("--platform"),
    "env": _pairs("-e"),
    "secret_env": lambda items: _each("--secret")(f"{name},type=env,target={key}" for key, name in items.items()),
    "mounts": _mounts,
    "ports": _ports,
    "network": _one("--network"),
    "networks": _networks,
    "expose": _each("--expose"),
    "publish_all": _switch("--publish-all"),
    "dns": _dns,
    "add_hosts": _hosts,
    "aliases": _each("--network-alias"),
    "hostname": _one("--hostname"),
    "domainname": _one("--domainname"),
    "no_hosts": _switch("--no-hosts"),
    "resources": _resources,
    "cap_add": _each("--cap-add"),
    "cap_drop": _each("--cap-drop"),
    "privileged": _switch("--privileged"),
    "no_new_privileges": lambda value: ["--security-opt", f"no-new-privileges={'true' if value else 'false'}"],
    "seccomp": lambda value: [] if value else ["--security-opt", "seccomp=unconfined"],
    "isolation": _isolation,
    "devices": lambda items: _each("--device")(f"{item.source}:{item.target}:{item.access}" for item in items),
    "device_rules": lambda rules: _each("--device-cgroup-rule")(_device_rules(rules)),
    "ulimits": lambda items: _each("--ulimit")(f"{item.name}={item.soft}:{item.hard}" for item in items),
    "sysctls": _pairs("--sysctl"),
    "shm_bytes": _one("--shm-size"),
    "oom_score_adj": _one("--oom-score-adj"),
    "cgroup_parent": _one("--cgroup-parent"),
    "cpu_affinity": lambda cpus: ["--cpu-affinity", ",".join(map(str, cpus))],
    "init": _switch("--init"),
    "usedev": _switch("--usedev"),
    "debugfs": _switch("--debugfs"),
    "group_add": _each("--group-add"),
    "umask": lambda mask: ["--umask", f"{mask:o}"],
    "annotations": _pairs("--annotation"),
    "pid_file": _one("--pidfile"),
    "user": _text("--user", "user"),
    "working_dir": _text("--workdir", "working directory"),
    "read_only": _switch("--read-only"),
    "healthcheck": _health,
    "labels": _labels,
    "tty": _switch("--tty"),
    "stdin_open": _switch("--interactive"),
    "log": _log,
    "stop_signal": _one("--stop-signal"),
    "stop_timeout_s": lambda value: ["--stop-timeout", str(value)],
}
