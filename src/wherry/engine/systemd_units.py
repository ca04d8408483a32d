"""``generate systemd``: a container as a unit, in the shape that podman's users know.

``Type=exec`` and a container in the foreground: the process that systemd starts is the one that keeps the container,
so systemd sees its end and its status, and nothing has to be found by a pid file. With `new` the unit makes the
container anew each time, from the flags that it was made with; without, it starts the one that is there.
Pure: makes text of values.

Source: systemd.service(5), systemd.unit(5), "Specifiers"; podman-generate-systemd(1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from wherry.core.errors import Unsupported
from wherry.core.value import Value, defaults_of, fields_of
from wherry.engine.spec import DEFAULT_STOP_TIMEOUT_S, ContainerConfig, ContainerSpec

if TYPE_CHECKING:
    from wherry.spec.container import Mount

STOP_GRACE_S = 60
"""What systemd waits beyond the container's own patience, as podman has it."""
RESTART_POLICIES = ("no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@")


class UnitOptions(Value):
    """How the unit is to be."""

    new: bool = False
    restart_policy: str = "on-failure"
    restart_sec: int | None = None
    stop_timeout_s: int | None = None
    """None: the container's own."""
    prefix: str = "container"
    separator: str = "-"
    wants: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    no_header: bool = False


def unit_name(config: ContainerConfig, options: UnitOptions) -> str:
    """Returns ``container-web.service``."""
    return f"{options.prefix}{options.separator if options.prefix else ''}{config.name}.service"


def unit_text(config: ContainerConfig, options: UnitOptions, *, command: list[str], version: str) -> str:
    """Returns the unit's text.

    Args:
        config: the container's.
        options: how it is to be.
        command: the program and its global flags, with absolute paths.
        version: of Wherry, for the header.

    Raises:
        Unsupported: `new`, and the container was made in a way that flags cannot say.
    """
    name = unit_name(config, options)
    timeout_s = config.spec.stop_timeout_s if options.stop_timeout_s is None else options.stop_timeout_s
    start = (
        [*command, *run_command(config)] if options.new else [*command, "container", "start", "--attach", config.name]
    )
    lines = [] if options.no_header else [f"# {name}", f"# Made by wherry {version}: wherry generate systemd", ""]
    lines += [
        "[Unit]",
        f"Description=Wherry {name}",
        f"Wants={' '.join(('network-online.target', *options.wants))}",
        f"After={' '.join(('network-online.target', *options.after))}",
        *([f"Requires={' '.join(options.requires)}"] if options.requires else []),
        "",
        "[Service]",
        "Type=exec",
        f"Restart={options.restart_policy}",
        *([f"RestartSec={options.restart_sec}"] if options.restart_sec is not None else []),
        f"TimeoutStopSec={timeout_s + STOP_GRACE_S}",
        # what a container ends with that was stopped by SIGTERM is no failure
        "SuccessExitStatus=143",
    ]
    if options.new:
        # what a power cut or a kill left of the last time
        lines.append(f"ExecStartPre=-{join([*command, 'rm', '--force', config.name])}")
    lines += [
        f"ExecStart={join(start)}",
        f"ExecStop={join([*command, 'stop', '--time', str(timeout_s), config.name])}",
        *([f"ExecStopPost=-{join([*command, 'rm', '--force', config.name])}"] if options.new else []),
        "",
        "[Install]",
        "WantedBy=default.target",
        "",
    ]
    return "\n".join(lines)


def join(words: list[str]) -> str:
    """Returns words as a command line of a unit: quoted, with nothing left for systemd to expand."""
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    text = word.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$")
    for char, escaped in (('"', '\\"'), ("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        text = text.replace(char, escaped)
    return text if word and set(word) <= _PLAIN else f'"{text}"'


def run_command(config: ContainerConfig) -> list[str]:
    """Returns ``run`` with the flags that make such a container again.

    Raises:
        Unsupported: something in it has no flag.
    """
    spec = config.spec
    words = ["run", "--rm", "--name", config.name]
    defaults = defaults_of(ContainerSpec)
    for field in fields_of(ContainerSpec):
        value = getattr(spec, field)
        if field in _ELSEWHERE or value == defaults.get(field):
            continue
        flags = _FLAGS.get(field)
        if flags is None:
            raise Unsupported(f"a unit with --new cannot say a container's {field}", hint="leave out --new")
        words += flags(value)
    image = spec.rootfs or spec.image
    command = list(spec.args or ())
    if spec.entrypoint is not None:
        words += ["--entrypoint", spec.entrypoint[0] if spec.entrypoint else ""]
        command = [*spec.entrypoint[1:], *command]
    return [*words, *(["--rootfs"] if spec.rootfs else []), image, *command]


def _each(flag: str) -> Callable[[Any], list[str]]:
    return lambda values: [word for value in values for word in (flag, str(value))]


def _one(flag: str) -> Callable[[Any], list[str]]:
    return lambda value: [flag, str(value)]


def _switch(flag: str) -> Callable[[Any], list[str]]:
    return lambda value: [flag] if value else []


def _pairs(flag: str) -> Callable[[Any], list[str]]:
    return lambda values: [word for key, value in values.items() for word in (flag, f"{key}={value}")]


def _mounts(mounts: tuple[Mount, ...]) -> list[str]:
    words: list[str] = []
    for mount in mounts:
        if mount.type == "tmpfs":
            options = [f"size={mount.tmpfs_size_bytes}"] if mount.tmpfs_size_bytes is not None else []
            options += [f"mode={mount.tmpfs_mode:o}"] if mount.tmpfs_mode is not None else []
            options += ["ro"] if mount.read_only else []
            words += ["--tmpfs", f"{mount.target}:{','.join(options)}" if options else mount.target]
            continue
        source = f"{mount.source}:" if mount.source else ""
        words += ["-v", f"{source}{mount.target}{':ro' if mount.read_only else ''}"]
    return words


def _ports(ports: tuple[Any, ...]) -> list[str]:
    words: list[str] = []
    for port in ports:
        address = "" if port.host_ip in ("", "0.0.0.0") else f"{port.host_ip}:"  # noqa: S104 a comparison
        host = f"{port.host_port}:" if port.host_port else ":" if address else ""
        words += ["-p", f"{address}{host}{port.container_port}/{port.protocol}"]
    return words


def _resources(limits: Any) -> list[str]:
    words: list[str] = []
    for field, flag in (
        ("memory_bytes", "--memory"),
        ("memory_reservation_bytes", "--memory-reservation"),
        ("memory_swap_bytes", "--memory-swap"),
        ("pids", "--pids-limit"),
        ("cpu_shares", "--cpu-shares"),
        ("cpu_period_us", "--cpu-period"),
        ("cpu_quota_us", "--cpu-quota"),
        ("cpuset_cpus", "--cpuset-cpus"),
        ("cpuset_mems", "--cpuset-mems"),
        ("blkio_weight", "--blkio-weight"),
    ):
        value = getattr(limits, field)
        if value not in (None, ""):
            words += [flag, str(value)]
    if limits.milli_cpus is not None:
        words += ["--cpus", f"{limits.milli_cpus / 1000:g}"]
    return words


def _health(check: Any) -> list[str]:
    if not check.test or check.test[0] == "NONE":
        return ["--no-healthcheck"]
    if check.test[0] != "CMD-SHELL":
        raise Unsupported("a unit with --new cannot say a health check that is no shell command")
    return [
        *("--health-cmd", check.test[1], "--health-interval", f"{check.interval_ms}ms"),
        *("--health-timeout", f"{check.timeout_ms}ms", "--health-retries", str(check.retries)),
        *(("--health-start-period", f"{check.start_period_ms}ms") if check.start_period_ms else ()),
    ]


def _log(log: Any) -> Iterator[str]:
    yield from ("--log-opt", f"max-size={log.max_bytes}", "--log-opt", f"max-file={log.files}")


_ELSEWHERE = ("image", "rootfs", "name", "args", "entrypoint", "rm", "restart")
"""The restart policy is systemd's own."""
_FLAGS: dict[str, Callable[[Any], list[str]]] = {
    "env": _pairs("-e"),
    "mounts": _mounts,
    "ports": _ports,
    "network": _one("--network"),
    "aliases": _each("--network-alias"),
    "hostname": _one("--hostname"),
    "resources": _resources,
    "cap_add": _each("--cap-add"),
    "cap_drop": _each("--cap-drop"),
    "privileged": _switch("--privileged"),
    "no_new_privileges": lambda value: ["--security-opt", f"no-new-privileges={'true' if value else 'false'}"],
    "seccomp": lambda value: [] if value else ["--security-opt", "seccomp=unconfined"],
    "user": _one("--user"),
    "working_dir": _one("--workdir"),
    "read_only": _switch("--read-only"),
    "healthcheck": _health,
    "labels": _pairs("--label"),
    "tty": _switch("--tty"),
    "stdin_open": _switch("--interactive"),
    "log": lambda log: list(_log(log)),
    "stop_signal": _one("--stop-signal"),
    "stop_timeout_s": lambda value: [] if value == DEFAULT_STOP_TIMEOUT_S else ["--stop-timeout", str(value)],
}
