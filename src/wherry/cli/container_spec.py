"""From the flags of ``run`` and ``create`` to what is asked of the engine.

Pure but for the files that the flags name. Budget: on the way of every ``wherry run``; no import beyond the parsers'.
"""

from __future__ import annotations

import os

from wherry.cli import container_options as parse
from wherry.cli.container_network_options import network_request
from wherry.core.errors import UsageError
from wherry.core.units import parse_size
from wherry.engine.isolation import Isolation, Security
from wherry.engine.spec import DEFAULT_STOP_TIMEOUT_S, ContainerSpec
from wherry.spec.container import Mount, Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

DIRECT, OVERLAID = ":direct", ":O"


def build(given: Mapping[str, Any], environment: Mapping[str, str], *, cwd: str) -> ContainerSpec:
    """Returns the request that the flags make.

    Args:
        given: the flags by their keys (``container_flags``), and ``image`` and ``command``.
        environment: the caller's.
        cwd: where paths begin.

    Raises:
        UsageError: a flag's word is wrong; names the flag.
        InvalidInput, NotFound: of a file that a flag names.
    """
    security = parse.parse_security(given["security_opt"])
    entrypoint = given["entrypoint"]
    env, found = _handed_in(given, environment)
    rootfs, direct = _rootfs(given["image"], cwd) if given["rootfs"] else ("", False)
    return ContainerSpec(
        image="" if given["rootfs"] else given["image"],
        rootfs=rootfs,
        rootfs_direct=direct,
        platform=given["platform"],
        name=given["name"],
        args=tuple(given["command"]) or None,
        entrypoint=None if entrypoint is None else (entrypoint,) if entrypoint else (),
        env={**env, **parse.parse_env(given["env"], given["env_file"], environment)},
        mounts=(*_mounts(given, cwd), *found),
        **network_request(given),
        hostname=given["hostname"],
        domainname=given["domainname"],
        no_hosts=given["no_hosts"],
        resources=resources(given),
        cap_add=tuple(given["cap_add"]),
        cap_drop=tuple(given["cap_drop"]),
        privileged=given["privileged"],
        no_new_privileges=security.no_new_privileges,
        seccomp=security.seccomp,
        isolation=_isolation(given, security),
        devices=tuple(parse.parse_device(text) for text in given["device"]),
        device_rules=tuple(parse.parse_device_rule(text) for text in given["device_cgroup_rule"]),
        ulimits=tuple(parse.parse_ulimit(text) for text in given["ulimit"]),
        sysctls=parse.parse_pairs(given["sysctl"], "--sysctl"),
        shm_bytes=parse_size(given["shm_size"], where="--shm-size") if given["shm_size"] else None,
        oom_score_adj=_number(given, "oom_score_adj", least=-1000, most=1000),
        cgroup_parent=given["cgroup_parent"],
        cpu_affinity=parse.parse_processors(given["cpu_affinity"]) if given["cpu_affinity"] else (),
        init=given["init"],
        usedev=given["usedev"],
        debugfs=given["debugfs"],
        group_add=parse.parse_groups(given["group_add"]),
        umask=_umask(given["umask"]) if given["umask"] else None,
        annotations=parse.parse_pairs(given["annotation"], "--annotation"),
        pid_file=os.path.join(cwd, given["pidfile"]) if given["pidfile"] else "",
        user=given["user"] or None,
        working_dir=given["workdir"] or None,
        read_only=given["read_only"],
        restart=parse.parse_restart(given["restart"] or "no"),
        healthcheck=parse.health_check(
            given["health_cmd"] or None,
            off=given["no_healthcheck"],
            interval=given["health_interval"],
            timeout=given["health_timeout"],
            retries=_number(given, "health_retries", least=1),
            start_period=given["health_start_period"],
            start_interval=given["health_start_interval"],
        ),
        labels=parse.parse_labels((*parse.parse_label_files(given["label_file"]), *given["label"])),
        tty=given["tty"],
        stdin_open=given["interactive"],
        log=parse.parse_log_options(given["log_opt"], given["log_driver"] or "json-file"),
        stop_signal=given["stop_signal"],
        stop_timeout_s=_number(given, "stop_timeout", least=0) if given["stop_timeout"] else DEFAULT_STOP_TIMEOUT_S,
        rm=given["rm"],
    )


def check_pull(word: str) -> str:
    """Returns a policy of ``--pull``: always, missing or never.

    Raises:
        UsageError: it is none.
    """
    if word not in ("", "always", "missing", "never"):
        raise UsageError(f"--pull: no policy {word!r}", hint="use always, missing or never")
    return word or "missing"


def _number(given: Mapping[str, Any], key: str, *, least: int = 0, most: int = 2**62) -> Any:
    text = given[key]
    return parse.whole(text, f"--{key.replace('_', '-')}", least=least, most=most) if text else None


def _bytes(given: Mapping[str, Any], key: str) -> int | None:
    text = given[key]
    return parse_size(text, where=f"--{key.replace('_', '-')}") if text else None


def resources(given: Mapping[str, Any]) -> Resources:
    """Returns the limits that flags set."""
    swap = given["memory_swap"]
    return Resources(
        memory_bytes=_bytes(given, "memory"),
        milli_cpus=parse.parse_cpus(given["cpus"]) if given["cpus"] else None,
        pids=_number(given, "pids_limit", least=-1),
        memory_reservation_bytes=_bytes(given, "memory_reservation"),
        memory_swap_bytes=-1 if swap == "-1" else _bytes(given, "memory_swap"),
        memory_swappiness=_number(given, "memory_swappiness", most=100),
        oom_kill_disable=given["oom_kill_disable"],
        cpu_shares=_number(given, "cpu_shares"),
        cpu_period_us=_number(given, "cpu_period"),
        cpu_quota_us=_number(given, "cpu_quota", least=-1),
        cpu_rt_period_us=_number(given, "cpu_rt_period"),
        cpu_rt_runtime_us=_number(given, "cpu_rt_runtime"),
        cpuset_cpus=given["cpuset_cpus"],
        cpuset_mems=given["cpuset_mems"],
        blkio_weight=_number(given, "blkio_weight"),
        blkio_device_weights=parse.parse_rates(given["blkio_weight_device"], "--blkio-weight-device", sizes=False),
        device_read_bps=parse.parse_rates(given["device_read_bps"], "--device-read-bps", sizes=True),
        device_write_bps=parse.parse_rates(given["device_write_bps"], "--device-write-bps", sizes=True),
        device_read_iops=parse.parse_rates(given["device_read_iops"], "--device-read-iops", sizes=False),
        device_write_iops=parse.parse_rates(given["device_write_iops"], "--device-write-iops", sizes=False),
    )


def _isolation(given: Mapping[str, Any], security: Security) -> Isolation:
    users: dict[str, Any] = {}
    if any(given[key] for key in ("userns", "uidmap", "gidmap", "subuidname", "subgidname")):
        from wherry.cli.container_userns import parse_user_namespace

        users = parse_user_namespace(given)
    return Isolation(
        **users,
        pid=given["pid"] or "private",
        ipc=given["ipc"] or "private",
        uts=given["uts"] or "private",
        cgroup=given["cgroupns"] or "private",
        seccomp_profile=security.seccomp_profile,
        apparmor=security.apparmor,
        masked=security.masked,
        unmasked=security.unmasked,
    )


def _mounts(given: Mapping[str, Any], cwd: str) -> tuple[Mount, ...]:
    if not given["volume"] and not given["mount"] and not given["tmpfs"]:
        return ()
    from wherry.cli import container_mounts

    return (
        *(container_mounts.parse_volume(text, cwd=cwd) for text in given["volume"]),
        *(container_mounts.parse_mount(text, cwd=cwd) for text in given["mount"]),
        *(container_mounts.parse_tmpfs(text) for text in given["tmpfs"]),
    )


def _umask(text: str) -> int:
    from wherry.cli.container_mounts import parse_mode

    return parse_mode(text)


def _rootfs(text: str, cwd: str) -> tuple[str, bool]:
    path = text.removesuffix(DIRECT).removesuffix(OVERLAID)
    return os.path.normpath(os.path.join(cwd, path)), text.endswith(DIRECT)


def _handed_in(given: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[dict[str, str], tuple[Mount, ...]]:
    """Returns the variables and mounts of what is handed in from the caller's session."""
    if not given["x11"] and not given["tz"] and not given["sdnotify"]:
        return {}, ()
    from wherry.cli import container_mounts as mounts

    env: dict[str, str] = {}
    found: list[Mount] = []
    if given["x11"]:
        added, variables = mounts.x11(environment)
        found += added
        env.update(variables)
    if given["tz"]:
        found.append(mounts.timezone(given["tz"]))
    if given["sdnotify"]:
        added, variables = mounts.notify(environment.get("NOTIFY_SOCKET", ""), given["sdnotify"])
        found += added
        env.update(variables)
    return env, tuple(found)
