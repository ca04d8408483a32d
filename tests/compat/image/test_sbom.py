"""What is found in a tree is what the package managers themselves say of it, and the documents are valid."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tests.compat.store.conftest import debian

from wherry.core.proc import run
from wherry.image.sbom.cyclonedx import to_cyclonedx
from wherry.image.sbom.describe import describe, describe_directory
from wherry.image.sbom.model import Component, Inventory, Kind
from wherry.image.sbom.python import normalised
from wherry.image.sbom.spdx import to_spdx
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository

__all__ = ["debian"]

SPEC = """\
Name: {name}
Version: 1.2
Release: 3
Epoch: {epoch}
Summary: a test
License: {licence}
BuildArch: noarch
{more}
%description
x
%install
mkdir -p %{{buildroot}}/usr/share/licenses/{name}
echo text >%{{buildroot}}/usr/share/licenses/{name}/COPYING
%files
%license /usr/share/licenses/{name}/COPYING
"""


def of_kind(inventory: Inventory, kind: Kind) -> list[Component]:
    return [item for item in inventory.components if item.kind is kind]


def check_documents(inventory: Inventory, tmp_path: Path) -> None:
    """Has both documents checked by the specifications' own people."""
    text = to_cyclonedx(inventory).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    path = tmp_path / "image.spdx.json"
    path.write_bytes(to_spdx(inventory))
    tool = [sys.executable, "-m", "spdx_tools.spdx.clitools.pyspdxtools", "--infile", str(path)]
    done = subprocess.run(tool, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_checks_of_documents_can_fail(tmp_path: Path) -> None:
    inventory = describe_directory(tmp_path)
    text = to_cyclonedx(inventory).decode().replace('"container"', '"box"')
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is not None
    broken = json.loads(to_spdx(inventory)) | {"dataLicense": "MIT"}
    path = tmp_path / "x.spdx.json"
    path.write_text(json.dumps(broken))
    tool = [sys.executable, "-m", "spdx_tools.spdx.clitools.pyspdxtools", "--infile", str(path)]
    assert subprocess.run(tool, capture_output=True, check=False).returncode != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for the owners in a Debian tree")
def test_debian(debian: Path, tmp_path: Path) -> None:
    form = "-f=${db:Status-Status} ${Package} ${Version} ${Architecture}\n"
    out = run(["dpkg-query", f"--admindir={debian}/var/lib/dpkg", "-W", form]).stdout.decode()
    expected = sorted(line.split()[1:] for line in out.splitlines() if line.startswith("installed "))
    repo = Repository.init(tmp_path / "repo", Mode.BARE_USER)
    commit = repo.commit(debian, timestamp_s=0)
    inventory = describe(repo, commit)
    found = of_kind(inventory, Kind.DEB)
    assert sorted([item.name, item.version, item.architecture] for item in found) == expected
    assert len(found) > 80
    known = [item for item in found if item.licence]
    assert len(known) > 0.95 * len(found)
    assert all(item.licence_files for item in found)
    assert inventory.warnings == ()
    assert inventory.system.identifier == "debian"
    for item in found:  # what dpkg demands is there
        depends = run(
            ["dpkg-query", f"--admindir={debian}/var/lib/dpkg", "-W", "-f=${Depends}${Pre-Depends}", item.name]
        )
        assert bool(item.depends) == bool(depends.stdout.strip()), item.name
    check_documents(inventory, tmp_path)
    again = describe(repo, commit)
    assert (to_cyclonedx(again), to_spdx(again)) == (to_cyclonedx(inventory), to_spdx(inventory))


@pytest.mark.skipif(shutil.which("rpmbuild") is None, reason="needs rpmbuild")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to install")
def test_rpm(tmp_path: Path) -> None:
    packages = []
    for name, epoch, licence, more in (
        ("one", 7, "GPLv2+ and MIT", "Requires: cap(x)"),
        ("two", 0, "Apache-2.0 OR BSD-3-Clause", "Provides: cap(x) = 1"),
    ):
        spec = tmp_path / f"{name}.spec"
        spec.write_text(SPEC.format(name=name, epoch=epoch, licence=licence, more=more))
        run(["rpmbuild", "-bb", "--define", f"_topdir {tmp_path}/build", str(spec)], env={"PATH": os.environ["PATH"]})
        packages += [str(path) for path in (tmp_path / "build/RPMS").rglob(f"{name}-*.rpm")]
    root = tmp_path / "root"
    root.mkdir()
    database = "/usr/lib/sysimage/rpm"
    options = ["--root", str(root), "--dbpath", database]
    run(["rpm", *options, "-i", "--nodeps", "--force-debian", *packages], env={"PATH": os.environ["PATH"]})
    form = "%{NAME} %{EPOCH} %{VERSION}-%{RELEASE} %{ARCH}\n"
    expected = run(["rpm", *options, "-qa", "--qf", form]).stdout.decode().split("\n")[:-1]
    inventory = describe_directory(root)
    found = of_kind(inventory, Kind.RPM)
    shown = [f"{i.name} {dict(i.qualifiers)['epoch']} {i.version} {i.architecture}" for i in found]
    assert sorted(shown) == sorted(expected)
    assert len(shown) == 2
    assert [item.licence for item in found] == ["GPL-2.0-or-later AND MIT", "Apache-2.0 OR BSD-3-Clause"]
    assert [item.licence_files for item in found] == [
        ("usr/share/licenses/one/COPYING",),
        ("usr/share/licenses/two/COPYING",),
    ]
    assert found[0].depends == (found[1].key,)
    assert inventory.warnings == ()
    check_documents(inventory, tmp_path)


def test_python(tmp_path: Path) -> None:
    inventory = describe_directory(Path(sys.prefix))
    expected = set()
    for distribution in importlib.metadata.distributions(path=[p for p in sys.path if p.startswith(sys.prefix)]):
        expected.add((normalised(distribution.metadata["Name"]), distribution.version))
    found = of_kind(inventory, Kind.PYPI)
    assert expected <= {(item.name, item.version) for item in found}
    assert sum(bool(item.licence) for item in found) > 0.9 * len(found)
    check_documents(inventory, tmp_path)


@pytest.mark.skipif(shutil.which("go") is None, reason="needs go")
def test_go(tmp_path: Path) -> None:
    for name, text in {
        "dep/go.mod": "module example.org/dep\n\ngo 1.18\n",
        "dep/dep.go": 'package dep\n\nfunc Word() string { return "x" }\n',
        "go.mod": "module example.org/tool\n\ngo 1.18\n\nrequire example.org/dep v0.0.0\n\n"
        "replace example.org/dep => ./dep\n",
        "main.go": 'package main\n\nimport "example.org/dep"\n\nfunc main() { println(dep.Word()) }\n',
    }.items():
        (tmp_path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / name).write_text(text)
    root = tmp_path / "root"
    root.mkdir()
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "GOPROXY": "off", "GOFLAGS": "-mod=mod",
        "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOCACHE": str(tmp_path / "cache"),
    }  # fmt: skip
    for system in ("amd64", "arm"):
        build = ["go", "build", "-ldflags=-s -w", "-o", str(root / system), "."]
        run(build, cwd=tmp_path / "src", env=environment | {"GOARCH": system})
    said = run(["go", "version", "-m", str(root / "amd64")], env=environment).stdout.decode()
    words = [line.split("\t")[1:4] for line in said.splitlines()[1:]]
    expected = {("example.org/tool", next(w[2] for w in words if w[0] == "mod"))}
    expected |= {(w[1], w[2]) for w in words if w[0] == "=>"}
    expected.add(("stdlib", said.split()[1].removeprefix("go")))
    inventory = describe_directory(root)
    for system in ("amd64", "arm"):
        items = [item for item in of_kind(inventory, Kind.GOLANG) if item.found_in == system]
        assert {("/".join(filter(None, (i.namespace, i.name))), i.version) for i in items} == expected
    assert inventory.warnings == ()


NPM = Path("/usr/lib/node_modules/npm")


@pytest.mark.skipif(shutil.which("npm") is None or not (NPM / "node_modules").is_dir(), reason="needs npm's own tree")
def test_npm(tmp_path: Path) -> None:
    done = run(["npm", "ls", "--all", "--parseable", "--long"], cwd=NPM, check=False, env={"PATH": os.environ["PATH"]})
    expected = set()
    for line in done.stdout.decode().splitlines():
        path, name = line.split(":")[:2]
        if "/node_modules/npm/node_modules/" in path:
            expected.add((path.removeprefix(f"{NPM}/") + "/package.json", name))
    inventory = describe_directory(NPM)
    found = of_kind(inventory, Kind.NPM)
    shown = {(i.found_in, f"{'/'.join(filter(None, (i.namespace, i.name)))}@{i.version}") for i in found}
    assert len(expected) > 50
    assert expected <= shown
    check_documents(inventory, tmp_path)
