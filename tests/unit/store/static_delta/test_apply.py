"""Static deltas: made, and applied into every mode."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pytest
from tests.unit.store.conftest import REGULAR, commit_files, make_repo
from tests.unit.store.static_delta.programs import CHANGED, PROGRAM

from wherry.core.digest import Checksum, Ref
from wherry.core.errors import IntegrityError, InvalidInput, NotFound, Unsupported
from wherry.store.care.fsck import fsck
from wherry.store.format.objects import FileHeader, Mode, ObjectType
from wherry.store.pull.pull import pull_local
from wherry.store.repository import Repository
from wherry.store.static_delta import apply, names
from wherry.store.static_delta.generate import Options, generate
from wherry.store.static_delta.superblock import (
    Endianness,
)
from wherry.store.tree.commit import commit_tree
from wherry.store.tree.mutable import TreeBuilder

A, B = Checksum("ab" * 32), Checksum("cd" * 32)


def two_commits(repo: Repository) -> tuple[Checksum, Checksum]:
    old = {
        "usr/bin/program": PROGRAM,
        "usr/share/text": b"old text\n" * 300,
        "usr/share/mode": b"same" * 5000,
        "usr/share/gone": b"gone",
        "usr/lib/v1/data.bin": PROGRAM[:50_000],
    }
    new = {
        **old,
        "usr/bin/program": CHANGED,
        "usr/share/text": b"new text\n" * 300,
        "usr/share/new": b"not there before\n" * 100,
        "usr/share/empty": b"",
        "usr/lib/v2/data.bin": PROGRAM[:50_000] + b"more",
    }
    del new["usr/share/gone"], new["usr/lib/v1/data.bin"]
    first = commit_files(repo, old)
    with repo.transaction():
        tree = TreeBuilder(repo)
        for path, data in new.items():
            tree.mkdir(path.rpartition("/")[0], parents=True)
            plain = path.endswith("mode")
            header = FileHeader(uid=0, gid=0, mode=stat.S_IFREG | 0o755) if plain else REGULAR
            tree.add_file(path, header, data)
        tree.symlink("usr/link", "bin/program")
        second = commit_tree(repo, *tree.write(), timestamp_s=1, subject="new", parent=first, ref=Ref("main"))
    return first, second


OPTIONS = {
    "default": Options(),
    "inline": Options(inline=True),
    "big-endian": Options(endianness=Endianness.BIG),
    "no-bsdiff": Options(max_bsdiff_bytes=0),
    "many-parts": Options(max_chunk_bytes=1),
    "one-thread": Options(jobs=1),
}


@pytest.mark.parametrize(
    ("name", "mode"),
    [*((name, Mode.BARE_USER) for name in OPTIONS), ("default", Mode.BARE_USER_ONLY), ("default", Mode.ARCHIVE),
     ("no-bsdiff", Mode.ARCHIVE)],
)  # fmt: skip
def test_apply(archive: Repository, tmp_path: Path, name: str, mode: Mode) -> None:
    options = OPTIONS[name]
    first, second = two_commits(archive)
    report = generate(archive, first, second, options=options)
    assert report.patched + report.copied >= 2
    assert (report.patched == 0) == (not options.max_bsdiff_bytes)
    folder = archive.path / names.delta_folder(first, second)
    assert (folder / "0").exists() != options.inline
    dest = make_repo(tmp_path / "dest", mode)
    pull_local(dest, archive, [first])
    delta = apply.apply_offline(dest, folder)
    assert delta.target == second
    assert not dest.is_partial(second)
    assert fsck(dest).ok
    assert not list((dest.path / "tmp").glob("tmp-*"))
    assert apply.apply_offline(dest, folder / "superblock").target == second


def test_the_same_again(archive: Repository) -> None:
    first, second = two_commits(archive)
    options = Options(timestamp_s=5)
    generate(archive, first, second, options=options)
    folder = archive.path / names.delta_folder(first, second)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "1").write_bytes(b"left over")
    (folder / ".part-0123.tmp").write_bytes(b"left over")
    generate(archive, first, second, options=options)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_from_nothing_and_fallback(archive: Repository, tmp_path: Path) -> None:
    first = commit_files(archive, {"large": random.Random(2).randbytes(300_000), "small": b"x"})
    report = generate(archive, None, first, options=Options(min_fallback_bytes=100_000))
    assert [item.unpacked_bytes for item in report.fallbacks] == [300_000]
    dest = make_repo(tmp_path / "dest", Mode.BARE_USER)
    with pytest.raises(Unsupported, match="fallback"):
        apply.apply_offline(dest, archive.path / names.delta_folder(None, first))
    assert not dest.is_partial(first)
    generate(archive, None, first, options=Options(min_fallback_bytes=0))
    apply.apply_offline(dest, archive.path / names.delta_folder(None, first))
    assert fsck(dest).ok


def test_incompressible_contents_have_their_own_part(archive: Repository, tmp_path: Path) -> None:
    data = random.Random(2).randbytes(5_000_000)
    first = commit_files(archive, {"a.bin": data, "b": b"b" * 1000})
    report = generate(archive, None, first, options=Options(min_fallback_bytes=0))
    assert [part.unpacked_bytes > 4_000_000 for part in report.parts] == [False, True]
    assert report.parts[1].size_bytes < len(data) * 1.001
    dest = make_repo(tmp_path / "dest", Mode.ARCHIVE)
    apply.apply_offline(dest, archive.path / names.delta_folder(None, first))
    assert fsck(dest).ok


def test_nothing_changed_is_one_empty_part(archive: Repository) -> None:
    first = commit_files(archive, {"a": b"a"})
    second = commit_files(archive, {"a": b"a"}, parent=first, time_s=9)
    assert [len(part.object_bytes) for part in generate(archive, first, second).parts] == [0]


def test_source_is_missing(archive: Repository, tmp_path: Path) -> None:
    first, second = two_commits(archive)
    generate(archive, first, second)
    folder = archive.path / names.delta_folder(first, second)
    dest = make_repo(tmp_path / "dest", Mode.BARE_USER)
    with pytest.raises(NotFound, match="delta source"):
        apply.apply_offline(dest, folder)
    pull_local(dest, archive, [first])
    for path in (dest.path / "objects").rglob("*.file"):
        if path.stat().st_size == len(PROGRAM):
            path.unlink()
    with pytest.raises(NotFound, match="not here"):
        apply.apply_offline(dest, folder)
    assert not dest.has(ObjectType.COMMIT, second)
    assert not dest.is_partial(second)


def test_damaged_source_and_part(archive: Repository, tmp_path: Path) -> None:
    first, second = two_commits(archive)
    generate(archive, first, second)
    folder = archive.path / names.delta_folder(first, second)
    dest = make_repo(tmp_path / "dest", Mode.BARE_USER)
    pull_local(dest, archive, [first])
    part = folder / "0"
    raw = part.read_bytes()
    part.write_bytes(raw[:100] + bytes([raw[100] ^ 1]) + raw[101:])
    with pytest.raises((IntegrityError, InvalidInput)):
        apply.apply_offline(dest, folder)
    part.write_bytes(raw)
    (source,) = [p for p in (dest.path / "objects").rglob("*.file") if p.stat().st_size == len(PROGRAM)]
    os.chmod(source, 0o644)
    with open(source, "r+b") as file:
        file.write(b"damage")
    with pytest.raises(IntegrityError):
        apply.apply_offline(dest, folder)
    assert not dest.has(ObjectType.COMMIT, second)
