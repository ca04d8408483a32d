"""Compiled code without what nobody reads of it: documentation, and columns of its places in the source.

A third of the bytes of a module is that. Lines stay, so that a traceback tells where something was.
Source: CPython 3.11 to 3.14, Objects/locations.md, Python/compile.c.
"""

from __future__ import annotations

import sys
from types import CodeType

_OPTIMIZED, _NEW_LOCALS, _HAS_DOCSTRING = 0x1, 0x2, 0x4000000
_IS_KNOWN = sys.version_info < (3, 15)
_NO_COLUMNS, _NO_LOCATION = 13, 15
_MOST_UNITS = 8
_UNIT_BYTES = 2


def lean(code: CodeType) -> CodeType:
    """Returns the code of a module, a class or a function, and all that is in it, without these."""
    if not _IS_KNOWN:
        return code
    consts = [lean(item) if isinstance(item, CodeType) else item for item in code.co_consts]
    place = _docstring(code)
    if place >= 0:
        consts[place] = None
    return code.replace(co_consts=tuple(consts), co_linetable=_lines(code))


def _docstring(code: CodeType) -> int:
    """Returns which constant is documentation, -1 when there is none."""
    place = -1
    if code.co_flags & _OPTIMIZED and code.co_flags & _NEW_LOCALS:
        # Before 3.13 the first constant of a function is always its documentation, or None.
        if not code.co_name.startswith("<") and (sys.version_info < (3, 13) or code.co_flags & _HAS_DOCSTRING):
            place = 0
    elif "__doc__" in code.co_names:
        place = 0 if code.co_name == "<module>" else 1  # that of a class comes after its name
    return place if 0 <= place < len(code.co_consts) and isinstance(code.co_consts[place], str) else -1


def _lines(code: CodeType) -> bytes:
    """Returns the table of places, of lines alone."""
    table = bytearray()
    last = code.co_firstlineno
    for start, end, line in code.co_lines():
        units = (end - start) // _UNIT_BYTES
        while units > 0:
            length = min(units, _MOST_UNITS)
            units -= length
            table.append(0x80 | (_NO_LOCATION if line is None else _NO_COLUMNS) << 3 | length - 1)
            if line is not None:
                table += _signed(line - last)
                last = line
    return bytes(table)


def _signed(number: int) -> bytes:
    """Returns a number by six bits a byte, the lowest first, its sign in the very lowest."""
    number = -number << 1 | 1 if number < 0 else number << 1
    found = bytearray()
    while number >= 0x40:
        found.append(0x40 | number & 0x3F)
        number >>= 6
    found.append(number)
    return bytes(found)
