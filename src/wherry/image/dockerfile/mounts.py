"""``RUN --mount``: what a command sees besides its root, for as long as it runs.

A `MountFlag` keeps its words; `read_mount` makes a mount of them once variables are replaced. A key that a type of
mount does not have is an error, and so is a value that it does not take.

Source: Dockerfile reference, "RUN --mount".
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from wherry.core.errors import InvalidInput
from wherry.core.units import parse_size
from wherry.image.dockerfile.problems import Place, nearest
from wherry.image.dockerfile.syntax import MountFlag

MAX_MOUNT_CHARS = 16 * 1024
SHARING = ("shared", "private", "locked")
_NAMES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_ALONE = ("readonly", "readwrite", "required")
_KEYS: Mapping[str, tuple[str, ...]] = {
    "bind": ("source", "target", "from", "readonly", "readwrite"),
    "cache": ("id", "target", "from", "source", "readonly", "readwrite", "sharing", "mode", "uid", "gid"),
    "tmpfs": ("target", "size", "readonly", "readwrite"),
    "secret": ("id", "source", "target", "env", "required", "mode", "uid", "gid", "readonly", "readwrite"),
    "ssh": ("id", "source", "target", "required", "mode", "uid", "gid", "readonly", "readwrite"),
}
_MODE = re.compile(r"[0-7]{1,5}\Z")
_ID = re.compile(r"\d{1,10}\Z")
_MAX_ID = 2**32 - 2
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class BindMount:
    """A directory or file of the context, a stage, an image or a named context. What is written to it is dropped."""

    target: str
    source: str = "/"
    from_: str = ""
    read_only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheMount:
    """A directory that survives the build, and begins as a copy of ``from`` if that is given."""

    target: str
    id: str
    source: str = "/"
    from_: str = ""
    read_only: bool = False
    sharing: str = "shared"
    mode: int = 0o755
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TmpfsMount:
    """An empty directory in memory. A size of 0 is: no limit of its own."""

    target: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretMount:
    """A secret as a file, as a variable, or as both. "" for either is: not so."""

    id: str
    target: str = ""
    env: str = ""
    required: bool = False
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SshMount:
    """The socket of an SSH agent; an empty target is docker's default, ``/run/buildkit/ssh_agent.N``."""

    id: str = "default"
    target: str = ""
    required: bool = False
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


RunMount: TypeAlias = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount


def split_mount(text: str, place: Place) -> MountFlag:
    """Returns the words of a ``--mount``, and checks those that hold no variable.

    Raises:
        InvalidInput: not ``KEY=VALUE,...``, or a key or value that is not known.
    """
    if len(text) > MAX_MOUNT_CHARS:
        raise place.error(f"RUN: a --mount longer than {MAX_MOUNT_CHARS} characters")
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise place.error(f"RUN: --mount: {error}", "write it as KEY=VALUE,KEY=VALUE") from None
    options: list[tuple[str, str]] = []
    kind = "bind"
    for item in fields:
        key, equals, value = item.partition("=")
        key = key.strip().lower()
        name = _NAMES.get(key, key)
        if name != "type" and not any(name in keys for keys in _KEYS.values()):
            known = ["type", *dict.fromkeys(key for keys in _KEYS.values() for key in keys), *_NAMES]
            raise place.error(f"RUN: --mount: unknown key {key[:40]!r}", nearest(key, known))
        if not equals and name not in _ALONE:
            raise place.error(f"RUN: --mount: {key} needs a value", f"write it as {key}=VALUE")
        if name == "type":
            kind = value.lower()
        else:
            options.append((name, value if equals else "true"))
    if kind not in _KEYS:
        raise place.error(f"RUN: --mount: not a type of mount: {kind[:40]!r}", f"types are {', '.join(_KEYS)}")
    for name, value in options:
        if name not in _KEYS[kind]:
            raise place.error(f"RUN: --mount: a {kind} mount has no {name}", f"it takes {' '.join(_KEYS[kind])}")
        if name == "from" and "$" in value[:-1]:
            raise place.error(
                "RUN: --mount: from takes no variables", "name a stage for it: FROM $IMAGE AS NAME, then from=NAME"
            )
    flag = MountFlag(type=kind, options=tuple(options))
    if not any("$" in value for _, value in options):
        read_mount(flag, place)
    return flag


def read_mount(flag: MountFlag, place: Place) -> RunMount:
    """Returns the mount that a flag asks for, its variables replaced.

    Raises:
        InvalidInput: a value is not what its key takes, or a key is missing.
    """
    options = dict(flag.options)  # the last of two wins, as in docker
    ids = {
        "mode": _mode(options.get("mode", ""), place) if "mode" in options else None,
        "uid": _id("uid", options.get("uid", "0"), place),
        "gid": _id("gid", options.get("gid", "0"), place),
    }
    owned = {key: value for key, value in ids.items() if value is not None}
    read_only = _read_only(flag, place)
    target = options.get("target", "")
    if flag.type in ("bind", "cache", "tmpfs") and not target:
        raise place.error(f"RUN: --mount: a {flag.type} mount needs a target", "add target=PATH")
    source, from_ = options.get("source") or "/", options.get("from", "")
    if flag.type == "bind":
        return BindMount(target=target, source=source, from_=from_, read_only=read_only is not False)
    if flag.type == "cache":
        sharing = options.get("sharing", "shared").lower()
        if sharing not in SHARING:
            raise place.error(
                f"RUN: --mount: not a way of sharing: {sharing[:40]!r}", nearest(sharing, SHARING) or "write locked"
            )
        return CacheMount(
            target=target,
            id=options.get("id") or target,
            source=source,
            from_=from_,
            read_only=bool(read_only),
            sharing=sharing,
            **owned,
        )
    if flag.type == "tmpfs":
        return TmpfsMount(target=target, size_bytes=_size(options.get("size", "0"), place))
    required = _truth("required", options.get("required", "false"), place)
    if "source" in options and "id" in options:
        raise place.error(f"RUN: --mount: a {flag.type} mount has both source and id", "they mean the same; keep id")
    name = options.get("id") or options.get("source", "")
    if flag.type == "ssh":
        return SshMount(id=name or "default", target=target, required=required, **owned)
    env = options.get("env", "")
    if env and _ENV.match(env) is None:
        raise place.error(f"RUN: --mount: not the name of a variable: {env[:40]!r}")
    name = name or target.rstrip("/").rpartition("/")[2] or env
    if not name:
        raise place.error("RUN: --mount: a secret mount needs an id", "add id=NAME")
    if not target and not env:
        target = f"/run/secrets/{name}"
    return SecretMount(id=name, target=target, env=env, required=required, **owned)


def _read_only(flag: MountFlag, place: Place) -> bool | None:
    """Returns what the last of the keys says; None when there is none."""
    found = None
    for name, value in flag.options:
        if name in ("readonly", "readwrite"):
            found = _truth(name, value, place) is (name == "readonly")
    return found


def _truth(name: str, text: str, place: Place) -> bool:
    if text.lower() in ("true", "1", "t"):
        return True
    if text.lower() in ("false", "0", "f"):
        return False
    raise place.error(f"RUN: --mount: {name} is true or false, got {text[:40]!r}")


def _mode(text: str, place: Place) -> int:
    if _MODE.match(text) is None:
        raise place.error(f"RUN: --mount: not a mode: {text[:40]!r}", "write it in octal, such as mode=0750")
    return int(text, 8)


def _id(name: str, text: str, place: Place) -> int:
    if _ID.match(text) is None or int(text) > _MAX_ID:
        raise place.error(f"RUN: --mount: {name} is a number, got {text[:40]!r}")
    return int(text)


def _size(text: str, place: Place) -> int:
    try:
        return parse_size(text)
    except (InvalidInput, ValueError) as error:
        raise place.error(f"RUN: --mount: not a size: {text[:40]!r}", "write it as 64m or 1g") from error
