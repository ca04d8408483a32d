"""Splitting the arguments of an instruction: by white space, by quoted words, as JSON, as flags.

Nothing is expanded, and quotes stay where they are except in flags. Text that begins like JSON and is none is a
word list or a shell command, as docker has it; a JSON list of anything but strings is an error.

Source: Dockerfile reference, "Shell and exec form", "Environment replacement", "Here-Documents".
"""

from __future__ import annotations

import re

from wherry.core import jsonio
from wherry.core.errors import InvalidInput
from wherry.image.dockerfile.problems import Place

SPACE = " \t\v\f\r\n"
_SPACES = re.compile(r"[ \t\v\f\r\n]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
MAX_WORDS = 10_000


def split_first(text: str) -> tuple[str, str]:
    """Returns the first word and the rest."""
    parts = _SPACES.split(text.strip(SPACE), maxsplit=1)
    return parts[0], parts[1] if len(parts) == 2 else ""


def plain_words(text: str) -> tuple[str, ...]:
    """Returns the words between white space; quotes mean nothing."""
    return tuple(word for word in _SPACES.split(text) if word)


def quoted_words(text: str, escape: str) -> tuple[str, ...]:
    """Returns the words between white space outside quotes, as written. A quote may stay open to the end."""
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    index = 0
    while index < len(text):
        char = text[index]
        index += 1
        if not quote and char in SPACE:
            if word is not None:
                words.append("".join(word))
            word = None
            continue
        word = word if word is not None else []
        if char == escape and quote != "'":  # within single quotes nothing is escaped
            if index == len(text):
                break  # an escape at the very end is dropped
            word += char, text[index]
            index += 1
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        word.append(char)
    if word:
        words.append("".join(word))
    return tuple(words)


def json_words(text: str, place: Place) -> tuple[str, ...] | None:
    """Returns a JSON list of strings, None for what is no JSON list.

    Raises:
        InvalidInput: a list of anything else, or a string with a NUL byte.
    """
    if not text.lstrip(SPACE).startswith("["):
        return None
    try:
        value = jsonio.loads(text)
    except InvalidInput:
        return None
    if not isinstance(value, list):
        return None
    for item in value:
        if not isinstance(item, str):
            raise place.error(
                f"a list of strings is needed, not of {_json_name(item)}",
                'write every item in double quotes: ["a", "b"]',
            )
        if "\0" in item:
            raise place.error("a NUL byte in a string")
    return tuple(_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", item) for item in value)


def _json_name(value: object) -> str:
    names = {bool: "booleans", int: "numbers", float: "numbers", list: "lists", dict: "objects"}
    return names.get(type(value), "nulls")


def split_flags(text: str, escape: str) -> tuple[tuple[str, ...], str]:
    """Returns the words at the beginning that start with ``--``, without their quotes, and the rest.

    A ``--`` alone ends them.
    """
    flags: list[str] = []
    at = 0
    while True:
        start = at
        while start < len(text) and text[start] in SPACE:
            start += 1
        if not text.startswith("--", start):
            return tuple(flags), text[start:]
        word, at = _flag(text, start, escape)
        if word == "--":
            return tuple(flags), text[at:].lstrip(SPACE)
        flags.append(word)


def _flag(text: str, at: int, escape: str) -> tuple[str, int]:
    """Returns a flag without quotes and escapes, and where it ends."""
    word: list[str] = []
    quote = ""
    while at < len(text):
        char = text[at]
        if not quote and char in SPACE:
            break
        at += 1
        if char == escape and quote != "'":
            if at < len(text):
                # What follows may be a variable that shall stay one word of text: then the expansion sees the escape.
                word += (char, text[at]) if text[at] == "$" else (text[at],)
                at += 1
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            word.append(char)
    return "".join(word), at
