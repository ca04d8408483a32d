"""``wherry image sbom`` and ``licenses``: what they print, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.image.sbom.parts import Files, put

from wherry.cli.root import run

FILES: Files = {
    "etc/os-release": "ID=debian\nVERSION_ID=12\n",
    "var/lib/dpkg/status": (
        "Package: a-package-with-a-very-long-name-indeed\nVersion: 1:2.3.4-5+deb12u1~bpo11+1\nArchitecture: amd64\n\n"
        "Package: b\nVersion: 1\nArchitecture: all\n"
    ),
    "usr/share/doc/b/copyright": "SPDX-License-Identifier: GPL-3.0-or-later",
    "var/lib/rpm/Packages": "x",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return put(tmp_path / "tree", FILES)


def test_sbom(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = ["--root", str(tmp_path / "root"), "--run-root", str(tmp_path / "run")]
    assert run([*head, "image", "sbom", "app:1"]) == 3
    assert run([*head, "image", "sbom", f"dir:{tmp_path}/none"]) == 3
    assert run([*head, "image", "import", f"dir:{tree}", "--name", "app:1"]) == 0
    capsys.readouterr()
    assert run([*head, "image", "sbom", "app:1"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == ["KIND", "NAME", "VERSION", "LICENCE"]
    assert len(out.splitlines()) == 3
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "warning: var/lib/rpm/Packages: rpm's packages are not listed" in err
    documents = []
    for number in range(2):
        target = tmp_path / f"{number}.json"
        assert run([*head, "-q", "image", "sbom", "app:1", "--format", "cyclonedx", "-o", str(target)]) == 0
        documents.append(target.read_bytes())
    assert documents[0] == documents[1]
    assert json.loads(documents[0])["metadata"]["component"]["name"] == "app:1"
    capsys.readouterr()
    assert run([*head, "image", "sbom", "app:1", "--format", "spdx"]) == 0
    assert json.loads(capsys.readouterr().out)["spdxVersion"] == "SPDX-2.3"
    assert run([*head, "image", "sbom", f"dir:{tree}", "--format", "json"]) == 0
    assert [item["name"] for item in json.loads(capsys.readouterr().out)["components"]][-1] == "b"
    assert run([*head, "image", "sbom", "app:1", "-o", str(tmp_path / "x")]) == 2


def test_licenses(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"dir:{tree}"
    assert run(["image", "licenses", source]) == 0
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["GPL-3.0-or-later*", "1", "b"],
        ["unknown", "1", "a-package-with-a-very-long-name-indeed"],
    ]
    assert all(len(line) <= 80 for line in out.splitlines())
    assert run(["image", "licenses", source, "--deny", "AGPL*"]) == 0
    assert run(["image", "licenses", source, "--deny", "GPL-3.0*", "--json"]) == 1
    out, err = capsys.readouterr()
    assert "the policy denies 1 packages: b (GPL-3.0-or-later)" in err
    packages = json.loads(out[out.index("{") :])["packages"]
    assert [item["denied"] for item in packages] == [[], ["GPL-3.0-or-later"]]
    assert run(["image", "licenses", source, "--texts", str(tmp_path / "t"), "--bundle", str(tmp_path / "b.tar")]) == 0
    assert (tmp_path / "t/deb/b/copyright").read_text().startswith("SPDX")
    assert (tmp_path / "b.tar").stat().st_size > 0
    assert run(["image", "licenses", source, "--texts", str(tmp_path / "t")]) == 4
