"""Rows as SVG and HTML: bars along the time of a build, bars of sizes, and a map of areas; without scripts and fonts.

Colours are classes of a style sheet in the picture, which has a dark half (``prefers-color-scheme``), so that it reads
in both. Every bar and area has a title, which a browser shows under the pointer, and labels are text.

Source: SVG 2; M. Bruls, K. Huizing, J. van Wijk, "Squarified Treemaps" (2000).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from wherry.core.units import format_size

if TYPE_CHECKING:
    from wherry.build.graphs import Row

WIDTH = 960
MAX_BARS = 200
MAX_AREAS = 150
"""More are drawn as one."""
REST = "all others"
_GROUPS = 6
_MAP_HEIGHT = 540
_ROW = 24
_LABEL_CHARS = 26
_CHAR = 7.0
"""The width of a character of 12 pixels, on average."""
_STYLE = """
  svg { font: 12px system-ui, sans-serif; background: #fcfcfb; }
  .ink { fill: #1b1b1a; } .soft { fill: #5f5e5a; } .title { font-size: 16px; font-weight: 600; }
  .grid { stroke: #e4e3df; } .kept { fill: none; stroke: #8f8d86; stroke-dasharray: 3 2; }
  .c0 { fill: #2a78d6; } .c1 { fill: #1b9e77; } .c2 { fill: #c98500; } .c3 { fill: #7a5cc4; } .c4 { fill: #d1495b; }
  .c5 { fill: #6b7280; } .on { fill: #ffffff; }
  @media (prefers-color-scheme: dark) {
    svg { background: #1a1a19; } .ink { fill: #f2f1ec; } .soft { fill: #b3b1a9; } .grid { stroke: #34332f; }
    .kept { stroke: #8f8d86; } .c0 { fill: #3987e5; } .c1 { fill: #199e70; } .c2 { fill: #b87a00; }
    .c3 { fill: #8f73d6; } .c4 { fill: #d65566; } .c5 { fill: #70757f; }
  }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """A rectangle of a map."""

    row: Row
    x: float
    y: float
    width: float
    height: float


def time_svg(rows: Sequence[Row], title: str) -> str:
    """Returns the steps of a build along its time; those whose results were kept are outlines at its beginning."""
    shown = list(rows[:MAX_BARS])
    left, right = _left(shown), 70
    room = WIDTH - left - right
    # A kept result took its time in another build: it is no part of this one.
    end = max((row.start + row.value for row in shown if not row.muted), default=0.0) or 1.0
    top = 64
    body = [_grid(end, left, room, top, len(shown), lambda value: f"{value:g} s")]
    for number, row in enumerate(shown):
        y = top + number * _ROW
        seconds = f"{row.value:.1f} s"
        said = f"{row.note or row.name}: {seconds}{' in another build; kept' if row.muted else ''}"
        body.append(_label(row.name, left, y))
        x = left if row.muted else left + room * row.start / end
        width = 10.0 if row.muted else max(1.5, room * row.value / end)
        body.append(_rect(x, y + 4, width, _ROW - 8, "kept" if row.muted else "c0", said))
        after = "kept" if row.muted else seconds
        body.append(f'<text class="soft" x="{x + width + 5:.1f}" y="{y + 16}">{after}</text>')
    took = sum(row.value for row in shown if not row.muted)
    kept = sum(row.muted for row in shown)
    return _svg(title, f"{took:.1f} s in {len(shown) - kept} steps, {kept} kept", body, top + len(shown) * _ROW + 20)


def bars_svg(rows: Sequence[Row], title: str, *, seconds: bool = False) -> str:
    """Returns the sizes of layers, or the seconds of packages, as bars in the order of the rows."""
    told = _seconds if seconds else format_size_of
    shown = list(rows[:MAX_BARS])
    left, right = _left(shown), 90
    room = WIDTH - left - right
    end = max((row.value for row in shown), default=0.0) or 1.0
    top = 64
    body = [_grid(end, left, room, top, len(shown), told)]
    for number, row in enumerate(shown):
        y = top + number * _ROW
        width = room * row.value / end
        said = f"{row.name}: {told(row.value)}{f' ({row.note})' if row.note else ''}"
        body.append(_label(row.name, left, y))
        if row.value:
            body.append(_rect(left, y + 4, max(1.5, width), _ROW - 8, "c0", said))
        body.append(f'<text class="soft" x="{left + width + 5:.1f}" y="{y + 16}">{told(row.value)}</text>')
    whole = f"{told(sum(row.value for row in rows))} in {len(rows)} {'packages' if seconds else 'layers'}"
    return _svg(title, whole, body, top + len(shown) * _ROW + 20)


def map_svg(rows: Sequence[Row], title: str) -> str:
    """Returns sizes as areas, the largest first, coloured by what they are a part of."""
    every = sorted((row for row in rows if row.value > 0), key=lambda row: (-row.value, row.name))
    shown = every[:MAX_AREAS]
    rest = every[MAX_AREAS:]
    if rest:
        from wherry.build.graphs import Row as AnyRow

        shown.append(AnyRow(name=REST, value=sum(row.value for row in rest), note=f"{len(rest)} of them"))
    groups: dict[str, float] = {}
    for row in every:
        groups[row.group] = groups.get(row.group, 0) + row.value
    largest = sorted(groups, key=lambda name: (-groups[name], name))[: _GROUPS - 1]
    colour = {name: f"c{number}" for number, name in enumerate(largest)}
    top = 88
    body = [_legend([(colour[name], f"{name} {format_size_of(groups[name])}") for name in largest], len(groups))]
    for area in squarify(shown, 20, top, WIDTH - 40, _MAP_HEIGHT):
        row = area.row
        said = f"{row.name}: {format_size_of(row.value)}{f' in {row.group}' if row.group else ''}"
        style = colour.get(row.group, f"c{_GROUPS - 1}")
        # A gap of two pixels parts neighbours of one colour.
        body.append(_rect(area.x + 1, area.y + 1, max(area.width - 2, 0.5), max(area.height - 2, 0.5), style, said))
        room = int((area.width - 10) / _CHAR)
        if area.height >= 18 and room >= 4:
            body.append(_inside(area.x + 6, area.y + 15, _cut(row.name, room)))
            if area.height >= 34 and room >= len(format_size_of(row.value)):
                body.append(_inside(area.x + 6, area.y + 30, format_size_of(row.value)))
    whole = f"{format_size_of(sum(row.value for row in every))} in {len(every)} packages and folders"
    return _svg(title, whole, body, top + _MAP_HEIGHT + 20)


def squarify(rows: Sequence[Row], x: float, y: float, width: float, height: float) -> list[Area]:
    """Returns rectangles that fill one, each as large as its row's value, as near to squares as goes.

    Args:
        rows: the largest first; values above 0.
        x: of the whole.
        y: of the whole.
        width: of the whole.
        height: of the whole.
    """
    total = sum(row.value for row in rows)
    if not rows or total <= 0 or width <= 0 or height <= 0:
        return []
    scale = width * height / total
    found: list[Area] = []
    at = 0
    while at < len(rows):
        short = min(width, height)
        end = at + 1
        while end < len(rows) and _worst(rows[at : end + 1], short, scale) <= _worst(rows[at:end], short, scale):
            end += 1
        line = rows[at:end]
        thick = sum(row.value for row in line) * scale / short if short > 0 else 0.0
        along = 0.0
        for row in line:
            long = row.value * scale / thick if thick > 0 else 0.0
            if width >= height:
                found.append(Area(row=row, x=x, y=y + along, width=thick, height=long))
            else:
                found.append(Area(row=row, x=x + along, y=y, width=long, height=thick))
            along += long
        if width >= height:
            x, width = x + thick, max(width - thick, 0.0)
        else:
            y, height = y + thick, max(height - thick, 0.0)
        at = end
    return found


def _worst(line: Sequence[Row], short: float, scale: float) -> float:
    """Returns the worst ratio of sides in a line of areas along the short side."""
    total = sum(row.value for row in line) * scale
    largest, smallest = line[0].value * scale, line[-1].value * scale
    if smallest <= 0 or total <= 0:
        return float("inf")
    return max(short * short * largest / (total * total), total * total / (short * short * smallest))


def html_page(svg: str, rows: Sequence[Row], title: str, value: Callable[[Row], str]) -> str:
    """Returns a page with the picture, and below it every row as a table."""
    cells = "\n".join(
        f"<tr><td>{escape(row.name)}</td><td class=n>{escape(value(row))}</td>"
        f"<td>{escape(row.group)}</td><td>{escape(row.note)}</td></tr>"
        for row in rows
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>{escape(title)}</title>
<style>
  body {{ font: 14px system-ui, sans-serif; margin: 24px auto; max-width: {WIDTH}px; padding: 0 12px;
         background: #fcfcfb; color: #1b1b1a; }}
  svg {{ max-width: 100%; height: auto; }}
  table {{ border-collapse: collapse; margin-top: 24px; width: 100%; }}
  td {{ padding: 3px 12px 3px 0; border-top: 1px solid #e4e3df; }}
  .n {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
  @media (prefers-color-scheme: dark) {{
    body {{ background: #1a1a19; color: #f2f1ec; }} td {{ border-color: #34332f; }}
  }}
</style></head>
<body>
{svg}
<table>
{cells}
</table>
</body></html>
"""


def _seconds(value: float) -> str:
    return f"{round(value, 1):g} s"


def format_size_of(value: float) -> str:
    """Returns a size for people."""
    return format_size(int(value))


def _svg(title: str, below: str, body: Sequence[str], height: float) -> str:
    parts = "\n".join(part for part in body if part)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">\n<style>{_STYLE}</style>\n'
        f'<text class="ink title" x="20" y="28">{escape(title)}</text>\n'
        f'<text class="soft" x="20" y="48">{escape(below)}</text>\n{parts}\n</svg>\n'
    )


def _rect(x: float, y: float, width: float, height: float, style: str, said: str) -> str:
    return (
        f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2">'
        f"<title>{escape(said)}</title></rect>"
    )


def _left(rows: Sequence[Row]) -> int:
    """Returns where bars begin: after the longest label."""
    longest = max((min(len(row.name), _LABEL_CHARS) for row in rows), default=0)
    return int(30 + longest * _CHAR)


def _label(name: str, left: float, y: float) -> str:
    text = escape(_cut(name, _LABEL_CHARS))
    return f'<text class="ink" x="{left - 8:.0f}" y="{y + 16:.0f}" text-anchor="end">{text}</text>'


def _inside(x: float, y: float, text: str) -> str:
    return f'<text class="on" x="{x:.1f}" y="{y:.1f}" pointer-events="none">{escape(text)}</text>'


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _legend(entries: Sequence[tuple[str, str]], groups: int) -> str:
    every = [*entries, *([(f"c{_GROUPS - 1}", "others")] if groups > len(entries) else [])]
    x, parts = 20.0, []
    for style, text in every:
        parts.append(f'<rect class="{style}" x="{x:.1f}" y="62" width="11" height="11" rx="2"/>')
        parts.append(f'<text class="ink" x="{x + 16:.1f}" y="72">{escape(text)}</text>')
        x += 34 + len(text) * _CHAR
    return "\n".join(parts)


def _grid(end: float, left: float, room: float, top: float, count: int, name: Callable[[float], str]) -> str:
    """Returns upright lines at round values."""
    step = _round_step(end)
    parts, value = [], 0.0
    while value <= end:
        x = left + room * value / end
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{top - 4}" x2="{x:.1f}" y2="{top + count * _ROW}"/>')
        parts.append(
            f'<text class="soft" x="{x:.1f}" y="{top + count * _ROW + 14}" text-anchor="middle">{name(value)}</text>'
        )
        value += step
    return "\n".join(parts)


def _round_step(end: float) -> float:
    """Returns what makes about three to six lines: 1, 2 or 5 times a power of ten."""
    step = 0.001
    while True:
        for factor in (1, 2, 5):
            if end / (step * factor) <= 6:
                return step * factor
        step *= 10
