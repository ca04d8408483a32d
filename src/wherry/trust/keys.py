"""Ed25519 keys (RFC 8032): making them, keeping them in files, signing and verifying.

A private key is a PEM file in PKCS #8 (RFC 5958) that its owner alone may read; a file that others can read is
refused, as ssh does. A public key is one line of base64, the 32 raw bytes, which is also a line of the key files
that ``ostree sign --keys-file`` takes. A key id is the SHA-256 of the raw public key in hex.

No secret is ever part of a message, a ``repr`` or an argument list. ``cryptography`` is imported when the first
key is used, so that a command without keys does not pay for it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.durable import map_os_error, write_file
from wherry.core.errors import Conflict, InvalidInput, NotFound, NotPermitted, TrustError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
MAX_KEY_FILE_BYTES = 8 * 1024
_PRIVATE_MODE = 0o600
_PUBLIC_MODE = 0o644


class PublicKey:
    """The half of a key that everybody may know. Equal keys are equal values.

    Args:
        raw: the 32 bytes of RFC 8032, section 5.1.5.

    Raises:
        InvalidInput: `raw` has another length.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        if len(raw) != PUBLIC_KEY_BYTES:
            raise InvalidInput(f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, not {len(raw)}")
        self.raw = bytes(raw)

    @classmethod
    def from_base64(cls, text: str, *, where: object = None) -> PublicKey:
        """Returns the key that one line of base64 is.

        Raises:
            InvalidInput: it is not base64 of 32 bytes.
        """
        try:
            raw = base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidInput("not a public key: it is one line of base64", where=where) from error
        if len(raw) != PUBLIC_KEY_BYTES:
            raise InvalidInput(f"not a public key: {len(raw)} bytes instead of {PUBLIC_KEY_BYTES}", where=where)
        return cls(raw)

    @property
    def base64(self) -> str:
        """The key as one line of base64, without a line end."""
        return base64.b64encode(self.raw).decode()

    @property
    def key_id(self) -> str:
        """The key's name: SHA-256 of its 32 bytes, in hex."""
        return hashlib.sha256(self.raw).hexdigest()

    def verify(self, data: bytes, signature: bytes) -> None:
        """Returns when `signature` is this key's over `data`.

        Raises:
            TrustError: it is not.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except (InvalidSignature, ValueError) as error:
            raise TrustError(f"not signed by key {self.key_id[:12]}") from error

    def save(self, path: Path) -> None:
        """Writes the key durably as one line of base64.

        Raises:
            NoSpace: the disk is full.
        """
        write_file(path, f"{self.base64}\n".encode(), mode=_PUBLIC_MODE)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and other.raw == self.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"PublicKey({self.base64})"


class PrivateKey:
    """A key that signs. Made by ``generate`` or ``load``; says nothing of itself but its public half."""

    __slots__ = ("_inner", "public")

    def __init__(self, inner: Ed25519PrivateKey) -> None:
        self._inner = inner
        self.public = PublicKey(inner.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> PrivateKey:
        """Returns a new key from the kernel's random numbers."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> PrivateKey:
        """Reads a key from a PEM file that its owner alone can read.

        Raises:
            NotFound: there is no such file.
            NotPermitted: it cannot be read, or group or others can read it as well.
            InvalidInput: it is not an Ed25519 key without a passphrase, in PKCS #8 PEM.
        """
        data = _read_key_file(path, private=True)
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            inner = load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InvalidInput(
                "not a private key in PEM (PKCS #8) without a passphrase",
                where=path,
                hint="make one with `wherry key generate FILE`",
            ) from error
        if not isinstance(inner, Ed25519PrivateKey):
            raise InvalidInput("not an Ed25519 key", where=path, hint="make one with `wherry key generate FILE`")
        return cls(inner)

    def save(self, path: Path) -> None:
        """Writes the key durably as PEM, mode 0600, in one step; never over another file.

        Raises:
            Conflict: `path` is there already.
            NoSpace: the disk is full.
        """
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        if os.path.lexists(path):
            raise Conflict("will not write over an existing file", where=path, hint="name another file")
        pem = self._inner.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_file(path, pem, mode=_PRIVATE_MODE)

    def sign(self, data: bytes) -> bytes:
        """Returns the 64-byte signature over `data`; the same for the same key and data."""
        return self._inner.sign(data)

    def __repr__(self) -> str:
        return f"PrivateKey(public={self.public.base64})"


def load_public(path: Path) -> PublicKey:
    """Reads a public key file: one line of base64; lines that are empty or begin with ``#`` do not count.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it holds no key, several keys, or a private key.
    """
    data = _read_key_file(path, private=False)
    if b"PRIVATE KEY" in data:
        raise InvalidInput(
            "this is a private key; a public key is asked for",
            where=path,
            hint=f"write it with `wherry key public {path}`",
        )
    try:
        lines = [line.strip() for line in data.decode("ascii").splitlines()]
    except UnicodeDecodeError as error:
        raise InvalidInput("not a public key: it is one line of base64", where=path) from error
    keys = [line for line in lines if line and not line.startswith("#")]
    if len(keys) != 1:
        raise InvalidInput(f"holds {len(keys)} public keys instead of one", where=path)
    return PublicKey.from_base64(keys[0], where=path)


def is_private(path: Path) -> bool:
    """Tells whether a file looks like a private key in PEM.

    Raises:
        NotFound: there is no such file.
    """
    return b"PRIVATE KEY-----" in _read_key_file(path, private=False)


def _read_key_file(path: Path, *, private: bool) -> bytes:
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise InvalidInput("a key is a regular file", where=path)
            if private and info.st_mode & 0o077:
                raise NotPermitted(
                    f"others can read this private key (mode {stat.S_IMODE(info.st_mode):04o})",
                    where=path,
                    hint=f"make it yours alone: chmod 600 {path}",
                )
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(
            "no such key", where=path, hint="make one with `wherry key generate FILE`" if private else None
        ) from error
    except IsADirectoryError as error:
        raise InvalidInput("a key is a regular file", where=path) from error
    except OSError as error:
        raise map_os_error(error, "cannot read key", where=path) from error
    if len(data) > MAX_KEY_FILE_BYTES:
        raise InvalidInput(f"longer than a key can be ({MAX_KEY_FILE_BYTES} bytes)", where=path)
    return data


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO must not make us wait
