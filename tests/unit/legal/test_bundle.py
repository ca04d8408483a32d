"""A bundle has every text once and every component, marks what is not free, and is the same each time."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from wherry.build.legal.bundle import make_bundle, write_archive, write_folder
from wherry.build.legal.component import Component, Facts
from wherry.core.errors import Conflict, InvalidInput, UsageError
from wherry.image.sbom.model import Basis

FACTS = Facts(
    components=(
        Component(
            kind="deb",
            name="bash",
            version="5",
            licence="GPL-3.0-or-later",
            basis=Basis.DECLARED,
            texts=("deb/bash/c",),
        ),
        Component(
            kind="deb", name="bash-doc", version="5", licence="MIT", basis=Basis.RECOGNISED, texts=("deb/doc/c",)
        ),
        Component(kind="deb", name="odd", version="=1+2", texts=()),
        Component(kind="deb", name="blob", version="1", proprietary="in Debian's non-free", licence="LicenseRef-x"),
    ),
    texts={"deb/bash/c": b"text\n", "deb/doc/c": b"text\n", "common-licenses/GPL-3": b"gpl\n"},
    warnings=("a: b",),
)


def test_what_is_in_it() -> None:
    files = make_bundle("kiosk", FACTS, digest="ab").files
    assert sorted(files) == [
        "README.txt",
        "licences/common-licenses/GPL-3",
        "licences/deb/bash/c",
        "manifest.csv",
        "manifest.json",
    ]
    rows = {row["component"]: row for row in csv.DictReader(io.StringIO(files["manifest.csv"].decode()))}
    assert rows["bash"]["texts"] == rows["bash-doc"]["texts"] == "licences/deb/bash/c"
    assert [rows[name]["basis"] for name in ("bash", "bash-doc", "odd")] == ["declared", "guessed", "unknown"]
    assert rows["odd"]["version"] == "'=1+2"  # no formula
    assert rows["blob"]["proprietary"] == "in Debian's non-free"
    document = json.loads(files["manifest.json"])
    assert document["commit"] == "ab"
    assert [item["name"] for item in document["components"]] == ["bash-doc", "bash", "blob", "odd"]
    readme = files["README.txt"].decode()
    assert "blob 1: in Debian's non-free (LicenseRef-x)" in readme
    assert "  odd =1+2\n" in readme
    assert "  bash-doc 5: MIT\n" in readme
    assert "  a: b\n" in readme
    assert "There is none that says so." not in readme


def test_a_free_host_says_so() -> None:
    readme = make_bundle("kiosk", replace(FACTS, components=FACTS.components[:1])).files["README.txt"].decode()
    assert "There is none that says so." in readme


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.zst"])
def test_archives_are_the_same_each_time(tmp_path: Path, name: str) -> None:
    turned = replace(FACTS, components=FACTS.components[::-1], texts=dict(sorted(FACTS.texts.items(), reverse=True)))
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    write_archive(make_bundle("kiosk", FACTS), tmp_path / "one" / name, epoch=1000)
    write_archive(make_bundle("kiosk", turned), tmp_path / "two" / name, epoch=1000)
    data = (tmp_path / "one" / name).read_bytes()
    assert hashlib.sha256(data).digest() == hashlib.sha256((tmp_path / "two" / name).read_bytes()).digest()
    if name.endswith(".zst"):
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames()[0] == "legal-info/README.txt"
        assert {(item.mtime, item.uid, item.mode) for item in archive} == {(1000, 0, 0o644)}
    assert [path.name for path in (tmp_path / "one").iterdir()] == [name]


def test_what_is_refused(tmp_path: Path) -> None:
    bundle = make_bundle("kiosk", FACTS)
    with pytest.raises(UsageError):
        write_archive(bundle, tmp_path / "x.zip")
    write_folder(bundle, tmp_path / "out")
    assert (tmp_path / "out/licences/deb/bash/c").read_bytes() == b"text\n"
    with pytest.raises(Conflict):
        write_folder(bundle, tmp_path / "out")
    with pytest.raises(InvalidInput, match="leads out"):
        make_bundle("kiosk", replace(FACTS, texts={"../../etc/x": b""}))
