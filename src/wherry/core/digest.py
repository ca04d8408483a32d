"""Checksums and the names made of them: four types, so that one is never taken for another.

``Checksum`` is 64 lower-case hex digits (OSTree's way of writing SHA-256), ``RawChecksum`` the 32 bytes,
``Digest`` is OCI's ``sha256:`` + hex, ``Ref`` an OSTree ref name.
"""

from __future__ import annotations

from wherry.core.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NewType

    Checksum = NewType("Checksum", str)
    RawChecksum = NewType("RawChecksum", bytes)
    Digest = NewType("Digest", str)
    Ref = NewType("Ref", str)
else:  # the same at run time, without the import of typing
    Checksum = Digest = Ref = str
    RawChecksum = bytes

_HEX_DIGITS = "0123456789abcdef"
_SHA256_HEX_CHARS = 64
_ALGORITHM = "sha256:"


def is_checksum(text: str) -> bool:
    """Tells whether `text` is 64 lower-case hex digits."""
    return len(text) == _SHA256_HEX_CHARS and not text.strip(_HEX_DIGITS)


def parse_checksum(text: str, *, where: object = None) -> Checksum:
    """Returns `text` as a checksum.

    Raises:
        InvalidInput: it is not 64 lower-case hex digits.
    """
    if not is_checksum(text):
        raise InvalidInput(f"not a SHA-256 checksum of 64 hex digits: {text[:80]!r}", where=where)
    return Checksum(text)


def parse_digest(text: str, *, where: object = None) -> Digest:
    """Returns `text` as an OCI digest (image-spec 1.1, descriptor.md, "Digests"); only sha256 is taken.

    Raises:
        InvalidInput: it is not ``sha256:`` and 64 lower-case hex digits.
    """
    if not text.startswith(_ALGORITHM) or not is_checksum(text.removeprefix(_ALGORITHM)):
        raise InvalidInput(f"not a sha256 digest: {text[:90]!r}", where=where)
    return Digest(text)


def raw(checksum: Checksum) -> RawChecksum:
    """Returns the 32 bytes of a checksum."""
    return RawChecksum(bytes.fromhex(checksum))


def from_raw(data: bytes, *, where: object = None) -> Checksum:
    """Returns the checksum of 32 raw bytes.

    Raises:
        InvalidInput: `data` has another length.
    """
    if len(data) != 32:
        raise InvalidInput(f"a raw checksum has 32 bytes, not {len(data)}", where=where)
    return Checksum(data.hex())


def digest_of(checksum: Checksum) -> Digest:
    """Returns a checksum in OCI's notation."""
    return Digest("sha256:" + checksum)


def checksum_of(digest: Digest) -> Checksum:
    """Returns the hex part of an OCI digest."""
    return Checksum(digest.removeprefix("sha256:"))


def short(checksum: str) -> str:
    """Returns the first 12 digits, for people."""
    return checksum.removeprefix("sha256:")[:12]
