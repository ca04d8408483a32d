"""Sizes and durations as docker and Compose write them."""

from __future__ import annotations

import pytest

from wherry.core.errors import InvalidInput
from wherry.core.units import format_duration, format_size, parse_duration_ms, parse_size


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4096", 4096),
        ("64m", 64 << 20),
        ("64MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("10 k", 10240),
        ("0", 0),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1..5m", "1.5.2", "0x10", "１"[:0] + "1 2"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("1m30s", 90_000),
        ("500ms", 500),
        ("2h", 7_200_000),
        ("1.5s", 1500),
        ("0s", 0),
        ("10s500ms", 10_500),
        ("1500us", 1),
    ],
)
def test_durations(text: str, millis: int) -> None:
    assert parse_duration_ms(text) == millis


@pytest.mark.parametrize("text", ["", "10", "s", "1s1m", "-1s", "1d"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a duration"):
        parse_duration_ms(text)


def test_for_people() -> None:
    assert [format_size(n) for n in (0, 999, 1234, 165_000_000, 2_500_000_000)] == [
        "0 B",
        "999 B",
        "1.23 kB",
        "165 MB",
        "2.5 GB",
    ]
    assert [format_duration(s) for s in (3, 240, 7200, 500_000)] == ["3 s", "4 min", "2 h", "6 d"]
