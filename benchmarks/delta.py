"""What an update costs, by Wherry's device delta and by OSTree, casync, xdelta3 and zstd: ``make bench-delta``.

Real Debian trees (delta_pairs.py), every way in the same run on the same machine (delta_peers.py): bytes, seconds and
peak memory of making and of applying. What Wherry applied is checked by the real ``ostree fsck``. Results go to
``build/bench/delta.json``, as tables to standard output, with ``--markdown FILE`` to a file as well, and with
``--picture FILE`` as an SVG picture. It ends with an error where a peer's update is smaller than Wherry's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import delta_pairs
from benchmarks.delta_peers import Bench, Cost, Row

PROJECT = Path(__file__).parents[1]
CACHE = PROJECT / "build/cache/delta"
RESULTS = PROJECT / "build/bench"
PICTURE = PROJECT / "docs/images/delta.svg"
_PAIRS = ("security", "packages", "configuration")
_WIDTH, _LABEL, _BAR, _TOP = 760, 210, 420, 34


def main() -> None:
    """Runs the ways for the pairs, prints a table for each pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="*", choices=[*_PAIRS, []], help="which pairs; all")
    parser.add_argument("--ways", default="", help="only these, by comma: wherry,ostree,casync ...")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there too")
    parser.add_argument(
        "--picture",
        type=Path,
        nargs="?",
        const=PICTURE,
        metavar="FILE",
        help=f"draw it; {PICTURE.relative_to(PROJECT)}",
    )
    parser.add_argument("--keep", action="store_true", help="keep what was measured before, and measure what is asked")
    parser.add_argument(
        "--small", action="store_true", help="trees without a kernel: some minutes, to see that it works"
    )
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / ("delta-small.json" if options.small else "delta.json")
    results = json.loads(file.read_text()) if options.keep and file.exists() else {}
    for pair in delta_pairs.prepare(CACHE, list(options.pairs or _PAIRS), small=options.small):
        scratch = Path(tempfile.mkdtemp(prefix="bench-", dir=CACHE))
        try:
            bench = Bench(pair, scratch)
            bench.prepare()
            found = results.setdefault(pair.name, {"title": pair.title, "rows": {}})
            for name, way in bench.ways().items():
                if options.ways and name not in options.ways.split(","):
                    continue
                row = way()
                found["rows"][name] = asdict(row)
                print(f"    {row.name}: {row.size:,} bytes", flush=True)
                file.write_text(json.dumps(results, indent=1))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        print(_table(found), flush=True)
    if options.markdown:
        options.markdown.write_text("\n".join(_table(found).lstrip("\n") + "\n" for found in results.values()))
    if options.picture:
        options.picture.write_text(picture(results))
    if beaten := [line for found in results.values() for line in _beaten(found)]:
        raise SystemExit("\n".join(beaten))


def _table(found: dict[str, Any]) -> str:
    return table(found["title"], [_row(item) for item in found["rows"].values()])


def _beaten(found: dict[str, Any]) -> list[str]:
    """Returns a line for each peer whose update is smaller than Wherry's."""
    rows = {name: _row(item) for name, item in found["rows"].items()}
    if (ours := rows.get("wherry")) is None:
        return []
    return [
        f"{found['title']}: {row.name} takes {row.size:,} bytes, Wherry {ours.size:,}"
        for name, row in rows.items()
        if not name.startswith("wherry") and row.size < ours.size
    ]


def _row(data: dict[str, object]) -> Row:
    def cost(key: str) -> Cost | None:
        found = data[key]
        return Cost(**found) if isinstance(found, dict) else None

    size = int(str(data["size"]))
    return Row(name=str(data["name"]), size=size, make=cost("make"), apply=cost("apply"), note=str(data["note"]))


def table(title: str, rows: list[Row]) -> str:
    """Returns one pair's table, in Markdown."""
    ours = next((row.size for row in rows if row.name.startswith("Wherry")), 0)
    lines = [
        f"\n**{title}**\n",
        "| way | bytes | of Wherry's | make | memory | apply | memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        ratio = f"{row.size / ours:.2f}" if ours else ""
        name = f"{row.name} ({row.note})" if row.note else row.name
        cells = [name, f"{row.size:,}", ratio, *_cost(row.make), *_cost(row.apply)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cost(cost: Cost | None) -> tuple[str, str]:
    return ("", "") if cost is None else (f"{cost.seconds:.1f} s", f"{cost.memory_bytes / 1e6:.0f} MB")


def picture(results: dict[str, dict[str, object]]) -> str:
    """Returns bars of the bytes of each way, for each pair, as SVG."""
    parts: list[str] = []
    y = 10
    for pair in results.values():
        rows = [_row(item) for item in dict(pair["rows"]).values() if "quick" not in str(item["name"])]  # type: ignore[call-overload]
        rows = [row for row in rows if "whole tar" not in row.name]
        most = max(row.size for row in rows)
        parts.append(f'<text class="h" x="10" y="{y + 16}">{pair["title"]}</text>')
        y += _TOP
        for row in rows:
            width = max(1.0, _BAR * row.size / most)
            kind = "w" if row.name.startswith("Wherry") else "p"
            size = f"{row.size / 1e6:.1f} MB" if row.size >= 1e5 else f"{row.size / 1e3:.1f} kB"
            parts.append(
                f'<text x="{_LABEL - 8}" y="{y + 13}" text-anchor="end">{row.name}</text>'
                f'<rect class="{kind}" x="{_LABEL}" y="{y}" width="{width:.1f}" height="17" rx="2"/>'
                f'<text x="{_LABEL + width + 6:.1f}" y="{y + 13}">{size}</text>'
            )
            y += 23
        y += 14
    style = (
        "text{font:12px sans-serif;fill:#333}.h{font-weight:bold;font-size:14px}.w{fill:#0b7285}.p{fill:#adb5bd}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}.p{fill:#666}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" height="{y}">'
        f"<style>{style}</style>{''.join(parts)}</svg>\n"
    )


if __name__ == "__main__":
    main()
