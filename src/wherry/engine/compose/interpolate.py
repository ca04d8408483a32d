"""Variables in the values of a Compose file: ``$NAME``, ``${NAME:-default}`` and their kin.

Pure. What is no variable stays as it is: ``$1`` and ``$(x)`` are text. ``$$`` is a dollar sign.

Source: compose-spec, "12-interpolation.md".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wherry.core.errors import InvalidInput

MAX_NESTING = 20
MAX_RESULT_CHARS = 1024 * 1024

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_REST = _FIRST | frozenset("0123456789")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")


class BadVariable(InvalidInput):
    """A variable is malformed, or must be set and is not."""


def interpolate(text: str, variables: Mapping[str, str], *, unset: Callable[[str], None] = lambda name: None) -> str:
    """Returns text with its variables filled in.

    Args:
        text: as it stands in the file.
        variables: by name.
        unset: told the name of each variable that is not there and has no default; it counts as empty.

    Raises:
        BadVariable: it is malformed, or a variable that must be set is not.
    """
    return _fill(text, variables, unset, 0) if "$" in text else text


def escape(text: str) -> str:
    """Returns text that `interpolate` leads back to itself."""
    return text.replace("$", "$$")


def _fill(text: str, variables: Mapping[str, str], unset: Callable[[str], None], level: int) -> str:
    if level > MAX_NESTING:
        raise BadVariable(f"variables are nested deeper than {MAX_NESTING} levels")
    found: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        found.append(text[at:dollar])
        following = text[dollar + 1 : dollar + 2]
        if following == "$":
            found.append("$")
            at = dollar + 2
        elif following == "{":
            end = _closing(text, dollar + 2)
            found.append(_braced(text[dollar + 2 : end], variables, unset, level))
            at = end + 1
        elif following in _FIRST and following:
            at = dollar + 1
            while at < len(text) and text[at] in _REST:
                at += 1
            found.append(_plain(text[dollar + 1 : at], variables, unset))
        else:
            found.append("$")
            at = dollar + 1
    found.append(text[at:])
    result = "".join(found)
    if len(result) > MAX_RESULT_CHARS:
        raise BadVariable(f"longer than {MAX_RESULT_CHARS} characters once its variables are filled in")
    return result


def _closing(text: str, at: int) -> int:
    """Returns where the brace is that closes the one before `at`."""
    begin, depth = at, 1
    while at < len(text):
        if text.startswith("${", at):
            depth += 1
            at += 2
            continue
        if text[at] == "}":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    raise BadVariable(
        f"a variable has no closing brace: ${{{text[begin : begin + 60]}", hint="write $$ for a dollar sign"
    )


def _braced(inner: str, variables: Mapping[str, str], unset: Callable[[str], None], level: int) -> str:
    end = 0
    while end < len(inner) and inner[end] in _REST:
        end += 1
    name, rest = inner[:end], inner[end:]
    operator = next((word for word in _OPERATORS if rest.startswith(word)), "")
    if not name or name[0] not in _FIRST or (rest and not operator):
        raise BadVariable(
            f"not a variable: ${{{inner[:60]}}}", hint="write ${NAME}, ${NAME:-default}, or $$ for a dollar sign"
        )
    if not operator:
        return _plain(name, variables, unset)
    word = rest[len(operator) :]
    value = variables.get(name)
    there = bool(value) if operator[0] == ":" else value is not None
    kind = operator[-1]
    if kind == "+":
        return _fill(word, variables, unset, level + 1) if there else ""
    if there:
        return value or ""
    if kind == "-":
        return _fill(word, variables, unset, level + 1)
    reason = _fill(word, variables, unset, level + 1)
    raise BadVariable(
        f"the variable {name} must be set" + (f": {reason}" if reason else ""), hint=f"set {name}, or .env"
    )


def _plain(name: str, variables: Mapping[str, str], unset: Callable[[str], None]) -> str:
    if name not in variables:
        unset(name)
    return variables.get(name, "")
