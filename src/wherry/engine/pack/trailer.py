"""The signature of a packed app: the last 160 bytes of the file, behind the image.

::

    0    16  "wherry-signature"
    16   32  the public key (RFC 8032)
    48   64  Ed25519 over the message below
    112  32  SHA-256 of all bytes before the trailer
    144  8   how many bytes these are, big endian
    152  8   zeros

The message is ``wherry packed app 1`` and a line feed, the 32 bytes of the digest, the 8 of the length. The key in
the trailer only tells which key to ask for: nothing is trusted that the caller does not name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wherry.core.durable import map_os_error
from wherry.core.errors import Conflict, IntegrityError, InvalidInput, NotFound, TrustError, Unsupported
from wherry.core.proc import run
from wherry.engine.pack import header as headers
from wherry.engine.pack.header import Format, Header
from wherry.trust.keys import PrivateKey, PublicKey

MAGIC = b"wherry-signature"
TRAILER_BYTES = 160
_CONTEXT = b"wherry packed app 1\n"
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A trailer."""

    key: PublicKey
    signature: bytes
    digest: bytes
    length_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A packed app as a file."""

    header: Header
    signature: Signature | None
    size_bytes: int


def serialize(signature: Signature) -> bytes:
    """Returns a trailer's bytes."""
    length = signature.length_bytes.to_bytes(8, "big")
    return MAGIC + signature.key.raw + signature.signature + signature.digest + length + bytes(8)


def parse(data: bytes, *, where: object) -> Signature:
    """Reads a trailer.

    Raises:
        InvalidInput: it is none.
    """
    if len(data) != TRAILER_BYTES or not data.startswith(MAGIC) or any(data[152:]):
        raise InvalidInput("bytes behind the image that are no signature", where=where)
    return Signature(
        key=PublicKey(data[16:48]),
        signature=data[48:112],
        digest=data[112:144],
        length_bytes=int.from_bytes(data[144:152], "big"),
    )


def read(path: Path) -> App:
    """Reads what a packed app says of itself; its content is not looked at.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is not a packed app, is cut off, or has something else behind its image.
    """
    try:
        with open(path, "rb") as file:
            header = headers.parse(file.read(headers.MAX_HEADER_BYTES), where=path)
            size = os.fstat(file.fileno()).st_size
            end = header.offset + header.size
            if size < end:
                raise InvalidInput(f"cut off: {size} bytes instead of {end}", where=path)
            if size not in (end, end + TRAILER_BYTES):
                raise InvalidInput("bytes behind the image that are no signature", where=path)
            file.seek(end)
            tail = file.read(TRAILER_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound("no such file", where=path) from error
    except OSError as error:
        raise map_os_error(error, "cannot be read", where=path) from error
    return App(header=header, signature=parse(tail, where=path) if tail else None, size_bytes=size)


def check(path: Path) -> App:
    """Returns when an app is whole: its image has the digest that its header says. Anybody can have made both.

    Raises:
        IntegrityError: it has not, or the digest that was signed is not that of the file.
    """
    app = read(path)
    digest = hashlib.sha256()
    for chunk in _chunks(path, app.header.offset, app.header.size):
        digest.update(chunk)
    if digest.hexdigest() != app.header.sha256:
        raise IntegrityError(
            f"damaged: its image has the SHA-256 {digest.hexdigest()}, not {app.header.sha256}", where=path
        )
    length = app.header.offset + app.header.size
    if app.signature is not None and _digest(path, length) != app.signature.digest:
        raise IntegrityError("damaged: its bytes are not those that were signed", where=path)
    return app


def files(path: Path, app: App) -> list[str]:
    """Returns the paths in an app's image.

    Raises:
        Unsupported: it is EROFS, or there is no unsquashfs.
        ToolError: the image is damaged.
    """
    if app.header.format is not Format.SQUASHFS:
        raise Unsupported("only the files of squashfs can be listed", where=path, hint="mount it to look into it")
    args = ["unsquashfs", "-q", "-l", "-d", "", "-o", str(app.header.offset), str(path.absolute())]
    found = run(args, hint="apt-get install squashfs-tools").stdout.decode(errors="surrogateescape")
    return [line for line in found.splitlines() if line.startswith("/")]


def sign(path: Path, key: PrivateKey) -> None:
    """Appends a signature to an app that has none.

    Raises:
        Conflict: it has one.
    """
    app = read(path)
    if app.signature is not None:
        raise Conflict("it is signed already", where=path)
    digest = _digest(path, app.size_bytes)
    made = Signature(
        key=key.public, signature=key.sign(_message(digest, app.size_bytes)), digest=digest, length_bytes=app.size_bytes
    )
    try:
        with open(path, "ab") as file:
            file.write(serialize(made))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise map_os_error(error, "the signature cannot be written", where=path) from error


def verify(path: Path, key: PublicKey) -> App:
    """Returns when every byte of an app is what a key has signed.

    Raises:
        TrustError: it has no signature, or not that key's.
        IntegrityError: the key has signed other bytes.
    """
    app = read(path)
    found = app.signature
    if found is None:
        raise TrustError("not signed", where=path)
    if found.key != key:
        raise TrustError(f"signed by key {found.key.key_id[:12]}, not by {key.key_id[:12]}", where=path)
    key.verify(_message(found.digest, found.length_bytes), found.signature)
    length = app.header.offset + app.header.size
    if found.length_bytes != length or _digest(path, length) != found.digest:
        raise IntegrityError("its bytes are not those that were signed", where=path)
    return app


def _message(digest: bytes, length_bytes: int) -> bytes:
    return _CONTEXT + digest + length_bytes.to_bytes(8, "big")


def _digest(path: Path, length_bytes: int) -> bytes:
    state = hashlib.sha256()
    for chunk in _chunks(path, 0, length_bytes):
        state.update(chunk)
    return state.digest()


def _chunks(path: Path, start: int, length_bytes: int) -> Iterator[bytes]:
    """Gives a part of a file."""
    left = length_bytes
    try:
        with open(path, "rb") as file:
            file.seek(start)
            while left:
                chunk = file.read(min(_READ_BYTES, left))
                if not chunk:
                    raise InvalidInput("cut off while it was read", where=path)
                yield chunk
                left -= len(chunk)
    except OSError as error:
        raise map_os_error(error, "cannot be read", where=path) from error
