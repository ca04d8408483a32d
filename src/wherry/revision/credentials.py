"""Tokens for hubs, kept for the person who logged in: one JSON file, mode 0600, replaced durably.

::

    {"hubs": {"https://hub.example": {"token": "...", "user": "ann", "expires_s": 1767225600}}}

The caller says where the file lies; nothing here reads the environment, and no message shows a token. A file that
others can read is refused, as a private key is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from wherry.core import jsonio
from wherry.core.durable import make_dirs, map_os_error, write_file
from wherry.core.errors import InvalidInput, NotPermitted
from wherry.core.lock import file_lock
from wherry.spec.codec import decode, encode

MAX_CREDENTIALS_BYTES = 1024 * 1024
_LOCK_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What a hub gave when somebody logged in."""

    token: str = field(repr=False)
    user: str = ""
    expires_s: int = 0
    """Seconds since 1970, for people; the hub decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    hubs: Mapping[str, Login] = field(default_factory=dict)


class Credentials:
    """The file of one person.

    Args:
        path: where it lies; made when the first token is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, url: str) -> Login | None:
        """Returns the login at a hub; None when there is none.

        Raises:
            NotPermitted: others can read the file.
            InvalidInput: it is malformed.
        """
        return self._read().hubs.get(hub_key(url))

    def urls(self) -> tuple[str, ...]:
        """Returns the addresses of all hubs with a login, sorted."""
        return tuple(sorted(self._read().hubs))

    def put(self, url: str, login: Login) -> None:
        """Keeps a login in place of the one before it."""
        self._change(url, login)

    def remove(self, url: str) -> bool:
        """Forgets the login at a hub; tells whether there was one."""
        if self.get(url) is None:
            return False
        self._change(url, None)
        return True

    def _change(self, url: str, login: Login | None) -> None:
        make_dirs(self.path.parent, mode=0o700)
        with file_lock(
            self.path.with_name(f".{self.path.name}.lock"), timeout_s=_LOCK_TIMEOUT_S, what="the login file"
        ):
            current = self._read()
            hubs = {key: value for key, value in current.hubs.items() if key != hub_key(url)}
            if login is not None:
                hubs[hub_key(url)] = login
            data = jsonio.pretty(encode(replace(current, hubs=hubs))) + "\n"
            write_file(self.path, data.encode(), mode=0o600)

    def _read(self) -> _File:
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                    raise NotPermitted(
                        f"others can read the tokens in this file (mode {mode:04o})",
                        where=self.path,
                        hint=f"make it yours alone: chmod 600 {self.path}",
                    )
                data = file.read(MAX_CREDENTIALS_BYTES + 1)
        except FileNotFoundError:
            return _File()
        except OSError as error:
            raise map_os_error(error, "cannot read logins", where=self.path) from error
        try:
            return decode(_File, jsonio.loads(data, where=self.path, max_bytes=MAX_CREDENTIALS_BYTES), where=self.path)
        except InvalidInput as error:
            raise InvalidInput(error.what, where=self.path, hint="remove it, then log in again") from error


def hub_key(url: str) -> str:
    """Returns scheme, host and port of an address in one form, so that ``HTTP://Hub/`` and ``http://hub`` are one.

    Raises:
        InvalidInput: it is not an ``http://`` or ``https://`` address.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise InvalidInput("not an http:// or https:// address", where=url, hint="write it as https://hub.example:8443")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    suffix = "" if port is None or port == {"http": 80, "https": 443}[parts.scheme] else f":{port}"
    return f"{parts.scheme}://{host}{suffix}{parts.path.rstrip('/')}"
