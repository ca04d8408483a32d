"""Docker's words in texts, and what they mean, for flags and for Compose files: options, rules, modes, policies.

The errors have no place: whoever calls knows the flag, or the service and the key. Pure but for the file that a
profile of system calls is read from. Budget: a container without such words is started without this module.
"""

from __future__ import annotations

from wherry.core.errors import InvalidInput, NotFound
from wherry.core.units import parse_size
from wherry.engine.isolation import Security
from wherry.engine.spec import LogLimits
from wherry.runtime.resources import DeviceRule
from wherry.spec.container import Mount, MountType, RestartName, RestartPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

MAX_PROFILE_BYTES = 1024 * 1024
MAX_MODE = 0o7777
LOG_DRIVERS = ("json-file", "none")
_KNOWN_DRIVERS = (
    *("local", "syslog", "journald", "gelf", "fluentd", "awslogs", "splunk", "etwlogs", "gcplogs", "passthrough"),
    *("k8s-file",),
)
_TMPFS_FLAGS = (
    *("exec", "noexec", "suid", "nosuid", "dev", "nodev", "noatime", "relatime", "huge", "uid", "gid", "nr_inodes"),
)
_SECURITY_HINTS = {
    "label": "label=disable is; labels of SELinux are given by the host's policy alone",
    "": "use no-new-privileges[=false], seccomp=FILE|builtin|unconfined, apparmor=NAME, systempaths=unconfined, "
    "mask=PATH, unmask=PATH",
}


def security(items: Iterable[str]) -> Security:
    """Returns what docker's ``security_opt`` says, with podman's ``mask`` and ``unmask``.

    Raises:
        InvalidInput: an option is not known.
        NotFound: a profile's file is not there.
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
            hint = _SECURITY_HINTS.get(key, _SECURITY_HINTS[""])
            raise InvalidInput(f"the option {item!r} is not supported", hint=hint)
    return Security(masked=tuple(masked), unmasked=tuple(unmasked), **found)


def _read_profile(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(MAX_PROFILE_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound("cannot read the profile of system calls", where=path, hint=str(error)) from error
    if len(text) > MAX_PROFILE_BYTES:
        raise InvalidInput(f"a profile of system calls has at most {MAX_PROFILE_BYTES} bytes", where=path)
    return text


def device_rule(text: str) -> DeviceRule:
    """Returns what ``c 189:* rwm`` means.

    Raises:
        InvalidInput: it is not of that form.
    """
    parts = text.split()
    if len(parts) == 3 and parts[0] in ("a", "b", "c") and set(parts[2]) <= set("rwm"):
        numbers = parts[1].split(":")
        if len(numbers) == 2 and all(one == "*" or (one.isascii() and one.isdigit()) for one in numbers):
            major, minor = (None if one == "*" else int(one) for one in numbers)
            return DeviceRule(allow=True, type=parts[0], major=major, minor=minor, access=parts[2])
    raise InvalidInput(f"not a rule of devices: {text!r}", hint="write it as 'c 189:* rwm'")


def tmpfs(text: str) -> Mount:
    """Returns what ``TARGET[:OPTIONS]`` means.

    Raises:
        InvalidInput: an option is not known, or its value is wrong.
    """
    target, _, options = text.partition(":")
    given: dict[str, Any] = {}
    more: list[str] = []
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        if key == "size":
            given["tmpfs_size_bytes"] = parse_size(value)
        elif key == "mode":
            given["tmpfs_mode"] = mode(value)
        elif key in ("ro", "rw"):
            given["read_only"] = key == "ro"
        elif key in _TMPFS_FLAGS:
            more.append(option)
        else:
            hint = f"use size, mode, ro, rw or {', '.join(_TMPFS_FLAGS)}"
            raise InvalidInput(f"the option {key!r} of a tmpfs is not supported", hint=hint)
    return Mount(type=MountType.TMPFS, target=target, tmpfs_options=tuple(more), **given)


def mode(text: str) -> int:
    """Returns the number of an octal mode.

    Raises:
        InvalidInput: it is none.
    """
    number = int(text, 8) if text and set(text) <= set("01234567") else -1
    if not 0 <= number <= MAX_MODE:
        raise InvalidInput(f"not a mode: {text!r}", hint="write it as 1777")
    return number


def log_limits(driver: str, options: Iterable[tuple[str, str]]) -> LogLimits:
    """Returns what a log driver and its options mean: ``max-size`` and ``max-file``.

    Raises:
        InvalidInput: another driver or option.
    """
    if driver not in LOG_DRIVERS:
        known = f"the log driver {driver!r} is not there"
        what = known if driver in _KNOWN_DRIVERS else f"there is no log driver {driver!r}"
        raise InvalidInput(what, hint=f"use {' or '.join(LOG_DRIVERS)}")
    found = LogLimits(driver="none" if driver == "none" else "json-file")
    size, files = found.max_bytes, found.files
    for key, value in options:
        if driver == "none":
            raise InvalidInput(f"the log driver none keeps nothing, and has no option {key!r}")
        if key == "max-size":
            size = parse_size(value)
        elif key == "max-file" and value.isascii() and value.isdigit():
            files = int(value)
        else:
            raise InvalidInput(
                f"the log option '{key}={value}' is not supported", hint="use max-size=10m and max-file=3"
            )
    return LogLimits(max_bytes=size, files=files, driver=found.driver)


def restart(text: str) -> RestartPolicy:
    """Returns what ``no``, ``always``, ``unless-stopped`` and ``on-failure[:N]`` mean.

    Raises:
        InvalidInput: it is none of them.
    """
    name, colon, count = text.partition(":")
    policy = next((word for word in RestartName.ALL if word == name), None)
    if policy is None:
        raise InvalidInput(f"no restart policy {name!r}", hint="use no, on-failure[:N], always or unless-stopped")
    if colon and (policy != RestartName.ON_FAILURE or not (count.isascii() and count.isdigit())):
        raise InvalidInput(f"not a restart policy: {text!r}", hint="only on-failure takes a number, as in on-failure:3")
    return RestartPolicy(name=policy, max_retries=int(count or 0))
