"""Ranges of ids: what flags mean, what the kernel would refuse, and where a free one is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from wherry.cli.container_userns import parse_user_namespace
from wherry.core.errors import InvalidInput, NoSpace, NotFound, UsageError
from wherry.engine.idranges import AUTO_SIZE, Owners, check_ranges, first_free, parse_range, subordinate
from wherry.engine.isolation import IdRange

NONE: dict[str, Any] = {"userns": "", "uidmap": (), "gidmap": (), "subuidname": "", "subgidname": ""}


def one(first: int, host: int, size: int) -> IdRange:
    return IdRange(container_id=first, host_id=host, size=size)


def test_ranges_are_read() -> None:
    assert parse_range("0:100000:65536", "--uidmap") == one(0, 100000, 65536)
    assert parse_range("0:100000", "--uidmap") == one(0, 100000, 1)


@pytest.mark.parametrize(
    "text",
    ["", "0", "0:1:0", "0:-1:1", "0:1:2:3", "a:0:1", "0:4294967295:1", "4294967290:0:10", "0:" + "9" * 40 + ":1"],
)
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(InvalidInput, match="--uidmap"):
        parse_range(text, "--uidmap")


@pytest.mark.parametrize(
    "ranges",
    [
        (one(0, 10, 5), one(4, 100, 5)),
        (one(0, 10, 5), one(5, 14, 5)),
        (one(1, 10, 5),),
        tuple(one(index, 1000 + index, 1) for index in range(341)),
    ],
)
def test_what_the_kernel_would_refuse(ranges: tuple[IdRange, ...]) -> None:
    with pytest.raises(InvalidInput):
        check_ranges(ranges, "--uidmap")
    check_ranges((one(0, 10, 5), one(5, 100, 5)), "--uidmap")


def test_a_free_range_meets_no_other() -> None:
    pool = ((1000, 100), (5000, 50))
    assert first_free(pool, (), 10) == 1000
    assert first_free(pool, ((1000, 10), (1020, 10)), 10) == 1010
    assert first_free(pool, ((1000, 10), (1015, 10)), 10) == 1025
    assert first_free(pool, ((990, 105),), 10) == 5000
    assert first_free(pool, ((0, 999), (2000, 9)), 100) == 1000
    with pytest.raises(NoSpace):
        first_free(pool, ((1000, 100),), 51)


def test_subordinate_ids(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text("# a comment\nother:1:5\nme:100000:10\nme:zero:10\nme:200000:5\nme:1:99999999999\n")
    assert subordinate("me", str(file)) == (one(0, 100000, 10), one(10, 200000, 5))
    with pytest.raises(NotFound, match="nobody"):
        subordinate("nobody", str(file))
    with pytest.raises(NotFound):
        subordinate("me", str(tmp_path / "none"))


def test_owners() -> None:
    owners = Owners(uids=(one(0, 100000, 1000),), gids=(one(0, 200000, 10),))
    status = os.stat_result((0, 0, 0, 0, 100005, 200003, 0, 0, 0, 0))
    assert owners.of(status) == (5, 3)
    assert owners.to((5, 3)) == (100005, 200003)
    assert owners.of(os.stat_result((0, 0, 0, 0, 0, 0, 0, 0, 0, 0))) == (65534, 65534)
    assert Owners().of(status) == (100005, 200003) == Owners().to((100005, 200003))
    with pytest.raises(InvalidInput, match="no id 1000"):
        owners.to((1000, 0))


def test_flags() -> None:
    def parse(**given: Any) -> dict[str, Any]:
        return parse_user_namespace({**NONE, **given})

    assert parse(userns="host") == {}
    assert parse(userns="auto") == {"auto_ids": AUTO_SIZE}
    assert parse(userns="auto:size=500") == {"auto_ids": 500}
    mine = (one(0, 1000, 5),)
    assert parse(uidmap=("0:1000:5",)) == {"uids": mine, "gids": mine} == parse(userns="private", gidmap=("0:1000:5",))


@pytest.mark.parametrize(
    "given",
    [
        {"userns": "keep-id"},
        {"userns": "nomap"},
        {"userns": "container:x"},
        {"userns": "what"},
        {"userns": "private"},
        {"userns": "auto:size=x"},
        {"userns": "auto:other=1"},
        {"userns": "host", "uidmap": ("0:1:1",)},
        {"userns": "auto", "subuidname": "root"},
        {"uidmap": ("0:1:1",), "subuidname": "root"},
    ],
)
def test_refused_flags(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--"):
        parse_user_namespace({**NONE, **given})
