"""``.env`` and ``env_file``: lines of variables, with quotes, comments and variables in them.

Source: compose-spec, "05-services.md", "Env_file format".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from wherry.core.errors import InvalidInput, NotFound
from wherry.engine.compose.interpolate import interpolate

MAX_FILE_BYTES = 1024 * 1024
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "'": "'"}


def read_file(path: str) -> str:
    """Returns the text of a file of variables.

    Raises:
        NotFound: it cannot be read.
        InvalidInput: it is too long.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise NotFound("cannot read a file of variables", where=path, hint=reason) from error
    if len(text) > MAX_FILE_BYTES:
        raise InvalidInput(f"a file of variables has at most {MAX_FILE_BYTES} characters", where=path)
    return text


def parse(
    text: str,
    variables: Mapping[str, str],
    *,
    where: object,
    raw: bool = False,
    unset: Callable[[str], None] = lambda name: None,
) -> dict[str, str | None]:
    """Returns the variables of a file; None for a name that stands alone.

    Args:
        text: of the file.
        variables: for those in the values; what the file has set above stands before them.
        where: the file's name, for errors.
        raw: take everything after the ``=`` as it is.
        unset: told of each variable that is not there.

    Raises:
        InvalidInput: a line is malformed; with its number.
    """
    found: dict[str, str | None] = {}
    at, number = 0, 0
    while at < len(text):
        number += 1
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end].rstrip("\r")
        place = f"{os.fspath(where) if isinstance(where, os.PathLike) else where}:{number}"
        stripped = line.strip()
        at = end + 1
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, value = stripped.removeprefix("export ").lstrip().partition("=")
        name = name.rstrip()
        if not name or any(char.isspace() for char in name):
            raise InvalidInput(f"not NAME=value: {stripped[:60]!r}", where=place)
        if not equals:
            found[name] = None
            continue
        if raw:
            found[name] = line.partition("=")[2]
            continue
        value = value.lstrip()
        known = {**variables, **{key: item for key, item in found.items() if item is not None}}
        if value[:1] not in ("'", '"') or not value:
            found[name] = interpolate(_without_comment(value), known, unset=unset)
            continue
        begin = text.index(value[0], text.index("=", text.rfind("\n", 0, end) + 1))
        body, close = _quoted(text, begin, place)
        rest_end = text.find("\n", close)
        rest_end = len(text) if rest_end < 0 else rest_end
        rest = text[close:rest_end].strip()
        if rest and not rest.startswith("#"):
            raise InvalidInput(f"text after the closing quote: {rest[:40]!r}", where=place)
        number += text.count("\n", begin, close)
        at = rest_end + 1
        found[name] = body if value[0] == "'" else _unescape(interpolate(body, known, unset=unset))
    return found


def _without_comment(value: str) -> str:
    for index, char in enumerate(value):
        if char == "#" and (index == 0 or value[index - 1] in " \t"):
            return value[:index].rstrip()
    return value.rstrip()


def _quoted(text: str, begin: int, place: str) -> tuple[str, int]:
    """Returns what stands between the quote at `begin` and its end, and the place after that; lines may lie between."""
    quote, at = text[begin], begin + 1
    found: list[str] = []
    while at < len(text):
        char = text[at]
        if char == "\\" and text[at + 1 : at + 2] == quote and quote == "'":
            found.append(quote)
            at += 2
        elif char == "\\" and quote == '"':
            found.append(text[at : at + 2])
            at += 2
        elif char == quote:
            return "".join(found), at + 1
        else:
            found.append(char)
            at += 1
    raise InvalidInput("a quote has no end", where=place)


def _unescape(text: str) -> str:
    found: list[str] = []
    at = 0
    while at < len(text):
        following = text[at + 1 : at + 2]
        if text[at] == "\\" and following in _ESCAPES and following:
            found.append(_ESCAPES[following])
            at += 2
        else:
            found.append(text[at])
            at += 1
    return "".join(found)
