"""A repository's ``config``: a GLib key file, read into sections and written back with its comments and order.

Source: Desktop Entry Specification's key files as GLib reads them (GKeyFile); keys in ostree.repo-config(5).
"""

from __future__ import annotations

import re
from pathlib import Path

from wherry.core.durable import write_file
from wherry.core.errors import InvalidInput

MAX_CONFIG_BYTES = 1024 * 1024
_SECTION = re.compile(r"\[([^\[\]]+)\]\s*\Z")
_SIZE = re.compile(r"(\d+)([MGT])B\Z")
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)
_ESCAPES = {"s": " ", "n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
_ESCAPED = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\"}
_BAD_KEY = re.compile(r"[=\n\r\[\]]|\A[\s#]|\s\Z")
_UNITS = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Config:
    """The lines of a key file."""

    def __init__(self, text: str = "", *, where: object = None) -> None:
        self._lines: list[tuple[str, str | None, str]] = []
        """(section, key or None, line): None for headers, comments and empty lines."""
        section = ""
        for number, line in enumerate(text.splitlines(), 1):
            bare = line.strip()
            match = _SECTION.match(bare)
            if match:
                section = match[1]
                self._lines.append((section, None, line))
            elif not bare or bare.startswith("#"):
                self._lines.append((section, None, line))
            else:
                key, equals, _ = line.partition("=")
                if not equals or not section:
                    raise InvalidInput("neither [section] nor key=value", where=f"{where}:{number}")
                self._lines.append((section, key.strip(), line))

    @classmethod
    def load(cls, path: Path) -> Config:
        """Returns the config in a file.

        Raises:
            InvalidInput: too long, not text, or no key file.
        """
        data = path.read_bytes()
        if len(data) > MAX_CONFIG_BYTES:
            raise InvalidInput(f"longer than {MAX_CONFIG_BYTES} bytes", where=path)
        try:
            return cls(data.decode(), where=path)
        except UnicodeDecodeError:
            raise InvalidInput("not UTF-8 text", where=path) from None

    def save(self, path: Path) -> None:
        """Replaces a file durably."""
        write_file(path, "".join(f"{line}\n" for _, _, line in self._lines).encode())

    def sections(self) -> list[str]:
        """Returns the section names in the order of the file."""
        return list(dict.fromkeys(section for section, _, _ in self._lines if section))

    def get(self, section: str, key: str, default: str = "") -> str:
        """Returns a value; the last one counts, as in GLib."""
        found = default
        for its_section, its_key, line in self._lines:
            if its_section == section and its_key == key:
                found = line.partition("=")[2].strip()
        return found

    def get_string(self, section: str, key: str, default: str = "") -> str:
        """Returns a value with what is escaped in it (``\\s \\n \\t \\r \\\\``) as it is meant.

        Raises:
            InvalidInput: it ends in the middle of such a thing, or it is another one.
        """
        text = self.get(section, key, default)
        if "\\" not in text:
            return text
        found = _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], ""), text)
        if any(match[1] not in _ESCAPES for match in _ESCAPE.finditer(text)):
            raise InvalidInput(f"an unknown escape in {text!r}", where=f"{section}.{key} in the repository's config")
        return found

    def set_string(self, section: str, key: str, value: str) -> None:
        """Sets a value, whatever is in it, so that ``get_string`` returns it again.

        Raises:
            InvalidInput: the section or the key cannot be written down.
        """
        if _SECTION.match(f"[{section}]") is None or not key or _BAD_KEY.search(key):
            raise InvalidInput(f"neither a section nor a key of a key file: {section!r}, {key!r}")
        text = "".join(_ESCAPED.get(char, char) for char in value)
        inner = text.strip(" ")
        first = text.find(inner) if inner else len(text)
        self.set(section, key, "\\s" * first + inner + "\\s" * (len(text) - first - len(inner)))

    def keys(self, section: str) -> list[str]:
        """Returns the keys of a section."""
        return [key for its_section, key, _ in self._lines if its_section == section and key is not None]

    def get_bool(self, section: str, key: str, default: bool) -> bool:
        """Returns a boolean value.

        Raises:
            InvalidInput: it is neither ``true`` nor ``false``.
        """
        text = self.get(section, key)
        if text in ("true", "1"):
            return True
        if text in ("false", "0"):
            return False
        if text:
            raise InvalidInput(f"neither true nor false: {text!r}", where=f"{section}.{key} in the repository's config")
        return default

    def get_int(self, section: str, key: str, default: int) -> int:
        """Returns a whole number.

        Raises:
            InvalidInput: it is none.
        """
        text = self.get(section, key)
        if not text:
            return default
        try:
            return int(text)
        except ValueError:
            raise InvalidInput(f"not a number: {text!r}", where=f"{section}.{key} in the repository's config") from None

    def get_size(self, section: str, key: str) -> int | None:
        """Returns a size such as ``500MB``, in bytes; None when there is none.

        Raises:
            InvalidInput: it is not a number with MB, GB or TB.
        """
        text = self.get(section, key)
        if not text:
            return None
        match = _SIZE.match(text)
        if match is None:
            raise InvalidInput(
                f"not a size: {text!r}",
                where=f"{section}.{key} in the repository's config",
                hint="write it as 500MB, 2GB or 1TB",
            )
        return int(match[1]) * _UNITS[match[2]]

    def set(self, section: str, key: str, value: str) -> None:
        """Sets a value, in its place when it is there."""
        line = f"{key}={value}"
        places = [index for index, entry in enumerate(self._lines) if entry[:2] == (section, key)]
        if places:
            self._lines[places[-1]] = (section, key, line)
            for index in reversed(places[:-1]):  # of a key that is there twice the last one counts
                del self._lines[index]
            return
        last = None
        for index, (its_section, _, text) in enumerate(self._lines):
            if its_section == section and text.strip():
                last = index
        if last is None:
            if self._lines:
                self._lines.append((self._lines[-1][0], None, ""))
            self._lines.append((section, None, f"[{section}]"))
            last = len(self._lines) - 1
        self._lines.insert(last + 1, (section, key, line))

    def unset(self, section: str, key: str) -> None:
        """Removes a key."""
        self._lines = [line for line in self._lines if line[:2] != (section, key)]

    def remove_section(self, section: str) -> None:
        """Removes a section with all in it."""
        self._lines = [line for line in self._lines if line[0] != section]
