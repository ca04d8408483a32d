"""A remote repository behind an address: where its mirrors are, and its few files that are read one by one.

An address is that of a repository, ``mirrorlist=URL`` (a text with one address in each line, ``#`` for comments), or
``metalink=URL``. Mirrors that have no repository are left out.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from wherry.core.errors import HttpError, IntegrityError, InvalidInput, NetworkError, NotFound, WherryError
from wherry.core.transfer import Transfer, Transfers, TransferSettings
from wherry.store.pull.downloads import RETRIES, Mirrors, is_missing, is_passing
from wherry.store.pull.metalink import MAX_METALINK_BYTES, parse_metalink
from wherry.store.pull.remote import Remote

MAX_MIRRORLIST_BYTES = 1024 * 1024
MAX_MIRRORS = 256
MAX_CONFIG_BYTES = 1024 * 1024
MAX_SUMMARY_BYTES = 10 * 1024 * 1024
SCHEMES = ("http", "https", "file")
_MIRRORLIST = "mirrorlist="
_METALINK = "metalink="
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0


class Web:
    """Reads a repository's files, from whichever mirror has them.

    Args:
        transfers: the network.
        url: the address.
        content_url: that of its content, where it is elsewhere.
        retries: how often a file is asked for again when the link breaks.
    """

    def __init__(self, transfers: Transfers, url: str, content_url: str = "", *, retries: int = RETRIES) -> None:
        self._transfers = transfers
        self._retries = retries
        self._first = 0
        metadata = self._resolve(url)
        self.mirrors = Mirrors(metadata=metadata, content=self._resolve(content_url) if content_url else metadata)

    @property
    def name(self) -> str:
        """The address of its first mirror, without passwords."""
        scheme, mark, rest = self.mirrors.metadata[0].partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"

    def read(self, path: str, max_bytes: int, *, headers: tuple[str, ...] = ()) -> Transfer:
        """Reads one file.

        Args:
            path: relative to the repository.
            max_bytes: the limit.
            headers: further ones, such as ``If-None-Match``; an answer of 304 has no body.

        Raises:
            NotFound: no mirror has it.
            NetworkError: no answer.
            InvalidInput: it is too long.
        """
        bases = self.mirrors.metadata
        missing: WherryError | None = None
        for index in range(len(bases)):
            at = (self._first + index) % len(bases)
            try:
                found = self._get(f"{bases[at]}/{path}", max_bytes, headers)
            except WherryError as error:
                if not is_missing(error) and not (is_passing(error) and index + 1 < len(bases)):
                    raise
                missing = error
                continue
            self._first = at
            return found
        assert missing is not None  # noqa: S101 there is a mirror
        raise NotFound(missing.what, where=missing.where, hint="check the address") from missing

    def _get(self, url: str, max_bytes: int, headers: tuple[str, ...] = ()) -> Transfer:
        """Gets one address, again while the link breaks."""
        for attempt in range(self._retries + 1):
            try:
                wanted = Transfer(url, max_bytes=max_bytes, headers=headers, want_headers=True)
                return self._transfers.fetch(wanted)
            except NetworkError as error:
                if not is_passing(error) or attempt == self._retries:
                    raise
            time.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311
        raise AssertionError("unreachable")

    def _resolve(self, text: str) -> tuple[str, ...]:
        """Returns the mirrors that an address means."""
        if text.startswith(_MIRRORLIST):
            return self._mirrorlist(_checked(text.removeprefix(_MIRRORLIST)))
        if text.startswith(_METALINK):
            return (self._metalink(_checked(text.removeprefix(_METALINK))),)
        return (_checked(text),)

    def _mirrorlist(self, url: str) -> tuple[str, ...]:
        urls = parse_mirrorlist(self._get(url, MAX_MIRRORLIST_BYTES).body, where=url)
        found = []
        for mirror in urls:
            try:
                self._get(f"{mirror}/config", MAX_CONFIG_BYTES)
            except (NotFound, HttpError, NetworkError):
                continue
            found.append(mirror)
        if not found:
            raise NotFound("No valid mirrors were found in mirrorlist", where=url)
        return tuple(found)

    def _metalink(self, url: str) -> str:
        """Returns the first mirror whose summary is the right one."""
        link = parse_metalink(self._get(url, MAX_METALINK_BYTES).body, "summary", where=url)
        last: WherryError | None = None
        for candidate in link.sorted_urls():
            try:
                data = self._get(_checked(candidate), min(link.size or MAX_SUMMARY_BYTES, MAX_SUMMARY_BYTES) + 1).body
                link.check(data, where=candidate)
            except (NotFound, NetworkError, IntegrityError, InvalidInput) as error:
                last = error
                continue
            return candidate.rpartition("/")[0]
        assert last is not None  # noqa: S101 the parser wants an address
        raise last


def parse_mirrorlist(data: bytes, *, where: object = None) -> tuple[str, ...]:
    """Returns the addresses in a list of mirrors.

    Raises:
        InvalidInput: a line is none, or there are too many, or none at all.
    """
    found = []
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if urlsplit(text).scheme not in ("http", "https") or not urlsplit(text).hostname:
            raise InvalidInput(f"not the address of a mirror: {text[:80]!r}", where=f"{where}:{number}")
        found.append(text.rstrip("/"))
    if not found:
        raise InvalidInput("No valid mirrors were found in mirrorlist", where=where)
    if len(found) > MAX_MIRRORS:
        raise InvalidInput(f"more than {MAX_MIRRORS} mirrors", where=where)
    return tuple(found)


def local_path(url: str) -> Path | None:
    """Returns the folder that a ``file://`` address means; None for others."""
    return Path(unquote(urlsplit(url).path)) if url.startswith("file://") else None


def transfer_settings(remote: Remote, base: TransferSettings, *, cookie_file: Path | None = None) -> TransferSettings:
    """Returns how to speak to a remote.

    Args:
        remote: whose section counts.
        base: what the caller wants besides: headers, proxies, the rate.
        cookie_file: the remote's cookies.

    Raises:
        InvalidInput: a certificate is given without its key.
    """
    cert, key = remote.get("tls-client-cert-path"), remote.get("tls-client-key-path")
    if bool(cert) != bool(key):
        raise InvalidInput(
            f"Remote '{remote.name}' must specify both tls-client-cert-path and tls-client-key-path or neither"
        )
    authority = remote.get("tls-ca-path")
    proxy = remote.get("proxy")
    return replace(
        base,
        ca_file=Path(authority) if authority else base.ca_file,
        client_cert=Path(cert) if cert else base.client_cert,
        client_key=Path(key) if key else base.client_key,
        permissive=remote.flag("tls-permissive", base.permissive),
        http2=remote.flag("http2", base.http2),
        proxies=(("all", proxy),) if proxy else base.proxies,
        no_proxy="" if proxy else base.no_proxy,
        cookie_file=cookie_file if cookie_file is not None and cookie_file.is_file() else base.cookie_file,
    )


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or (parts.scheme != "file" and not parts.hostname):
        raise InvalidInput(f"Invalid URI scheme in {url}", hint="use http, https or file")
    return url.rstrip("/")
