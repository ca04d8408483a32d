"""SHA-256 of a few bytes, without loading OpenSSL, which ``hashlib`` does: five milliseconds of a cold start.

The interpreter's own implementation is slower on long data; who hashes files uses ``hashlib``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        from _sha256 import sha256  # up to Python 3.11
    except ImportError:
        try:
            from _sha2 import sha256
        except ImportError:
            from hashlib import sha256


def sha256_hex(data: bytes) -> str:
    """Returns the digest of some bytes as 64 hex digits."""
    return sha256(data).hexdigest()
