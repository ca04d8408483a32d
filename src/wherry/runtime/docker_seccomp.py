"""Docker's profiles of system calls, the files of ``--security-opt seccomp=FILE``, made into a `Profile`.

Docker's format is the specification's, with rules that hold only on some machines::

    {"defaultAction": ..., "defaultErrnoRet": ..., "flags": ..., "listenerPath": ..., "listenerMetadata": ...,
     "architectures": [...]   or   "archMap": [{"architecture": NATIVE, "subArchitectures": [...]}],
     "syscalls": [{"names": [...] or "name": "...", "action": ..., "errnoRet": ..., "args": [...], "comment": "...",
                   "includes": {"caps": [...], "arches": ["amd64"], "minKernel": "4.8"},   all must be so
                   "excludes": {...}}]}                                                    none may be so

podman's files say ``defaultErrno`` and ``errno`` too: errnos by name, which come before the numbers.

`capabilities` are those of the container's bounding set. A profile of the OCI form is one of this form too.
Source: moby/profiles, seccomp/seccomp.go and seccomp_linux.go; containers/common, pkg/seccomp/types.go.
"""

from __future__ import annotations

import errno

from wherry.core import jsonio
from wherry.core.errors import InvalidInput
from wherry.linux import libc
from wherry.runtime import config_seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from wherry.linux.seccomp_profile import Profile

MAX_PROFILE_BYTES = 1024 * 1024
_NATIVE = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
}
"""Machine -> its name in ``arches``, and in ``archMap``."""
_CONDITIONS = frozenset(("caps", "arches", "minKernel"))
_WORDS_OF_DOCKER = ("comment", "includes", "excludes", "name")


def parse(
    data: bytes, *, capabilities: Collection[str], kernel: tuple[int, int], machine: str = "", where: object = None
) -> Profile:
    """Reads a profile for one container on one machine.

    Args:
        data: the file's content.
        capabilities: the container's bounding set, by names such as ``CAP_CHOWN``.
        kernel: version and patch level of the running kernel: (6, 1).
        machine: this one, unless given.
        where: the file, for messages.

    Raises:
        InvalidInput: it is malformed; names the key.
    """
    value = jsonio.loads(data, where=where, max_bytes=MAX_PROFILE_BYTES)
    if not isinstance(value, dict):
        raise InvalidInput("a profile of system calls must be an object", where=where)
    word, native = _NATIVE[machine or libc.machine()]
    section = dict(value)
    _name_errno(section, "defaultErrno", "defaultErrnoRet", "profile", where)
    groups = section.pop("archMap", None)
    if groups and section.get("architectures"):
        raise InvalidInput("architectures and archMap: use one of them", where=where)
    if groups:
        section["architectures"] = _architectures(groups, native, where)

    def kept(call: Any, at: str) -> Any:
        if not isinstance(call, dict):
            raise InvalidInput(f"{at}: must be an object", where=where)
        met = _met(call.get("includes"), f"{at}.includes", capabilities, word, kernel, where)
        unmet = _met(call.get("excludes"), f"{at}.excludes", capabilities, word, kernel, where)
        return _plain(call, at, where) if all(met) and not any(unmet) else None

    return config_seccomp.parse(section, at="profile", where=where, kept=kept)


def kernel_version(release: str) -> tuple[int, int]:
    """Returns version and patch level of a kernel by its release, such as ``6.1.0-13-amd64``."""
    head = release.split("-", 1)[0].split(".")
    return int(head[0]), int(head[1]) if len(head) > 1 and head[1].isdigit() else 0


def _architectures(groups: object, native: str, where: object) -> list[str]:
    """Returns the architectures of the group of this machine; a machine that has none has just its own."""
    if not isinstance(groups, list):
        raise InvalidInput("archMap: must be a list", where=where)
    for index, group in enumerate(groups):
        below = group.get("subArchitectures") or [] if isinstance(group, dict) else None
        if below is None or not isinstance(below, list):
            raise InvalidInput(f"archMap[{index}]: must be an object with subArchitectures", where=where)
        if group.get("architecture") == native:
            return [native, *below]
    return []


def _met(
    conditions: Any, at: str, capabilities: Collection[str], machine: str, kernel: tuple[int, int], where: object
) -> list[bool]:
    """Returns whether each of the given conditions holds: for capabilities one by one, for the rest as a whole."""
    if not conditions:
        return []
    if not isinstance(conditions, dict) or conditions.keys() - _CONDITIONS:
        raise InvalidInput(f"{at}: takes caps, arches and minKernel", where=where)
    caps, arches = conditions.get("caps") or [], conditions.get("arches") or []
    if not isinstance(caps, list) or not isinstance(arches, list):
        raise InvalidInput(f"{at}: caps and arches must be lists", where=where)
    met = [cap in capabilities for cap in caps]
    if arches:
        met.append(machine in arches)
    least = conditions.get("minKernel")
    if least:
        parts = least.split(".") if isinstance(least, str) else []
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            raise InvalidInput(f"{at}.minKernel: must be VERSION.PATCHLEVEL, such as 4.8", where=where)
        met.append(kernel >= (int(parts[0]), int(parts[1])))
    return met


def _plain(call: dict[str, Any], at: str, where: object) -> dict[str, Any]:
    """Returns a rule of docker's as one of the specification's."""
    plain = {key: item for key, item in call.items() if key not in _WORDS_OF_DOCKER}
    if call.get("name"):
        if call.get("names"):
            raise InvalidInput(f"{at}: use one of name and names", where=where)
        plain["names"] = [call["name"]]
    _name_errno(plain, "errno", "errnoRet", at, where)
    return plain


def _name_errno(found: dict[str, Any], key: str, number_key: str, at: str, where: object) -> None:
    """Turns an errno's name into its number."""
    name = found.pop(key, None)
    if not name:
        return
    code = getattr(errno, name, None) if isinstance(name, str) and name.isupper() else None
    if not isinstance(code, int):
        raise InvalidInput(f"{at}.{key}: not an errno: {name!r}", where=where)
    found[number_key] = code
