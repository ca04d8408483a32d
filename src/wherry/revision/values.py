"""The short forms of Compose: ports, mounts, limits, words of a command, from text to values.

Every function takes a ``Value`` and raises with its line. Text goes through ``text``: a ``$`` is refused, because
a device has no shell environment to fill it in from; ``$$`` is a dollar sign, as in Compose.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from decimal import Decimal, InvalidOperation
from typing import Literal, TypeVar

from wherry.core.errors import InvalidInput
from wherry.core.units import parse_duration_ms, parse_size
from wherry.linux.capabilities import NAMES
from wherry.revision.yamldoc import Value, did_you_mean
from wherry.spec.container import Mount, MountType, PortMapping

W = TypeVar("W", bound=str)

MAX_PORT = 65535
MAX_PORTS_IN_RANGE = 256
MAX_MILLI_CPUS = 1_024_000
MAX_DURATION_MS = 7 * 24 * 3600 * 1000

CAPABILITIES = frozenset({"ALL"} | {name.removeprefix("CAP_") for name in NAMES})
"""capabilities(7), without the prefix, and docker's ``ALL``."""

_DOLLAR = re.compile(r"\$(\$)?")
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\Z")
_SERVICE_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}\Z")
_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?\Z")
_MODE = re.compile(r"0?o?([0-7]{1,4})\Z")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?(?::[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?)?\Z")


def text(value: Value) -> str:
    """Returns a scalar as text, ``$$`` as ``$``."""
    raw = value.raw()

    def unescape(match: re.Match[str]) -> str:
        if match.group(1) is None:
            raise value.wrong("variables are not filled in", hint="write the value itself, or $$ for a dollar sign")
        return "$"

    return _DOLLAR.sub(unescape, raw)


def name(value: Value) -> str:
    """Returns text that is a name of a project, an app or the like."""
    found = text(value)
    check_name(found, value)
    return found


def is_name(text: str) -> bool:
    """Tells whether this can be the name of a project or an app."""
    return _SERVICE_NAME.match(text) is not None


def check_name(found: str, value: Value) -> None:
    """Refuses what cannot be the name of an app: it also names a folder, a host and a container."""
    if not _SERVICE_NAME.match(found):
        raise value.wrong(
            f"not a name: {found[:80]!r}", hint="letters, digits, - _ and . only, a letter or digit first, 63 at most"
        )


def check_volume_name(found: str, value: Value) -> None:
    """Refuses what cannot be the name of a volume."""
    if not _VOLUME_NAME.match(found):
        raise value.wrong(
            f"not a volume's name: {found[:80]!r}", hint="letters, digits, - _ and . only, a letter or digit first"
        )


def choice(value: Value, words: tuple[W, ...]) -> W:
    """Returns one of the `words`."""
    found = text(value)
    for word in words:
        if word == found:
            return word
    raise value.wrong(f"{found[:80]!r} is not one of {', '.join(words)}", hint=did_you_mean(found, frozenset(words)))


def integer(value: Value, *, least: int, most: int) -> int:
    """Returns a whole number between `least` and `most`."""
    found = text(value)
    if not re.fullmatch(r"-?\d{1,12}", found) or not least <= int(found) <= most:
        raise value.wrong(f"must be a whole number from {least} to {most}, not {found[:40]!r}")
    return int(found)


def size(value: Value, *, least: int = 1) -> int:
    """Returns bytes, from ``64m`` or a number."""
    found = text(value)
    try:
        count = parse_size(found)
    except InvalidInput as error:
        raise value.wrong(error.what, hint=error.hint) from error
    if not least <= count < 1 << 62:
        raise value.wrong(f"must be at least {least} bytes" if count < least else "too large")
    return count


def duration_ms(value: Value, *, least: int = 1) -> int:
    """Returns milliseconds, from ``1m30s``."""
    found = text(value)
    try:
        count = parse_duration_ms(found)
    except InvalidInput as error:
        raise value.wrong(error.what, hint=error.hint) from error
    if not least <= count <= MAX_DURATION_MS:
        raise value.wrong("must be more than nothing" if count < least else "must be a week at most")
    return count


def milli_cpus(value: Value) -> int:
    """Returns thousandths of a CPU, from ``0.5``."""
    found = text(value)
    try:
        amount = Decimal(found) * 1000
    except InvalidOperation as error:
        raise value.wrong(f"not a number of CPUs: {found[:40]!r}", hint="write it as 0.5 or 2") from error
    if not amount.is_finite() or amount < 1 or amount > MAX_MILLI_CPUS:
        raise value.wrong(f"must be between 0.001 and {MAX_MILLI_CPUS // 1000} CPUs, not {found[:40]!r}")
    return int(amount)


def words(value: Value) -> tuple[str, ...]:
    """Returns the words of a command: a list, or text that is split as a shell splits it (no shell runs)."""
    if value.is_list:
        return tuple(text(item) for item in value.items())
    found = text(value)
    try:
        return tuple(shlex.split(found))
    except ValueError as error:
        raise value.wrong(f"cannot be split into words: {str(error).lower()}") from error


def texts(value: Value) -> tuple[str, ...]:
    """Returns a list of text."""
    return tuple(text(item) for item in value.items())


def environment(value: Value) -> dict[str, str]:
    """Returns variables from a mapping or from a list of ``NAME=value``."""
    found: dict[str, str] = {}
    if value.is_map:
        for key, place, item in value.entries():
            if item.is_null:
                raise _no_value(key, place)
            _variable(key, place)
            found[key] = text(item)
        return found
    for item in value.items():
        key, equals, content = text(item).partition("=")
        if not equals:
            raise _no_value(key, item)
        _variable(key, item)
        if key in found:
            raise item.wrong(f"{key} stands twice")
        found[key] = content
    return found


def _no_value(key: str, place: Value) -> InvalidInput:
    hint = f"write it as {key[:80]}=value; a device has no shell to take it from"
    return place.wrong(f"{key[:80]} has no value", hint=hint)


def _variable(key: str, place: Value) -> None:
    if not key or "=" in key or "\0" in key or key != key.strip():
        raise place.wrong(f"not a variable's name: {key[:80]!r}")


def capability(value: Value) -> str:
    """Returns the name of a capability in docker's form: upper case, without ``CAP_``."""
    found = text(value).upper().removeprefix("CAP_")
    if found not in CAPABILITIES:
        raise value.wrong(f"no capability {found[:40]!r}", hint=did_you_mean(found, CAPABILITIES) if found else None)
    return found


def user(value: Value) -> str:
    """Returns a user in docker's form: ``name``, ``uid``, or either with ``:group``."""
    found = text(value)
    if not _USER.match(found):
        raise value.wrong(f"not a user: {found[:80]!r}", hint="write it as 1000, 1000:1000, name or name:group")
    return found


def guest_path(found: str, value: Value) -> str:
    """Returns an absolute path in the container, without ``.``, ``//`` and a slash at the end."""
    parts = [part for part in found.split("/") if part not in ("", ".")]
    if not found.startswith("/") or ".." in parts or "\0" in found:
        raise value.wrong(f"not an absolute path in the container: {found[:200]!r}")
    return "/" + "/".join(parts)


def ports(value: Value) -> tuple[PortMapping, ...]:
    """Returns one entry of ``ports``: short (``[ip:][host:]container[/protocol]``) or long; ranges are expanded."""
    if value.is_map:
        return _long_port(value)
    found = text(value)
    rest, _, protocol = found.partition("/")
    if protocol and protocol not in ("tcp", "udp"):
        raise value.wrong(f"no protocol {protocol[:20]!r}", hint="tcp or udp")
    if rest.startswith("["):
        raise value.wrong("an IPv6 address cannot be published", hint="leave the address out, or use an IPv4 one")
    parts = rest.split(":")
    if len(parts) > 3:
        raise value.wrong(f"not a port: {found[:80]!r}", hint="write it as 8080:80 or 127.0.0.1:8080:80/tcp")
    host_ip = _host_ip(parts[0], value) if len(parts) == 3 else "0.0.0.0"  # noqa: S104 docker's default
    host = parts[-2] if len(parts) > 1 else ""
    return _expand(value, parts[-1], host, host_ip, protocol or "tcp")


def _long_port(value: Value) -> tuple[PortMapping, ...]:
    fields = value.fields(frozenset({"target", "published", "host_ip", "protocol", "mode"}))
    if "target" not in fields:
        raise value.wrong("target is missing", hint="target is the port in the container")
    target = str(integer(fields["target"], least=1, most=MAX_PORT))
    published = text(fields["published"]) if "published" in fields else ""
    host_ip = "0.0.0.0"  # noqa: S104 docker's default
    if "host_ip" in fields:
        host_ip = _host_ip(text(fields["host_ip"]), fields["host_ip"])
    if "mode" in fields:
        choice(fields["mode"], ("host", "ingress"))  # the same on one machine
    protocol = choice(fields["protocol"], ("tcp", "udp")) if "protocol" in fields else "tcp"
    return _expand(fields.get("published", value), target, published, host_ip, protocol)


def _expand(value: Value, container: str, host: str, host_ip: str, protocol: str) -> tuple[PortMapping, ...]:
    inside = _port_range(container, value)
    outside = _port_range(host, value) if host else range(0)
    if outside and len(outside) != len(inside):
        raise value.wrong(f"{len(outside)} host ports for {len(inside)} in the container", hint="give as many of each")
    kind: Literal["tcp", "udp"] = "udp" if protocol == "udp" else "tcp"
    return tuple(
        PortMapping(container_port=port, host_port=outside[index] if outside else 0, host_ip=host_ip, protocol=kind)
        for index, port in enumerate(inside)
    )


def _port_range(found: str, value: Value) -> range:
    match = _RANGE.match(found)
    if match is None:
        raise value.wrong(f"not a port: {found[:40]!r}", hint="write it as 8080:80 or 127.0.0.1:8080:80/tcp")
    first, last = int(match.group(1)), int(match.group(2) or match.group(1))
    if not (1 <= first <= MAX_PORT and 1 <= last <= MAX_PORT):
        raise value.wrong(f"a port is a number from 1 to {MAX_PORT}, not {found[:40]}")
    if first > last:
        raise value.wrong(f"the range {found} runs backwards")
    if last - first >= MAX_PORTS_IN_RANGE:
        raise value.wrong(f"more than {MAX_PORTS_IN_RANGE} ports in one range")
    return range(first, last + 1)


def _host_ip(found: str, value: Value) -> str:
    if not found:
        return "0.0.0.0"  # noqa: S104 docker's default
    try:
        address = ipaddress.ip_address(found)
    except ValueError as error:
        raise value.wrong(f"not an IP address: {found[:80]!r}") from error
    if address.version != 4:
        raise value.wrong("an IPv6 address cannot be published", hint="leave the address out, or use an IPv4 one")
    return str(address)


def mount(value: Value) -> Mount:
    """Returns one entry of ``volumes``: short (``source:/target[:ro]``) or long."""
    if value.is_map:
        return _long_mount(value)
    found = text(value)
    parts = found.split(":")
    if len(parts) == 1:
        raise value.wrong("a volume without a name", hint=f"name it and declare it: data:{found[:80]}")
    if len(parts) > 3:
        raise value.wrong(f"not a volume: {found[:200]!r}", hint="write it as name:/path or name:/path:ro")
    if len(parts) == 3 and parts[2] not in ("ro", "rw"):
        raise value.wrong(f"no such option: {parts[2][:40]!r}", hint="there are ro and rw")
    is_path = parts[0].startswith(("/", ".", "~"))
    kind: Literal["bind", "volume"] = MountType.BIND if is_path else MountType.VOLUME
    source = _source(kind, parts[0], value)
    return Mount(
        type=kind, source=source, target=_target(parts[1], value), read_only=len(parts) == 3 and parts[2] == "ro"
    )


def _long_mount(value: Value) -> Mount:
    fields = value.fields(
        frozenset({"type", "source", "target", "read_only", "tmpfs"}),
        {"bind": "leave it out", "volume": "leave it out", "consistency": "leave it out", "image": ""},
    )
    for key in ("type", "target"):
        if key not in fields:
            raise value.wrong(f"{key} is missing")
    kind = choice(fields["type"], MountType.ALL)
    target = _target(text(fields["target"]), fields["target"])
    read_only = "read_only" in fields and fields["read_only"].boolean()
    if kind == MountType.TMPFS:
        if "source" in fields:
            raise fields["source"].wrong("a tmpfs has no source")
        options = fields["tmpfs"].fields(frozenset({"size", "mode"})) if "tmpfs" in fields else {}
        return Mount(
            type=kind,
            target=target,
            read_only=read_only,
            tmpfs_size_bytes=size(options["size"]) if "size" in options else None,
            tmpfs_mode=_mode(text(options["mode"]), options["mode"]) if "mode" in options else None,
        )
    if "tmpfs" in fields:
        raise fields["tmpfs"].wrong(f"not for type {kind}")
    if "source" not in fields:
        raise value.wrong("source is missing")
    source = _source(kind, text(fields["source"]), fields["source"])
    return Mount(type=kind, source=source, target=target, read_only=read_only)


def _source(kind: str, found: str, value: Value) -> str:
    if kind == MountType.VOLUME:
        check_volume_name(found, value)
        return found
    if not found.startswith("/"):
        raise value.wrong(
            f"a device does not have your folder {found[:200]!r}",
            hint="put files into config/APP/, which lies over the app's /etc; or use a volume or an absolute path",
        )
    return guest_path(found, value)


def _target(found: str, value: Value) -> str:
    target = guest_path(found, value)
    if target == "/":
        raise value.wrong("nothing can be mounted over / of a container")
    return target


def tmpfs(value: Value) -> Mount:
    """Returns one entry of ``tmpfs``: ``/path`` or ``/path:size=64m,mode=1777``."""
    found = text(value)
    path, _, options = found.partition(":")
    size_bytes: int | None = None
    mode: int | None = None
    read_only = False
    for option in options.split(",") if options else ():
        key, _, content = option.partition("=")
        if key == "size":
            try:
                size_bytes = parse_size(content)
            except InvalidInput as error:
                raise value.wrong(error.what, hint=error.hint) from error
        elif key == "mode":
            mode = _mode(content, value)
        elif option in ("ro", "rw"):
            read_only = option == "ro"
        else:
            raise value.wrong(f"no such option: {option[:40]!r}", hint="there are size=, mode=, ro and rw")
    return Mount(
        type=MountType.TMPFS,
        target=_target(path, value),
        read_only=read_only,
        tmpfs_size_bytes=size_bytes,
        tmpfs_mode=mode,
    )


def _mode(found: str, value: Value) -> int:
    match = _MODE.match(found)
    if match is None:
        raise value.wrong(f"not a file mode: {found[:40]!r}", hint="write it in octal, such as 1777")
    return int(match.group(1), 8)
