"""The keys of a service that have a short and a long form: ports, volumes, devices, files, dependencies, networks.

Each reader returns the long form. Sources: compose-spec, "05-services.md" and its JSON schema.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from wherry.engine.compose import readers as read
from wherry.engine.compose.readers import Context
from wherry.revision.yamldoc import Value

CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")
PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
MAX_PORTS = 4096
"""In one range."""

_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?\Z")
_IGNORED = ("rw", "z", "Z", "cached", "delegated", "consistent", "rbind")
_VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\Z")


# --- ports


def port(value: Value, context: Context) -> list[dict[str, Any]]:
    """Returns one entry of ``ports``, one mapping for each port of a range."""
    if value.is_map:
        given = _LONG_PORT(value, context)
        target = _ports(value, given["target"])
        published = str(given.get("published", ""))
        return _expand(value, target, published, given)
    rest, slash, protocol = read.word(value, context).partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in ("tcp", "udp"):
        raise value.wrong(f"protocol {protocol[:20]!r} cannot be published", hint="use tcp or udp")
    head, _, container = rest.rpartition(":")
    address, _, host = head.rpartition(":")
    given = {"protocol": protocol, "mode": "ingress"}
    if address:
        given["host_ip"] = _address(address, value)
    return _expand(value, _ports(value, container), host, given)


def _address(found: str, value: Value) -> str:
    bare = found[1:-1] if found.startswith("[") and found.endswith("]") else found
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        raise value.wrong(f"not an address of the host: {found[:60]!r}", hint="write it as 127.0.0.1:8080:80") from None


def _host_ip(value: Value, context: Context) -> str:
    return _address(read.word(value, context), value)


_LONG_PORT = read.fields(
    {
        "target": read.word,
        "published": read.text,
        "protocol": read.choice("tcp", "udp"),
        "mode": read.choice("host", "ingress"),
        "host_ip": _host_ip,
        "name": read.text,
        "app_protocol": read.text,
    },
    need=("target",),
)


def _ports(value: Value, found: str) -> list[int]:
    match = _RANGE.match(found)
    low, high = (int(match.group(1)), int(match.group(2) or match.group(1))) if match else (0, 0)
    if not 0 < low <= high <= 65535:
        raise value.wrong(f"not a port: {found[:60]!r}", hint='write it as "8080:80" or "127.0.0.1:8080:80/tcp"')
    if high - low >= MAX_PORTS:
        raise value.wrong(f"more than {MAX_PORTS} ports in one range")
    return list(range(low, high + 1))


def _expand(value: Value, target: list[int], published: str, given: dict[str, Any]) -> list[dict[str, Any]]:
    base = {"mode": "ingress", "protocol": "tcp", **given}
    base.pop("published", None)
    if not published or published == "0":
        return [{**base, "target": number} for number in target]
    host = _ports(value, published)
    if len(target) == 1 and len(host) > 1:
        return [{**base, "target": target[0], "published": published}]
    if len(host) != len(target):
        raise value.wrong("the ranges of the host and the container differ in length")
    return [{**base, "target": inside, "published": str(out)} for inside, out in zip(target, host, strict=True)]


def expose(value: Value, context: Context) -> str:
    """Returns one entry of ``expose``."""
    found = read.word(value, context)
    _ports(value, found.partition("/")[0])
    return found


# --- volumes


def volume(value: Value, context: Context) -> dict[str, Any]:
    """Returns one entry of ``volumes``."""
    if value.is_map:
        return _long_volume(value, context)
    found = read.word(value, context)
    parts = found.split(":")
    if len(parts) > 3 or not all(parts):
        raise value.wrong(f"not a mount: {found[:200]!r}", hint="write it as SOURCE:TARGET or SOURCE:TARGET:ro")
    target = parts[0] if len(parts) == 1 else parts[1]
    read.check_guest_path(target, value)
    if len(parts) == 1:
        return {"type": "volume", "target": target}
    source = parts[0]
    bind = source.startswith((".", "/", "~"))
    made: dict[str, Any] = {"type": "bind" if bind else "volume", "target": target}
    options: dict[str, Any] = {}
    for option in parts[2].split(",") if len(parts) == 3 else ():
        if option in ("ro", "readonly"):
            made["read_only"] = True
        elif option in PROPAGATIONS and bind:
            options["propagation"] = option
        elif option == "nocopy" and not bind:
            options["nocopy"] = True
        elif option not in _IGNORED:
            raise value.wrong(f"no option {option[:40]!r} of a mount", hint="there are ro, rw, nocopy, rslave ...")
    if bind:
        made["source"] = read.absolute(source, context)
        made["bind"] = {"create_host_path": True, **options}
        return made
    made["source"] = _volume_name(source, value)
    if options:
        made["volume"] = options
    return made


def _volume_name(source: str, value: Value) -> str:
    if not _VOLUME.match(source):
        raise value.wrong(f"not a volume's name: {source[:80]!r}", hint="a path begins with / or ./")
    return source


_LONG_VOLUME = read.fields(
    {
        "type": read.choice("bind", "volume", "tmpfs"),
        "source": read.word,
        "target": read.guest_path,
        "read_only": read.boolean,
        "consistency": read.text,
        "bind": read.fields(
            {
                "propagation": read.choice(*PROPAGATIONS),
                "create_host_path": read.boolean,
                "recursive": read.choice("enabled", "disabled", "writable", "readonly"),
                "selinux": read.choice("z", "Z"),
            }
        ),
        "volume": read.fields(
            {"nocopy": read.boolean, "subpath": read.word},
            {"labels": "label the volume at the top of the file"},
        ),
        "tmpfs": read.fields({"size": read.size, "mode": read.text}),
    },
    {"image": "mount a volume that is filled from the image"},
    need=("type", "target"),
)


def _long_volume(value: Value, context: Context) -> dict[str, Any]:
    made: dict[str, Any] = _LONG_VOLUME(value, context)
    made.pop("consistency", None)
    kind = made["type"]
    for key in ("bind", "volume", "tmpfs"):
        if key in made and key != kind:
            raise value.wrong(f"{key} is for type: {key}")
    if kind == "bind":
        if "source" not in made:
            raise value.wrong("source is missing")
        made["source"] = read.absolute(made["source"], context)
        made["bind"] = made.get("bind", {})
    elif kind == "volume" and "source" in made:
        _volume_name(made["source"], value)
    elif kind == "tmpfs" and "source" in made:
        raise value.wrong("a tmpfs has no source")
    mode = made.get("tmpfs", {}).get("mode")
    if mode is not None:
        made["tmpfs"]["mode"] = octal(mode, value)
    return made


def octal(found: str, value: Value) -> str:
    """Returns a file mode as octal text, ``0444``; YAML's own ``0o444`` is the same."""
    digits = found.lower().removeprefix("0o").lstrip("0") or "0"
    if not re.fullmatch(r"[0-7]{1,4}", digits):
        raise value.wrong(f"not a mode: {found[:20]!r}", hint="write it as 0440")
    return f"0{digits}"


# --- devices


def device(value: Value, context: Context) -> dict[str, str]:
    """Returns one entry of ``devices``."""
    if value.is_map:
        long = read.fields({"source": read.word, "target": read.word, "permissions": read.word}, need=("source",))
        made: dict[str, str] = long(value, context)
    else:
        parts = read.word(value, context).split(":")
        made = {"source": parts[0]}
        if len(parts) > 1 and set(parts[-1]) <= set("rwm") and parts[-1]:
            made["permissions"] = parts.pop()
        if len(parts) > 2:
            raise value.wrong("not a device", hint="write it as /dev/ttyUSB0:/dev/ttyUSB0:rw")
        if len(parts) == 2:
            made["target"] = parts[1]
    made = {
        "source": made["source"],
        "target": made.get("target", made["source"]),
        "permissions": made.get("permissions", "rwm"),
    }
    if not made["source"].startswith("/") or not made["target"].startswith("/"):
        hint = "devices of CDI are not there: name the nodes" if "=" in made["source"] else "name it as /dev/ttyUSB0"
        raise value.wrong(f"not the absolute path of a device: {made['source'][:80]!r}", hint=hint)
    if not set(made["permissions"]) <= set("rwm"):
        raise value.wrong(f"not permissions of a device: {made['permissions'][:20]!r}", hint="use r, w and m")
    return made


# --- configs and secrets of a service


def granted(folder: str) -> read.Reader:
    """Returns a reader of one entry of ``configs`` or ``secrets``.

    Args:
        folder: where the file is without a target, or with a relative one.
    """
    long = read.fields(
        {"source": read.word, "target": read.word, "uid": read.text, "gid": read.text, "mode": read.text},
        need=("source",),
    )

    def one(value: Value, context: Context) -> dict[str, str]:
        if not value.is_map:
            source = read.word(value, context)
            return {"source": source, "target": f"{folder}/{source}"}
        made: dict[str, str] = long(value, context)
        target = made.get("target", made["source"])
        made["target"] = target if target.startswith("/") else f"{folder}/{target}"
        for key in ("uid", "gid"):
            if key in made and not (made[key].isascii() and made[key].isdigit()):
                raise value.wrong(f"{key} is not a number: {made[key][:20]!r}")
        if "mode" in made:
            made["mode"] = octal(made["mode"], value)
        return made

    return one


# --- dependencies and networks


def depends_on(value: Value, context: Context) -> dict[str, Any]:
    """Returns ``depends_on``: service -> condition, required, restart."""
    plain = {"condition": CONDITIONS[0], "required": True}
    if value.is_list:
        return {read.word(item, context): dict(plain) for item in value.items()}
    item = read.fields(
        {"condition": read.choice(*CONDITIONS), "required": read.boolean, "restart": read.boolean}, need=("condition",)
    )
    found = read.table(item, empty=True)(value, context)
    return {key: {**plain, **one} if isinstance(one, dict) else one for key, one in found.items()}


_NETWORK = read.fields(
    {
        "aliases": read.many(read.word),
        "ipv4_address": read.word,
        "ipv6_address": read.word,
        "mac_address": read.word,
        "priority": read.whole(-10_000, 10_000),
        "gw_priority": read.whole(-10_000, 10_000),
    },
    {
        "link_local_ips": "addresses of the link's own are the kernel's to give",
        "driver_opts": "options of one container's end are not there",
        "interface_name": "interfaces are eth0, eth1 ... in the order of the networks",
    },
)


def networks(value: Value, context: Context) -> dict[str, Any]:
    """Returns the ``networks`` of a service: name -> how it is on it."""
    if value.is_list:
        return {read.word(item, context): {} for item in value.items()}
    return read.table(_NETWORK, empty=True)(value, context)  # type: ignore[no-any-return]


def extra_hosts(value: Value, context: Context) -> dict[str, Any]:
    """Returns ``extra_hosts``: name -> addresses."""
    found: dict[str, list[str]] = {}

    def put(name: str, address: str, place: Value) -> None:
        bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
        if bare != "host-gateway":
            try:
                bare = str(ipaddress.ip_address(bare))
            except ValueError:
                raise place.wrong(f"not an address: {address[:60]!r}", hint="write it as NAME=192.0.2.1") from None
        if not name or any(char.isspace() for char in name):
            raise place.wrong(f"not a host's name: {name[:60]!r}")
        found.setdefault(name, []).append(bare)

    if value.is_map:
        for name, _, item in value.entries():
            for one in item.items() if item.is_list else [item]:
                put(name, read.word(one, context), one)
        return found
    for item in value.items():
        entry = read.word(item, context)
        equals, colon = entry.find("="), entry.find(":")
        cut = equals if equals >= 0 and (colon < 0 or equals < colon) else colon
        if cut <= 0:
            raise item.wrong(f"not a host: {entry[:60]!r}", hint="write it as NAME=192.0.2.1")
        put(entry[:cut], entry[cut + 1 :], item)
    return found


def ulimit(value: Value, context: Context) -> dict[str, int]:
    """Returns one limit of ``ulimits``: soft and hard."""
    number = read.whole(-1)
    if not value.is_map:
        both = number(value, context)
        return {"soft": both, "hard": both}
    made: dict[str, int] = read.fields({"soft": number, "hard": number}, need=("soft", "hard"))(value, context)
    return made


def env_file(value: Value, context: Context) -> dict[str, Any]:
    """Returns one entry of ``env_file``: path, required, format."""
    if not value.is_map:
        return {"path": read.path(value, context), "required": True}
    item = read.fields({"path": read.path, "required": read.boolean, "format": read.choice("raw")}, need=("path",))
    return {"required": True, **item(value, context)}


def service_or(*words: str, joins: tuple[str, ...] = ("service", "container")) -> read.Reader:
    """Returns a reader of a namespace's mode: one of some words, ``service:NAME`` or ``container:NAME``."""

    def one(value: Value, context: Context) -> str:
        found = read.text(value, context)
        kind, colon, name = found.partition(":")
        if found not in words and not (colon and kind in joins and name):
            more = "".join(f", {kind}:NAME" for kind in joins)
            raise value.wrong(f"no mode {found[:60]!r}", hint=f"use {', '.join(words)}{more}")
        return found

    return one


def restart(value: Value, context: Context) -> str:
    """Returns a restart policy."""
    found = read.text(value, context)
    name, colon, count = found.partition(":")
    if name not in ("no", "always", "on-failure", "unless-stopped"):
        if found.lower() == "false":
            return "no"  # what YAML 1.1 makes of an unquoted no
        raise value.wrong(f"no restart policy {found[:40]!r}", hint="use no, on-failure[:N], always or unless-stopped")
    if colon and (name != "on-failure" or not (count.isascii() and count.isdigit())):
        raise value.wrong(f"not a restart policy: {found[:40]!r}", hint="only on-failure takes a number: on-failure:3")
    return found


def healthcheck_test(value: Value, context: Context) -> list[str]:
    """Returns the ``test`` of a health check."""
    found = (
        [read.text(item, context) for item in value.items()]
        if value.is_list
        else ["CMD-SHELL", read.text(value, context)]
    )
    least, most = {"CMD": (2, None), "CMD-SHELL": (2, 2), "NONE": (1, 1)}.get(found[0] if found else "", (0, 0))
    if not found or len(found) < least or (most is not None and len(found) > most):
        raise value.wrong("not a test", hint='write ["CMD", "program", ...], ["CMD-SHELL", "line"], ["NONE"] or text')
    return found
