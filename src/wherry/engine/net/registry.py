"""The networks of one engine root as they were asked for: ``<root>/networks/<name>.json``, each written once.

The default network, ``bridge``, is always there and has no file. Making and removing is guarded by the network lock.
"""

from __future__ import annotations

import os
import time

from wherry.core import jsonio
from wherry.core.durable import make_dirs, map_os_error, write_file
from wherry.core.errors import Conflict, InvalidInput, NotFound, Unsupported
from wherry.core.value import replace
from wherry.engine.net import subnets
from wherry.engine.net.records import Definition
from wherry.engine.net.subnets import Subnet, parse_address, parse_subnet
from wherry.spec.values import decode_value, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.engine.state import Paths

DEFAULT = "bridge"
RESERVED = ("bridge", "default", "none", "host", "container", "ns", "interface", "raw")
DRIVERS = ("bridge", "macvlan")
MAX_NETWORKS = 0xFFF
MAX_NAME = 128
MAX_DEFINITION_BYTES = 1 << 16
BRIDGE_NAME, MTU, PARENT, MODE = (
    "com.docker.network.bridge.name",
    "com.docker.network.driver.mtu",
    "parent",
    "macvlan_mode",
)


def default(paths: Paths) -> Definition:
    """Returns the network that every container is on that names no other."""
    return Definition(name=DEFAULT, id=paths.tag.ljust(64, "0"), bridge=f"wh-{paths.tag}")


def check_name(name: str) -> None:
    """Refuses a name that no network can have.

    Raises:
        InvalidInput: it has other characters, or means something else.
    """
    plain = name.replace("_", "").replace("-", "").replace(".", "")
    if not (plain.isascii() and plain.isalnum() and name[0].isalnum()) or len(name) > MAX_NAME:
        raise InvalidInput(f"not a network name: {name!r}", hint="use letters, digits, _ . and -")
    if name in RESERVED:
        raise InvalidInput(f"the network name {name!r} has a meaning of its own", hint="choose another")


def read(paths: Paths, name: str) -> Definition:
    """Returns a network by its name.

    Raises:
        NotFound: there is none.
    """
    if name in (DEFAULT, "default"):
        return default(paths)
    if not name or "/" in name or name.startswith("."):
        raise NotFound(f"no network {name!r}", hint="`wherry network ls` lists them")
    path = f"{paths.root}/networks/{name}.json"
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_DEFINITION_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"no network {name!r}", hint="`wherry network ls` lists them") from None
    return decode_value(Definition, jsonio.loads(data, where=path, max_bytes=MAX_DEFINITION_BYTES), where=path)


def find(paths: Paths, text: str) -> Definition:
    """Returns a network by its name, its id or the beginning of that.

    Raises:
        NotFound: there is none.
        InvalidInput: the beginning fits several.
    """
    try:
        return read(paths, text)
    except NotFound:
        found = [item for item in every(paths) if len(text) > 1 and item.id.startswith(text)]
        if len(found) > 1:
            raise InvalidInput(f"{text!r} begins {len(found)} network ids", hint="write more of the id") from None
        if not found:
            raise
        return found[0]


def every(paths: Paths) -> list[Definition]:
    """Returns all networks, the default one first."""
    try:
        names = sorted(os.listdir(f"{paths.root}/networks"))
    except FileNotFoundError:
        names = []
    found = [default(paths)]
    for name in names:
        if name.endswith(".json"):
            try:
                found.append(read(paths, name.removesuffix(".json")))
            except NotFound:
                continue  # removed while we looked
    return found


def create(
    paths: Paths,
    name: str,
    *,
    driver: str = "bridge",
    subnet: tuple[str, ...] = (),
    gateway: tuple[str, ...] = (),
    ip_range: str = "",
    ipv6: bool = False,
    internal: bool = False,
    options: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    taken: list[tuple[int, int]] | None = None,
) -> Definition:
    """Records a network; the caller holds the network lock.

    Args:
        paths: of the engine root.
        name: its name.
        driver: one of `DRIVERS`.
        subnet: at most one of each family; IPv4 is chosen when missing, IPv6 with `ipv6`.
        gateway: at most one of each family; the first address when missing.
        ip_range: the part of the IPv4 network that addresses are given out from.
        ipv6: whether it has IPv6, too.
        internal: whether it has no way out.
        options: `BRIDGE_NAME`, `MTU`, `PARENT`, `MODE`.
        labels: of the network.
        taken: IPv4 networks of the machine, which a chosen one keeps away from.

    Raises:
        Conflict: there is one of that name, or with these addresses.
        InvalidInput: an address is malformed, or outside of its network.
        Unsupported: an option or a driver that is not known.
    """
    check_name(name)
    known = every(paths)
    if any(item.name == name for item in known):
        raise Conflict(f"there is a network {name!r} already", hint="remove it, or choose another name")
    if driver not in DRIVERS:
        raise Unsupported(f"network driver {driver!r} is not supported", hint=f"use {' or '.join(DRIVERS)}")
    four, six = _by_family(subnet, "--subnet")
    number = _free_number(known)
    used = list(taken or [])
    for item in known:
        if item.subnet:
            other = parse_subnet(item.subnet)
            used.append((other.base, other.prefix))
    network_id = os.urandom(32).hex()
    if four is None:
        four = subnets.choose_subnet(network_id[:8], used)
    else:
        _refuse_overlap(four, known)
    if six is None and ipv6:
        six = subnets.unique_local(paths.tag, name)
    elif six is not None:
        _refuse_overlap(six, known)
    definition = Definition(
        name=name,
        id=network_id,
        number=number,
        driver=driver,
        subnet=str(four),
        subnet6=str(six) if six else "",
        internal=internal,
        labels=labels or {},
        created_s=int(time.time()),
    )
    definition = _with_gateways(definition, four, six, gateway)
    definition = _with_range(definition, four, ip_range)
    definition = _with_options(paths, definition, options or {})
    folder = f"{paths.root}/networks"
    make_dirs(folder, mode=0o755)
    write_file(f"{folder}/{name}.json", jsonio.pretty(encode(definition)).encode(), mode=0o644)
    return definition


def remove(paths: Paths, name: str) -> None:
    """Removes the record of a network; the caller holds the network lock and knows that nobody is on it."""
    path = f"{paths.root}/networks/{name}.json"
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise map_os_error(error, "cannot remove a network", where=path) from error


def _free_number(known: list[Definition]) -> int:
    used = {item.number for item in known}
    for number in range(1, MAX_NETWORKS + 1):
        if number not in used:
            return number
    raise Conflict(f"there are {MAX_NETWORKS} networks already", hint="remove some: `wherry network prune`")


def _by_family(texts: tuple[str, ...], what: str) -> tuple[Subnet | None, Subnet | None]:
    found: dict[int, Subnet] = {}
    for text in texts:
        subnet = parse_subnet(text, what=f"a network ({what})")
        if subnet.bits in found:
            raise InvalidInput(f"{what} is given twice for one family: {text}")
        found[subnet.bits] = subnet
    for subnet in found.values():
        if subnet.size < 4:
            raise InvalidInput(f"the network {subnet} has no room for containers")
    return found.get(32), found.get(128)


def _refuse_overlap(subnet: Subnet, known: list[Definition]) -> None:
    for item in known:
        text = item.subnet if subnet.bits == 32 else item.subnet6
        if text:
            other = parse_subnet(text)
            if subnet.overlaps(other.base, other.prefix):
                raise Conflict(f"{subnet} overlaps with {other} of network {item.name!r}")


def _with_gateways(made: Definition, four: Subnet, six: Subnet | None, texts: tuple[str, ...]) -> Definition:
    chosen: dict[int, str] = {}
    for text in texts:
        address = parse_address(text, what="a gateway")
        home = four if len(address) == 4 else six
        if home is None or not home.holds(address):
            raise InvalidInput(f"the gateway {text} is not in the network", hint="give its --subnet, too")
        chosen[home.bits] = subnets.show(address)
    if made.driver == "macvlan" and made.internal:
        return made
    return replace(
        made,
        gateway=chosen.get(32, subnets.show(four.address(1))),
        gateway6=chosen.get(128, subnets.show(six.address(1))) if six else "",
    )


def _with_range(made: Definition, four: Subnet, text: str) -> Definition:
    if not text:
        return made
    within = parse_subnet(text, what="a range (--ip-range)")
    if within.bits != 32 or within.prefix < four.prefix or not four.overlaps(within.base, within.prefix):
        raise InvalidInput(f"the range {text} is not in the network {four}")
    return replace(made, ip_range=str(within))


def _with_options(paths: Paths, made: Definition, options: dict[str, str]) -> Definition:
    from wherry.linux.links import MACVLAN_MODES, MAX_MTU, MIN_MTU, check_name

    bridge = "" if made.driver == "macvlan" else f"wh-{paths.tag}-{made.number:03x}"
    changes: dict[str, object] = {}
    for key, value in options.items():
        if key == BRIDGE_NAME and made.driver == "bridge":
            check_name(value)
            bridge = value
        elif key in (MTU, "mtu"):
            if not value.isdigit() or not MIN_MTU <= int(value) <= MAX_MTU:
                raise InvalidInput(f"not an MTU: {value!r}", hint=f"give a number of {MIN_MTU} to {MAX_MTU}")
            changes["mtu"] = int(value)
        elif key == PARENT and made.driver == "macvlan":
            check_name(value)
            changes["parent"] = value
        elif key == MODE and made.driver == "macvlan":
            if value not in MACVLAN_MODES:
                raise InvalidInput(f"not a mode of macvlan: {value!r}", hint=f"use {', '.join(MACVLAN_MODES)}")
            changes["mode"] = value
        else:
            raise Unsupported(
                f"option {key!r} of a {made.driver} network is not supported",
                hint=f"known are {BRIDGE_NAME}, {MTU}; of macvlan {PARENT}, {MODE}",
            )
    if made.driver == "macvlan" and "parent" not in changes:
        raise InvalidInput("a macvlan network stands on an interface", hint="give it: -o parent=eth0")
    return replace(made, bridge=bridge, **changes)
