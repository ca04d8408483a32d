"""Bsdiff: a patch from one file to another, in the form without header that deltas hold (``bspatch.py`` draws it).

The suffix sort is C (``bsdiff4``, which lets other threads run meanwhile) and takes 16 bytes for each byte of the old
file. So a large file is done in blocks, each against the stretch of the old file where its counterpart should lie:
memory is bounded, and the time no longer grows faster than the size.
"""

from __future__ import annotations

import struct

from wherry.core.errors import Unsupported

WINDOW_BYTES = 16 * 1024 * 1024
"""So much of the old file is sorted at a time; three quarters of it are looked for in it."""
DENSE_WINDOW_BYTES = 1024 * 1024
"""The same for contents that hardly compress: what little matches stands near, and a large sort takes minutes."""
BYTES_PER_OLD_BYTE = 17
"""What a suffix sort takes."""
_CONTROL = struct.Struct("<QQQ")
_SIGN = 1 << 63


def memory_needed(old_bytes: int, new_bytes: int) -> int:
    """Returns about how much memory ``diff`` takes, the files themselves included."""
    return min(old_bytes, WINDOW_BYTES) * BYTES_PER_OLD_BYTE + old_bytes + 3 * new_bytes


def diff(old: bytes, new: bytes, window_bytes: int = WINDOW_BYTES) -> bytes:
    """Returns a patch from `old` to `new`.

    Args:
        old: what the patch will be applied to.
        new: what will come out.
        window_bytes: how much of `old` is sorted at a time.

    Raises:
        Unsupported: ``bsdiff4`` is not installed.
    """
    try:
        from bsdiff4 import core  # type: ignore[import-untyped]
    except ImportError as error:
        raise Unsupported(
            "this installation cannot make bsdiff patches",
            where="the package bsdiff4 is missing",
            hint="install it, or give --disable-bsdiff",
        ) from error

    if len(old) <= window_bytes:
        return _stream(core.diff(old, new), 0)[0]
    out = bytearray()
    position = 0
    seek_at = -1  # where the seek of the block before stands, which must lead to the next block's window
    step = window_bytes * 3 // 4
    for at in range(0, len(new), step):
        block = new[at : at + step]
        middle = (at + len(block) // 2) * len(old) // len(new)
        start = max(0, min(middle - window_bytes // 2, len(old) - window_bytes))
        piece, last, end = _stream(core.diff(old[start : start + window_bytes], block), start)
        if seek_at >= 0:
            struct.pack_into("<Q", out, seek_at, _from_signed(start - position))
        elif start:
            out += _CONTROL.pack(0, 0, _from_signed(start))
        seek_at = len(out) + last + 16
        out += piece
        position = end
    return bytes(out)


def _stream(parts: tuple[bytes, bytes, bytes], start: int) -> tuple[bytes, int, int]:
    """Joins bsdiff4's three strings.

    Args:
        parts: control, diff, extra.
        start: where the source begins, for the position at the end.

    Returns:
        The patch, where its last control stands, and the position in the source behind it.
    """
    control, differences, extra = parts
    out: list[bytes] = []
    at_diff = at_extra = length = 0
    last, position = -1, start
    triples = len(control) // _CONTROL.size
    for index in range(triples):
        raw = control[index * _CONTROL.size : (index + 1) * _CONTROL.size]
        diff_bytes, extra_bytes, move = _CONTROL.unpack(raw)
        last = length
        position += diff_bytes
        if index == triples - 1:
            raw = _CONTROL.pack(diff_bytes, extra_bytes, 0)
        else:
            position += _to_signed(move)
        out.append(raw)
        out.append(differences[at_diff : at_diff + diff_bytes])
        out.append(extra[at_extra : at_extra + extra_bytes])
        at_diff += diff_bytes
        at_extra += extra_bytes
        length += _CONTROL.size + diff_bytes + extra_bytes
    return b"".join(out), last, position


def _to_signed(value: int) -> int:
    return -(value ^ _SIGN) if value & _SIGN else value


def _from_signed(value: int) -> int:
    return -value | _SIGN if value < 0 else value
