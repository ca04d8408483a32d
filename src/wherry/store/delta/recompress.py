"""Which encoder made a payload: found by trying, and believed only when it makes the very same bytes again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from wherry.core.errors import WherryError
from wherry.store.delta import encoders
from wherry.store.delta.encoders import GZIP, LZ4, LZMA2, MAX_ENCODER_BYTES, ZLIB, ZSTD, ZSTD_PROGRAM
from wherry.store.delta.payload import Found

Content = Callable[[], Iterator[bytes]]
"""Gives a payload's plain content, anew at each call."""

_FAST_GZIP, _BEST_GZIP = 4, 2
"""Values of XFL, RFC 1952 section 2.3.1."""
_LZMA_EXTREME = 1 << 31


def recognise(
    payload: memoryview,
    found: Found,
    content: Content,
    allowed: Sequence[str],
    *,
    max_bytes: int = MAX_ENCODER_BYTES,
) -> Found | None:
    """Returns `found` with the encoder that makes exactly this payload of its content; None when none is known.

    Args:
        payload: the compressed bytes.
        found: what is known of it.
        content: its plain content.
        allowed: names of the encoders that may be used.
        max_bytes: how much memory one may take.
    """
    for name, numbers in _candidates(found):
        if name not in allowed or encoders.encoder_memory(name, numbers, found.plain) > max_bytes:
            continue
        try:
            encoders.check_numbers(name, numbers, where="a payload")
            if _makes(payload, found, content, name, numbers):
                return replace(found, encoder=name, numbers=numbers)
        except WherryError:
            continue
    return None


def _candidates(found: Found) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Gives what may have made a payload, the likeliest first."""
    if found.encoder == ZLIB:
        levels = _deflate_levels(found.hints[0])
        for level in levels:
            yield GZIP, (level,)
        for memory in (8, 9):
            for level in levels:
                yield ZLIB, (level, memory, 0)
    elif found.encoder == LZMA2:
        needed, _, bcj = found.numbers
        for preset in (6, 9, 8, 7, 5, 4, 3, 2, 1, 0):
            for dictionary in dict.fromkeys((found.hints[0], needed)):
                yield LZMA2, (dictionary, preset, bcj)
                yield LZMA2, (dictionary, preset | _LZMA_EXTREME, bcj)
    elif found.encoder == ZSTD:
        _, flags, window_log, _ = found.numbers
        for level in (3, 19, 9, *(level for level in range(1, 23) if level not in (3, 19, 9))):
            for workers in (0, 1):
                yield ZSTD, (level, flags, window_log, workers)
            for workers in (0, 1):
                yield ZSTD_PROGRAM, (level, flags, window_log, workers)
    elif found.encoder == LZ4:
        for level in (9, 12, 0, 1, *range(3, 9), 10, 11):
            yield LZ4, (level,)


def _deflate_levels(extra: int) -> tuple[int, ...]:
    if extra == _BEST_GZIP:
        return (9,)
    if extra == _FAST_GZIP:
        return (1,)
    return (6, 9, 8, 7, 5, 4, 3, 2, 1)


def _makes(payload: memoryview, found: Found, content: Content, name: str, numbers: tuple[int, ...]) -> bool:
    """Tells whether an encoder makes the payload; it is asked for no more once a byte differs."""
    size = 0
    for piece in encoders.encode(name, numbers, content(), found.plain, where="a trial"):
        if payload[size : size + len(piece)] != piece:
            return False
        size += len(piece)
    return size == len(payload)
