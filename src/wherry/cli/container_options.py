"""What people write after docker's flags, and the values that it means; no input or output but for files they name.

Budget: on the way of every ``wherry run``, so that nothing is imported that an interpreter has not, but where a flag
needs it. Mounts are in ``container_mounts``.
"""

from __future__ import annotations

import os

from wherry.core.errors import InvalidInput, NotFound, UsageError
from wherry.core.units import parse_size
from wherry.engine.isolation import DeviceMapping, Security, Ulimit
from wherry.engine.spec import LogLimits
from wherry.spec.container import DeviceRate, Healthcheck, RestartName, RestartPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import TypeVar

    from wherry.runtime.resources import DeviceRule

    Read = TypeVar("Read")

MAX_ENV_FILE_BYTES = 1024 * 1024
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


def of_flag(flag: str, read: Callable[[], Read]) -> Read:
    """Returns what a flag's words mean to the engine.

    Raises:
        UsageError: they are wrong; names the flag.
    """
    try:
        return read()
    except InvalidInput as error:
        raise UsageError(f"{flag}: {error.what}", where=error.where, hint=error.hint) from error


def parse_restart(text: str) -> RestartPolicy:
    """Returns what ``--restart no|always|unless-stopped|on-failure[:N]`` means.

    Raises:
        UsageError: it is none of them.
    """
    if text in ("", RestartName.NO):
        return RestartPolicy()
    from wherry.engine import words

    return of_flag("--restart", lambda: words.restart(text))


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
    given = tuple(items)
    if not given and driver == "json-file":
        return LogLimits()
    from wherry.engine import words

    of_flag("--log-driver", lambda: words.log_limits(driver, ()))
    pairs = [(key, value) for key, _, value in (item.partition("=") for item in given)]
    return of_flag("--log-opt", lambda: words.log_limits(driver, pairs))


def parse_security(items: Iterable[str]) -> Security:
    """Returns what ``--security-opt`` says, docker's words and podman's ``mask`` and ``unmask``.

    Raises:
        UsageError: another option.
        NotFound: the profile's file is not there.
    """
    given = tuple(items)
    if not given:
        return Security()
    from wherry.engine import words

    return of_flag("--security-opt", lambda: words.security(given))


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
    from wherry.engine import words

    return of_flag("--device-cgroup-rule", lambda: words.device_rule(text))


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
