"""Metalinks (version 3): where a repository's summary can be had, and what hashes and size it must have.

``metalink=URL`` as a remote's address names such a file; the mirror whose summary is the right one is then pulled
from. Elements that are not known are stepped over. Refused: documents that are too long or too deep, without a hash
that is worth something, without an address, and ones that declare entities.

Source: The Metalink Download Description Format, version 3.0 (2nd edition).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from xml.parsers import expat

from wherry.core.errors import IntegrityError, InvalidInput

MAX_METALINK_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_URLS = 256
_HASHES = {"sha256": 64, "sha512": 128}
_SCHEMES = ("http", "https")


@dataclass(slots=True, kw_only=True)
class Metalink:
    """What a metalink says of one file."""

    size: int | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    urls: list[tuple[int, str]] = field(default_factory=list)
    """Preference and address."""

    def sorted_urls(self) -> list[str]:
        """Returns the addresses, the most preferred first."""
        return [url for _, url in sorted(self.urls, key=lambda item: -item[0])]

    def check(self, data: bytes, *, where: object) -> None:
        """Compares a file with what it should be.

        Raises:
            IntegrityError: it is another.
        """
        if self.size is not None and len(data) != self.size:
            raise IntegrityError(f"Expected size is {self.size} bytes but content is {len(data)} bytes", where=where)
        for name in ("sha512", "sha256"):
            if name in self.hashes:
                found = hashlib.new(name, data).hexdigest()
                if found != self.hashes[name]:
                    raise IntegrityError(f"Expected checksum is {self.hashes[name]} but actual is {found}", where=where)
                return


def parse_metalink(data: bytes, file_name: str, *, where: object = None) -> Metalink:
    """Returns what a metalink says of one file.

    Raises:
        InvalidInput: malformed, or it says too little of this file.
    """
    if len(data) > MAX_METALINK_BYTES:
        raise InvalidInput(f"a metalink of more than {MAX_METALINK_BYTES} bytes", where=where)
    if not data.lstrip().startswith(b"<"):
        raise InvalidInput("malformed metalink: Document must begin with an element", where=where)
    reader = _Reader(file_name)
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.EntityDeclHandler = reader.entity
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise InvalidInput(f"malformed metalink: {error}", where=where) from error
    except InvalidInput as error:
        raise InvalidInput(f"malformed metalink: {error.what}", where=where) from None
    found = reader.found
    if found is None:
        raise InvalidInput(f"No <file name='{file_name}'> found in the metalink", where=where)
    if not found.hashes:
        raise InvalidInput("No <verification> element with known <hash type=> found in the metalink", where=where)
    if not found.urls:
        raise InvalidInput("No <url protocol='http' method='...'> elements found in the metalink", where=where)
    return found


class _Reader:
    """The state between the elements. The path names where we are, without what is not known."""

    def __init__(self, file_name: str) -> None:
        self._file_name = file_name
        self._path: list[str] = []
        self._attributes: dict[str, str] = {}
        self._text: list[str] = []
        self._current: Metalink | None = None
        self.found: Metalink | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._path) >= MAX_DEPTH:
            raise InvalidInput(f"elements nested deeper than {MAX_DEPTH}")
        if not self._path and name != "metalink":
            raise InvalidInput(f"its first element is <{name}>")
        self._path.append(name)
        self._text.clear()
        self._attributes = attributes
        if self._path == ["metalink", "files", "file"]:
            wanted = attributes.get("name") == self._file_name and self.found is None
            self._current = Metalink() if wanted else None

    def text(self, data: str) -> None:
        self._text.append(data)

    def entity(self, *_: object) -> None:
        raise InvalidInput("it declares entities")

    def end(self, name: str) -> None:
        current, path = self._current, self._path[3:]
        text = "".join(self._text).strip()
        if current is not None and self._path[:3] == ["metalink", "files", "file"]:
            if path == ["size"]:
                if not re.fullmatch(r"\d{1,15}", text):
                    raise InvalidInput(f"not a size: {text[:40]!r}")
                current.size = int(text)
            elif path == ["verification", "hash"]:
                self._hash(current, self._attributes.get("type", ""), text.lower())
            elif path == ["resources", "url"]:
                self._url(current, text)
            elif not path:
                self.found = current
        self._path.pop()
        self._text.clear()

    def _hash(self, current: Metalink, kind: str, text: str) -> None:
        length = _HASHES.get(kind)
        if length is None:
            return
        if not re.fullmatch(rf"[0-9a-f]{{{length}}}", text):
            raise InvalidInput(f"Invalid hash digest for {kind}")
        current.hashes[kind] = text

    def _url(self, current: Metalink, text: str) -> None:
        if self._attributes.get("protocol", "") not in _SCHEMES or not text.startswith(("http://", "https://")):
            return
        if len(current.urls) >= MAX_URLS:
            raise InvalidInput(f"more than {MAX_URLS} addresses")
        preference = self._attributes.get("preference", "0").strip()
        current.urls.append((int(preference) if preference.isdigit() and len(preference) < 6 else 0, text))
