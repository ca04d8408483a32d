"""From a service to what is asked of the engine; reads the files that the service names, and changes nothing.

What another service's container has to be there for (its namespaces, its mounts) comes by a `Peers`; for the hash by
which a change is seen, a name stands for it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

from wherry.core import jsonio
from wherry.core.errors import InvalidInput
from wherry.core.units import parse_duration_ms
from wherry.core.value import replace
from wherry.engine import words as docker
from wherry.engine.compose import labels, words
from wherry.engine.compose.granted import granted_files
from wherry.engine.compose.model import (
    SHARED,
    Project,
    container_name,
    network_name,
    networks_of,
    volume_name,
)
from wherry.engine.isolation import DeviceMapping, Isolation, Ulimit
from wherry.engine.net.request import DnsSettings, NetworkAttachment
from wherry.engine.spec import DEFAULT_STOP_TIMEOUT_S, ContainerSpec
from wherry.engine.state import Paths
from wherry.spec.container import DeviceRate, Healthcheck, Mount, MountType, PortMapping, Resources
from wherry.spec.values import encode

Peers = Callable[[str], str]
"""Service -> the id of its first container."""
_EVERYWHERE = "0.0.0.0"  # noqa: S104 docker's default for a published port


def container_spec(paths: Paths, project: Project, name: str, number: int, peers: Peers) -> ContainerSpec:
    """Returns what a service's container is asked to be.

    Args:
        paths: of the engine root.
        project: of the service.
        name: the service.
        number: of the container, from one.
        peers: of the services whose namespaces it shares.

    Raises:
        InvalidInput: a value cannot be; names the service and its place.
        NotFound: a file that it names is not there.
    """
    service = project.services[name]
    try:
        spec = _spec(paths, project, name, service, number, peers)
    except InvalidInput as error:
        if error.where is not None:
            raise
        raise InvalidInput(
            f"services.{name}: {error.what}", where=project.place("services", name), hint=error.hint
        ) from None
    return replace(
        spec,
        name=container_name(project, name, number),
        labels={**spec.labels, **labels.of_container(project, name, number, config_hash(paths, project, name))},
    )


def config_hash(paths: Paths, project: Project, name: str) -> str:
    """Returns what tells whether a container is what its service says; its number and its image's content apart."""
    spec = _spec(paths, project, name, project.services[name], 1, lambda other: f"of-service-{other}")
    return hashlib.sha256(jsonio.canonical(encode(spec))).hexdigest()


def _spec(
    paths: Paths, project: Project, name: str, service: Mapping[str, Any], number: int, peers: Peers
) -> ContainerSpec:
    security = docker.security(_at(project, item) for item in service.get("security_opt", ()))
    network, joined = _networks(project, name, service, peers)
    own = {"hostname": service.get("hostname", ""), "domainname": service.get("domainname", "")}
    command = service.get("command")
    entrypoint = service.get("entrypoint")
    return ContainerSpec(
        image=service["image"],
        platform=service.get("platform", ""),
        args=tuple(command) if command else None,
        entrypoint=None if entrypoint is None else tuple(entrypoint),
        env=dict(service.get("environment", {})),
        mounts=_mounts(paths, project, service),
        ports=_ports(service, number),
        network=network,
        networks=joined,
        expose=tuple(service.get("expose", ())),
        dns=DnsSettings(
            servers=tuple(service.get("dns", ())),
            search=tuple(service.get("dns_search", ())),
            options=tuple(service.get("dns_opt", ())),
        ),
        add_hosts=tuple(
            f"{address}\t{host}" for host, every in service.get("extra_hosts", {}).items() for address in every
        ),
        **own,
        resources=_resources(service),
        cap_add=tuple(service.get("cap_add", ())),
        cap_drop=tuple(service.get("cap_drop", ())),
        privileged=service.get("privileged", False),
        no_new_privileges=security.no_new_privileges,
        seccomp=security.seccomp,
        isolation=Isolation(
            pid=_namespace(service.get("pid", "private"), peers),
            ipc=_namespace(service.get("ipc", "private"), peers),
            uts=service.get("uts", "private"),
            cgroup=service.get("cgroup", "private"),
            seccomp_profile=security.seccomp_profile,
            apparmor=security.apparmor,
            masked=security.masked,
            unmasked=security.unmasked,
        ),
        devices=tuple(
            DeviceMapping(source=item["source"], target=item["target"], access=item["permissions"])
            for item in service.get("devices", ())
        ),
        device_rules=tuple(docker.device_rule(item) for item in service.get("device_cgroup_rules", ())),
        ulimits=tuple(
            Ulimit(name=key, soft=item["soft"], hard=item["hard"]) for key, item in service.get("ulimits", {}).items()
        ),
        sysctls=dict(service.get("sysctls", {})),
        shm_bytes=int(service["shm_size"]) if "shm_size" in service else None,
        oom_score_adj=service.get("oom_score_adj"),
        cgroup_parent=service.get("cgroup_parent", ""),
        init=service.get("init", False),
        group_add=tuple(service.get("group_add", ())),
        annotations=dict(service.get("annotations", {})),
        user=service.get("user") or None,
        working_dir=service.get("working_dir"),
        read_only=service.get("read_only", False),
        restart=words.restart_policy(service),
        healthcheck=_healthcheck(service.get("healthcheck")),
        labels=dict(service.get("labels", {})),
        tty=service.get("tty", False),
        stdin_open=service.get("stdin_open", False),
        log=words.logging(service.get("logging", {})),
        stop_signal=service.get("stop_signal", ""),
        stop_timeout_s=words.seconds(service["stop_grace_period"])
        if "stop_grace_period" in service
        else DEFAULT_STOP_TIMEOUT_S,
    )


def _at(project: Project, option: str) -> str:
    """Returns an option of security with the path of its profile made absolute."""
    for head in ("seccomp=", "seccomp:"):
        rest = option.removeprefix(head)
        if option.startswith(head) and rest not in ("unconfined", "builtin"):
            return head + os.path.join(project.directory, rest)
    return option


def _namespace(mode: str, peers: Peers) -> str:
    return f"container:{peers(mode.removeprefix(SHARED))}" if mode.startswith(SHARED) else mode


def _networks(
    project: Project, name: str, service: Mapping[str, Any], peers: Peers
) -> tuple[str, tuple[NetworkAttachment, ...]]:
    mode = service.get("network_mode")
    if mode is not None:
        return _namespace(mode, peers), ()
    further = _link_aliases(project, name)
    found: list[NetworkAttachment] = []
    for key, given in networks_of(service).items():
        mac = given.get("mac_address") or (service.get("mac_address", "") if not found else "")
        names = (name, *given.get("aliases", ()), *further)
        found.append(
            NetworkAttachment(
                network=network_name(project, key),
                ip=given.get("ipv4_address", ""),
                ip6=given.get("ipv6_address", ""),
                mac=mac,
                aliases=tuple(dict.fromkeys(names)),
            )
        )
    return "bridge", tuple(found)


def _link_aliases(project: Project, name: str) -> list[str]:
    """Returns the names that other services' ``links`` give a service."""
    found = []
    for other in project.services.values():
        for item in other.get("links", ()):
            target, colon, alias = item.partition(":")
            if target == name and colon:
                found.append(alias)
    return sorted(found)


def _ports(service: Mapping[str, Any], number: int) -> tuple[PortMapping, ...]:
    found = []
    for item in service.get("ports", ()):
        first, dash, last = item.get("published", "0").partition("-")
        host = int(first or 0) + (number - 1 if dash else 0)
        if dash and host > int(last):
            raise InvalidInput(f"the range {item['published']} has no port for container {number}")
        protocol: Literal["tcp", "udp"] = "udp" if item["protocol"] == "udp" else "tcp"
        found.append(
            PortMapping(
                container_port=item["target"],
                host_port=host,
                host_ip=item.get("host_ip", _EVERYWHERE),
                protocol=protocol,
            )
        )
    return tuple(found)


def _mounts(paths: Paths, project: Project, service: Mapping[str, Any]) -> tuple[Mount, ...]:
    found: dict[str, Mount] = {}
    for item in service.get("tmpfs", ()):
        mount = docker.tmpfs(item)
        found[mount.target] = mount
    for item in service.get("volumes", ()):
        found[item["target"]] = _mount(project, item)
    for file in granted_files(paths, project, service):
        found[file.target] = Mount(type=MountType.BIND, source=file.source, target=file.target, read_only=True)
    return tuple(found.values())


def _mount(project: Project, item: Mapping[str, Any]) -> Mount:
    read_only = item.get("read_only", False)
    if item["type"] == "tmpfs":
        given = item.get("tmpfs", {})
        return Mount(
            type=MountType.TMPFS,
            target=item["target"],
            read_only=read_only,
            tmpfs_size_bytes=int(given["size"]) if "size" in given else None,
            tmpfs_mode=int(given["mode"], 8) if "mode" in given else None,
        )
    if item["type"] == "bind":
        given = item.get("bind", {})
        return Mount(
            type=MountType.BIND,
            source=item["source"],
            target=item["target"],
            read_only=read_only,
            propagation=given.get("propagation", ""),
            recursive=given.get("recursive", "enabled"),
        )
    source = item.get("source", "")
    return Mount(
        type=MountType.VOLUME,
        source=volume_name(project, source) if source else "",
        target=item["target"],
        read_only=read_only,
        no_copy=item.get("volume", {}).get("nocopy", False),
        subpath=item.get("volume", {}).get("subpath", ""),
    )


def _healthcheck(given: Mapping[str, Any] | None) -> Healthcheck | None:
    if given is None:
        return None
    if given.get("disable"):
        return Healthcheck(test=("NONE",))
    base = Healthcheck(test=tuple(given.get("test", ())))
    times = {
        f"{key}_ms": parse_duration_ms(given[key])
        for key in ("interval", "timeout", "start_period", "start_interval")
        if key in given
    }
    return replace(base, retries=given.get("retries", base.retries), **times)


def _resources(service: Mapping[str, Any]) -> Resources:
    deploy = service.get("deploy", {}).get("resources", {})
    limits, reserved = deploy.get("limits", {}), deploy.get("reservations", {})

    def size(*given: Any) -> int | None:
        return next((int(item) for item in given if item is not None and int(item) != 0), None)

    blkio = service.get("blkio_config", {})

    def rates(key: str, unit: str = "rate") -> tuple[DeviceRate, ...]:
        return tuple(DeviceRate(path=item["path"], rate=int(item[unit])) for item in blkio.get(key, ()))

    cpus = service.get("cpus", limits.get("cpus"))
    shares = service.get("cpu_shares")
    if shares is None and "cpus" in reserved:
        shares = max(2, int(1024 * float(reserved["cpus"])))
    return Resources(
        memory_bytes=size(service.get("mem_limit"), limits.get("memory")),
        milli_cpus=max(1, int(float(cpus) * 1000)) if cpus is not None and float(cpus) else None,
        pids=size(service.get("pids_limit"), limits.get("pids")),
        memory_reservation_bytes=size(service.get("mem_reservation"), reserved.get("memory")),
        memory_swap_bytes=size(service.get("memswap_limit")),
        memory_swappiness=service.get("mem_swappiness"),
        oom_kill_disable=service.get("oom_kill_disable", False),
        cpu_shares=shares or None,
        cpu_period_us=service.get("cpu_period"),
        cpu_quota_us=service.get("cpu_quota"),
        cpu_rt_period_us=service.get("cpu_rt_period"),
        cpu_rt_runtime_us=service.get("cpu_rt_runtime"),
        cpuset_cpus=service.get("cpuset", ""),
        blkio_weight=blkio.get("weight"),
        blkio_device_weights=rates("weight_device", "weight"),
        device_read_bps=rates("device_read_bps"),
        device_write_bps=rates("device_write_bps"),
        device_read_iops=rates("device_read_iops"),
        device_write_iops=rates("device_write_iops"),
    )
