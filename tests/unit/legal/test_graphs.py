"""What a build has cost, in rows and in pictures that are whole and well-formed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from wherry.build.charts import MAX_AREAS, bars_svg, html_page, map_svg, squarify, time_svg
from wherry.build.graphs import (
    BASE,
    Row,
    StepRow,
    bar,
    folder_rows,
    layer_rows,
    read_steps,
    size_rows,
    step_dot,
    time_rows,
    wanted_by_layer,
)
from wherry.build.legal.component import Component
from wherry.core.errors import InvalidInput, NotFound

STEPS = (
    StepRow(name="fetch", what="fetch packages", seconds=2.5, started_s=0.0),
    StepRow(name="base", what="install packages", seconds=30.0, needs=("fetch",), cached=True),
    StepRow(name="over", what="lay <over>", seconds=0.5, started_s=2.5, needs=("base",), layer="a/b"),
)
SVG = "{http://www.w3.org/2000/svg}"


def rects(svg: str) -> list[ET.Element]:
    return [item for item in ET.fromstring(svg).iter(f"{SVG}rect") if item.find(f"{SVG}title") is not None]


def test_steps_are_read(tmp_path: Path) -> None:
    path = tmp_path / "steps.json"
    path.write_text('[{"name": "a", "seconds": 1.5, "cached": false, "needs": ["b"], "started_s": 0, "size_bytes": 3}]')
    assert read_steps(tmp_path) == (StepRow(name="a", seconds=1.5, needs=("b",), size_bytes=3),)
    for text in ("{}", '[{"what": "x"}]', '[{"name": "a", "more": 1}]', "["):
        path.write_text(text)
        with pytest.raises(InvalidInput):
            read_steps(tmp_path)
    path.unlink()
    with pytest.raises(NotFound, match="nothing was built"):
        read_steps(tmp_path)


def test_time() -> None:
    picture = time_svg(time_rows(STEPS), "kiosk & co")
    found = rects(picture)
    assert [item.get("class") for item in found] == ["c0", "kept", "c0"]
    starts = [float(item.get("x", "")) for item in found]
    widths = [float(item.get("width", "")) for item in found]
    assert starts[2] == pytest.approx(starts[0] + widths[0], abs=0.2)  # one begins where the other ends
    assert widths[2] == pytest.approx(widths[0] / 5, rel=0.02)
    assert "3.0 s in 2 steps, 1 kept" in picture


def test_sizes() -> None:
    files = {
        "usr/bin/a": 100,
        "usr/lib/b": 300,
        "usr/lib/c": 50,
        "etc/x": 7,
        "usr/bin/none": 0,
        "usr/lib/modules/6/x": 9,
        "top": 1,
    }
    rows = size_rows(files, {"usr/bin/a": "one", "usr/lib/b": "one", "usr/lib/c": "two"})
    assert [(row.name, row.value, row.group) for row in rows] == [
        ("one", 400, "/usr/lib"),
        ("two", 50, "/usr/lib"),
        ("/usr/lib/modules (no package)", 9, "/usr/lib"),
        ("/etc (no package)", 7, "/etc"),
        ("/ (no package)", 1, "/"),
    ]
    assert [(row.name, row.value) for row in folder_rows(files)] == [
        ("/usr/lib", 359),
        ("/usr/bin", 100),
        ("/etc", 7),
        ("/", 1),
    ]


def test_layers() -> None:
    lib = Component(kind="deb", name="lib", version="1")
    app = Component(kind="deb", name="app", version="1", depends=(lib.key,))
    other = Component(kind="deb", name="other", version="1", depends=(lib.key, "deb:gone:@1"))
    base = Component(kind="deb", name="base-files", version="1")
    wanted = wanted_by_layer([lib, app, other, base], [("app", "a/one"), ("other:amd64", "a/two"), ("gone", "a/x")])
    assert wanted == {"app": "a/one", "lib": "a/one", "other": "a/two"}
    packages = [Row(name=name, value=size) for name, size in (("app", 10), ("lib", 5), ("other", 3), ("base-files", 1))]
    rows = layer_rows(packages, wanted, [("a/two", 100)], ["a/none", "a/one", "a/two"])
    assert [(row.name, row.value) for row in rows] == [(BASE, 1), ("a/none", 0), ("a/one", 15), ("a/two", 103)]
    assert rows[3].parts == {"other": 3, "root_overlay": 100}
    assert len(rects(bars_svg(rows, "x"))) == 3
    assert "119 s in 4 packages" in bars_svg(rows, "x", seconds=True)


def test_the_map_is_full_and_nothing_lies_over_another() -> None:
    rows = [Row(name=f"p{size}", value=size, group="/usr") for size in (500, 300, 120, 60, 9, 9, 1)]
    areas = squarify(rows, 10, 20, 400, 300)
    total = sum(row.value for row in rows)
    for area in areas:
        assert area.width * area.height == pytest.approx(400 * 300 * area.row.value / total)
        assert area.x >= 10 - 1e-6
        assert area.y >= 20 - 1e-6
        assert area.x + area.width <= 410 + 1e-6
        assert area.y + area.height <= 320 + 1e-6
    for one in areas:
        for other in areas:
            if one is not other:
                apart_x = one.x + one.width <= other.x + 1e-6 or other.x + other.width <= one.x + 1e-6
                apart_y = one.y + one.height <= other.y + 1e-6 or other.y + other.height <= one.y + 1e-6
                assert apart_x or apart_y
    assert squarify([], 0, 0, 1, 1) == []


def test_many_small_ones_are_drawn_as_one() -> None:
    rows = [Row(name=f"p{number}", value=1000 - number) for number in range(MAX_AREAS + 50)]
    picture = map_svg(rows, "x")
    assert len(rects(picture)) == MAX_AREAS + 1
    assert "all others" in picture


@pytest.mark.parametrize("rows", [[], [Row(name="a", value=0.0)], [Row(name="<&\"'>" * 20, value=1e12, note="]]>")]])
def test_odd_rows_are_drawn(rows: list[Row]) -> None:
    for draw in (time_svg, bars_svg, map_svg):
        picture = draw(rows, "<x>")
        ET.fromstring(picture)
        assert "nan" not in picture
        page = html_page(picture, rows, "<x>", lambda row: str(row.value))
        assert "<x>" not in page


def test_bars_of_text() -> None:
    assert bar(10, 10, 4) == "████"
    assert bar(5, 10, 4) == "██"
    assert bar(1, 1000, 4) == "▏"
    assert bar(0, 10, 4) == ""
    assert bar(0, 0, 4) == ""


def test_dot() -> None:
    text = step_dot((*STEPS, StepRow(name='a"b\\')))
    assert '"base" -> "over";' in text
    assert '"base" [label="base\\nkept"];' in text
    assert '"a\\"b\\\\" [label=' in text
