"""Sizes and durations as people write them: docker's ``64m``, Compose's ``1m30s``, and back."""

from __future__ import annotations

from wherry.core.errors import InvalidInput

_FACTOR = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_UNITS = ("", "b", *(f"{letter}{rest}" for letter in "kmgt" for rest in ("", "b", "i", "ib")))
_DURATION = r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)(?:\.(\d{1,6})\d*)?s)?(?:(\d+)ms)?(?:(\d+)us)?\Z"
MAX_SIZE_CHARS = 40


def parse_size(text: str, *, where: object = None) -> int:
    """Returns the bytes that a size such as ``64m``, ``1.5g`` or ``4096`` means; units are powers of 1024.

    Raises:
        InvalidInput: it is not a size.
    """
    word = text.strip().lower()
    head = word.rstrip("bkmgti ")
    unit = word[len(head) :].strip()
    whole, dot, fraction = head.partition(".")
    known = unit in _UNITS and len(word) <= MAX_SIZE_CHARS and word.isascii()
    if not known or not whole.isdigit() or (dot and not fraction.isdigit()):
        raise InvalidInput(f"not a size: {text!r}", where=where, hint="write a number and b, k, m, g or t, such as 64m")
    factor = _FACTOR[unit[:1]]
    part = int(fraction) * factor // 10 ** len(fraction) if fraction else 0
    return int(whole) * factor + part


def format_size(count: int) -> str:
    """Returns a size for people, in powers of 1000 as docker prints it: ``165 MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def parse_duration_ms(text: str, *, where: object = None) -> int:
    """Returns the milliseconds that a Compose duration such as ``1m30s`` or ``500ms`` means.

    Source: Compose specification, "Specifying durations".

    Raises:
        InvalidInput: it is not a duration.
    """
    import re  # not at the head of the module: a command that starts a container has sizes alone

    match = re.match(_DURATION, text.strip())
    if match is None or not text.strip():
        raise InvalidInput(f"not a duration: {text!r}", where=where, hint="write it as 1m30s, 10s or 500ms")
    hours, minutes, seconds, fraction, millis, micros = match.groups()
    total = (int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)) * 1000
    if fraction:
        total += int(fraction) * 1000 // 10 ** len(fraction)
    return total + int(millis or 0) + int(micros or 0) // 1000


def format_duration(seconds: float) -> str:
    """Returns a span of time for people: ``3 s``, ``4 min``, ``2 h``, ``5 d``."""
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
