"""Flags read from a table without click, for commands that are started thousands of times.

It reads what is plainly right, in the same words as click and to the same values. For anything else (an unknown flag,
a missing word, ``--help``) it says that it has no answer, and click reads the line, errors, guesses and all.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from wherry.cli.container_flags import Flag


def parse(flags: Iterable[Flag], words: Sequence[str]) -> tuple[dict[str, Any], list[str]] | None:
    """Reads the flags at the beginning of a command line.

    Args:
        flags: the table.
        words: the command line, without the command's own name.

    Returns:
        The values by key, as click gives them (their defaults for those that are missing), and the words from the
        first on that is no flag; None when click shall read it.
    """
    known: dict[str, Flag] = {}
    given: dict[str, Any] = {}
    for flag in flags:
        given[flag.key] = flag.default
        for name in flag.names:
            known[name] = flag
    rest = list(words)
    while rest:
        word = rest[0]
        if word == "--":
            return given, rest[1:]
        if word[:1] != "-" or word == "-":
            break
        del rest[0]
        taken = _long(known, given, word, rest) if word.startswith("--") else _short(known, given, word, rest)
        if not taken:
            return None
    return given, rest


def _long(known: dict[str, Flag], given: dict[str, Any], word: str, rest: list[str]) -> bool:
    name, equals, value = word.partition("=")
    flag = known.get(name)
    if flag is None:
        return False
    if not flag.metavar:
        given[flag.key] = True
        return not equals
    if not equals:
        if not rest:
            return False
        value = rest.pop(0)
    _put(given, flag, value)
    return True


def _short(known: dict[str, Flag], given: dict[str, Any], word: str, rest: list[str]) -> bool:
    """Reads ``-it`` and ``-eNAME=VALUE``: switches, and at the end perhaps one that takes a word."""
    for at, letter in enumerate(word[1:], start=2):
        flag = known.get(f"-{letter}")
        if flag is None:
            return False
        if not flag.metavar:
            given[flag.key] = True
            continue
        value = word[at:]
        if not value:
            if not rest:
                return False
            value = rest.pop(0)
        _put(given, flag, value)
        return True
    return True


def _put(given: dict[str, Any], flag: Flag, value: str) -> None:
    given[flag.key] = (*given[flag.key], value) if flag.many else value
