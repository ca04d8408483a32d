"""Bars of ratios as an SVG file, drawn by hand: no plotting library for one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

_NAME_WIDTH = 170
_WIDTH = 520
_ROW = 34
_COLOURS = {"cold": "#4a7fb5", "warm": "#d98b3a"}
_TICKS = (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100)


def bars(rows: Sequence[tuple[str, float | None, float | None]], *, title: str = "times as fast as ostree") -> str:
    """Returns a bar plot with a logarithmic axis; each row has up to two bars, cold and warm, that begin at 1."""
    values = [value for _, *pair in rows for value in pair if value]
    low, high = min([0.5, *values]) * 0.9, max([2.0, *values]) * 1.3

    def x(value: float) -> float:
        return _NAME_WIDTH + _WIDTH * math.log(value / low) / math.log(high / low)

    height = 60 + _ROW * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_NAME_WIDTH + _WIDTH + 60} {height}"',
        '     font-family="DejaVu Sans, sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{_NAME_WIDTH}" y="16">{escape(title)}</text>',
    ]
    for number, (name, colour) in enumerate(_COLOURS.items()):
        at = _NAME_WIDTH + 300.0 + 80 * number
        parts.append(f'<rect x="{at:g}" y="6" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{at + 18:g}" y="16">{name}</text>')
    for tick in _TICKS:
        if low <= tick <= high:
            at = x(tick)
            stroke = "#444444" if tick == 1 else "#dddddd"
            parts.append(f'<line x1="{at:.1f}" y1="26" x2="{at:.1f}" y2="{height - 24}" stroke="{stroke}"/>')
            parts.append(f'<text x="{at:.1f}" y="{height - 8}" text-anchor="middle">{tick:g}</text>')
    for number, (name, *pair) in enumerate(rows):
        top = 30 + _ROW * number
        parts.append(f'<text x="{_NAME_WIDTH - 10}" y="{top + 20}" text-anchor="end">{escape(name)}</text>')
        for index, (value, colour) in enumerate(zip(pair, _COLOURS.values(), strict=True)):
            if value:
                left, right = sorted((x(1), x(value)))
                upper = top + 3 + 13 * index
                parts.append(
                    f'<rect x="{left:.1f}" y="{upper}" width="{max(right - left, 1):.1f}" height="12" fill="{colour}"/>'
                )
                parts.append(f'<text x="{right + 5:.1f}" y="{upper + 10}" font-size="10">{value:.1f}</text>')
    return "\n".join([*parts, "</svg>", ""])
