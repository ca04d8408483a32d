"""Points in time as people write them; sizes as GLib does; the quick way of rev-parse."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.unit.store.conftest import commit_files, make_repo

from wherry.cli.quick import run_quickly
from wherry.cli.sizes import glib_size
from wherry.cli.times import parse
from wherry.core.errors import UsageError
from wherry.store.format.objects import Mode


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("@0", 0),
        ("@1234567890", 1234567890),
        ("@12.75", 12),
        ("2005-10-29 12:43:29 +0000", 1130589809),
        ("2005-10-29T12:43:29Z", 1130589809),
        ("2005-10-29 14:43:29 +02:00", 1130589809),
        ("2005-10-29 12:43:29 UTC", 1130589809),
        ("Sat Oct 29 12:43:29 UTC 2005", 1130589809),
        ("Sat, 29 Oct 2005 12:43:29 +0000", 1130589809),
    ],
)
def test_times(text: str, seconds: int) -> None:
    assert parse(text, "--timestamp") == seconds


@pytest.mark.parametrize(
    ("text", "before_s"),
    [
        ("now", 0),
        ("yesterday", 86400),
        ("2 days ago", 172800),
        ("1 hour ago", 3600),
        ("-1 week", 604800),
        ("week ago", 604800),
    ],
)
def test_relative_times(text: str, before_s: int) -> None:
    assert abs(time.time() - before_s - parse(text, "--keep-younger-than")) < 60


@pytest.mark.parametrize("text", ["", "garbage", "@", "@x", "@99999999999999999999", "2005-13-40", "ago"])
def test_no_times(text: str) -> None:
    with pytest.raises(UsageError, match="Could not parse"):
        parse(text, "--timestamp")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (1_234_567, "1.2 MB")]
)
def test_sizes(size: int, text: str) -> None:
    assert glib_size(size).replace("\u00a0", " ") == text


def test_the_quick_way_does_the_plain_case_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repo = make_repo(tmp_path / "repo", Mode.BARE_USER)
    first = commit_files(repo, {"a": b"1"})
    second = commit_files(repo, {"a": b"2"}, parent=first)
    at = f"--repo={repo.path}"
    assert run_quickly(["rev-parse", at, "main", "main^"])
    assert capsys.readouterr().out == f"{second}\n{first}\n"
    for words in (
        ["rev-parse", at, "main", "nowhere"],
        ["rev-parse", at],
        ["rev-parse", at, "-S", "main"],
        ["rev-parse", "--repo=/nowhere", "main"],
        ["rev-parse", "--repo", str(repo.path), "main"],
        ["refs", at, "rev-parse"],
    ):
        assert not run_quickly(words)
    assert capsys.readouterr().out == ""
