"""Cookies of a remote, in Netscape's format, as libcurl and ``ostree`` read them.

One line each, with tabs between: domain, whether subdomains count, path, whether TLS only, when it ends (seconds since
1970), name, value.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wherry.core.durable import write_file
from wherry.core.errors import InvalidInput, NotFound

MAX_FILE_BYTES = 1024 * 1024
_LIFETIME_S = 25 * 365 * 24 * 3600
_HTTP_ONLY = "#HttpOnly_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """One cookie."""

    domain: str
    path: str
    name: str
    value: str
    subdomains: bool = False
    secure: bool = False
    expires_s: int = 0

    def line(self) -> str:
        """Returns it as it stands in the file."""
        flags = ["FALSE", "TRUE"]
        return "\t".join((self.domain, flags[self.subdomains], self.path, flags[self.secure], str(self.expires_s),
                          self.name, self.value))  # fmt: skip


def read_cookies(path: Path) -> list[Cookie]:
    """Returns the cookies of a file; none when it is not there.

    Raises:
        InvalidInput: malformed.
    """
    return [cookie for _, cookie in _lines(path) if cookie is not None]


def add_cookie(path: Path, domain: str, at: str, name: str, value: str) -> None:
    """Adds a cookie that lasts for 25 years, in place of one of the same domain, path and name; durably.

    Raises:
        InvalidInput: it cannot be written, or the file is malformed.
    """
    for text in (domain, at, name, value):
        if "\t" in text or "\n" in text or "\r" in text:
            raise InvalidInput(f"a tab or a line break in a cookie: {text!r}")
    cookie = Cookie(domain=domain, path=at, name=name, value=value, expires_s=int(time.time()) + _LIFETIME_S)
    kept = [line for line, found in _lines(path) if not _is(found, domain, at, name)]
    _write(path, [*kept, cookie.line()])


def delete_cookie(path: Path, domain: str, at: str, name: str, value: str | None = None) -> None:
    """Removes a cookie, durably.

    Args:
        path: the file.
        domain: of the cookie.
        at: its path.
        name: its name.
        value: None: whatever it has.

    Raises:
        NotFound: there is none.
    """
    lines = list(_lines(path))
    kept = [
        line
        for line, found in lines
        if found is None or not _is(found, domain, at, name) or value not in (None, found.value)
    ]
    if len(kept) == len(lines):
        raise NotFound("Cookie not found in jar", where=f"{domain}{at} {name}")
    _write(path, kept)


def _is(cookie: Cookie | None, domain: str, at: str, name: str) -> bool:
    return cookie is not None and (cookie.domain, cookie.path, cookie.name) == (domain, at, name)


def _write(path: Path, lines: list[str]) -> None:
    write_file(path, "".join(f"{line}\n" for line in lines).encode(), mode=0o600)  # they are secrets


def _lines(path: Path) -> Iterator[tuple[str, Cookie | None]]:
    """Gives every line, with the cookie in it; None for comments."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(f"longer than {MAX_FILE_BYTES} bytes", where=path)
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        if not line.strip() or (line.startswith("#") and not line.startswith(_HTTP_ONLY)):
            yield line, None
            continue
        parts = line.removeprefix(_HTTP_ONLY).split("\t")
        if len(parts) != 7 or not parts[4].lstrip("-").isdigit():
            raise InvalidInput("not a cookie", where=f"{path}:{number}")
        domain, subdomains, at, secure, expires, name, value = parts
        yield line, Cookie(domain=domain, path=at, name=name, value=value, subdomains=subdomains == "TRUE",
                           secure=secure == "TRUE", expires_s=int(expires))  # fmt: skip
