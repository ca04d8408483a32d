"""The terms of compiled sources and of Buildroot's packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.build.legal.compiled import count_tags, source_facts
from wherry.build.legal.manifest import buildroot_expression, read_manifest
from wherry.core.errors import InvalidInput, NotFound
from wherry.image.sbom.model import Basis


def put(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy of this software ...
The above copyright notice and this permission notice shall be included in all copies."""


def test_a_kernel(tmp_path: Path) -> None:
    files = {
        "COPYING": "SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note\n",
        "LICENSES/preferred/GPL-2.0": "Valid-License-Identifier: GPL-2.0\n",
        "LICENSES/dual/MPL-1.1": "SPDX-License-Identifier: MPL-1.1\n",
        "kernel/a.c": "// SPDX-License-Identifier: GPL-2.0\n",
        "kernel/b.h": "/* SPDX-License-Identifier: GPL-2.0-only */\n",
        "kernel/c.c": "int c;\n",
        "kernel/d.txt": "SPDX-License-Identifier: MIT\n",
    }
    found = source_facts(put(tmp_path, files), name="vendor-linux", version="6.1", sha256="00", origin="linux.tar.xz")
    (item,) = found.components
    assert item.licence == "GPL-2.0-only WITH Linux-syscall-note"
    assert item.basis is Basis.DECLARED
    assert set(item.texts) == {
        "source/vendor-linux/COPYING",
        "source/vendor-linux/LICENSES/preferred/GPL-2.0",
        "source/vendor-linux/LICENSES/dual/MPL-1.1",
    }
    assert found.texts["source/vendor-linux/COPYING"].startswith(b"SPDX")
    assert [(part.licence, part.count) for part in count_tags(tmp_path)] == [("GPL-2.0-only", 2), ("", 1)]


def test_what_is_known_counts_more_than_what_is_seen(tmp_path: Path) -> None:
    put(tmp_path, {"LICENSE": MIT})
    (seen,) = source_facts(tmp_path, name="thing", version="1").components
    assert (seen.licence, seen.basis) == ("MIT", Basis.RECOGNISED)
    (known,) = source_facts(tmp_path, name="busybox", version="1").components
    assert (known.licence, known.basis) == ("GPL-2.0-only", Basis.DECLARED)
    (said,) = source_facts(tmp_path, name="busybox", version="1", licence="ISC").components
    assert said.licence == "ISC"


def test_a_source_package_of_debian(tmp_path: Path) -> None:
    text = (
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
        "Files: *\nCopyright: x\nLicense: ISC\n\nFiles: debian/* doc/*\nCopyright: y\nLicense: GPL-2+\n"
    )
    put(tmp_path, {"debian/copyright": text, "COPYING": MIT})
    (item,) = source_facts(tmp_path, name="thing", version="1-1").components
    assert (item.licence, item.basis) == ("GPL-2.0-or-later AND ISC", Basis.DECLARED)
    assert [(part.licence, part.files, part.count) for part in item.parts] == [
        ("ISC", ("*",), 1),
        ("GPL-2.0-or-later", ("debian/*", "doc/*"), 2),
    ]


def test_nothing_known(tmp_path: Path) -> None:
    (item,) = source_facts(tmp_path, name="thing", version="1").components
    assert (item.licence, item.basis, item.texts) == ("", Basis.UNKNOWN, ())
    with pytest.raises(NotFound):
        source_facts(tmp_path / "none", name="thing", version="1")


def test_a_link_out_of_the_source_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(MIT)
    (tmp_path / "source").mkdir()
    (tmp_path / "source/COPYING").symlink_to(tmp_path / "secret")
    assert source_facts(tmp_path / "source", name="thing", version="1").texts == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GPL-2.0+ (programs), LGPL-2.1+ (libraries)", "GPL-2.0-or-later AND LGPL-2.1-or-later"),
        ("LGPL-3.0+ (library),GPL-3.0+ (test programs)", "GPL-3.0-or-later AND LGPL-3.0-or-later"),
        ("(MIT or Apache-2.0), ISC", "(MIT OR Apache-2.0) AND ISC"),
        ("CC0-1.0 (parts of build system, metadata), MIT", "CC0-1.0 AND MIT"),
        ("GPL-2.0+ with OpenSSL exception", "LicenseRef-GPL-2.0-plus-with-OpenSSL-exception"),
        ("", ""),
    ],
)
def test_buildroot_expressions(text: str, expected: str) -> None:
    assert buildroot_expression(text) == expected


HEAD = '"PACKAGE","VERSION","LICENSE","LICENSE FILES","SOURCE ARCHIVE","SOURCE SITE","DEPENDENCIES WITH LICENSES"\n'


def test_a_manifest(tmp_path: Path) -> None:
    rows = (
        '"busybox","1.38.0","GPL-2.0, bzip2-1.0.4","LICENSE archival/bz/LICENSE","busybox-1.38.0.tar.bz2",'
        '"http://x/","zlib [Zlib] "\n'
        '"zlib","1.3","Zlib","README","zlib-1.3.tar.xz","http://y","skeleton-init-common [unknown] "\n'
        '"skeleton-init-common","","unknown","not saved","not saved","not saved",""\n'
        '"blob","7","PROPRIETARY","EULA.txt","blob-7.bin","http://z",""\n'
        '"withheld","8","Vendor License","not saved","withheld.bin","http://z",""\n'
    )
    files = {
        "manifest.csv": HEAD + rows,
        "licenses/busybox-1.38.0/LICENSE": "GPL",
        "licenses/busybox-1.38.0/archival/bz/LICENSE": "bz",
        "licenses/zlib-1.3/README": "zlib",
        "licenses/blob-7/EULA.txt": "no",
        "sources/busybox-1.38.0/busybox-1.38.0.tar.bz2": "x",
        "sources/zlib-1.3/zlib-1.3.tar.xz": "x",
    }
    found = read_manifest(put(tmp_path, files), architecture="amd64")
    by_name = {item.name: item for item in found.components}
    busybox = by_name["busybox"]
    assert busybox.licence == "GPL-2.0-only AND LicenseRef-bzip2-1.0.4"
    assert busybox.texts == ("buildroot/busybox/LICENSE", "buildroot/busybox/archival/bz/LICENSE")
    assert busybox.depends == (by_name["zlib"].key,)
    assert busybox.origin == "http://x/busybox-1.38.0.tar.bz2"
    assert busybox.proprietary == ""
    assert (by_name["skeleton-init-common"].licence, by_name["skeleton-init-common"].basis) == ("", Basis.UNKNOWN)
    assert by_name["blob"].proprietary == "Buildroot says: PROPRIETARY"
    assert by_name["withheld"].proprietary == "Buildroot does not pass its source on"
    assert found.texts["buildroot/blob/EULA.txt"] == b"no"
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a manifest"),
        ("PACKAGE,VERSION\n", "not a manifest"),
        (HEAD + '"a","1"\n', "2 columns"),
        (HEAD + '"../x","1","MIT","L","s","h",""\n', "not a package's name"),
        (HEAD + '"a","1","MI', "comma-separated"),
    ],
)
def test_a_bad_manifest(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(InvalidInput, match=words):
        read_manifest(tmp_path)


def test_a_manifest_names_no_file_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    put(tmp_path / "legal", {"manifest.csv": HEAD + '"a","1","MIT","../../../secret ok","a.tar","h",""\n'})
    found = read_manifest(tmp_path / "legal")
    assert found.texts == {}
    assert found.warnings == ("a: the text ok is not there",)
    with pytest.raises(NotFound):
        read_manifest(tmp_path)
