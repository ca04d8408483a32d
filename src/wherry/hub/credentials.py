"""Passwords, tokens, challenges, CSRF: what the hub knows secrets by, and how it forgets them.

Passwords are Argon2id (RFC 9106) with argon2-cffi's defaults; at most two are checked at once, for each takes 64 MiB.
Tokens are 32 random bytes and kept as SHA-256 only: they need no slow hash, having 256 bits. Challenges need no
storage until they are used: random bytes and time under a MAC whose key dies with the process.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
import threading
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from wherry.core.errors import InvalidInput

MIN_PASSWORD_CHARS = 8
MAX_PASSWORD_CHARS = 1024
CHALLENGE_LIFE_S = 60
MAX_SPENT_CHALLENGES = 100_000
_SIMULTANEOUS_HASHES = 2
_TOKEN_BYTES = 32
_NONCE_BYTES = 32
_MAC_BYTES = 32

Clock = Callable[[], float]
"""Returns seconds since 1970; a test hands in its own."""

_hashing = threading.BoundedSemaphore(_SIMULTANEOUS_HASHES)
_hasher = PasswordHasher()


def check_password_rules(password: str) -> str:
    """Returns `password` when it may be used.

    Raises:
        InvalidInput: too short or too long.
    """
    if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS:
        raise InvalidInput(f"a password has {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters")
    return password


def hash_password(password: str) -> str:
    """Returns the Argon2id hash of a password, with salt and parameters.

    Raises:
        InvalidInput: the password is too short or too long.
    """
    check_password_rules(password)
    with _hashing:
        return _hasher.hash(password)


def verify_password(password: str, password_hash: str | None) -> bool:
    """Tells whether a password is the one of a hash; takes as long when there is no such user.

    Args:
        password: as it was typed.
        password_hash: None when the user is not known.
    """
    if len(password) > MAX_PASSWORD_CHARS:
        return False
    with _hashing:
        try:
            _hasher.verify(password_hash or _nobody(), password)
            return password_hash is not None
        except (VerificationError, InvalidHashError):
            return False


@cache
def _nobody() -> str:
    return _hasher.hash(secrets.token_urlsafe(16))


def make_password() -> str:
    """Returns a password for a person to write down once."""
    return secrets.token_urlsafe(15)


def make_token(prefix: str) -> str:
    """Returns a new random token; the prefix says to people, and to scanners of leaks, what it opens."""
    return f"{prefix}_{secrets.token_urlsafe(_TOKEN_BYTES)}"


def hash_token(token: str) -> str:
    """Returns what the hub keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def csrf_token(key: bytes, session_hash: str) -> str:
    """Returns the CSRF token of a session (OWASP: HMAC-based token pattern)."""
    return hmac.new(key, b"csrf\n" + session_hash.encode(), hashlib.sha256).hexdigest()


def same(left: str, right: str) -> bool:
    """Compares two secrets in constant time."""
    return hmac.compare_digest(left.encode(), right.encode())


class Challenges:
    """Gives challenges to devices and takes each back once.

    Args:
        clock: the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._spent: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def make(self, device_id: str) -> str:
        """Returns a challenge for one device, base64."""
        head = secrets.token_bytes(_NONCE_BYTES) + struct.pack(">Q", int(self._clock() * 1000))
        return b64encode(head + self._mac(device_id, head)).decode()

    def take(self, device_id: str, challenge: str) -> bytes | None:
        """Returns the bytes of a challenge that this device may answer now, and spends it; None when it may not."""
        try:
            data = b64decode(challenge, validate=True)
        except (Base64Error, ValueError):
            return None
        head, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        if len(head) != _NONCE_BYTES + 8 or not hmac.compare_digest(mac, self._mac(device_id, head)):
            return None
        now = self._clock()
        made_s = struct.unpack(">Q", head[_NONCE_BYTES:])[0] / 1000
        if not made_s - 1 <= now <= made_s + CHALLENGE_LIFE_S:
            return None
        with self._lock:
            if head in self._spent or not self._has_room(now):
                return None
            self._spent[head] = made_s + CHALLENGE_LIFE_S
        return data

    def _has_room(self, now: float) -> bool:
        if len(self._spent) >= MAX_SPENT_CHALLENGES:
            self._spent = {head: end for head, end in self._spent.items() if end >= now}
        return len(self._spent) < MAX_SPENT_CHALLENGES

    def _mac(self, device_id: str, head: bytes) -> bytes:
        return hmac.new(self._key, device_id.encode() + b"\n" + head, hashlib.sha256).digest()
