"""JSON, read strictly and written canonically.

Canonical means: keys sorted by code point, no white space, UTF-8 without escapes beyond what JSON asks for,
and no floating-point numbers, so that equal values are equal bytes (a subset of RFC 8785). Reading refuses
duplicate keys, so that two readers never see two documents in one.
"""

from __future__ import annotations

import json
from typing import Any

from wherry.core.errors import InvalidInput

MAX_JSON_BYTES = 16 * 1024 * 1024


def canonical(value: Any) -> bytes:
    """Returns the canonical bytes of a JSON value.

    Raises:
        InvalidInput: it holds a float or something that is not JSON.
    """
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def pretty(value: Any) -> str:
    """Returns a JSON value for people and scripts: indented, sorted as given."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def loads(data: bytes | str, *, where: object = None, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Parses JSON from outside.

    Raises:
        InvalidInput: too long, not JSON, or an object has one key twice.
    """
    if len(data) > max_bytes:
        raise InvalidInput(f"JSON of {len(data)} bytes is longer than the limit of {max_bytes}", where=where)
    try:
        return json.loads(data, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except InvalidInput as error:
        raise InvalidInput(error.what, where=where) from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"not JSON: {error}", where=where) from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidInput(f"key {key!r} stands twice in one object")
            seen.add(key)
    return result


def _no_constant(name: str) -> Any:
    raise InvalidInput(f"{name} is not a JSON number")


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise InvalidInput(f"canonical JSON has no floating-point numbers: {value!r}")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidInput(f"a JSON key is a string, not {key!r}")
            _refuse_floats(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_floats(item)
