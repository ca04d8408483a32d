"""What commands and the supervisor say to each other: packets of one letter and what follows it.

==============  ======  ==================================================================
to supervisor   ``q``   a request: a JSON object, ``do`` says what (``serving.py`` lists them)
                ``f``   descriptors for the request that follows, and their names, one a line
                ``i``   bytes for the container's standard input
                ``e``   no more input
                ``w``   the terminal's size: rows and columns, two 16-bit numbers in network order
to the command  ``a``   the answer: a JSON object
                ``!``   the error, as a JSON object; nothing follows
                ``o``   bytes that the container wrote to standard output (or to its terminal)
                ``r``   bytes that it wrote to standard error
                ``x``   the end, after all is cleaned up: the exit status, 32 bits, signed
==============  ======  ==================================================================

A connection is a SOCK_SEQPACKET socket, so packets keep apart. Signals do not go this way: a command sends them to the
container itself.
"""

from __future__ import annotations

from _struct import Struct

from wherry.core import jsonio
from wherry.core.errors import WherryError, all_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PACKET_BYTES = 64 * 1024 + 1
REQUEST, FDS, STDIN, STDIN_END, WINDOW = b"q", b"f", b"i", b"e", b"w"
ANSWER, ERROR, STDOUT, STDERR, EXIT = b"a", b"!", b"o", b"r", b"x"
WINDOW_SIZE = Struct("!HH")
EXIT_STATUS = Struct("!i")
DETACH_KEYS = b"\x10\x11"
"""Ctrl-P Ctrl-Q, as docker has it."""


def dump_error(error: WherryError) -> bytes:
    """Returns an error as another process can raise it."""
    value = {"error": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint}
    return jsonio.compact(value)


def load_error(data: bytes) -> WherryError:
    """Returns the error that ``dump_error`` wrote."""
    try:
        value: dict[str, Any] = jsonio.loads(data)
        name, what, where, hint = value["error"], value["what"], value["where"], value["hint"]
    except (WherryError, KeyError, TypeError):
        return WherryError("a process died that was needed", hint="look at `dmesg` for an out-of-memory kill")
    found = {cls.__name__: cls for cls in all_errors()}.get(name, WherryError)
    try:
        return found(what, where=where, hint=hint)
    except TypeError:  # a class that needs more than a message
        return WherryError(what, where=where, hint=hint)
