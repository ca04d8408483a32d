"""Docker's words in the texts of a service, and what they mean: options, rules, modes; pure but for profiles.

The errors have no place: whoever calls knows the service and the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wherry.core.errors import InvalidInput, NotFound
from wherry.core.units import parse_duration_ms, parse_size
from wherry.core.value import Value
from wherry.engine.spec import LogLimits
from wherry.runtime.resources import DeviceRule
from wherry.spec.container import Mount, MountType, RestartName, RestartPolicy

MAX_PROFILE_BYTES = 1024 * 1024
_TMPFS_FLAGS = (
    *("exec", "noexec", "suid", "nosuid", "dev", "nodev", "noatime", "relatime", "huge", "uid", "gid", "nr_inodes"),
)


class Security(Value):
    """What ``security_opt`` says."""

    no_new_privileges: bool = True
    seccomp: bool = True
    seccomp_profile: str = ""
    apparmor: str = ""
    masked: tuple[str, ...] = ()
    unmasked: tuple[str, ...] = ()


def security(items: Iterable[str]) -> Security:
    """Returns what ``security_opt`` says.

    Raises:
        InvalidInput: an option is not known.
        NotFound: a profile's file is not there.
    """
    given: dict[str, Any] = {}
    masked: list[str] = []
    unmasked: list[str] = []
    for item in items:
        cut = min((at for at in (item.find("="), item.find(":")) if at >= 0), default=len(item))
        key, value = item[:cut], item[cut + 1 :]
        if key == "no-new-privileges" and value in ("", "true", "false"):
            given["no_new_privileges"] = value != "false"
        elif key == "seccomp" and value == "unconfined":
            given["seccomp"] = False
        elif key == "seccomp" and value:
            given["seccomp_profile"] = "" if value == "builtin" else _profile(value)
        elif key == "apparmor" and value:
            given["apparmor"] = "" if value == "unconfined" else value
        elif key == "label" and value == "disable":
            continue
        elif (key, value) == ("systempaths", "unconfined") or (key, value.upper()) == ("unmask", "ALL"):
            unmasked.append("ALL")
        elif key == "mask" and value:
            masked += value.split(":")
        elif key == "unmask" and value:
            unmasked += value.split(":")
        else:
            raise InvalidInput(
                f"the option {item!r} is not supported",
                hint="use no-new-privileges[:false], seccomp=FILE|unconfined, apparmor=NAME, systempaths=unconfined",
            )
    return Security(masked=tuple(masked), unmasked=tuple(unmasked), **given)


def _profile(path: str) -> str:
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
        InvalidInput: an option is not known.
    """
    target, _, options = text.partition(":")
    given: dict[str, Any] = {}
    more: list[str] = []
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        if key == "size":
            given["tmpfs_size_bytes"] = parse_size(value)
        elif key == "mode":
            given["tmpfs_mode"] = int(value, 8) if value and set(value) <= set("01234567") else 0o1777
        elif key in ("ro", "rw"):
            given["read_only"] = key == "ro"
        elif key in _TMPFS_FLAGS:
            more.append(option)
        else:
            raise InvalidInput(
                f"the option {key!r} of a tmpfs is not supported", hint="use size, mode, ro, uid, gid ..."
            )
    return Mount(type=MountType.TMPFS, target=target, tmpfs_options=tuple(more), **given)


def logging(given: Mapping[str, object]) -> LogLimits:
    """Returns what ``logging`` says.

    Raises:
        InvalidInput: another driver or option.
    """
    driver = given.get("driver", "json-file")
    if driver not in ("json-file", "none"):
        raise InvalidInput(f"the log driver {str(driver)!r} is not there", hint="use json-file or none")
    base = LogLimits(driver="none" if driver == "none" else "json-file")
    size, files = base.max_bytes, base.files
    options = given.get("options", {})
    for key, value in options.items() if isinstance(options, dict) else ():
        if key == "max-size":
            size = parse_size(value)
        elif key == "max-file" and value.isascii() and value.isdigit():
            files = int(value)
        else:
            raise InvalidInput(f"the log option {key!r} is not supported", hint="use max-size: 10m and max-file: 3")
    return LogLimits(max_bytes=size, files=files, driver=base.driver)


def restart_policy(service: Mapping[str, object]) -> RestartPolicy:
    """Returns what ``restart`` says, or ``deploy.restart_policy`` without it."""
    text = service.get("restart")
    if isinstance(text, str):
        name, _, count = text.partition(":")
        policy = next(word for word in RestartName.ALL if word == name)
        return RestartPolicy(name=policy, max_retries=int(count or 0))
    deploy = service.get("deploy")
    given = deploy.get("restart_policy") if isinstance(deploy, dict) else None
    if not given:
        return RestartPolicy()
    condition = given.get("condition", "any")
    if condition == "on-failure":
        return RestartPolicy(name=RestartName.ON_FAILURE, max_retries=given.get("max_attempts", 0))
    return RestartPolicy(name=RestartName.NO if condition == "none" else RestartName.ALWAYS)


def seconds(text: str) -> int:
    """Returns a duration in whole seconds, never less than it."""
    return -(-parse_duration_ms(text) // 1000)
