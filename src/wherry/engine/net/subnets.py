"""Networks and addresses as numbers: which are free, and which belong to whom. Pure, and of both families."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from wherry.core.errors import Conflict, InvalidInput, NoSpace
from wherry.core.sha256 import sha256_hex
from wherry.core.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_TRIES = 1 << 16
"""How many addresses of a large network are tried, at most, for a free one."""


class Subnet(Value):
    """A network: its first address as a number, and the bits of its prefix."""

    bits: int
    """32 or 128."""
    base: int
    prefix: int

    @property
    def size(self) -> int:
        """How many addresses it has."""
        return 1 << (self.bits - self.prefix)

    def __str__(self) -> str:
        return f"{show(self.address(0))}/{self.prefix}"

    def address(self, offset: int) -> bytes:
        """Returns the bytes of its nth address."""
        return (self.base + offset).to_bytes(self.bits // 8, "big")

    def holds(self, address: bytes) -> bool:
        """Tells whether an address belongs to it."""
        return len(address) * 8 == self.bits and 0 <= int.from_bytes(address, "big") - self.base < self.size

    def overlaps(self, base: int, prefix: int) -> bool:
        """Tells whether it has an address in common with another of its family."""
        shift = self.bits - min(prefix, self.prefix)
        return base >> shift == self.base >> shift


POOL = Subnet(bits=32, base=10 << 24 | 208 << 16, prefix=12)
"""Where /24 networks come from: private (RFC 1918), and apart from docker's and podman's."""
PREFIX, PREFIX6 = 24, 64


def show(address: bytes) -> str:
    """Returns an address as people write it."""
    return inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)


def parse_address(text: str, *, what: str = "an address") -> bytes:
    """Returns the bytes of an IPv4 or IPv6 address.

    Raises:
        InvalidInput: it is none.
    """
    try:
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        raise InvalidInput(f"not {what}: {text!r}", hint="write it as 192.0.2.1 or fd00::1") from None


def parse_subnet(text: str, *, what: str = "a network") -> Subnet:
    """Returns ``ADDRESS/BITS`` as a network.

    Raises:
        InvalidInput: it is none, or has bits behind its prefix.
    """
    head, _, tail = text.partition("/")
    base = parse_address(head, what=what)
    bits = len(base) * 8
    if not (tail.isascii() and tail.isdigit() and len(tail) < 4 and int(tail) <= bits):
        raise InvalidInput(f"not {what}: {text!r}", hint="write it as 10.1.2.0/24 or fd00:1::/64")
    prefix, number = int(tail), int.from_bytes(base, "big")
    if number & ((1 << (bits - prefix)) - 1):
        first = show((number >> (bits - prefix) << (bits - prefix)).to_bytes(bits // 8, "big"))
        raise InvalidInput(f"{what} begins with its first address: {text!r}", hint=f"did you mean {first}/{prefix}?")
    return Subnet(bits=bits, base=number, prefix=prefix)


def choose_subnet(tag: str, taken: Iterable[tuple[int, int]]) -> Subnet:
    """Returns a /24 of the pool that overlaps with nothing that is there.

    Args:
        tag: hex digits; where the search begins, so that two engine roots seldom meet and one stays where it was.
        taken: networks of the host's addresses and routes: first address, bits of the prefix.

    Raises:
        Conflict: none is free.
    """
    used = [(base, prefix) for base, prefix in taken if prefix > 0 and POOL.overlaps(base, prefix)]
    count = 1 << (PREFIX - POOL.prefix)
    start = int(tag, 16) % count
    for step in range(count):
        candidate = Subnet(bits=32, base=POOL.base + ((start + step) % count << (32 - PREFIX)), prefix=PREFIX)
        if not any(candidate.overlaps(base, prefix) for base, prefix in used):
            return candidate
    raise Conflict(f"every network of {POOL} is in use on this machine", hint="use --network host or none")


def unique_local(tag: str, name: str = "") -> Subnet:
    """Returns the /64 of a network: unique local (RFC 4193), made of the engine root's tag and the network's name."""
    digest = bytes.fromhex(sha256_hex(f"wherry network {tag} {name}".encode()))
    head = b"\xfd" + digest[:5] + (digest[5:7] if name else b"\0\0")
    return Subnet(bits=128, base=int.from_bytes(head.ljust(16, b"\0"), "big"), prefix=PREFIX6)


def pick(subnet: Subnet, within: Subnet, taken: Callable[[bytes], bool]) -> int:
    """Returns the lowest offset in a network that nobody has; its first and, with IPv4, its last address are nobody's.

    Args:
        subnet: the network.
        within: the part of it that addresses are given out from.
        taken: tells whether an address is somebody's.

    Raises:
        NoSpace: it is full.
    """
    first = max(within.base - subnet.base, 1)
    last = min(within.base - subnet.base + within.size, subnet.size - (1 if subnet.bits == 32 else 0))
    for offset in range(first, min(last, first + MAX_TRIES)):
        if not taken(subnet.address(offset)):
            return offset
    raise NoSpace(f"the network {within} has no free address", hint="remove containers that are not needed")


def mac_of(address: bytes) -> bytes:
    """Returns a locally administered MAC address made of an IPv4 address, as docker does."""
    return b"\x02\x42" + address[-4:]


def parse_mac(text: str) -> bytes:
    """Returns the six bytes of a MAC address of one interface.

    Raises:
        InvalidInput: it is none, or one of a group.
    """
    parts = text.replace("-", ":").split(":")
    try:
        mac = bytes(int(part, 16) for part in parts if len(part) == 2)
    except ValueError:
        mac = b""
    if len(mac) != 6 or len(parts) != 6 or mac[0] & 1 or not any(mac):
        raise InvalidInput(f"not a MAC address: {text!r}", hint="write it as 02:42:0a:d0:00:02")
    return mac
