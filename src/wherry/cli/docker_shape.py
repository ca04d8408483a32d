"""Containers in docker's JSON, for scripts that read ``.State.Running`` and ``.NetworkSettings.IPAddress``.

Source: Docker Engine API 1.45, "Inspect a container". What Wherry has not, such as ``Driver`` options, is left out
rather than made up; a key that is there means what docker's means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wherry.engine.logwriter import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.engine.info import ContainerInfo
    from wherry.engine.state import Paths
    from wherry.spec.container import PortMapping

ZERO_TIME = "0001-01-01T00:00:00Z"
"""Go's zero time: what docker writes for "never"."""
NS_PER_MS = 1_000_000


def inspected(paths: Paths, info: ContainerInfo) -> dict[str, Any]:
    """Returns a container as ``docker inspect`` prints it."""
    config, spec = info.config, info.config.spec
    return {
        "Id": info.id,
        "Created": format_time(info.created_s),
        "Path": config.argv[0] if config.argv else "",
        "Args": list(config.argv[1:]),
        "State": _state(info),
        "Image": f"sha256:{config.commit}" if config.commit else "",
        "ResolvConfPath": f"{paths.run_dir(info.id)}/etc/resolv.conf",
        "HostnamePath": f"{paths.run_dir(info.id)}/etc/hostname",
        "HostsPath": f"{paths.run_dir(info.id)}/etc/hosts",
        "LogPath": f"{paths.container(info.id)}/log/container.log",
        "Name": f"/{info.name}",
        "RestartCount": info.restarts,
        "Driver": "overlay",
        "Platform": "linux",
        "HostConfig": _host_config(info),
        "GraphDriver": {"Name": "overlay", "Data": {"UpperDir": f"{paths.container(info.id)}/upper"}},
        "Mounts": [_mount(paths, item) for item in config.mounts],
        "Config": {
            "Hostname": config.hostname,
            "User": config.user,
            "AttachStdin": False,
            "Tty": spec.tty,
            "OpenStdin": spec.stdin_open,
            "ExposedPorts": {f"{port.container_port}/{port.protocol}": {} for port in spec.ports},
            "Env": list(config.env),
            "Cmd": list(spec.args) if spec.args is not None else list(config.argv),
            "Healthcheck": _healthcheck(info),
            "Image": info.image,
            "WorkingDir": config.working_dir,
            "Entrypoint": list(spec.entrypoint) if spec.entrypoint else None,
            "Labels": dict(info.labels),
            "StopSignal": config.stop_signal,
            "StopTimeout": spec.stop_timeout_s,
        },
        "NetworkSettings": _network(paths, info),
    }


def _state(info: ContainerInfo) -> dict[str, Any]:
    state: dict[str, Any] = {
        "Status": info.status,
        "Running": info.status in ("running", "paused", "restarting"),
        "Paused": info.status == "paused",
        "Restarting": info.status == "restarting",
        "OOMKilled": info.oom_killed,
        "Dead": False,
        "Pid": info.pid,
        "ExitCode": info.exit_code or 0,
        "Error": info.error,
        "StartedAt": format_time(info.started_s) if info.started_s else ZERO_TIME,
        "FinishedAt": format_time(info.finished_s) if info.finished_s else ZERO_TIME,
    }
    if info.health:
        state["Health"] = {
            "Status": info.health,
            "FailingStreak": info.failing_streak,
            "Log": [
                {
                    "Start": format_time(probe.started_s),
                    "End": format_time(probe.finished_s),
                    "ExitCode": probe.exit_code,
                    "Output": probe.output,
                }
                for probe in info.probes
            ],
        }
    return state


def _host_config(info: ContainerInfo) -> dict[str, Any]:
    spec = info.config.spec
    limits = spec.resources
    return {
        "Binds": [
            f"{item.source}:{item.target}{':ro' if item.read_only else ''}"
            for item in info.config.mounts
            if item.type in ("bind", "volume")
        ],
        "NetworkMode": _mode(info),
        "PortBindings": bindings(spec.ports),
        "RestartPolicy": {"Name": str(spec.restart.name), "MaximumRetryCount": spec.restart.max_retries},
        "AutoRemove": spec.rm,
        "CapAdd": list(spec.cap_add) or None,
        "CapDrop": list(spec.cap_drop) or None,
        "Privileged": spec.privileged,
        "ReadonlyRootfs": spec.read_only,
        "Memory": limits.memory_bytes or 0,
        "MemoryReservation": limits.memory_reservation_bytes or 0,
        "MemorySwap": limits.memory_swap_bytes or 0,
        "NanoCpus": (limits.milli_cpus or 0) * NS_PER_MS,
        "CpuShares": limits.cpu_shares or 0,
        "CpuPeriod": limits.cpu_period_us or 0,
        "CpuQuota": limits.cpu_quota_us or 0,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "BlkioWeight": limits.blkio_weight or 0,
        "PidsLimit": limits.pids or 0,
        "LogConfig": {
            "Type": spec.log.driver,
            "Config": {"max-size": str(spec.log.max_bytes), "max-file": str(spec.log.files)},
        },
    }


def _mount(paths: Paths, item: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"Type": str(item.type)}
    if item.type == "volume":
        found["Name"] = item.source
        found["Source"] = f"{paths.volumes}/{item.source}/data"
        found["Driver"] = "local"
    else:
        found["Source"] = item.source
    return {**found, "Destination": item.target, "Mode": "ro" if item.read_only else "", "RW": not item.read_only}


def _healthcheck(info: ContainerInfo) -> dict[str, Any] | None:
    check = info.config.healthcheck
    if check is None:
        return None
    return {
        "Test": list(check.test),
        "Interval": check.interval_ms * NS_PER_MS,
        "Timeout": check.timeout_ms * NS_PER_MS,
        "StartPeriod": check.start_period_ms * NS_PER_MS,
        "Retries": check.retries,
    }


def _network(paths: Paths, info: ContainerInfo) -> dict[str, Any]:
    networks = _networks(paths, info)
    first = networks.get("bridge") or {}
    return {
        "Ports": bindings(info.ports) if info.pid else {},
        # docker's own, from the time of one network: the default one's, or nothing
        **{key: first.get(key, "" if key in _TEXTS else 0) for key in _OF_DEFAULT},
        "IPAddress": first.get("IPAddress", "") or info.ip,
        "SandboxKey": f"/proc/{info.pid}/ns/net" if info.pid else "",
        "Networks": networks,
    }


_OF_DEFAULT = (
    *("Gateway", "IPAddress", "IPPrefixLen", "MacAddress"),
    *("IPv6Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen"),
)
_TEXTS = frozenset({"Gateway", "IPAddress", "MacAddress", "IPv6Gateway", "GlobalIPv6Address"})


def _networks(paths: Paths, info: ContainerInfo) -> dict[str, Any]:
    """Returns a container's networks by name: what it has on each while it runs, and what it asked for."""
    from wherry.engine.net import connections, registry
    from wherry.engine.net.state import LiveNetworks

    asked = connections.attachments(paths, info.config)
    if not asked:
        return {info.config.spec.network: {}}
    known = {item.name: item.id for item in registry.every(paths)}
    lives = {live.name: live for live in LiveNetworks(paths).every()} if info.pid else {}
    found = {}
    for item in asked:
        live = lives.get(item.network)
        lease = live.leases.get(info.id) if live is not None else None
        own = {
            "IPAMConfig": {
                **({"IPv4Address": item.ip} if item.ip else {}),
                **({"IPv6Address": item.ip6} if item.ip6 else {}),
            }
            or None,
            "Aliases": list(dict.fromkeys((*info.config.spec.aliases, *item.aliases))),
            "NetworkID": known.get(item.network, ""),
            **dict.fromkeys(_OF_DEFAULT, ""),
            "IPPrefixLen": 0,
            "GlobalIPv6PrefixLen": 0,
            "MacAddress": item.mac,
            "DNSNames": [],
        }
        if live is not None and lease is not None:
            own |= {
                "Gateway": live.gateway,
                "IPAddress": lease.ip,
                "IPPrefixLen": _prefix(live.subnet),
                "IPv6Gateway": live.gateway6,
                "GlobalIPv6Address": lease.ip6,
                "GlobalIPv6PrefixLen": _prefix(live.subnet6) if lease.ip6 else 0,
                "MacAddress": lease.mac,
                "DNSNames": list(dict.fromkeys((*lease.names, info.id[:12], *filter(None, (lease.hostname,))))),
            }
        found[item.network] = own
    return found


def _prefix(subnet: str) -> int:
    return int(subnet.rpartition("/")[2]) if subnet else 0


def _mode(info: ContainerInfo) -> str:
    spec = info.config.spec
    return spec.networks[0].network if spec.networks else spec.network


def bindings(ports: tuple[PortMapping, ...]) -> dict[str, list[dict[str, str]]]:
    """Returns ports as docker's ``PortBindings``."""
    found: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        key = f"{port.container_port}/{port.protocol}"
        found.setdefault(key, []).append({"HostIp": port.host_ip, "HostPort": str(port.host_port)})
    return found


def listed(info: ContainerInfo, *, truncate: bool, networks: Iterable[str], size: str = "") -> dict[str, Any]:
    """Returns the fields of ``docker ps --format``."""
    import time

    from wherry.cli import container_list as show

    row = show.row(info, truncate=truncate)
    return {
        "Command": row[2],
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(info.created_s)),
        "ID": row[0],
        "Image": row[1],
        "Labels": ",".join(f"{key}={value}" for key, value in info.labels.items()),
        "LocalVolumes": str(sum(1 for item in info.config.mounts if item.type == "volume")),
        "Mounts": ",".join(item.source or item.target for item in info.config.mounts),
        "Names": info.name,
        "Networks": ",".join(networks),
        "Ports": row[5],
        "RunningFor": running_for(info),
        "Size": size,
        "State": info.status,
        "Status": show.status_text(info, span),
    }


def running_for(info: ContainerInfo) -> str:
    """Returns how long a container has been there, in docker's words: ``3 minutes ago``."""
    import time

    return f"{span(max(0.0, time.time() - info.created_s))} ago"


def span(seconds: float) -> str:
    """Returns a span of time in docker's words, for scripts that take them apart: tables here are shorter.

    Source: what ``docker ps`` prints (HumanDuration of its units).
    """
    minutes, hours = int(seconds / 60), int(seconds / 3600 + 0.5)
    if seconds < 2:
        return "1 second" if seconds >= 1 else "Less than a second"
    if minutes < 2:
        return f"{int(seconds)} seconds" if seconds < 60 else "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    for limit, unit_hours, unit in ((48, 1, "hours"), (336, 24, "days"), (1440, 168, "weeks"), (17520, 720, "months")):
        if hours < limit:
            return "About an hour" if hours == 1 else f"{hours // unit_hours} {unit}"
    return f"{int(seconds / 3600) // 8760} years"
