"""The log of a container: lines, limits, a full disk, readers that follow."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.engine.logs import parse_time, read_logs
from wherry.engine.logwriter import MAX_LINE_BYTES, LogWriter, format_time
from wherry.engine.spec import LogLimits


def written(folder: Path, *pieces: tuple[str, bytes], limits: LogLimits | None = None) -> None:
    writer = LogWriter(folder, limits or LogLimits())
    for stream, data in pieces:
        writer.write(stream, data)
    writer.close()


def texts(folder: Path, tail: int | None = None) -> list[bytes]:
    return [entry.data for entry in read_logs(folder, tail=tail)]


def test_lines_in_pieces(tmp_path: Path) -> None:
    written(tmp_path, ("stdout", b"a"), ("stderr", b"x\n"), ("stdout", b"b\nc\nd"))
    entries = list(read_logs(tmp_path))
    assert [(entry.stream, entry.data) for entry in entries] == [
        ("stderr", b"x\n"),
        ("stdout", b"ab\n"),
        ("stdout", b"c\n"),
        ("stdout", b"d"),
    ]


def test_any_bytes_survive(tmp_path: Path) -> None:
    data = bytes(range(256)).replace(b"\n", b"") + b"\n"
    written(tmp_path, ("stdout", data))
    assert texts(tmp_path) == [data]


def test_long_lines_are_split(tmp_path: Path) -> None:
    line = b"x" * (3 * MAX_LINE_BYTES + 5) + b"\n"
    written(tmp_path, *(("stdout", line[start : start + 7000]) for start in range(0, len(line), 7000)))
    pieces = texts(tmp_path)
    assert b"".join(pieces) == line
    assert max(map(len, pieces)) <= MAX_LINE_BYTES


def test_rotation_keeps_the_newest(tmp_path: Path) -> None:
    lines = [b"line %d\n" % number for number in range(1000)]
    written(tmp_path, *(("stdout", line) for line in lines), limits=LogLimits(max_bytes=4096, files=3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["container.log", "container.log.1", "container.log.2"]
    kept = texts(tmp_path)
    assert kept == lines[-len(kept) :]
    assert 80 < len(kept) < 1000
    assert texts(tmp_path, tail=3) == lines[-3:]
    assert texts(tmp_path, tail=0) == []


def test_one_file_starts_anew(tmp_path: Path) -> None:
    written(tmp_path, *(("stdout", b"%0100d\n" % n) for n in range(100)), limits=LogLimits(max_bytes=4096, files=1))
    assert [path.name for path in tmp_path.iterdir()] == ["container.log"]
    assert texts(tmp_path)[-1] == b"%0100d\n" % 99


def test_full_disk_loses_lines_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LogWriter(tmp_path, LogLimits())
    writer.write("stdout", b"before\n")
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 10:
            return real(fd, data[:10])  # the last block takes a little
        raise OSError(errno.ENOSPC, "full")

    def nothing(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    calls = iter([full, nothing, nothing])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: next(calls, nothing)(fd, data))
        writer.write("stdout", b"lost 1\nlost 2\n")
    writer.write("stdout", b"after\n")
    writer.close()
    assert texts(tmp_path) == [b"before\n", b"wherry: 2 lines lost, the disk was full\n", b"after\n"]


def test_damage_is_passed_over(tmp_path: Path) -> None:
    written(tmp_path, ("stdout", b"a\n"))
    with (tmp_path / "container.log").open("ab") as file:
        file.write(b"\0" * 50 + b"\n" + b'{"log": 5}\n' + b"[]\n")
    written(tmp_path, ("stdout", b"b\n"))
    with (tmp_path / "container.log").open("ab") as file:
        file.write(b'{"log": "half')
    assert texts(tmp_path) == [b"a\n", b"b\n"]


def test_follow_over_a_rotation(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, LogLimits(max_bytes=4096, files=10))
    sent: list[bytes] = []

    def steps() -> Iterator[bool]:
        for number in range(6):
            for part in range(20):
                line = b"step %d part %d\n" % (number, part)
                writer.write("stdout", line)
                sent.append(line)
            yield number < 5

    alive = steps()
    writer.write("stdout", b"old\n")
    found = [entry.data for entry in read_logs(tmp_path, follow=True, tail=0, alive=lambda: next(alive))]
    writer.close()
    assert found == sent
    assert (tmp_path / "container.log.2").exists()


def test_no_log_yet(tmp_path: Path) -> None:
    assert texts(tmp_path) == []
    assert list(read_logs(tmp_path, follow=True)) == []


def test_times() -> None:
    assert format_time(1.25) == "1970-01-01T00:00:01.250000000Z"
    for text, time_s in (
        ("1970-01-01T00:00:01.250000000Z", 1.25),
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T01:00:01.5+01:00", 1.5),
        ("1970-01-02", 86400.0),
    ):
        assert parse_time(text) == time_s
    with pytest.raises(ValueError, match="Invalid"):
        parse_time("yesterday")


def test_since(tmp_path: Path) -> None:
    written(tmp_path, ("stdout", b"a\n"))
    now = next(read_logs(tmp_path)).time_s
    assert [entry.data for entry in read_logs(tmp_path, since_s=now - 1)] == [b"a\n"]
    assert list(read_logs(tmp_path, since_s=now + 1)) == []
