"""Who may do what at an endpoint: passwords in a file as ``htpasswd`` writes it, or one token.

Passwords are compared by the C library's crypt(3): bcrypt (``$2y$``, what docker's registry wants), yescrypt, SHA-512.
Refused: MD5, plain text and all else that a password is soon guessed from. Checking one takes its time on purpose, so
few are checked at once, an answer is remembered by a keyed digest of what was sent, and an address that guessed wrong
too often waits. What clients are told to ask for is a token (``tokens.py``).
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput
from wherry.image.serving.messages import Code, Refused, Request
from wherry.image.serving.tokens import LIFE_S, SERVICE, Tokens, challenge
from wherry.linux.crypt import crypt

MAX_FILE_BYTES = 1024 * 1024
MAX_USERS = 10_000
MAX_HEADER_CHARS = 4096
MAX_CHECKS = 2
MAX_FAILURES = 10
"""Wrong passwords from one address within `FAILURES_S`; then it waits."""
FAILURES_S = 60
MIN_TOKEN_CHARS = 16
_REMEMBERED = 256
_REMEMBERED_S = 300
_HASH = re.compile(r"\$(2[aby]|y|6)\$[./A-Za-z0-9$=,]{8,200}\Z")
_NAMELESS = "holder"


class Right(enum.Enum):
    """What somebody wants to do."""

    READ = "read"
    PUSH = "push"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """Who can log in."""

    users: Mapping[str, str] = field(default_factory=dict)
    """Names, and their passwords' hashes."""
    token: str = ""
    """Whoever knows it may do what users may; "": there is none."""

    @classmethod
    def load(cls, *, htpasswd: Path | None = None, token_file: Path | None = None) -> Accounts:
        """Reads the accounts from files.

        Raises:
            NotFound: a file is not there.
            InvalidInput: a line is malformed, or a hash is too weak; names the line.
        """
        users = _parse_htpasswd(_read(htpasswd), htpasswd) if htpasswd is not None else {}
        token = _read(token_file).strip() if token_file is not None else ""
        if token_file is not None and not (len(token) >= MIN_TOKEN_CHARS and token.isascii() and token.isprintable()):
            raise InvalidInput(
                f"a token has at least {MIN_TOKEN_CHARS} characters, in one line",
                where=token_file,
                hint="make one with `openssl rand -hex 32`",
            )
        return cls(users=users, token=token)

    def __bool__(self) -> bool:
        return bool(self.users or self.token)


class Door:
    """Lets in who may come in. Several threads may ask at once.

    Args:
        accounts: who can log in.
        read_needs_login: whether reading needs that, too; pushing always does.
        clock: seconds, for tests.
    """

    def __init__(
        self, accounts: Accounts, *, read_needs_login: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._accounts, self._read_needs_login, self._clock = accounts, read_needs_login, clock
        self._checks = threading.BoundedSemaphore(MAX_CHECKS)
        self._lock = threading.Lock()
        self._key = os.urandom(32)
        self._tokens = Tokens(clock)
        self._right: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def who(self, request: Request) -> str | None:
        """Returns who asks; None where they have not logged in, or nobody can.

        Raises:
            Refused: what they sent is wrong, or was wrong too often.
        """
        authorization = request.headers.get("authorization")
        if authorization is None or not self._accounts:
            return None
        scheme, _, rest = authorization.partition(" ")
        rest = rest.strip()
        if len(authorization) > MAX_HEADER_CHARS:
            raise self._unauthorized(request, "too long")
        if scheme.lower() == "bearer":
            user = _NAMELESS if self._is_token(rest) else self._tokens.check(rest)
            if user is None:
                raise self._unauthorized(request, "the token is wrong, or too old")
            return user or None
        if scheme.lower() != "basic":
            raise self._unauthorized(request, "neither a password nor a token")
        return self._by_password(request, rest)

    def _by_password(self, request: Request, encoded: str) -> str | None:
        mark = hmac.digest(self._key, encoded.encode(), hashlib.sha256)
        now = self._clock()
        with self._lock:
            known = self._right.get(mark)
            if known is not None and now - known[1] < _REMEMBERED_S:
                return known[0]
            recent = [at for at in self._failures.get(request.address, ()) if now - at < FAILURES_S]
        if len(recent) >= MAX_FAILURES:
            wait = {"Retry-After": str(FAILURES_S)}
            raise Refused(Code.TOOMANYREQUESTS, "too many wrong passwords", headers=wait)
        user = self._check(encoded)
        if user == "":
            return None
        with self._lock:
            if user is None:
                self._failures[request.address] = [*recent, now]
                self._failures.move_to_end(request.address)
                while len(self._failures) > _REMEMBERED:
                    self._failures.popitem(last=False)
                raise self._unauthorized(request, "the name or the password is wrong")
            self._right[mark] = (user, now)
            while len(self._right) > _REMEMBERED:
                self._right.popitem(last=False)
        return user

    def check(self, right: Right, user: str | None, request: Request, name: str = "") -> None:
        """Lets somebody do something.

        Args:
            right: what they want to do.
            user: who they are; None: a stranger.
            request: how they ask.
            name: of the repository that it is about.

        Raises:
            Refused: they must log in first.
        """
        if user is None and (right is Right.PUSH or self._read_needs_login):
            raise self._unauthorized(request, "this needs a login", name, right)

    def greet(self, request: Request) -> None:
        """Has those who ask for ``/v2/``, and send nothing, ask for a token, where there are any.

        Raises:
            Refused: that is so.
        """
        if self._accounts and "authorization" not in request.headers:
            raise self._unauthorized(request, "this needs a token")

    def token(self, request: Request) -> dict[str, Any]:
        """Returns a token for who asks.

        Raises:
            Refused: a stranger, and strangers may not even read; or nobody can log in here.
        """
        if not self._accounts:
            raise Refused(Code.UNSUPPORTED, "there are no accounts here", status=404)
        user = self.who(request)
        if user is None and self._read_needs_login:
            raise Refused(
                Code.UNAUTHORIZED, "this needs a login", headers={"WWW-Authenticate": f'Basic realm="{SERVICE}"'}
            )
        token = self._tokens.issue(user or "")
        return {"token": token, "access_token": token, "expires_in": LIFE_S}

    def _unauthorized(self, request: Request, message: str, name: str = "", right: Right = Right.READ) -> Refused:
        actions = "pull,push" if right is Right.PUSH else "pull"
        header = {"WWW-Authenticate": challenge(request.origin, name, actions)}
        return Refused(Code.UNAUTHORIZED, message, headers=header)

    def _check(self, encoded: str) -> str | None:
        """Returns whose name and password these are; "" for none at all, None for wrong ones."""
        try:
            user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        if not colon or "\0" in password:
            return None
        if not user and not password:
            return ""  # what podman and skopeo send when they know none
        if self._is_token(password):
            return user or _NAMELESS
        setting = self._accounts.users.get(user)
        with self._checks:
            # a name that is unknown takes as long as a wrong password
            known = setting or next(iter(self._accounts.users.values()), "")
            found = crypt(password, known) if known else None
        right = found is not None and hmac.compare_digest(found.encode(), known.encode())
        return user if right and setting is not None else None

    def _is_token(self, text: str) -> bool:
        token = self._accounts.token
        return bool(token) and hmac.compare_digest(text.encode(), token.encode())


def _read(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise map_os_error(error, "cannot read the accounts", where=path) from error
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(f"longer than {MAX_FILE_BYTES} bytes", where=path)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("not UTF-8", where=path) from None


def _parse_htpasswd(text: str, where: Path | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        user, colon, hashed = line.strip().partition(":")
        if not user or not colon:
            raise InvalidInput("not NAME:HASH", where=f"{where}, line {number}")
        if _HASH.match(hashed) is None:
            raise InvalidInput(
                "a hash that is not taken: it must be bcrypt, yescrypt or SHA-512",
                where=f"{where}, line {number}",
                hint="make it with `htpasswd -B` or `openssl passwd -6`",
            )
        found[user] = hashed
        if len(found) > MAX_USERS:
            raise InvalidInput(f"more than {MAX_USERS} users", where=where)
    return found
