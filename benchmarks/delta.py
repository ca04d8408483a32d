"""What an update costs, by Wherry's device delta and by OSTree, casync, xdelta3 and zstd: ``make bench-delta``.

Real Debian trees (delta_pairs.py), every way in the same run on the same machine (delta_peers.py): bytes, seconds and
peak memory of making and of applying. What Wherry applied is checked by the real ``ostree fsck``. Results go to
``build/bench/delta.json``, as a table to standard output, and with ``--picture`` as an SVG picture.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

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
    parser.add_argument("--picture", action="store_true", help=f"write {PICTURE.relative_to(PROJECT)} too")
    parser.add_argument("--keep", action="store_true", help="keep what was measured before")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / "delta.json"
    results = json.loads(file.read_text()) if options.keep and file.exists() else {}
    for pair in delta_pairs.prepare(CACHE, list(options.pairs or _PAIRS)):
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
        print(table(pair.title, [_row(item) for item in found["rows"].values()]), flush=True)
    if options.picture:
        PICTURE.write_text(picture(results))


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
