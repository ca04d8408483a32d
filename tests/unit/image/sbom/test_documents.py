"""CycloneDX, SPDX, the policy and the bundle of texts."""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from license_expression import get_spdx_licensing
from tests.unit.image.sbom.parts import committed, described

from wherry.core.errors import Conflict, Unsupported
from wherry.image.sbom import licences, policy, texts
from wherry.image.sbom.cyclonedx import to_cyclonedx
from wherry.image.sbom.model import Basis, Component, Inventory, Kind, System, Unread
from wherry.image.sbom.purl import references
from wherry.image.sbom.spdx import to_spdx
from wherry.image.sbom.tree import commit_tree


def make(name: str, licence: str = "", kind: Kind = Kind.DEB, **more: object) -> Component:
    basis = Basis.DECLARED if licence else Basis.UNKNOWN
    return Component(kind=kind, name=name, version="1", licence=licence, basis=basis, **more)  # type: ignore[arg-type]


BASE = make("base", "MIT", supplier="Me", homepage="https://example.org", hashes=(("SHA-1", "ab" * 20),))
TOP = make("top", "MIT AND LicenseRef-odd", depends=(BASE.key,))
INVENTORY = Inventory(
    name="app:1",
    digest="sha256:" + "12" * 32,
    created="2024-05-06T07:08:09Z",
    platform="linux/arm64",
    system=System(identifier="debian", version="12", name="Debian"),
    components=(
        BASE,
        replace(make("seen", "ISC"), basis=Basis.RECOGNISED),
        TOP,
        make("lib", kind=Kind.NPM, namespace="@s", found_in="a", owner=TOP.key),
        make("lib", kind=Kind.NPM, namespace="@s", found_in="b", properties=(("x", "y"),)),
    ),
    warnings=(Unread(where="var/lib/rpm/Packages", what="not read"),),
    texts=(("LicenseRef-odd", "do as you like"),),
)


def test_cyclonedx() -> None:
    data = to_cyclonedx(INVENTORY)
    assert data == to_cyclonedx(INVENTORY)
    document = json.loads(data)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", document["serialNumber"])
    assert document["metadata"]["timestamp"] == "2024-05-06T07:08:09+00:00"
    assert document["metadata"]["component"]["hashes"][0]["content"] == "12" * 32
    found = {item["bom-ref"]: item for item in document["components"]}
    assert len(found) == 6
    licence = [{"license": {"id": "MIT", "acknowledgement": "declared"}}]
    assert found["pkg:deb/base@1"]["licenses"] == licence
    assert found["pkg:deb/seen@1"]["licenses"][0]["license"]["acknowledgement"] == "concluded"
    assert found["pkg:deb/top@1"]["licenses"][0]["expression"] == "MIT AND LicenseRef-odd"
    assert "licenses" not in found["pkg:npm/%40s/lib@1"]
    assert found["pkg:npm/%40s/lib@1"]["purl"] == found["pkg:npm/%40s/lib@1#2"]["purl"]
    edges = {item["ref"]: item.get("dependsOn", []) for item in document["dependencies"]}
    assert edges["pkg:deb/top@1"] == ["pkg:deb/base@1"]
    assert "pkg:deb/base@1" not in edges[INVENTORY.digest]
    assert document["properties"][0]["value"] == "var/lib/rpm/Packages: not read"
    other = json.loads(to_cyclonedx(replace(INVENTORY, digest="sha256:" + "34" * 32)))
    assert other["serialNumber"] != document["serialNumber"]


def test_spdx() -> None:
    data = to_spdx(INVENTORY)
    assert data == to_spdx(INVENTORY)
    document = json.loads(data)
    assert document["spdxVersion"] == "SPDX-2.3"
    packages = {item["SPDXID"]: item for item in document["packages"]}
    assert len(packages) == len(document["packages"]) == 7
    known = {"SPDXRef-DOCUMENT", *packages}
    licensing = get_spdx_licensing()
    extracted = {item["licenseId"] for item in document["hasExtractedLicensingInfos"]}
    for identifier, package in packages.items():
        assert re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", identifier)
        assert {"name", "downloadLocation", "licenseDeclared", "licenseConcluded", "copyrightText"} <= package.keys()
        for field in ("licenseDeclared", "licenseConcluded"):
            unknown = licensing.unknown_license_keys(package[field]) if package[field] != "NOASSERTION" else []
            assert set(unknown) <= extracted
    for link in document["relationships"]:
        assert {link["spdxElementId"], link["relatedSpdxElement"]} <= known
    kinds = [link["relationshipType"] for link in document["relationships"]]
    assert (kinds.count("DESCRIBES"), kinds.count("CONTAINS"), kinds.count("DEPENDS_ON")) == (1, 6, 1)
    by_name = {item["name"]: item for item in document["packages"]}
    assert by_name["base"]["checksums"] == [{"algorithm": "SHA1", "checksumValue": "ab" * 20}]
    assert (by_name["seen"]["licenseDeclared"], by_name["seen"]["licenseConcluded"]) == ("NOASSERTION", "ISC")
    assert document["hasExtractedLicensingInfos"][0]["extractedText"] == "do as you like"
    assert "not read" in document["comment"]


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "var/lib/dpkg/status": "Package: a\nVersion: 1\n\nPackage: b\nVersion: 1\nDepends: a\n"
    }
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    one, two = described(tmp_path / "1", files), described(tmp_path / "2", files)
    assert one == two
    assert to_spdx(one) == to_spdx(two)
    assert one.created == "2023-11-14T22:13:20Z"


def test_references_are_unique() -> None:
    assert len(set(references(INVENTORY.components).values())) == len(INVENTORY.components)


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("cyclonedx.model", lambda: to_cyclonedx(INVENTORY)),
        ("packageurl", lambda: to_spdx(INVENTORY)),
        ("license_expression", lambda: licences.expression("MIT OR Zlib-missing")),
    ],
)
def test_without_the_packages(module: str, call: object, monkeypatch: pytest.MonkeyPatch) -> None:
    licences._library.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Unsupported, match=r"pip install wherry\[images\]"):
        call()  # type: ignore[operator]
    licences._library.cache_clear()


@pytest.mark.parametrize(
    ("licence", "patterns", "denied"),
    [
        ("GPL-3.0-or-later", ["GPL-3.0*"], ("GPL-3.0-or-later",)),
        ("LGPL-3.0-only", ["GPL-3.0*"], ()),
        ("MIT OR GPL-3.0-only", ["gpl-3.0*"], ()),
        ("MIT OR GPL-3.0-only", ["gpl-3.0*", "MIT"], ("GPL-3.0-only", "MIT")),
        ("(MIT OR ISC) AND GPL-3.0-only", ["GPL-3.0*"], ("GPL-3.0-only",)),
        ("GPL-3.0-or-later WITH GCC-exception-3.1", ["GPL-3.0-or-later"], ("GPL-3.0-or-later WITH GCC-exception-3.1",)),
        ("LicenseRef-odd", ["odd"], ("LicenseRef-odd",)),
        ("", ["unknown"], ("unknown",)),
        ("", ["MIT"], ()),
        ("MIT", [], ()),
    ],
)
def test_policy(licence: str, patterns: list[str], denied: tuple[str, ...]) -> None:
    found = policy.check(replace(INVENTORY, components=(make("x", licence),)), patterns)
    assert tuple(name for item in found for name in item.licences) == denied


def test_texts(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "var/lib/dpkg/status": "Package: a\nVersion: 1\n\nPackage: a\nVersion: 1\nArchitecture: armhf\n",
        "usr/share/doc/a/copyright": "/usr/share/common-licenses/GPL-3",
        "usr/share/common-licenses/GPL-3": "the text",
        "usr/share/common-licenses/GPL": "-> GPL-3",
        "usr/share/common-licenses/out": "-> /etc/none",
        "x/node_modules/..evil/package.json": '{"name": "../../evil", "version": "1"}',
        "x/node_modules/..evil/LICENSE": "evil",
    }
    repo, commit = committed(tmp_path, files)
    from wherry.image.sbom.describe import describe

    inventory = describe(repo, commit)
    found, unread = texts.collect(commit_tree(repo, commit), inventory)
    assert sorted(found) == [
        "common-licenses/GPL",
        "common-licenses/GPL-3",
        "deb/a/copyright",
        "licences.json",
        "npm/_.._evil/LICENSE",
    ]
    assert len(unread) == 1
    index = json.loads(found["licences.json"])
    assert index["components"][0]["files"] == ["deb/a/copyright"]
    buffers = [io.BytesIO(), io.BytesIO()]
    for buffer in buffers:
        texts.write_tar(found, buffer, inventory)
    assert buffers[0].getvalue() == buffers[1].getvalue()
    with tarfile.open(fileobj=io.BytesIO(buffers[0].getvalue())) as archive:
        assert archive.getnames()[0] == "licences/common-licenses/GPL"
    texts.write_folder(found, tmp_path / "out")
    assert (tmp_path / "out/npm/_.._evil/LICENSE").read_text() == "evil"
    with pytest.raises(Conflict):
        texts.write_folder(found, tmp_path / "out")
