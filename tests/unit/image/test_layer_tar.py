"""Trees as layers: what Python's tarfile reads of them, any offset, the same bytes again."""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
from pathlib import Path

import pytest
from tests.unit.image.makers import directory, file, hard_link, make_tar, symlink, xattrs

from wherry.core.errors import InvalidInput, NotFound
from wherry.image import layertar
from wherry.image.catalog import ImageRecord
from wherry.image.importing import import_image
from wherry.image.layering import layers_of
from wherry.image.layertar import LayerTar, Mark
from wherry.store.format.objects import DirMeta, FileHeader, Mode
from wherry.store.repository import Repository
from wherry.store.tree.mutable import TreeBuilder

MEMBERS = (
    directory("./", mode=0o750, uid=3),
    file("etc/passwd", b"root:x:0:0\n", mode=0o640, uid=1, gid=2),
    file("usr/bin/ping", b"\x7fELF" * 300, mode=0o4755, pax_headers=xattrs(security__capability="cap", user__a="b")),
    hard_link("usr/bin/ping6", "usr/bin/ping"),
    symlink("bin", "usr/bin", uid=7),
    symlink("long", "x" * 150),
    file("deep/" + "d" * 90 + "/" + "e" * 90 + "/" + "f" * 120, b"deep"),
    file("owned", b"", uid=3_000_000, gid=4_000_000),
    file("ünïcode", "ß"),
    file("large", bytes(range(256)) * 12_000),
    directory("empty", mode=0o1777),
)


@pytest.fixture(params=[Mode.BARE_USER, Mode.ARCHIVE])
def repo(tmp_path: Path, request: pytest.FixtureRequest) -> Repository:
    return Repository.init(tmp_path / "repo", request.param)


def imported(repo: Repository, data: bytes, name: str = "a:1") -> ImageRecord:
    source = repo.path.parent / "root.tar"
    source.write_bytes(data)
    return import_image(repo, f"tar:{source}", name=name)


def layer(repo: Repository) -> LayerTar:
    return layers_of(repo, imported(repo, make_tar(*MEMBERS)))[0]


def test_what_python_reads_of_it(repo: Repository) -> None:
    with tarfile.open(fileobj=io.BytesIO(layer(repo).open().read())) as archive:
        members = {member.name: member for member in archive.getmembers()}
        assert next(iter(members)) == "."
        assert (members["."].mode, members["."].uid) == (0o750, 3)
        ping = members["usr/bin/ping"]
        assert (ping.mode, ping.pax_headers["SCHILY.xattr.security.capability"]) == (0o4755, "cap")
        assert members["usr/bin/ping6"].isreg(), "the store knows no hard links"
        assert members["bin"].linkname == "usr/bin"
        assert members["long"].linkname == "x" * 150
        assert (members["owned"].uid, members["owned"].gid) == (3_000_000, 4_000_000)
        assert stat.S_IMODE(members["empty"].mode) == 0o1777
        content = archive.extractfile("large")
        assert content is not None
        assert content.read() == bytes(range(256)) * 12_000
        assert {member.mtime for member in members.values()} == {0}
        assert archive.extractfile("deep/" + "d" * 90 + "/" + "e" * 90 + "/" + "f" * 120) is not None


def test_the_importer_makes_the_same_tree_of_it(repo: Repository) -> None:
    one = layer(repo)
    again = imported(repo, one.open().read(), "b:1")
    commit = repo.load_commit(again.commit)
    assert (commit.tree, commit.meta) == (one.tree, one.meta)


def test_the_same_bytes_from_another_kind_of_repository(tmp_path: Path) -> None:
    digests = set()
    for mode in (Mode.BARE_USER, Mode.ARCHIVE):
        (tmp_path / mode).mkdir()
        digests.add(layer(Repository.init(tmp_path / mode / "repo", mode)).measure().digest)
    assert len(digests) == 1


def test_it_is_known_byte_by_byte(tmp_path: Path) -> None:
    repo = Repository.init(tmp_path / "repo", Mode.BARE_USER)
    record = imported(repo, make_tar(directory("./"), file("a", b"hi"), directory("d"), symlink("d/l", "../a")))
    found = layers_of(repo, record)[0].measure()
    assert found.size == 5 * 512 + 1024
    # whoever changes this changes the digests of all images that are served: docs/internals/outgoing-images.md
    assert found.digest == "sha256:91938ce6895523aaaa25fececd93f5c3b32fc646e200feb2026b9cd8cc2d0458"


def test_any_offset(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layertar, "MARK_BYTES", 1500)
    one = layer(repo)
    whole = one.open().read()
    found = one.measure()
    assert found.size == len(whole)
    assert found.digest == "sha256:" + hashlib.sha256(whole).hexdigest()
    assert len(found.marks) > 5
    for marks in ((), found.marks):
        for offset in {*range(0, 20_000, 1777), *(mark.offset for mark in found.marks), len(whole) - 900, len(whole)}:
            with one.open(offset, marks) as file:
                head = file.read(100)
                assert head + file.read() == whole[offset:]
    assert one.open(len(whole) + 5000, found.marks).read() == b""


def test_marks_are_few(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layertar, "MARK_BYTES", 1)
    monkeypatch.setattr(layertar, "MAX_MARKS", 4)
    one = layer(repo)
    marks = one.measure().marks
    assert 2 <= len(marks) <= 4
    assert marks[0] == Mark(0, "")
    whole = one.open().read()
    assert one.open(5000, marks).read() == whole[5000:]


def test_a_mark_of_another_tree(repo: Repository) -> None:
    with pytest.raises(NotFound):
        layer(repo).open(600, (Mark(0, ""), Mark(512, "no/such"))).read()


def test_names_that_an_archive_would_take_for_whiteouts(tmp_path: Path) -> None:
    repo = Repository.init(tmp_path / "repo", Mode.BARE_USER)
    for path in ("d/.wh.gone", ".wh.d/x"):
        with repo.transaction():
            tree = TreeBuilder(repo)
            tree.mkdir("", DirMeta())
            tree.mkdir(path.rpartition("/")[0], DirMeta(), parents=True)
            tree.add_file(path, FileHeader(uid=0, gid=0, mode=stat.S_IFREG | 0o644), b"x")
            root, meta = tree.write()
        with pytest.raises(InvalidInput, match="whiteout"):
            LayerTar(repo=repo, tree=root, meta=meta, time_s=0).measure()


def test_pieces_are_closed(repo: Repository) -> None:
    one = layer(repo)
    file = one.open()
    file.read(10)
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.readline()
