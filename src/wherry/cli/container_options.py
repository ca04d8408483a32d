"""What people write after docker's flags, and the values that it means; no input or output but for env files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from wherry.core.errors import InvalidInput, NotFound, UsageError
from wherry.core.units import parse_duration_ms, parse_size
from wherry.engine.spec import DEFAULT_LOG_BYTES, DEFAULT_LOG_FILES, LogLimits
from wherry.spec.container import Healthcheck, Mount, MountType, PortMapping, RestartName, RestartPolicy

MAX_ENV_FILE_BYTES = 1024 * 1024
MIN_CPUS = 10
"""Thousandths of a CPU."""
_PORT = re.compile(
    r"(?:(?:(?P<ip>\[[^\]]*\]|[^:]*):)?(?P<host>\d*):)?(?P<container>\d+)(?:/(?P<protocol>[a-z]+))?\Z", re.IGNORECASE
)
_CPUS = re.compile(r"(\d+)(?:\.(\d{1,3})\d*)?\Z")
_ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 docker's default for a published port


def parse_port(text: str) -> PortMapping:
    """Returns what ``-p [[IP:]HOST:]CONTAINER[/PROTOCOL]`` means.

    Raises:
        UsageError: it is not of that form, or a range.
    """
    match = _PORT.match(text)
    if match is None:
        hint = "ranges are not supported; give -p for each port" if "-" in text else "write it as 8080:80 or 80/udp"
        raise UsageError(f"-p: not a published port: {text!r}", hint=hint)
    protocol = (match["protocol"] or "tcp").lower()
    if protocol not in ("tcp", "udp"):
        raise UsageError(f"-p: protocol {protocol!r} cannot be published", hint="use tcp or udp")
    return PortMapping(
        container_port=int(match["container"]),
        host_port=int(match["host"] or 0),
        host_ip=(match["ip"] or "").strip("[]") or _ALL_ADDRESSES,
        protocol="udp" if protocol == "udp" else "tcp",
    )


def parse_volume(text: str, *, cwd: Path) -> Mount:
    """Returns what ``-v [SOURCE:]TARGET[:OPTIONS]`` means; a source with a slash is a path.

    Raises:
        UsageError: it is not of that form.
    """
    parts = text.split(":")
    if len(parts) == 1:
        return Mount(type=MountType.VOLUME, target=parts[0])
    if len(parts) > 3 or not parts[0] or not parts[1]:
        raise UsageError(f"-v: not a mount: {text!r}", hint="write it as SOURCE:TARGET or SOURCE:TARGET:ro")
    read_only = False
    for option in filter(None, parts[2].split(",") if len(parts) == 3 else []):
        if option not in ("ro", "rw"):
            raise UsageError(f"-v: option {option!r} is not supported", hint="use ro or rw")
        read_only = option == "ro"
    if "/" in parts[0] or parts[0].startswith("."):
        source = os.path.normpath(cwd / Path(parts[0]))
        return Mount(type=MountType.BIND, source=source, target=parts[1], read_only=read_only)
    return Mount(type=MountType.VOLUME, source=parts[0], target=parts[1], read_only=read_only)


def parse_mount(text: str, *, cwd: Path) -> Mount:
    """Returns what ``--mount type=TYPE,source=SOURCE,target=TARGET,...`` means.

    Raises:
        UsageError: a key is unknown or missing.
    """
    values: dict[str, str] = {}
    aliases = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
    for item in text.split(","):
        key, _, value = item.partition("=")
        key = aliases.get(key.strip(), key.strip())
        if key not in ("type", "source", "target", "readonly", "tmpfs-size", "tmpfs-mode"):
            raise UsageError(
                f"--mount: key {key!r} is not supported",
                hint="known are type, source, target, readonly, tmpfs-size, tmpfs-mode",
            )
        values[key] = value
    kind = next((word for word in MountType.ALL if word == values.get("type", "volume")), None)
    if kind is None:
        raise UsageError(f"--mount: no type {values['type']!r}", hint="use bind, volume or tmpfs")
    if "target" not in values:
        raise UsageError(f"--mount: no target in {text!r}")
    if kind != MountType.TMPFS and values.keys() & {"tmpfs-size", "tmpfs-mode"}:
        raise UsageError("--mount: tmpfs-size and tmpfs-mode are for type=tmpfs")
    source = values.get("source", "")
    if kind == MountType.BIND:
        if not source:
            raise UsageError(f"--mount: no source in {text!r}")
        source = os.path.normpath(cwd / Path(source))
    return Mount(
        type=kind,
        source=source,
        target=values["target"],
        read_only=values.get("readonly", "false") in ("", "true", "1"),
        tmpfs_size_bytes=parse_size(values["tmpfs-size"], where="--mount") if "tmpfs-size" in values else None,
        tmpfs_mode=_mode(values["tmpfs-mode"]) if "tmpfs-mode" in values else None,
    )


def parse_tmpfs(text: str) -> Mount:
    """Returns what ``--tmpfs TARGET[:OPTIONS]`` means.

    Raises:
        UsageError: an option is unknown.
    """
    target, _, options = text.partition(":")
    size: int | None = None
    mode: int | None = None
    read_only = False
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        if key == "size":
            size = parse_size(value, where="--tmpfs")
        elif key == "mode":
            mode = _mode(value)
        elif key in ("ro", "rw"):
            read_only = key == "ro"
        else:
            raise UsageError(f"--tmpfs: option {key!r} is not supported", hint="use size, mode, ro or rw")
    return Mount(type=MountType.TMPFS, target=target, read_only=read_only, tmpfs_size_bytes=size, tmpfs_mode=mode)


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise UsageError(f"not a mode: {text!r}", hint="write it as 1777")
    return mode


def parse_env(items: Iterable[str], files: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables of ``--env-file`` and then ``-e``; a name alone takes the caller's value, if it has one.

    Raises:
        NotFound: a file is not there.
        InvalidInput: a line of a file is not ``NAME=value``; names the line.
    """
    result: dict[str, str] = {}
    for name in files:
        try:
            with open(name, encoding="utf-8") as file:
                lines = file.read(MAX_ENV_FILE_BYTES).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise NotFound("cannot read the env file", where=name, hint=str(error)) from error
        for number, line in enumerate(lines, start=1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            if " " in text.partition("=")[0] or text.startswith("="):
                raise InvalidInput("not NAME=value", where=f"{name}:{number}")
            _set(result, line.lstrip(), environment)
    for item in items:
        _set(result, item, environment)
    return result


def _set(result: dict[str, str], item: str, environment: Mapping[str, str]) -> None:
    key, equals, value = item.partition("=")
    if equals:
        result[key] = value
    elif key in environment:
        result[key] = environment[key]


def parse_cpus(text: str) -> int:
    """Returns thousandths of a CPU for ``--cpus 1.5``.

    Raises:
        UsageError: it is not a number, or too small.
    """
    match = _CPUS.match(text)
    value = int(match[1]) * 1000 + int((match[2] or "0").ljust(3, "0")) if match else 0
    if value < MIN_CPUS:
        raise UsageError(f"--cpus: not a number of CPUs: {text!r}", hint="write it as 2 or 0.5; 0.01 at least")
    return value


def parse_restart(text: str) -> RestartPolicy:
    """Returns what ``--restart no|always|unless-stopped|on-failure[:N]`` means.

    Raises:
        UsageError: it is none of them.
    """
    name, colon, count = text.partition(":")
    policy = next((word for word in RestartName.ALL if word == name), None)
    if policy is None:
        raise UsageError(f"--restart: no policy {name!r}", hint="use no, on-failure[:N], always or unless-stopped")
    if colon and (policy != RestartName.ON_FAILURE or not count.isdigit()):
        raise UsageError(f"--restart: {text!r}", hint="only on-failure takes a number, as in on-failure:3")
    return RestartPolicy(name=policy, max_retries=int(count or 0))


def parse_labels(items: Iterable[str]) -> dict[str, str]:
    """Returns labels written as ``KEY=VALUE`` or ``KEY``."""
    result = {}
    for item in items:
        key, _, value = item.partition("=")
        if not key:
            raise UsageError(f"--label: not KEY=VALUE: {item!r}")
        result[key] = value
    return result


def parse_log_options(items: Iterable[str]) -> LogLimits:
    """Returns what ``--log-opt max-size=SIZE`` and ``--log-opt max-file=N`` mean.

    Raises:
        UsageError: another option.
    """
    size, files = DEFAULT_LOG_BYTES, DEFAULT_LOG_FILES
    for item in items:
        key, _, value = item.partition("=")
        if key == "max-size":
            size = parse_size(value, where="--log-opt")
        elif key == "max-file" and value.isdigit():
            files = int(value)
        else:
            raise UsageError(f"--log-opt: {item!r} is not supported", hint="use max-size=10m and max-file=3")
    return LogLimits(max_bytes=size, files=files)


def parse_security(items: Iterable[str]) -> tuple[bool, bool]:
    """Returns whether there are (no_new_privs, a seccomp filter), after ``--security-opt``.

    Raises:
        UsageError: another option.
    """
    no_new_privileges = seccomp = True
    for item in items:
        key, _, value = item.replace(":", "=", 1).partition("=")
        if key == "no-new-privileges" and value in ("", "true", "false"):
            no_new_privileges = value != "false"
        elif (key, value) == ("seccomp", "unconfined"):
            seccomp = False
        else:
            raise UsageError(
                f"--security-opt: {item!r} is not supported",
                hint="use no-new-privileges[=false] or seccomp=unconfined",
            )
    return no_new_privileges, seccomp


def health_check(
    command: str | None,
    *,
    off: bool,
    interval: str | None,
    timeout: str | None,
    retries: int | None,
    start_period: str | None,
) -> Healthcheck | None:
    """Returns the health check of ``--health-*``; None when none of them is given.

    With times alone the test is left empty: the image's is then run at these times.
    """
    if off:
        return Healthcheck(test=("NONE",))
    if command is None and not any((interval, timeout, retries, start_period)):
        return None
    default = Healthcheck(test=())
    return Healthcheck(
        test=("CMD-SHELL", command) if command is not None else (),
        interval_ms=parse_duration_ms(interval, where="--health-interval") if interval else default.interval_ms,
        timeout_ms=parse_duration_ms(timeout, where="--health-timeout") if timeout else default.timeout_ms,
        retries=retries or default.retries,
        start_period_ms=parse_duration_ms(start_period, where="--health-start-period") if start_period else 0,
    )


def parse_since(text: str, now_s: float) -> float:
    """Returns the time that ``--since`` means: RFC 3339, seconds since 1970, or a duration such as ``10m``.

    Raises:
        UsageError: it is none of them.
    """
    from wherry.engine.logs import parse_time

    try:
        return float(text)
    except ValueError:
        pass
    try:
        return now_s - parse_duration_ms(text) / 1000
    except InvalidInput:
        pass
    try:
        return parse_time(text)
    except ValueError:
        raise UsageError(f"--since: not a time: {text!r}", hint="write it as 10m or 2026-01-31T12:00:00Z") from None
