"""Paths and ranges below ``/repo``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException

from wherry.hub.files import Span, open_beneath, parse_range, split_path

OBJECT = "objects/ab/" + "c" * 62


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "config/",
        "/config",
        "config\n",
        "refs",
        "refs/heads",
        "refs/heads/",
        "refs/heads/../../config",
        "refs/heads/.hidden",
        "refs/remotes/x/y",
        "refs/heads/a//b",
        "objects/ab",
        OBJECT,
        OBJECT + ".file",
        OBJECT + ".filez/",
        OBJECT.upper() + ".filez",
        "state/x.commitpartial",
        "tmp/x",
        ".lock",
        "deltas/ab/../superblock",
        "deltas/../config",
    ],
)
def test_names_that_no_repository_has(path: str) -> None:
    with pytest.raises(HTTPException) as refused:
        split_path(path)
    assert refused.value.status_code == 404


def test_tags_of_what_never_changes() -> None:
    assert split_path(OBJECT + ".filez")[1] == f'"ab{"c" * 62}.filez"'
    assert split_path(OBJECT + ".commitmeta")[1] is None
    for path in ("config", "summary.sig", "refs/heads/revision/kiosk", "deltas/ab/c-d/superblock", "deltas/ab/c/0"):
        assert split_path(path) == (tuple(path.split("/")), None)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=2-5", (2, 4)),
        ("bytes=2-", (2, 8)),
        ("bytes=-3", (7, 3)),
        ("bytes=-30", (0, 10)),
        ("bytes=9-100", (9, 1)),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=1-2,3-4", None),
        ("items=1-2", None),
        ("bytes=" + "9" * 40 + "-", None),
    ],
)
def test_ranges(header: str | None, expected: tuple[int, int] | None) -> None:
    found = parse_range(header, 10)
    assert found == (None if expected is None else Span(start=expected[0], length=expected[1], total=10))


@pytest.mark.parametrize(
    ("header", "total"), [("bytes=10-", 10), ("bytes=10-20", 10), ("bytes=-0", 10), ("bytes=0-", 0)]
)
def test_ranges_behind_the_end(header: str, total: int) -> None:
    with pytest.raises(HTTPException) as refused:
        parse_range(header, total)
    assert refused.value.status_code == 416
    assert refused.value.headers == {"Content-Range": f"bytes */{total}"}


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "repo" / "refs").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "repo" / "config").symlink_to(tmp_path / "secret")
    (tmp_path / "repo" / "refs" / "heads").symlink_to(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for parts in (("config",), ("refs", "heads", "secret"), ("refs",), ("none",), ("refs", "none", "x")):
        with pytest.raises(HTTPException):
            open_beneath(tmp_path / "repo", parts)
    assert len(os.listdir("/proc/self/fd")) == before
