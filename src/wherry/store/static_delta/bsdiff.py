"""Bsdiff: a patch from one file to another, in the form without header that deltas hold (``bspatch.py`` draws it).

What matches is found by ``wherry.store.delta.match``; this writes it down. A large file is done in blocks, each
against the stretch of the old file where its counterpart should lie: so memory is bounded, and time grows as the size.
"""

from __future__ import annotations

import struct

from wherry.core.errors import Unsupported

WINDOW_BYTES = 2 * 1024 * 1024
"""So much of the old file is looked through at a time, for three quarters as much of the new one."""
_BLOCK_BYTES = WINDOW_BYTES * 3 // 4
BYTES_PER_BYTE = 40
"""What matching takes for each byte of a window and of its block."""
_CONTROL = struct.Struct("<QQQ")
_SEEK = struct.Struct("<Q")
_SEEK_AT = 16
_SIGN = 1 << 63


def memory_needed(old_bytes: int, new_bytes: int) -> int:
    """Returns about how much memory ``diff`` takes, the files themselves and the patch included."""
    matching = min(old_bytes, WINDOW_BYTES) + min(new_bytes, WINDOW_BYTES)
    return matching * BYTES_PER_BYTE + old_bytes + 3 * new_bytes


def diff(old: bytes, new: bytes) -> bytes:
    """Returns a patch from `old` to `new`.

    Raises:
        Unsupported: numpy is not installed.
    """
    out = bytearray()
    position = 0
    seek_at = -1  # where the seek stands that must lead to the next block's window
    for at, block, start, window in _blocks(old, new):
        piece, last, end = _stream(old, new, at, block, start, window)
        if seek_at >= 0:
            _SEEK.pack_into(out, seek_at, _from_signed(start - position))
        elif start:
            out += _CONTROL.pack(0, 0, _from_signed(start))
        if last >= 0:
            seek_at = len(out) + last + _SEEK_AT
            position = end
        out += piece
    return bytes(out)


def _blocks(old: bytes, new: bytes) -> list[tuple[int, int, int, int]]:
    """Returns the stretches of `new`, begin and length, each with the stretch of `old` that it is looked for in."""
    if len(old) <= WINDOW_BYTES and len(new) <= WINDOW_BYTES:
        return [(0, len(new), 0, len(old))]
    found = []
    for at in range(0, len(new), _BLOCK_BYTES):
        size = min(_BLOCK_BYTES, len(new) - at)
        middle = (at + size // 2) * len(old) // len(new)
        start = max(0, min(middle - WINDOW_BYTES // 2, len(old) - WINDOW_BYTES))
        found.append((at, size, start, min(WINDOW_BYTES, len(old) - start)))
    return found


def _stream(old: bytes, new: bytes, at: int, size: int, start: int, window: int) -> tuple[bytes, int, int]:
    """Returns the patch of one block, where its last control stands, and the position in `old` behind it."""
    try:
        import numpy as np

        from wherry.store.delta.match import match
    except ImportError as error:
        raise Unsupported(
            "this installation cannot make patches",
            where="the package numpy is missing",
            hint="install it, or give --disable-bsdiff",
        ) from error

    before = np.frombuffer(old, dtype=np.uint8, count=window, offset=start)
    after = np.frombuffer(new, dtype=np.uint8, count=size, offset=at)
    out: list[bytes] = []
    length = done = position = 0
    last = -1
    steps = match(before, after)
    for index, step in enumerate(steps):
        seek = step.seek if index < len(steps) - 1 else 0
        last = length
        out.append(_CONTROL.pack(step.add, step.new, _from_signed(seek)))
        out.append((after[done : done + step.add] - before[position : position + step.add]).tobytes())
        done += step.add
        out.append(after[done : done + step.new].tobytes())
        done += step.new
        position += step.add + seek
        length += _CONTROL.size + step.add + step.new
    return b"".join(out), last, start + position


def _from_signed(value: int) -> int:
    return -value | _SIGN if value < 0 else value
