"""Archives into trees and back: hard links in any order, sparse files, cpio, and what is refused."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.image.makers import device, directory, file, hard_link, make_tar, symlink, xattrs
from tests.unit.store.conftest import commit_files

from wherry.core.errors import Conflict, IntegrityError, InvalidInput, NotFound, Unsupported, WherryError
from wherry.store.format.objects import DirMeta
from wherry.store.repository import Repository
from wherry.store.tree.archive import import_archive, open_archive
from wherry.store.tree.commit import commit_tree
from wherry.store.tree.export import export
from wherry.store.tree.modifier import Modifier
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.tar import EntryType, TarReader
from wherry.store.tree.tarwrite import TarWriter
from wherry.store.tree.walk import read_path, walk


def import_bytes(repo: Repository, data: bytes, modifier: Modifier | None = None, **options: Any) -> TreeBuilder:
    builder = TreeBuilder(repo, strict=True)
    builder.root.meta = None
    import_archive(repo, builder, io.BytesIO(data), modifier=modifier or Modifier(), where="a.tar", **options)
    return builder


def test_hard_links_may_come_before_their_target(user_repo: Repository) -> None:
    data = make_tar(directory("."), hard_link("first", "later"), file("later", b"content"))
    tree = import_bytes(user_repo, data)
    assert tree.lookup("first") == tree.lookup("later")
    with pytest.raises(NotFound):
        import_bytes(user_repo, make_tar(directory("."), hard_link("first", "nowhere")))


def test_parents(user_repo: Repository) -> None:
    data = make_tar(file("a/b/c", b"1", uid=5, gid=6))
    with pytest.raises(NotFound, match="autocreate"):
        import_bytes(user_repo, data)
    tree = import_bytes(user_repo, data, autocreate_parents=True)
    assert tree.lookup("a/b") == DirMeta(uid=5, gid=6, mode=0o40755)
    kept = make_tar(directory(".", mode=0o700), directory("a", mode=0o711), file("a/b/c"))
    tree = import_bytes(user_repo, kept, autocreate_parents=True)
    assert tree.lookup("") == DirMeta(mode=0o40700), "what the archive says of a directory stays"
    assert tree.lookup("a") == DirMeta(mode=0o40711)
    empty = import_bytes(user_repo, make_tar(), Modifier(owner_uid=3), autocreate_parents=True)
    assert empty.lookup("") == DirMeta(uid=3)
    with pytest.raises(InvalidInput, match="empty tree"):
        import_bytes(user_repo, make_tar()).write()


def test_renaming_and_skipping(user_repo: Repository) -> None:
    data = make_tar(directory("."), directory("bin"), file("bin/x", b"1"), hard_link("bin/y", "bin/x"), file("z"))
    tree = import_bytes(
        user_repo,
        data,
        Modifier(skip={"/z"}.__contains__),
        rename=lambda path: path.replace("bin", "sbin"),
    )
    assert (tree.listdir(""), tree.listdir("sbin")) == (["sbin"], ["x", "y"])
    with pytest.raises(InvalidInput, match=r"'\.\.'"):
        import_bytes(user_repo, data, rename=lambda path: f"../{path}")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (make_tar(directory("."), device("null")), Unsupported),
        (make_tar(directory("."), file("../x")), InvalidInput),
        (make_tar(directory("."), file("a"), directory("a")), Conflict),
        (make_tar(directory("."), directory("a"), file("a")), Conflict),
        (make_tar(directory("."), file("a", b"x" * 1000))[:1200], IntegrityError),
        (b"no archive at all" * 50, InvalidInput),
        (b"070701" + b"0" * 20, IntegrityError),
        (b"070701" + b"z" * 200, InvalidInput),
    ],
)
def test_refused(user_repo: Repository, data: bytes, error: type[WherryError]) -> None:
    with pytest.raises(error):
        import_bytes(user_repo, data)


@pytest.mark.parametrize("form", ["newc", "crc", "odc"])
def test_cpio(user_repo: Repository, tmp_path: Path, form: str) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d/a").write_bytes(b"content" * 1000)
    (source / "d/z").hardlink_to(source / "d/a")
    (source / "e1").touch()
    (source / "e2").hardlink_to(source / "e1")
    (source / "l").symlink_to("d/a")
    names = b".\n./d\n./d/a\n./d/z\n./e1\n./e2\n./l\n"
    packed = subprocess.run(["cpio", "-o", "-H", form], cwd=source, input=names, capture_output=True, check=True).stdout
    tree = import_bytes(user_repo, packed)
    assert tree.listdir("d") == ["a", "z"]
    assert tree.lookup("d/a") == tree.lookup("d/z")
    assert tree.lookup("e1") == tree.lookup("e2")
    for cut in (50, 130, len(packed) // 2):
        with pytest.raises(IntegrityError):
            import_bytes(user_repo, packed[:cut])


@pytest.mark.parametrize(
    "options", [["--format=gnu"], *(["--format=pax", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0"))]
)
def test_sparse_files(tmp_path: Path, options: list[str]) -> None:
    pieces: dict[str, Callable[[io.BufferedWriter], object]] = {
        "hole": lambda out: out.truncate(1 << 20),
        "many": lambda out: [(out.seek(at * 16384), out.write(b"x" * 100)) for at in range(60)],
        "ends-in-a-hole": lambda out: [out.write(b"y" * 5000), out.truncate(3 << 20)],
    }
    for name, write in pieces.items():
        with open(tmp_path / name, "wb") as out:
            write(out)
    subprocess.run(["tar", "-C", tmp_path, *options, "-S", "-cf", tmp_path / "a.tar", *pieces], check=True)
    with open(tmp_path / "a.tar", "rb") as stream:
        reader = open_archive(stream, where="a.tar")
        found = {entry.name: b"".join(iter(lambda: reader.read(70_000), b"")) for entry in reader}
    assert found == {name: (tmp_path / name).read_bytes() for name in pieces}
    with open(tmp_path / "a.tar", "rb") as stream, pytest.raises(Unsupported, match="sparse"):
        list(TarReader(stream))


def test_attributes_as_libarchive_writes_them(user_repo: Repository) -> None:
    headers = {"LIBARCHIVE.xattr.user.a%20b": "dmFsdWU", "LIBARCHIVE.xattr.user.c": "eA==", "SCHILY.xattr.user.c": "y"}
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as out:
        info = tarfile.TarInfo("f")
        info.pax_headers = headers
        out.addfile(info)
    (entry,) = TarReader(io.BytesIO(data.getvalue()))
    assert entry.xattrs == ((b"user.a b", b"value"), (b"user.c", b"y"))


def test_export_and_back(user_repo: Repository) -> None:
    data = make_tar(
        directory(".", mode=0o700, uid=3),
        directory("d" * 120),
        file(f"{'d' * 120}/{'n' * 150}", b"x" * 700, mode=0o4755, uid=3_000_000, gid=7),
        file("with", b"1", pax_headers=xattrs(user__k="v")),
        symlink("long-link", "t/" * 90),
        file("same", b"x" * 700, mode=0o4755, uid=3_000_000, gid=7),
    )
    tree = import_bytes(user_repo, data)
    commit = commit_tree(user_repo, *tree.write(), timestamp_s=1_234_567_890)
    out = io.BytesIO()
    export(user_repo, commit, out)
    again = io.BytesIO()
    export(user_repo, commit, again)
    assert out.getvalue() == again.getvalue(), "the same commit gives the same bytes"
    entries = list(TarReader(io.BytesIO(out.getvalue())))
    assert [entry.type for entry in entries].count(EntryType.HARD_LINK) == 1
    back = commit_tree(user_repo, *import_bytes(user_repo, out.getvalue()).write(), timestamp_s=1_234_567_890)
    assert back == commit
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        assert {item.mtime for item in archive} == {1_234_567_890}
    prefixed = io.BytesIO()
    export(user_repo, commit, prefixed, prefix="pre/", no_xattrs=True)
    assert all(
        entry.name.startswith("pre/") and not entry.xattrs for entry in TarReader(io.BytesIO(prefixed.getvalue()))
    )
    with pytest.raises(InvalidInput, match="directory"):
        export(user_repo, commit, io.BytesIO(), subpath="/with")


def test_a_writer_keeps_to_the_size_that_was_said() -> None:
    for content in (b"12", b"1234"):
        with pytest.raises(InvalidInput):
            TarWriter(io.BytesIO(), time_s=0).add(
                EntryType.FILE, "f", mode=0o644, uid=0, gid=0, size=3, content=io.BytesIO(content)
            )


def test_an_archive_over_a_commit(user_repo: Repository) -> None:
    base = commit_files(user_repo, {"etc/a": b"1"})
    builder = TreeBuilder(user_repo, strict=True)
    builder.overlay_commit(base)
    data = make_tar(file("etc/b", b"2"))
    import_archive(user_repo, builder, io.BytesIO(data), modifier=Modifier(), where="x")
    commit = commit_tree(user_repo, *builder.write(), timestamp_s=0)
    assert [path for path, _ in walk(user_repo, commit)] == ["", "etc", "etc/a", "etc/b"]
    assert read_path(user_repo, commit, "etc/b", max_bytes=1) == b"2"
