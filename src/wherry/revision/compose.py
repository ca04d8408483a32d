"""``compose.yaml``: the apps of a device, in the part of the Compose specification that Wherry does.

Strict on purpose: a key that is not known or not supported is an error with its line, because a limit or a
capability that is silently ignored is worse on a device than a file that is refused. ``x-`` keys are left out of
account anywhere, as in Compose, and may hold anchors. Words that name another container or the user's own machine
(``network_mode: service:``, relative paths, ``${VAR}``, ``env_file``) have no meaning on a device and are refused.

Source: compose-spec, "05-services.md" and its JSON schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from wherry.core.errors import InvalidInput
from wherry.revision import values
from wherry.revision.yamldoc import Value, did_you_mean, read_yaml
from wherry.spec.container import Healthcheck, Mount, MountType, PortMapping, Resources, RestartName, RestartPolicy

MAX_SERVICES = 256
FILE_NAME = "compose.yaml"

CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")
_NETWORK_MODES = ("bridge", "none", "host")
_HEALTHCHECK_WORDS = ("CMD", "CMD-SHELL", "NONE")

_TOP_KEYS = frozenset({"services", "volumes", "name"})
_TOP_ELSEWHERE = {
    "version": "remove the line; the Compose specification has no version any more",
    "networks": "leave it out; see network_mode",
    "configs": "put the files into config/APP/",
    "secrets": "put the files into config/APP/",
    "include": "write the services into this file",
    "models": "",
}
_SUPPORTED = """
    image command entrypoint environment ports volumes user working_dir depends_on healthcheck restart deploy cap_add
    cap_drop read_only tmpfs network_mode
"""
_SERVICE_KEYS = frozenset(_SUPPORTED.split())
_ELSEWHERE = """
    annotations attach blkio_config cgroup cgroup_parent cpu_percent cpu_period cpu_quota cpu_rt_period
    cpu_rt_runtime cpu_shares cpuset credential_spec develop device_cgroup_rules devices dns dns_opt dns_search
    domainname expose extends external_links extra_hosts gpus group_add init ipc isolation label_file labels links
    logging mac_address mem_reservation mem_swappiness memswap_limit models oom_kill_disable oom_score_adj pid
    platform post_start pre_stop profiles provider pull_policy runtime scale security_opt shm_size stdin_open
    stop_grace_period stop_signal storage_opt sysctls tty ulimits use_api_socket userns_mode uts volumes_from
"""
_LIMITS = "write it under deploy.resources.limits"
_SERVICE_ELSEWHERE = {
    "build": "build the image, import it with `wherry image import`, and name it in image:",
    "env_file": "write the variables into environment:",
    "configs": "put the files into config/APP/",
    "secrets": "put the files into config/APP/",
    "mem_limit": _LIMITS,
    "cpus": _LIMITS,
    "pids_limit": _LIMITS,
    "cpu_count": _LIMITS,
    "container_name": "leave it out; the app's name is the container's",
    "hostname": "leave it out; the app's name is the host's",
    "networks": "leave it out, or use network_mode",
    "privileged": "name the capabilities that it needs in cap_add",
    **dict.fromkeys(_ELSEWHERE.split(), ""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service as it is written; its image is a name that nobody has looked up yet."""

    image: str
    image_where: str
    """``compose.yaml:5:12``, for the error when there is no such image."""
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[PortMapping, ...] = ()
    mounts: tuple[Mount, ...] = ()
    """Of ``volumes`` and ``tmpfs``."""
    user: str | None = None
    working_dir: str | None = None
    depends_on: Mapping[str, str] = field(default_factory=dict)
    healthcheck: Healthcheck | None = None
    """With an empty ``test``, the image's own test is meant."""
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    resources: Resources = field(default_factory=Resources)
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    read_only: bool = False
    network_mode: Literal["bridge", "none", "host"] = "bridge"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeFile:
    """A whole ``compose.yaml``."""

    name: str | None = None
    services: Mapping[str, Service] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()


def parse_compose(data: bytes, where: object = FILE_NAME) -> Mapping[str, Service]:
    """Returns the services of a Compose file, by name, in the file's order.

    Raises:
        InvalidInput: see `parse_compose_file`.
    """
    return parse_compose_file(data, where).services


def parse_compose_file(data: bytes, where: object = FILE_NAME) -> ComposeFile:
    """Parses a Compose file.

    Args:
        data: the bytes of the file.
        where: its name, for errors.

    Raises:
        InvalidInput: it is not YAML, a key is unknown or not supported, or a value is wrong; names file, line,
            column and the path of the key.
    """
    root = read_yaml(data, where)
    if root is None:
        return ComposeFile()
    top = root.fields(_TOP_KEYS, _TOP_ELSEWHERE)
    volumes = _volumes(top["volumes"]) if "volumes" in top and not top["volumes"].is_null else {}
    services: dict[str, Service] = {}
    places: dict[str, Value] = {}
    if "services" in top and not top["services"].is_null:
        for key, place, value in top["services"].entries():
            if key.startswith("x-"):
                continue
            values.check_name(key, place)
            services[key] = _service(value, volumes)
            places[key] = value
    if len(services) > MAX_SERVICES:
        raise root.wrong(f"more than {MAX_SERVICES} services")
    _check_dependencies(services, places)
    _check_ports(services, places)
    name = values.name(top["name"]) if "name" in top else None
    return ComposeFile(name=name, services=services, volumes=tuple(volumes))


def _volumes(value: Value) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for key, place, definition in value.entries():
        if key.startswith("x-"):
            continue
        values.check_volume_name(key, place)
        if not definition.is_null:
            for option, option_place, _ in definition.entries():
                if not option.startswith("x-"):
                    raise option_place.wrong(
                        "Wherry does not support this key", hint=f"declare the volume as `{key}:` and nothing more"
                    )
        found[key] = place
    return found


def _service(value: Value, volumes: Mapping[str, Value]) -> Service:
    keys = value.fields(_SERVICE_KEYS, _SERVICE_ELSEWHERE)
    if "image" not in keys:
        raise value.wrong("image is missing", hint="every service names its image")
    image = values.text(keys["image"])
    if not image or image != image.strip() or any(char.isspace() for char in image):
        raise keys["image"].wrong(f"not the name of an image: {image[:80]!r}")
    given = {key: item for key, item in keys.items() if not item.is_null}  # `command:` alone says: the image's
    mode = values.choice(given["network_mode"], _NETWORK_MODES) if "network_mode" in given else "bridge"
    ports = tuple(port for item in _list(given.get("ports")) for port in values.ports(item))
    if ports and mode != "bridge":
        raise given["ports"].wrong(f"ports cannot be published with network_mode: {mode}")
    return Service(
        image=image,
        image_where=keys["image"].place,
        command=values.words(given["command"]) if "command" in given else None,
        entrypoint=values.words(given["entrypoint"]) if "entrypoint" in given else None,
        environment=values.environment(given["environment"]) if "environment" in given else {},
        ports=ports,
        mounts=_mounts(given, volumes),
        user=values.user(given["user"]) if "user" in given else None,
        working_dir=(
            values.guest_path(values.text(given["working_dir"]), given["working_dir"])
            if "working_dir" in given
            else None
        ),
        depends_on=_depends_on(given["depends_on"]) if "depends_on" in given else {},
        healthcheck=_healthcheck(given["healthcheck"]) if "healthcheck" in given else None,
        restart=_restart(given["restart"]) if "restart" in given else RestartPolicy(),
        resources=_resources(given["deploy"]) if "deploy" in given else Resources(),
        cap_add=tuple(values.capability(item) for item in _list(given.get("cap_add"))),
        cap_drop=tuple(values.capability(item) for item in _list(given.get("cap_drop"))),
        read_only=given["read_only"].boolean() if "read_only" in given else False,
        network_mode="none" if mode == "none" else "host" if mode == "host" else "bridge",
    )


def _list(value: Value | None) -> list[Value]:
    return [] if value is None else list(value.items())


def _mounts(given: Mapping[str, Value], volumes: Mapping[str, Value]) -> tuple[Mount, ...]:
    found: dict[str, Mount] = {}
    pairs = [(item, values.mount(item)) for item in _list(given.get("volumes"))]
    if "tmpfs" in given:
        items = [given["tmpfs"]] if given["tmpfs"].is_scalar else list(given["tmpfs"].items())
        pairs += [(item, values.tmpfs(item)) for item in items]
    for place, mount in pairs:
        if mount.type == MountType.VOLUME and mount.source not in volumes:
            near = did_you_mean(mount.source, frozenset(volumes)) if volumes else None
            guess = near if near and near.startswith("did you") else f"add `{mount.source}:` under volumes:"
            raise place.wrong(f"volume {mount.source!r} is not declared", hint=guess)
        if mount.target in found:
            raise place.wrong(f"two mounts at {mount.target}")
        found[mount.target] = mount
    return tuple(found.values())


def _depends_on(value: Value) -> dict[str, str]:
    if value.is_list:
        found: dict[str, str] = {}
        for item in value.items():
            other = values.text(item)
            if other in found:
                raise item.wrong(f"{other[:80]!r} stands twice")
            found[other] = CONDITIONS[0]
        return found
    result: dict[str, str] = {}
    for other, place, item in value.entries():
        keys = item.fields(frozenset({"condition"}), {"restart": "leave it out", "required": "leave it out"})
        if "condition" not in keys:
            raise place.wrong("condition is missing", hint=f"one of {', '.join(CONDITIONS)}")
        result[other] = values.choice(keys["condition"], CONDITIONS)
    return result


def _healthcheck(value: Value) -> Healthcheck:
    keys = value.fields(
        frozenset({"test", "interval", "timeout", "retries", "start_period", "disable"}), {"start_interval": ""}
    )
    disabled = "disable" in keys and keys["disable"].boolean()
    test: tuple[str, ...] = ()
    if "test" in keys:
        test = values.texts(keys["test"]) if keys["test"].is_list else ("CMD-SHELL", values.text(keys["test"]))
        if not test or test[0] not in _HEALTHCHECK_WORDS:
            raise keys["test"].wrong(f"must begin with {', '.join(_HEALTHCHECK_WORDS)}", hint="or be a line of text")
        least, most = {"CMD": (2, None), "CMD-SHELL": (2, 2), "NONE": (1, 1)}[test[0]]
        if len(test) < least or (most is not None and len(test) > most) or not test[-1].strip():
            raise keys["test"].wrong(f"{test[0]} has the wrong number of words: {len(test) - 1}")
    if disabled or test == ("NONE",):
        extra = [keys[key] for key in ("interval", "timeout", "retries", "start_period") if key in keys]
        if disabled and test and test != ("NONE",):
            extra.append(keys["test"])
        if extra:
            raise extra[0].wrong("has no effect: this health check is switched off")
        return Healthcheck(test=("NONE",))
    base = Healthcheck(test=test)
    return Healthcheck(
        test=test,
        interval_ms=values.duration_ms(keys["interval"]) if "interval" in keys else base.interval_ms,
        timeout_ms=values.duration_ms(keys["timeout"]) if "timeout" in keys else base.timeout_ms,
        retries=values.integer(keys["retries"], least=1, most=10_000) if "retries" in keys else base.retries,
        start_period_ms=(
            values.duration_ms(keys["start_period"], least=0) if "start_period" in keys else base.start_period_ms
        ),
    )


def _restart(value: Value) -> RestartPolicy:
    word, colon, count = values.text(value).partition(":")
    names = RestartName.ALL
    policy = next((name for name in names if name == word), None)
    if policy is None:
        raise value.wrong(f"{word[:80]!r} is not one of {', '.join(names)}", hint=did_you_mean(word, frozenset(names)))
    if not colon:
        return RestartPolicy(name=policy)
    if policy != RestartName.ON_FAILURE or not count.isascii() or not count.isdigit() or int(count[:10]) == 0:
        raise value.wrong(f"not a restart policy: {word}:{count[:20]}", hint="write it as on-failure:3")
    return RestartPolicy(name=policy, max_retries=int(count[:10]))


def _resources(value: Value) -> Resources:
    deploy = value.fields(
        frozenset({"resources"}), dict.fromkeys(("replicas", "restart_policy", "mode", "labels", "placement"), "")
    )
    resources = deploy.get("resources")
    if resources is None or resources.is_null:
        return Resources()
    limits = resources.fields(frozenset({"limits"}), {"reservations": "set limits"}).get("limits")
    if limits is None or limits.is_null:
        return Resources()
    keys = limits.fields(frozenset({"memory", "cpus", "pids"}), {"devices": ""})
    return Resources(
        memory_bytes=values.size(keys["memory"], least=4096) if "memory" in keys else None,
        milli_cpus=values.milli_cpus(keys["cpus"]) if "cpus" in keys else None,
        pids=values.integer(keys["pids"], least=1, most=1 << 22) if "pids" in keys else None,
    )


def _check_dependencies(services: Mapping[str, Service], places: Mapping[str, Value]) -> None:
    for name, service in services.items():
        for other, condition in service.depends_on.items():
            if other not in services:
                near = did_you_mean(other, frozenset(services))
                raise _dependency_error(places[name], f"no service {other[:80]!r}", near)
            check = services[other].healthcheck
            if condition == "service_healthy" and check is not None and check.test == ("NONE",):
                raise _dependency_error(places[name], f"{other!r} has its health check switched off", None)
    done: set[str] = set()
    for name in services:
        trail: list[str] = []
        _walk(name, services, places, done, trail)


def _walk(
    name: str, services: Mapping[str, Service], places: Mapping[str, Value], done: set[str], trail: list[str]
) -> None:
    if name in trail:
        circle = " -> ".join([*trail[trail.index(name) :], name])
        raise _dependency_error(places[trail[-1]], f"services wait for each other: {circle}", "break the circle")
    if name in done:
        return
    trail.append(name)
    for other in services[name].depends_on:
        _walk(other, services, places, done, trail)
    trail.pop()
    done.add(name)


def _dependency_error(service: Value, what: str, hint: str | None) -> InvalidInput:
    return service.fields(_SERVICE_KEYS)["depends_on"].wrong(what, hint=hint)


def _check_ports(services: Mapping[str, Service], places: Mapping[str, Value]) -> None:
    taken: list[tuple[str, PortMapping]] = []
    for name, service in services.items():
        for port in service.ports:
            for other_name, other in taken:
                same = (port.host_port, port.protocol) == (other.host_port, other.protocol)
                if port.host_port and same and _overlap(port.host_ip, other.host_ip):
                    raise (
                        places[name]
                        .fields(_SERVICE_KEYS)["ports"]
                        .wrong(f"host port {port.host_port}/{port.protocol} is taken by {other_name!r} already")
                    )
            taken.append((name, port))


def _overlap(one: str, other: str) -> bool:
    return one == other or "0.0.0.0" in (one, other)  # noqa: S104 the address that stands for all
