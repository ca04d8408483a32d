"""Bearer tokens, as docker's token authentication has them: who has logged in, or nobody, signed for a few minutes.

Clients of registries ask ``/v2/`` first, and send a password to whoever says that one is needed, and else never. So an
endpoint where everybody may read and some may push answers there that a token is needed, which nobody at all gets, too:
that of a stranger is good for reading. The key is made anew with each start; a token of before is asked for again.

Source: docker registry, "Token Authentication Specification"; RFC 6750.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import time
from collections.abc import Callable

from wherry.core import jsonio
from wherry.core.errors import InvalidInput

LIFE_S = 300
SERVICE = "wherry"
MAX_TOKEN_CHARS = 2048

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]{1,300}\Z")


class Tokens:
    """Makes tokens and checks them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = os.urandom(32)

    def issue(self, user: str) -> str:
        """Returns a token for somebody; "" is a stranger."""
        payload = jsonio.canonical({"until": int(self._clock()) + LIFE_S, "user": user})
        return f"{_text(payload)}.{_text(self._sign(payload))}"

    def check(self, token: str) -> str | None:
        """Returns whose token it is; None when it is none of these, or too old."""
        head, dot, tail = token.partition(".")
        if not dot or len(token) > MAX_TOKEN_CHARS or not token.isascii():
            return None
        try:
            payload, signature = _bytes(head), _bytes(tail)
            if not hmac.compare_digest(signature, self._sign(payload)):
                return None
            value = jsonio.loads(payload)
        except (binascii.Error, InvalidInput):
            return None
        user: str = value["user"]
        return user if value["until"] > self._clock() else None

    def _sign(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, payload, hashlib.sha256)


def challenge(origin: str, name: str, actions: str) -> str:
    """Returns the header that says where tokens are had.

    Args:
        origin: of the endpoint, as the client calls it: ``http://host:5000``; what cannot be one is left out.
        name: of the repository; "" where it is about none.
        actions: ``pull`` or ``pull,push``.
    """
    if _ORIGIN.match(origin) is None:
        return f'Basic realm="{SERVICE}"'
    scope = f',scope="repository:{name}:{actions}"' if name else ""
    return f'Bearer realm="{origin}/v2/token",service="{SERVICE}"{scope}'


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
