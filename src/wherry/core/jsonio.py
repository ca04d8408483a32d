"""JSON, read strictly and written canonically.

Canonical means: keys sorted by code point, no white space, UTF-8 without escapes beyond what JSON asks for,
and no floating-point numbers, so that equal values are equal bytes (a subset of RFC 8785). Reading refuses
duplicate keys, so that two readers never see two documents in one.

Budget: none of this imports ``json``, which costs as much as a whole container (it pulls in ``re``). The interpreter's
own scanner and encoder, which ``json`` is a wrapper of, are used directly; wherever they are not there, or say no, the
library is asked, for its answer or for its words about what is wrong.
"""

from __future__ import annotations

from wherry.core.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_JSON_BYTES = 16 * 1024 * 1024
_SPACE = " \t\n\r"


def canonical(value: Any) -> bytes:
    """Returns the canonical bytes of a JSON value.

    Raises:
        InvalidInput: it holds a float or something that is not JSON.
    """
    _refuse_floats(value)
    return _dumps(value, sort_keys=True).encode()


def compact(value: Any) -> bytes:
    """Returns a JSON value in one line, its keys as given; fractions are allowed."""
    return _dumps(value, sort_keys=False).encode()


def pretty(value: Any) -> str:
    """Returns a JSON value for people and scripts: indented, sorted as given."""
    import json

    return json.dumps(value, indent=2, ensure_ascii=False)


def loads(data: bytes | str, *, where: object = None, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Parses JSON from outside.

    Raises:
        InvalidInput: too long, not JSON, or an object has one key twice.
    """
    if len(data) > max_bytes:
        raise InvalidInput(f"JSON of {len(data)} bytes is longer than the limit of {max_bytes}", where=where)
    try:
        return _scan(data)
    except InvalidInput as error:
        raise InvalidInput(error.what, where=where) from None
    except _Doubtful:
        pass
    import json

    try:
        return json.loads(data, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except InvalidInput as error:
        raise InvalidInput(error.what, where=where) from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"not JSON: {error}", where=where) from error


class _Doubtful(Exception):
    """The quick way has no answer; the library shall give it."""


def _scan(data: bytes | str) -> Any:
    """Parses the plain case.

    Raises:
        _Doubtful: it is anything else: malformed, of another encoding, or this interpreter has no such scanner.
        InvalidInput: a key stands twice, or a number is none.
    """
    try:
        from _json import make_scanner

        text = data if isinstance(data, str) else data.decode("utf-8")
        text = text.strip(_SPACE)
        value, end = make_scanner(_Hooks())(text, 0)  # type: ignore[arg-type]  # what it reads of it is there
    except InvalidInput:
        raise
    except Exception as error:
        # Whatever the interpreter's own scanner says, the library says it better.
        raise _Doubtful from error
    if end != len(text):
        raise _Doubtful
    return value


class _Hooks:
    """What the scanner asks of the decoder that it belongs to."""

    def __init__(self) -> None:
        self.strict = True
        self.object_hook = None
        self.object_pairs_hook = _no_duplicates
        self.parse_float: Callable[[str], float] = float
        self.parse_int: Callable[[str], int] = int
        self.parse_constant = _no_constant
        self.memo: dict[str, str] = {}


def _dumps(value: Any, *, sort_keys: bool) -> str:
    try:
        from _json import encode_basestring, make_encoder

        encoder = make_encoder({}, _not_json, encode_basestring, None, ":", ",", sort_keys, False, False)
        return "".join(encoder(value, 0))
    except (ImportError, TypeError):
        import json

        return json.dumps(value, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _not_json(value: Any) -> Any:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


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
