"""What people write after docker's flags, and the values that it means; no input or output but for files they name.

Budget: on the way of every ``wherry run``, so that nothing is imported that an interpreter has not, but where a flag
needs it. Mounts are in ``container_mounts``.
"""

from __future__ import annotations

import os

from wherry.core.errors import InvalidInput, NotFound, UsageError
from wherry.core.units import parse_size
from wherry.core.value import Value
from wherry.engine.isolation import DeviceMapping, Ulimit
from wherry.engine.spec import DEFAULT_LOG_BYTES, DEFAULT_LOG_FILES, LogLimits
from wherry.runtime.resources import DeviceRule
from wherry.spec.container import DeviceRate, Healthcheck, RestartName, RestartPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

MAX_ENV_FILE_BYTES = 1024 * 1024
MAX_PROFILE_BYTES = 1024 * 1024
MAX_PROCESSORS = 4096
MIN_CPUS = 10
"""Thousandths of a CPU."""
_ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 docker's default for a published port


def parse_env(items: Iterable[str], files: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables of ``--env-file`` and then ``-e``; a name alone takes the caller's value, if it has one.

    Raises:
        NotFound: a file is not there.
        InvalidInput: a line of a file is not ``NAME=value``; names the line.
    """
    result: dict[str, str] = {}
    for name in files:
        for number, line in _lines(name, "the env file"):
            text = line.strip()
            if " " in text.partition("=")[0] or text.startswith("="):
                raise InvalidInput("not NAME=value", where=f"{name}:{number}")
            _set(result, line.lstrip(), environment)
    for item in items:
        _set(result, item, environment)
    return result


def _lines(name: str, what: str) -> Iterator[tuple[int, str]]:
    """Gives the lines of a file that are neither empty nor a comment, with their numbers."""
    try:
        with open(name, encoding="utf-8") as file:
            text = file.read(MAX_ENV_FILE_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(f"cannot read {what}", where=name, hint=str(error)) from error
    if len(text) > MAX_ENV_FILE_BYTES:
        raise InvalidInput(f"{what} has at most {MAX_ENV_FILE_BYTES} bytes", where=name)
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.strip().startswith("#"):
            yield number, line


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
    whole, _, part = text.partition(".")
    digits = whole.isascii() and whole.isdigit() and (part == "" or (part.isascii() and part.isdigit()))
    value = int(whole) * 1000 + int(part[:3].ljust(3, "0")) if digits else 0
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


def parse_log_options(items: Iterable[str], driver: str = "json-file") -> LogLimits:
    """Returns what ``--log-driver`` and ``--log-opt max-size=SIZE`` and ``max-file=N`` mean.

    Raises:
        UsageError: another driver or option.
    """
    size, files = DEFAULT_LOG_BYTES, DEFAULT_LOG_FILES
    if driver not in ("json-file", "none"):
        known = "the driver is not there" if driver in _LOG_DRIVERS else "there is no such driver"
        raise UsageError(f"--log-driver: {known}: {driver!r}", hint="use json-file or none")
    for item in items:
        key, _, value = item.partition("=")
        if driver == "none":
            raise UsageError(f"--log-opt: {item!r}", hint="--log-driver none keeps nothing")
        if key == "max-size":
            size = parse_size(value, where="--log-opt")
        elif key == "max-file" and value.isdigit():
            files = int(value)
        else:
            raise UsageError(f"--log-opt: {item!r} is not supported", hint="use max-size=10m and max-file=3")
    return LogLimits(max_bytes=size, files=files, driver="none" if driver == "none" else "json-file")


_LOG_DRIVERS = (
    *("local", "syslog", "journald", "gelf", "fluentd", "awslogs", "splunk", "etwlogs", "gcplogs", "passthrough"),
    *("k8s-file",),
)


def parse_security(items: Iterable[str]) -> Security:
    """Returns what ``--security-opt`` says, docker's words and podman's ``mask`` and ``unmask``.

    Raises:
        UsageError: another option.
        NotFound: the profile's file is not there.
    """
    found: dict[str, Any] = {}
    masked: list[str] = []
    unmasked: list[str] = []
    for item in items:
        cut = min((at for at in (item.find("="), item.find(":")) if at >= 0), default=len(item))
        key, value = item[:cut], item[cut + 1 :]
        if key == "no-new-privileges" and value in ("", "true", "false"):
            found["no_new_privileges"] = value != "false"
        elif key == "seccomp" and value == "unconfined":
            found["seccomp"] = False
        elif key == "seccomp" and value:
            found["seccomp"] = True
            found["seccomp_profile"] = "" if value == "builtin" else _read_profile(value)
        elif key == "apparmor" and value:
            found["apparmor"] = "" if value == "unconfined" else value
        elif key == "label" and value == "disable":
            pass  # there is no label unless one is given
        elif (key, value) == ("systempaths", "unconfined") or (key, value.upper()) == ("unmask", "ALL"):
            unmasked.append("ALL")
        elif key == "mask" and value:
            masked += value.split(":")
        elif key == "unmask" and value:
            unmasked += value.split(":")
        else:
            raise UsageError(f"--security-opt: {item!r} is not supported", hint=_SECURITY.get(key, _SECURITY[""]))
    return Security(masked=tuple(masked), unmasked=tuple(unmasked), **found)


_SECURITY = {
    "label": "label=disable is; labels of SELinux are given by the host's policy alone",
    "": "use no-new-privileges[=false], seccomp=FILE|builtin|unconfined, apparmor=NAME, systempaths=unconfined, "
    "mask=PATH, unmask=PATH",
}


class Security(Value):
    """What ``--security-opt`` says."""

    no_new_privileges: bool = True
    seccomp: bool = True
    seccomp_profile: str = ""
    apparmor: str = ""
    masked: tuple[str, ...] = ()
    unmasked: tuple[str, ...] = ()


def _read_profile(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(MAX_PROFILE_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound("cannot read the profile of system calls", where=path, hint=str(error)) from error
    if len(text) > MAX_PROFILE_BYTES:
        raise InvalidInput(f"a profile of system calls has at most {MAX_PROFILE_BYTES} bytes", where=path)
    return text


def whole(text: str, flag: str, *, least: int = 0, most: int = 2**62) -> int:
    """Returns a whole number.

    Raises:
        UsageError: it is none, or out of bounds; names the flag.
    """
    try:
        found = int(text)
    except ValueError:
        found = least - 1
    if not least <= found <= most or "_" in text:
        hint = f"a whole number of at least {least}" if most == 2**62 else f"a whole number from {least} to {most}"
        raise UsageError(f"{flag}: {text!r}", hint=f"give {hint}")
    return found


def parse_device(text: str) -> DeviceMapping:
    """Returns what ``--device SOURCE[:TARGET][:rwm]`` means.

    Raises:
        UsageError: it is not of that form.
    """
    parts = text.split(":")
    access = "rwm"
    if len(parts) > 1 and parts[-1] and set(parts[-1]) <= set("rwm"):
        access = parts.pop()
    if not 1 <= len(parts) <= 2 or not all(part.startswith("/") for part in parts):
        hint = "write it as /dev/fuse, /dev/sda:/dev/xvda or /dev/fuse:/dev/fuse:rw"
        if "=" in text:
            hint = "devices of CDI are not there: name the nodes themselves"
        raise UsageError(f"--device: not a device: {text!r}", hint=hint)
    return DeviceMapping(source=os.path.normpath(parts[0]), target=os.path.normpath(parts[-1]), access=access)


def parse_device_rule(text: str) -> DeviceRule:
    """Returns what ``--device-cgroup-rule 'c 1:3 rwm'`` means.

    Raises:
        UsageError: it is not of that form.
    """
    words = text.split()
    if len(words) == 3 and words[0] in ("a", "b", "c") and set(words[2]) <= set("rwm"):
        numbers = words[1].split(":")
        if len(numbers) == 2 and all(one == "*" or (one.isascii() and one.isdigit()) for one in numbers):
            major, minor = (None if one == "*" else int(one) for one in numbers)
            return DeviceRule(allow=True, type=words[0], major=major, minor=minor, access=words[2])
    raise UsageError(f"--device-cgroup-rule: not a rule: {text!r}", hint="write it as 'c 189:* rwm'")


def parse_rates(items: Iterable[str], flag: str, *, sizes: bool) -> tuple[DeviceRate, ...]:
    """Returns what ``--device-read-bps PATH:RATE`` and its kin mean.

    Raises:
        UsageError: one is not of that form.
    """
    found = []
    for item in items:
        path, colon, rate = item.rpartition(":")
        if not colon or not path.startswith("/"):
            raise UsageError(
                f"{flag}: {item!r}", hint="write it as /dev/sda:1mb" if sizes else "write it as /dev/sda:100"
            )
        found.append(DeviceRate(path=path, rate=parse_size(rate, where=flag) if sizes else whole(rate, flag)))
    return tuple(found)


def parse_ulimit(text: str) -> Ulimit:
    """Returns what ``--ulimit NAME=SOFT[:HARD]`` means; -1 is without limit.

    Raises:
        UsageError: it is not of that form.
    """
    name, equals, numbers = text.partition("=")
    soft, colon, hard = numbers.partition(":")
    if not equals or not name:
        raise UsageError(f"--ulimit: {text!r}", hint="write it as nofile=1024:2048")
    low = whole(soft, "--ulimit", least=-1)
    return Ulimit(name=name, soft=low, hard=whole(hard, "--ulimit", least=-1) if colon else low)


def parse_pairs(items: Iterable[str], flag: str) -> dict[str, str]:
    """Returns ``KEY=VALUE`` pairs.

    Raises:
        UsageError: one is not of that form.
    """
    found = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise UsageError(f"{flag}: {item!r}", hint="write it as KEY=VALUE")
        found[key] = value
    return found


def parse_label_files(names: Iterable[str]) -> list[str]:
    """Returns the lines of ``--label-file``, which are labels.

    Raises:
        NotFound: a file is not there.
    """
    return [line.strip() for name in names for _, line in _lines(name, "the label file")]


def parse_processors(text: str) -> tuple[int, ...]:
    """Returns the processors of ``--cpu-affinity``: a list such as ``0,2-3``, or a mask such as ``0x5``.

    Raises:
        UsageError: it is neither.
    """
    found: set[int] = set()
    try:
        if text.lower().startswith("0x"):
            mask = int(text, 16)
            found = {bit for bit in range(min(mask.bit_length(), MAX_PROCESSORS)) if mask >> bit & 1}
        else:
            for part in text.split(","):
                first, dash, last = part.partition("-")
                low, high = int(first), int(last if dash else first)
                if not 0 <= low <= high < MAX_PROCESSORS:
                    raise ValueError
                found.update(range(low, high + 1))
    except ValueError:
        found = set()
    if not found:
        raise UsageError(f"--cpu-affinity: {text!r}", hint="write a list such as 0,2-3, or a mask such as 0x5")
    return tuple(sorted(found))


def parse_attach(items: Iterable[str]) -> frozenset[str]:
    """Returns the streams of ``-a``.

    Raises:
        UsageError: there is no such stream.
    """
    words = frozenset(item.lower() for item in items)
    if not words <= {"stdin", "stdout", "stderr"}:
        raise UsageError(f"-a: {', '.join(sorted(words))}", hint="use stdin, stdout or stderr")
    return words


def parse_groups(items: Iterable[str]) -> tuple[str, ...]:
    """Returns groups of the image, which is not looked at here.

    Raises:
        UsageError: one is no name.
    """
    found = tuple(items)
    for item in found:
        if item == "keep-groups":
            raise UsageError("--group-add: keep-groups is not there", hint="name the groups, or give their numbers")
        if not item or any(char in item for char in ":,/\n\0"):
            raise UsageError(f"--group-add: {item!r}", hint="give a group's name or its number")
    return found


def health_check(
    command: str | None,
    *,
    off: bool,
    interval: str | None,
    timeout: str | None,
    retries: int | None,
    start_period: str | None,
    start_interval: str | None = None,
) -> Healthcheck | None:
    """Returns the health check of ``--health-*``; None when none of them is given.

    With times alone the test is left empty: the image's is then run at these times.
    """
    if off:
        return Healthcheck(test=("NONE",))
    if command is None and not any((interval, timeout, retries, start_period, start_interval)):
        return None
    from wherry.core.units import parse_duration_ms

    default = Healthcheck(test=())
    return Healthcheck(
        test=("CMD-SHELL", command) if command is not None else (),
        interval_ms=parse_duration_ms(interval, where="--health-interval") if interval else default.interval_ms,
        timeout_ms=parse_duration_ms(timeout, where="--health-timeout") if timeout else default.timeout_ms,
        retries=retries or default.retries,
        start_period_ms=parse_duration_ms(start_period, where="--health-start-period") if start_period else 0,
        start_interval_ms=parse_duration_ms(start_interval, where="--health-start-interval")
        if start_interval
        else default.start_interval_ms,
    )


def parse_since(text: str, now_s: float) -> float:
    """Returns the time that ``--since`` means: RFC 3339, seconds since 1970, or a duration such as ``10m``.

    Raises:
        UsageError: it is none of them.
    """
    from wherry.core.units import parse_duration_ms
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
