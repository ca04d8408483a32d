"""Licences out of packages and sources out of a repository, with Debian's own tools."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from tests.unit.image.sbom.parts import put

from wherry.build.legal.bundle import make_bundle, write_folder
from wherry.build.legal.component import Component, Facts
from wherry.build.legal.licences import Deb, describe_tree
from wherry.build.legal.sources import fetch_sources, keep_archives, wanted_sources
from wherry.core.errors import InvalidInput, NetworkError, NotFound
from wherry.core.proc import run
from wherry.image.sbom.model import Basis
from wherry.image.sbom.tree import directory_tree

pytestmark = [
    pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb"),
]

ISC = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: x
License: ISC

Files: debian/*
Copyright: y
License: GPL-3+
"""


def deb(tmp_path: Path, name: str, files: dict[str, bytes | str], **fields: str) -> Deb:
    top = tmp_path / "debs" / name
    control = {"Package": name, "Version": "1.0-1", "Architecture": "all", "Maintainer": "x <x@example.org>"}
    control |= {key.replace("_", "-"): value for key, value in fields.items()}
    text = "".join(f"{key}: {value}\n" for key, value in control.items()) + "Description: a test\n"
    put(top, {"DEBIAN/control": text, **files})
    (top / "DEBIAN").chmod(0o755)
    path = tmp_path / f"{name}.deb"
    run(["dpkg-deb", "--root-owner-group", "--build", str(top), str(path)])
    return Deb(name=name, path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), origin=f"pool/{path.name}")


def debs(tmp_path: Path) -> list[Deb]:
    return [
        deb(tmp_path, "base-files", {
            "usr/share/doc/base-files/copyright": "see /usr/share/common-licenses/GPL-2\n",
            "usr/share/common-licenses/GPL-2": "the GPL\n",
            "usr/share/common-licenses/GPL": "-> GPL-2",
        }),
        deb(tmp_path, "tool", {"usr/share/doc/tool/copyright": ISC, "usr/bin/tool": "x"}, Depends="tool-data",
            Source="tool-source (1.0)", Built_Using="glibc (= 2.36-9), gcc-12 (= 12.2.0-14)"),
        deb(tmp_path, "tool-data", {"usr/share/doc/tool-data": "-> tool"}, Source="tool-source"),
        deb(tmp_path, "blob", {"usr/share/doc/blob/copyright": "All rights reserved.\n"},
            Section="non-free-firmware/kernel"),
        deb(tmp_path, "bare", {"usr/share/bare": "x"}),
    ]  # fmt: skip


@pytest.mark.parametrize("with_status", [False, True], ids=["extracted", "installed without documentation"])
def test_a_tree_without_its_documentation(tmp_path: Path, with_status: bool) -> None:
    found = debs(tmp_path)
    root = put(tmp_path / "root", {"usr/bin/tool": "x"})
    if with_status:
        names = ("base-files", "tool")
        fields = [run(["dpkg-deb", "-f", str(one.path)]).stdout.decode() for one in found if one.name in names]
        put(root, {"var/lib/dpkg/status": "\n".join(f"{text}Status: install ok installed\n" for text in fields)})
    described = describe_tree(directory_tree(root), found, name="kiosk")
    facts = described.facts
    by_name = {item.name: item for item in facts.components}
    assert sorted(by_name) == ["bare", "base-files", "blob", "tool", "tool-data"]
    tool, data = by_name["tool"], by_name["tool-data"]
    assert (tool.licence, tool.basis) == ("GPL-3.0-or-later AND ISC", Basis.DECLARED)
    assert [(part.licence, part.files) for part in tool.parts] == [("ISC", ("*",)), ("GPL-3.0-or-later", ("debian/*",))]
    assert (tool.source, tool.source_version) == ("tool-source", "1.0")
    assert tool.built_using == ("gcc-12 12.2.0-14", "glibc 2.36-9")
    assert tool.origin == "pool/tool.deb"
    assert tool.sha256 == found[1].sha256
    assert tool.depends == (data.key,)
    assert (data.licence, data.source_version) == (tool.licence, "1.0-1")
    assert data.texts == tool.texts
    assert (by_name["base-files"].licence, by_name["base-files"].guessed) == ("GPL-2.0-only", True)
    assert by_name["blob"].proprietary == "in Debian's non-free-firmware"
    assert by_name["bare"].texts == ()
    assert facts.texts["common-licenses/GPL-2"] == b"the GPL\n"
    assert facts.warnings == ()
    assert wanted_sources(facts.components) == [
        ("bare", "1.0-1"),
        ("base-files", "1.0-1"),
        ("blob", "1.0-1"),
        ("gcc-12", "12.2.0-14"),
        ("glibc", "2.36-9"),
        ("tool-source", "1.0"),
        ("tool-source", "1.0-1"),
    ]


def test_what_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "x.deb").write_bytes(b"no package")
    (tmp_path / "root").mkdir()
    put(tmp_path / "root", {"var/lib/dpkg/status": "Package: x\nVersion: 1\nStatus: install ok installed\n"})
    with pytest.raises(InvalidInput, match="not a package"):
        describe_tree(directory_tree(tmp_path / "root"), [Deb(name="x", path=tmp_path / "x.deb")], name="x")


def repository(folder: Path) -> str:
    """Makes a repository of sources with one package of two files; returns its stanza."""
    folder.mkdir()
    files = {"thing_1.0.orig.tar.xz": b"upstream\n" * 100, "thing_1.0-2.debian.tar.xz": b"debian\n"}
    sums = "".join(f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}\n" for name, data in files.items())
    dsc = f"Format: 3.0 (quilt)\nSource: thing\nVersion: 1.0-2\nChecksums-Sha256:\n{sums}".encode()
    files["thing_1.0-2.dsc"] = dsc
    for name, data in files.items():
        (folder / name).write_bytes(data)
    sums = "".join(f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}\n" for name, data in files.items())
    (folder / "Sources").write_text(
        f"Package: thing\nBinary: thing\nVersion: 1.0-2\nFormat: 3.0 (quilt)\nDirectory: .\nChecksums-Sha256:\n{sums}\n"
    )
    index = (folder / "Sources").read_bytes()
    (folder / "Release").write_text(
        f"Suite: test\nSHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} Sources\n"
    )
    return f"Types: deb\nURIs: file:{folder}\nSuites: ./\nTrusted: yes\n"


needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt-get")


@needs_apt
def test_sources(tmp_path: Path) -> None:
    stanza = repository(tmp_path / "repo")
    wanted = [("thing", "1.0-2"), ("thing", "1.0-1"), ("gone", "7")]
    folder = tmp_path / "sources"
    found = fetch_sources(wanted, [stanza], folder, tmp_path / "work")
    (package,) = found.packages
    assert [file.name for file in package.files] == [
        "thing_1.0-2.debian.tar.xz",
        "thing_1.0-2.dsc",
        "thing_1.0.orig.tar.xz",
    ]
    for file in package.files:
        data = (tmp_path / "repo" / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert [text.split(":")[0] for text in found.missing] == ["thing 1.0-1", "gone 7"]
    shutil.rmtree(tmp_path / "repo")  # what is there is not fetched again
    assert fetch_sources([("thing", "1.0-2")], [stanza], folder, tmp_path / "work").packages == found.packages
    facts = describe_tree(directory_tree(tmp_path / "sources"), name="x").facts
    bundle = make_bundle("x", facts, sources=found.packages, source_folder=folder, missing=found.missing)
    write_folder(bundle, tmp_path / "bundle")
    copied = tmp_path / "bundle/sources/thing_1.0-2/thing_1.0-2.dsc"
    assert hashlib.sha256(copied.read_bytes()).hexdigest() == package.files[1].sha256
    assert "gone 7" in (tmp_path / "bundle/README.txt").read_text()


@needs_apt
def test_a_source_with_another_digest(tmp_path: Path) -> None:
    stanza = repository(tmp_path / "repo")
    (tmp_path / "repo/thing_1.0.orig.tar.xz").write_bytes(b"evil....\n" * 100)
    found = fetch_sources([("thing", "1.0-2")], [stanza], tmp_path / "sources", tmp_path / "work")
    assert found.packages == ()
    assert len(found.missing) == 1
    assert not (tmp_path / "sources/thing_1.0-2").exists()


@needs_apt
def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        fetch_sources([("thing", "1")], [], tmp_path / "s", tmp_path / "w")
    stanza = f"URIs: file:{tmp_path}/none\nSuites: ./\nTrusted: yes\n"
    with pytest.raises(NetworkError):
        fetch_sources([("thing", "1")], [stanza], tmp_path / "s", tmp_path / "w")


def test_only_packages_of_debian_have_sources_there() -> None:
    assert wanted_sources([Component(kind="pypi", name="x", version="1", source="x", source_version="1")]) == []


def test_archives_of_what_was_compiled(tmp_path: Path) -> None:
    put(tmp_path / "files", {"linux.dsc": b"d", "linux.tar.xz": b"t"})
    files = [tmp_path / "files" / name for name in ("linux.dsc", "linux.tar.xz")]
    package = keep_archives("linux", "1:6.1", files, tmp_path / "sources")
    assert [(file.name, file.size) for file in package.files] == [("linux.dsc", 1), ("linux.tar.xz", 1)]
    bundle = make_bundle("x", Facts(), sources=[package], source_folder=tmp_path / "sources")
    assert bundle.sources["sources/linux_1%3a6.1/linux.dsc"].read_bytes() == b"d"
    with pytest.raises(NotFound, match="build the host again"):
        keep_archives("linux", "2", [tmp_path / "gone"], tmp_path / "sources")
