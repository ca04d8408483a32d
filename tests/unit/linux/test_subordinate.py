"""Lines of /etc/subuid."""

from __future__ import annotations

import pytest

from wherry.linux.subordinate import MAX_RANGES, parse_ranges


def test_ranges_by_name_and_by_number_in_their_order() -> None:
    text = "ada:100000:65536\nbob:165536:65536\n1000:300000:10\n"
    assert parse_ranges(text, {"ada", "1000"}) == [(100000, 65536), (300000, 10)]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ada",
        "ada:1",
        "ada:x:1",
        "ada:1:x",
        "ada:0:10",
        "ada:10:0",
        "ada:-1:10",
        "ada:4294967295:2",
        "ada:1:2:3",
        "ada:²:1",
    ],
)
def test_odd_lines_are_skipped(line: str) -> None:
    assert parse_ranges(f"{line}\nada:5:5\n", {"ada"}) == [(5, 5)]


def test_there_is_a_limit() -> None:
    assert len(parse_ranges("ada:5:5\n" * 1000, {"ada"})) == MAX_RANGES
