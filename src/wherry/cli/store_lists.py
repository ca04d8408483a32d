"""The lists that ``commit`` and ``checkout`` take: paths to leave out, modes by path."""

from __future__ import annotations

from pathlib import Path

from wherry.core.errors import InvalidInput, UsageError

MAX_LIST_BYTES = 64 * 1024 * 1024


class SkipList(set[str]):
    """Paths, and which of them were met."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__(paths)
        self._met: set[str] = set()

    def __contains__(self, path: object) -> bool:
        found = super().__contains__(path)
        if found:
            self._met.add(str(path))
        return found

    def missed(self) -> list[str]:
        """Returns the paths that were not met."""
        return sorted(set(iter(self)) - self._met)


class Overrides(dict[str, tuple[bool, int]]):
    """Modes by path, and which of them were met; those with ``=`` may meet nothing, as with ostree."""

    def __init__(self, items: dict[str, tuple[bool, int]]) -> None:
        super().__init__(items)
        self._met: set[str] = set()

    def __getitem__(self, path: str) -> tuple[bool, int]:
        found = super().__getitem__(path)
        self._met.add(path)
        return found

    def missed(self) -> list[str]:
        """Returns the paths that were not met."""
        return sorted(path for path, (replaces, _) in self.items() if not replaces and path not in self._met)


def read_text(path: Path) -> str:
    """Returns a text file.

    Raises:
        InvalidInput: it is too long, or no text.
        NotFound: it is not there.
    """
    from wherry.core.durable import map_os_error

    try:
        data = path.read_bytes()
        if len(data) > MAX_LIST_BYTES:
            raise InvalidInput(f"longer than {MAX_LIST_BYTES} bytes", where=path)
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("not UTF-8 text", where=path) from None
    except OSError as error:
        raise map_os_error(error, "cannot read a file", where=path) from error


def read_skip_list(path: Path | None) -> SkipList | None:
    """Returns the paths in a file, one a line; None for no file."""
    return None if path is None else SkipList([line for line in read_text(path).splitlines() if line])


def read_statoverride(path: Path | None) -> Overrides | None:
    """Returns the modes in a file, lines of ``MODE PATH``; None for no file.

    Raises:
        UsageError: a line is malformed.
    """
    if path is None:
        return None
    found = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        bits, space, name = line.partition(" ")
        if not line or line.startswith("#"):
            continue
        if not space or not bits.lstrip("=+").isdigit() or int(bits.lstrip("=+")) > 0o7777:
            raise UsageError(f"Malformed statoverride file: not MODE PATH: {line!r}", where=f"{path}:{number}")
        found[name] = (bits.startswith("="), int(bits.lstrip("=+")))
    return Overrides(found)
