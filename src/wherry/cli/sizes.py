"""Sizes as GLib writes them (g_format_size), which is how ``ostree`` prints them."""

from __future__ import annotations

_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")


def glib_size(size: int) -> str:
    """Returns a size in powers of 1000: ``1 byte``, ``921 bytes``, ``1.2 kB``, the last with a no-break space."""
    if size < 1000:
        return f"{size} byte" if size == 1 else f"{size} bytes"
    value = float(size)
    for unit in _UNITS:
        value /= 1000
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.1f}\u00a0{unit}"
    raise AssertionError(size)
