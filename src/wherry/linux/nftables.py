"""nftables by netlink: tables, chains, rules, maps and their elements, as requests for one transaction.

What ``nft`` does for a text, this does for values, in a hundredth of the time: a rule is a list of expressions, an
expression is bytes. Only what a container's network needs is here; there is no parser and no listing for people.

Registers: a rule's expressions pass values in registers of four bytes (``NFT_REG32_00`` ...); each field of a
concatenated key takes whole registers.

Source: include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h of Linux 6.12.
"""

from __future__ import annotations

import os
import struct

from wherry.core.errors import NotFound, WherryError
from wherry.linux.netlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetfilterSocket,
    Request,
    attribute,
    attributes,
    be32,
    nested,
    text,
)

NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6 = 1, 2, 10
NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN, NF_INET_FORWARD, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING = range(5)
NF_DROP, NF_ACCEPT, NFT_RETURN = 0, 1, -5
PRIORITY_RAW, PRIORITY_DSTNAT, PRIORITY_FILTER, PRIORITY_SRCNAT = -300, -100, 0, 100
CT_ESTABLISHED, CT_RELATED = 2, 4
IPS_DST_NAT = 1 << 5
RTN_LOCAL = 2
TYPE_IPV4, TYPE_IPV6, TYPE_PROTOCOL, TYPE_SERVICE = 7, 8, 12, 13
"""What ``nft list`` shows a field as; the kernel does not care."""

_SUBSYSTEM = 10 << 8
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN = 0, 2, 3, 4
_NEWRULE, _GETRULE, _DELRULE, _NEWSET, _NEWSETELEM, _DELSETELEM = 6, 7, 8, 9, 12, 14
_GETTABLE = 1
_LIST_ELEM = 1
_REG_VERDICT, _REG0 = 0, 8
_SET_MAP = 0x8
_COMMENT = 0
"""The type of a comment in a rule's user data, as libnftnl has it: type, length, text."""
_META_NFPROTO, _META_L4PROTO = 15, 16
_NFGENMSG = struct.Struct(">BBH")

Expressions = tuple[bytes, ...]
"""What a rule does, piece by piece."""


def _request(kind: int, flags: int, family: int, body: bytes, what: str) -> Request:
    return Request(_SUBSYSTEM | kind, flags, _NFGENMSG.pack(family, 0, 0) + body, what)


def batch_begin() -> Request:
    """Opens a transaction."""
    return Request(_BATCH_BEGIN, 0, _NFGENMSG.pack(0, 0, _SUBSYSTEM >> 8), "change the nftables rules")


def batch_end() -> Request:
    """Closes a transaction."""
    return Request(_BATCH_END, 0, _NFGENMSG.pack(0, 0, _SUBSYSTEM >> 8), "change the nftables rules")


# --- tables, chains, maps


def new_table(family: int, name: str) -> Request:
    """Asks for a table; nothing happens when it is there."""
    return _request(_NEWTABLE, NLM_F_CREATE, family, text(1, name), f"make the nftables table {name}")


def delete_table(family: int, name: str) -> Request:
    """Asks for a table to go with all that is in it."""
    return _request(_DELTABLE, 0, family, text(1, name), f"remove the nftables table {name}")


def new_chain(family: int, table: str, name: str, *, kind: str, hook: int, priority: int) -> Request:
    """Asks for a chain that packets pass through.

    Args:
        family: the table's.
        table: its name.
        name: the chain's.
        kind: ``filter`` or ``nat``.
        hook: ``NF_INET_*``.
        priority: the lower, the earlier.
    """
    body = text(1, table) + text(3, name) + nested(4, be32(1, hook), be32(2, priority)) + be32(5, NF_ACCEPT)
    return _request(_NEWCHAIN, NLM_F_CREATE, family, body + text(7, kind), f"make the nftables chain {name}")


def new_map(
    family: int, table: str, name: str, *, key: tuple[int, ...], value: tuple[int, ...], number: int
) -> Request:
    """Asks for a map from one tuple of fields to another.

    Args:
        family: the table's.
        table: its name.
        name: the map's.
        key: ``TYPE_*`` of each field.
        value: ``TYPE_*`` of each field.
        number: tells it from other new ones in the transaction.
    """
    body = (
        text(1, table)
        + text(2, name)
        + be32(3, _SET_MAP)
        + be32(4, _concat(key))
        + be32(5, _length(key))
        + be32(6, _concat(value))
        + be32(7, _length(value))
        + be32(10, number)
    )
    return _request(_NEWSET, NLM_F_CREATE, family, body, f"make the nftables map {name}")


def _concat(types: tuple[int, ...]) -> int:
    result = 0
    for kind in types:
        result = result << 6 | kind
    return result


def _length(types: tuple[int, ...]) -> int:
    return sum(16 if kind == TYPE_IPV6 else 4 for kind in types)


def fields(*values: bytes) -> bytes:
    """Returns a concatenated key or value: each field padded to whole registers."""
    return b"".join(value + bytes(-len(value) % 4) for value in values)


def new_elements(family: int, table: str, name: str, elements: dict[bytes, bytes]) -> Request:
    """Asks for elements of a map: key -> value, from `fields`."""
    items = (
        nested(_LIST_ELEM, nested(1, attribute(1, key)), nested(2, attribute(1, value)))
        for key, value in elements.items()
    )
    body = text(1, table) + text(2, name) + nested(3, *items)
    return _request(_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, family, body, "publish ports")


def delete_elements(family: int, table: str, name: str, keys: tuple[bytes, ...]) -> Request:
    """Asks for elements of a map to go."""
    items = (nested(_LIST_ELEM, nested(1, attribute(1, key))) for key in keys)
    body = text(1, table) + text(2, name) + nested(3, *items)
    return _request(_DELSETELEM, 0, family, body, "unpublish ports")


# --- rules


def new_rule(
    family: int, table: str, chain: str, *expressions: Expressions, comment: str = "", first: bool = False
) -> Request:
    """Asks for a rule.

    Args:
        family: the table's.
        table: its name.
        chain: the chain's name.
        *expressions: what it does, in order.
        comment: shown by ``nft list``.
        first: before all others of the chain, not after them.
    """
    body = (
        text(1, table)
        + text(2, chain)
        + nested(4, *(nested(_LIST_ELEM, item) for group in expressions for item in group))
    )
    if comment:
        data = comment.encode() + b"\0"
        body += attribute(7, bytes((_COMMENT, len(data))) + data)
    flags = NLM_F_CREATE if first else NLM_F_CREATE | NLM_F_APPEND
    return _request(_NEWRULE, flags, family, body, f"add a rule to the nftables chain {chain}")


def delete_rule(family: int, table: str, chain: str, handle: bytes) -> Request:
    """Asks for a rule to go, by the handle that `rules_with_comment` found."""
    body = text(1, table) + text(2, chain) + attribute(3, handle)
    return _request(_DELRULE, 0, family, body, f"remove a rule of the nftables chain {chain}")


def _expression(name: str, *data: bytes) -> Expressions:
    return (text(1, name) + nested(2, *data),)


def _value(kind: int, data: bytes) -> bytes:
    return nested(kind, attribute(1, data))


def meta(key: int, register: int = 0) -> Expressions:
    """Loads one of the packet's own properties."""
    return _expression("meta", be32(1, _REG0 + register), be32(2, key))


def compare(data: bytes, *, equal: bool = True, register: int = 0) -> Expressions:
    """Goes on only if a register holds this, or does not."""
    return _expression("cmp", be32(1, _REG0 + register), be32(2, 0 if equal else 1), _value(3, data))


def in_interface(name: str) -> Expressions:
    """Goes on with packets that came in by an interface."""
    return _interface(6, name, equal=True)


def out_interface(name: str, *, equal: bool = True) -> Expressions:
    """Goes on with packets that go out by an interface, or by any other."""
    return _interface(7, name, equal=equal)


def _interface(key: int, name: str, *, equal: bool) -> Expressions:
    return meta(key) + compare(os.fsencode(name).ljust(16, b"\0"), equal=equal)


def is_family(family: int) -> Expressions:
    """Goes on with packets of ``NFPROTO_IPV4`` or ``NFPROTO_IPV6``."""
    return meta(_META_NFPROTO) + compare(bytes((family,)))


def is_protocol(number: int) -> Expressions:
    """Goes on with packets of one transport protocol."""
    return meta(_META_L4PROTO) + compare(bytes((number,)))


def load_protocol(register: int) -> Expressions:
    """Loads the number of the transport protocol."""
    return meta(_META_L4PROTO, register)


def payload(base: int, offset: int, length: int, register: int = 0) -> Expressions:
    """Loads bytes of the network header (base 1) or the transport header (base 2)."""
    return _expression("payload", be32(1, _REG0 + register), be32(2, base), be32(3, offset), be32(4, length))


def address(family: int, *, source: bool, register: int = 0) -> Expressions:
    """Loads the source or the destination address."""
    if family == NFPROTO_IPV4:
        return payload(1, 12 if source else 16, 4, register)
    return payload(1, 8 if source else 24, 16, register)


def load_port(register: int) -> Expressions:
    """Loads the destination port."""
    return payload(2, 2, 2, register)


def in_network(network: bytes, prefix: int, *, source: bool, equal: bool = True) -> Expressions:
    """Goes on with packets of one family from, or to, a network."""
    size = len(network)
    family = NFPROTO_IPV4 if size == 4 else NFPROTO_IPV6
    mask = ((1 << prefix) - 1 << (size * 8 - prefix)).to_bytes(size, "big")
    masked = _expression(
        "bitwise", be32(1, _REG0), be32(2, _REG0), be32(3, size), _value(4, mask), _value(5, bytes(size))
    )
    return is_family(family) + address(family, source=source) + masked + compare(network, equal=equal)


def is_local() -> Expressions:
    """Goes on with packets to an address of this machine."""
    return _expression("fib", be32(1, _REG0), be32(2, 3), be32(3, 2)) + compare(struct.pack("=I", RTN_LOCAL))


def ct_state(bits: int) -> Expressions:
    """Goes on with packets of a connection in one of these states."""
    return _ct(0, bits)


def ct_status(bits: int) -> Expressions:
    """Goes on with packets of a connection with one of these marks."""
    return _ct(2, bits)


def _ct(key: int, bits: int) -> Expressions:
    zero = bytes(4)
    masked = _expression(
        "bitwise", be32(1, _REG0), be32(2, _REG0), be32(3, 4), _value(4, struct.pack("=I", bits)), _value(5, zero)
    )
    return _expression("ct", be32(1, _REG0), be32(2, key)) + masked + compare(zero, equal=False)


def look_up(name: str) -> Expressions:
    """Goes on if the key in the first registers is in a map, and loads its value there."""
    return _expression("lookup", text(1, name), be32(2, _REG0), be32(3, _REG0))


def dnat(family: int) -> Expressions:
    """Sends the packet to the address and port in the first registers."""
    port = _REG0 + (1 if family == NFPROTO_IPV4 else 4)
    return _expression("nat", be32(1, 1), be32(2, family), be32(3, _REG0), be32(5, port))


def masquerade() -> Expressions:
    """Gives the packet the address of the interface that it goes out by."""
    return _expression("masq")


def counter() -> Expressions:
    """Counts."""
    return _expression("counter")


def reset() -> Expressions:
    """Ends with a TCP reset to the sender."""
    return _expression("reject", be32(1, 1), attribute(2, b"\0"))


def verdict(code: int) -> Expressions:
    """Ends with ``NF_ACCEPT``, ``NF_DROP`` or ``NFT_RETURN``."""
    return _expression("immediate", be32(1, _REG_VERDICT), nested(2, nested(2, be32(1, code))))


# --- what is there


def has_table(socket: NetfilterSocket, family: int, name: str) -> bool:
    """Tells whether there is a table of that name."""
    try:
        socket.do(_request(_GETTABLE, 0, family, text(1, name), f"look up the nftables table {name}"))
    except NotFound:
        return False
    return True


def chain_drops(socket: NetfilterSocket, family: int, table: str, chain: str) -> bool:
    """Tells whether packets that come to the end of a chain are dropped; False when it is not there."""
    body = text(1, table) + text(3, chain)
    try:
        replies = socket.do(_request(_GETCHAIN, 0, family, body, f"look up the nftables chain {chain}"))[0]
    except WherryError:
        return False
    found = dict(attributes(replies[0][1][_NFGENMSG.size :])) if replies else {}
    return 5 in found and int.from_bytes(found[5], "big") == NF_DROP


def rules_with_comment(socket: NetfilterSocket, family: int, table: str, chain: str, comment: str) -> tuple[bytes, ...]:
    """Returns the handles of the rules of a chain that have this comment."""
    wanted = comment.encode() + b"\0"
    found = []
    body = text(1, table) + text(2, chain)
    for _, reply in socket.dump(_request(_GETRULE, 0, family, body, f"list the nftables chain {chain}")):
        rule = dict(attributes(reply[_NFGENMSG.size :]))
        # the kernel of old lists every chain of the table
        if rule.get(2, b"").rstrip(b"\0") == chain.encode() and rule.get(7, b"")[2:] == wanted:
            found.append(rule[3])
    return tuple(found)
