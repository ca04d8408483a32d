"""What a registry asks for with status 401: the ``WWW-Authenticate`` header, and the tokens that answer it.

Source: RFC 9110, section 11.6.1; RFC 6750, section 3; distribution's "Token Authentication Specification" and
"OAuth2 token authentication".
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wherry.core.errors import InvalidInput

MAX_TOKEN_CHARS = 128 * 1024
_LEAST_S = 60
_SPARE_S = 5
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*,?\s*({_WORD})(?:\s+|\Z)(?!\s*=)")
_PARAMETER = re.compile(rf'\s*,?\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))')


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One way to authenticate."""

    scheme: str
    """In lower case: ``bearer``, ``basic``."""
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a token server gave."""

    text: str = field(repr=False)
    valid_until_s: float
    """On the monotonic clock."""

    @property
    def is_valid(self) -> bool:
        """Whether it can be used now."""
        return time.monotonic() < self.valid_until_s


def parse_challenges(header: str) -> list[Challenge]:
    """Reads a ``WWW-Authenticate`` header, which may hold several challenges.

    Raises:
        InvalidInput: it is malformed.
    """
    found: list[Challenge] = []
    at = 0
    while at < len(header) and header[at:].strip(" ,"):
        match = _SCHEME.match(header, at)
        if match is None:
            raise InvalidInput(f"not a challenge: {header[:120]!r}")
        at = match.end()
        parameters: dict[str, str] = {}
        while (parameter := _PARAMETER.match(header, at)) is not None:
            quoted = parameter[2]
            value = parameter[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(parameter[1].lower(), value)
            at = parameter.end()
        found.append(Challenge(scheme=match[1].lower(), parameters=parameters))
    return found


def parse_token(answer: Any, *, where: object) -> Token:
    """Reads a token server's answer.

    Raises:
        InvalidInput: there is no token in it.
    """
    value = answer if isinstance(answer, dict) else {}
    text = value.get("token") or value.get("access_token")
    if not isinstance(text, str) or not text or len(text) > MAX_TOKEN_CHARS or not text.isprintable():
        raise InvalidInput("the token server's answer has no token", where=where)
    seconds = value.get("expires_in")
    seconds = seconds if isinstance(seconds, int) and not isinstance(seconds, bool) else _LEAST_S
    return Token(text=text, valid_until_s=time.monotonic() + max(seconds, _LEAST_S) - _SPARE_S)
