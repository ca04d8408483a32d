"""From the values of a Compose file to plain ones, each checked where it stands: the readers that many keys share.

A reader takes a value of a document and a `Context`, and returns text, numbers, truth values, lists and mappings in
the one form that everything after this deals with, whichever of Compose's short and long forms was written. Variables
are filled in here, and nowhere else. Text of ``!reset`` and ``!override`` is kept for merging (``merge.py``).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from wherry.core.errors import InvalidInput
from wherry.core.units import parse_duration_ms, parse_size
from wherry.engine.compose.interpolate import BadVariable, interpolate
from wherry.revision.values import CAPABILITIES
from wherry.revision.yamldoc import Value, did_you_mean

RESET, OVERRIDE = "!reset", "!override"
TAGS = frozenset({RESET, OVERRIDE})
MAX_INTEGER = 2**62
_TRUE, _FALSE = ("true", "yes", "on", "y", "1"), ("false", "no", "off", "n", "0")
_NUMBER = re.compile(r"\d{1,7}(\.\d{1,9})?\Z")


@dataclass(frozen=True, slots=True)
class Reset:
    """Stands for a value that takes away what the files before have."""


@dataclass(frozen=True, slots=True)
class Override:
    """Stands for a value that takes the place of what the files before have."""

    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the values of one file are read with."""

    base: str
    """The directory that relative paths begin at."""
    variables: Mapping[str, str] = field(default_factory=dict)
    unset: Callable[[str], None] = lambda name: None
    """Told of each variable that is not there."""
    places: dict[str, str] = field(default_factory=dict)
    """``services.web.image`` -> file, line and column; filled by reading."""

    def below(self, base: str) -> Context:
        """Returns the context of a file in another directory."""
        return replace(self, base=base)


Reader = Callable[[Value, Context], Any]


def text(value: Value, context: Context) -> str:
    """Returns a scalar with its variables filled in."""
    raw = value.raw()
    try:
        return interpolate(raw, context.variables, unset=context.unset)
    except BadVariable as error:
        raise value.wrong(error.what, hint=error.hint) from None


def word(value: Value, context: Context) -> str:
    """Returns text that is not empty."""
    found = text(value, context)
    if not found.strip():
        raise value.wrong("is empty")
    return found


def boolean(value: Value, context: Context) -> bool:
    """Returns a truth value, which may come from a variable."""
    found = text(value, context).lower()
    if found in _TRUE:
        return True
    if found in _FALSE:
        return False
    raise value.wrong(f"must be true or false, not {found[:40]!r}")


def whole(least: int = 0, most: int = MAX_INTEGER) -> Reader:
    """Returns a reader of whole numbers."""

    def read(value: Value, context: Context) -> int:
        found = text(value, context).strip()
        if not re.fullmatch(r"-?\d{1,19}", found) or not least <= int(found) <= most:
            bound = f"of at least {least}" if most == MAX_INTEGER else f"from {least} to {most}"
            raise value.wrong(f"must be a whole number {bound}, not {found[:40]!r}")
        return int(found)

    return read


def cpus(value: Value, context: Context) -> str:
    """Returns a number of CPUs as text."""
    found = text(value, context).strip()
    if not _NUMBER.match(found):
        raise value.wrong(f"not a number of CPUs: {found[:40]!r}", hint="write it as 0.5 or 2")
    return found


def size(value: Value, context: Context) -> str:
    """Returns a size in bytes, as text; -1 stays."""
    found = text(value, context)
    if found.strip() == "-1":
        return "-1"
    try:
        return str(parse_size(found))
    except InvalidInput as error:
        raise value.wrong(error.what, hint=error.hint) from None


def duration(value: Value, context: Context) -> str:
    """Returns a duration as it was written."""
    found = text(value, context).strip()
    try:
        parse_duration_ms(found)
    except InvalidInput as error:
        raise value.wrong(error.what, hint=error.hint) from None
    return found


def microseconds(value: Value, context: Context) -> int:
    """Returns microseconds, from a number or a duration."""
    found = text(value, context).strip()
    if re.fullmatch(r"-1|\d{1,15}", found):
        return int(found)
    if found.endswith("us") and found[:-2].isdigit():
        return int(found[:-2])
    return parse_duration_ms(duration(value, context)) * 1000


def choice(*words: str) -> Reader:
    """Returns a reader of one of some words."""

    def read(value: Value, context: Context) -> str:
        found = text(value, context)
        if found not in words:
            raise value.wrong(
                f"{found[:60]!r} is not one of {', '.join(words)}", hint=did_you_mean(found, frozenset(words))
            )
        return found

    return read


def path(value: Value, context: Context) -> str:
    """Returns an absolute path on the host; a relative one begins at the file's directory."""
    return absolute(word(value, context), context)


def absolute(found: str, context: Context) -> str:
    """Returns a path on the host as an absolute one."""
    return os.path.normpath(os.path.join(context.base, os.path.expanduser(found)))


def guest_path(value: Value, context: Context) -> str:
    """Returns an absolute path in the container."""
    found = word(value, context)
    check_guest_path(found, value)
    return found


def check_guest_path(found: str, value: Value) -> None:
    """Refuses what is no absolute path in a container."""
    if not found.startswith("/") or "\0" in found:
        raise value.wrong(f"not an absolute path in the container: {found[:200]!r}")


def capability(value: Value, context: Context) -> str:
    """Returns a capability in docker's form."""
    found = text(value, context).upper().removeprefix("CAP_")
    if found not in CAPABILITIES:
        raise value.wrong(f"no capability {found[:40]!r}", hint=did_you_mean(found, CAPABILITIES))
    return found


def words(value: Value, context: Context) -> list[str]:
    """Returns the words of a command: a list, or text that is split as a shell would."""
    if value.is_list:
        return [text(item, context) for item in value.items()]
    found = text(value, context)
    try:
        return shlex.split(found)
    except ValueError as error:
        raise value.wrong(f"cannot be split into words: {str(error).lower()}") from None


def many(item: Reader) -> Reader:
    """Returns a reader of lists; what an item makes that is a list itself is laid into it."""

    def read(value: Value, context: Context) -> list[Any]:
        found: list[Any] = []
        for one in value.items():
            made = item(one, context)
            found += made if isinstance(made, list) else [made]
        return found

    return read


def one_or_many(item: Reader) -> Reader:
    """Returns a reader of a list, or of one item that stands alone."""
    several = many(item)
    return lambda value, context: several(value, context) if value.is_list else [item(value, context)]


def pairs(value: Value, context: Context) -> dict[str, Any]:
    """Returns ``KEY: value`` or a list of ``KEY=value``; None for a key alone."""
    found: dict[str, Any] = {}
    if value.is_map:
        for key, place, item in value.entries():
            _check_key(key, place)
            if item.tag == RESET:
                found[key] = Reset()
            else:
                found[key] = None if item.is_null else text(item, context)
        return found
    for item in value.items():
        key, equals, content = text(item, context).partition("=")
        _check_key(key, item)
        found[key] = content if equals else None
    return found


def labels(value: Value, context: Context) -> dict[str, Any]:
    """Returns labels; a key alone has an empty value."""
    return {key: "" if content is None else content for key, content in pairs(value, context).items()}


def _check_key(key: str, place: Value) -> None:
    if not key or "\0" in key or "=" in key:
        raise place.wrong(f"not a key: {key[:80]!r}", hint="write it as KEY: value")


def table(item: Reader, *, empty: bool = False) -> Reader:
    """Returns a reader of mappings of any keys.

    Args:
        item: of the values.
        empty: whether a value may be missing; then it is an empty mapping.
    """

    def read(value: Value, context: Context) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, place, one in value.entries():
            if key.startswith("x-"):
                continue
            context.places[one.path] = place.place
            if one.tag == RESET:
                found[key] = Reset()
            elif one.is_null and empty:
                found[key] = {}
            else:
                made = item(one, context)
                found[key] = Override(made) if one.tag == OVERRIDE else made
        return found

    return read


def fields(
    known: Mapping[str, Reader], refused: Mapping[str, str] | None = None, *, need: Iterable[str] = ()
) -> Reader:
    """Returns a reader of mappings of known keys; ``x-`` is left out, and a key without a value counts as not there.

    Args:
        known: key -> reader.
        refused: key -> why it is not there.
        need: keys that must be there.
    """
    names, elsewhere, needed = frozenset(known), dict(refused or {}), tuple(need)

    def read(value: Value, context: Context) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, place, one in value.entries():
            if key.startswith("x-"):
                continue
            if key in elsewhere:
                raise place.wrong("Wherry does not support this key", hint=elsewhere[key] or None)
            if key not in names:
                raise place.wrong("unknown key", hint=did_you_mean(key, names | elsewhere.keys()))
            context.places[one.path] = one.place
            if one.tag == RESET:
                found[key] = Reset()
            elif not one.is_null:
                made = known[key](one, context)
                found[key] = Override(made) if one.tag == OVERRIDE else made
        for key in needed:
            if key not in found:
                raise value.wrong(f"{key} is missing")
        return found

    return read


def external(value: Value, context: Context) -> bool | str:
    """Returns whether something is there already, or the name that it has (an older form)."""
    if value.is_map:
        return str(fields({"name": word}, need=("name",))(value, context)["name"])
    return boolean(value, context)
