"""Python, npm, and what programs say of themselves."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import pytest
from tests.unit.image.sbom.parts import by_name, described, elf, go_buildinfo, warnings

from wherry.image.sbom.model import Basis, Kind
from wherry.image.sbom.purl import purl_of
from wherry.store.format.objects import Mode

SITE = "usr/lib/python3/dist-packages"


def test_python(tmp_path: Path) -> None:
    inventory = described(
        tmp_path,
        {
            f"{SITE}/Foo_Bar-1.0.dist-info/METADATA": (
                "Metadata-Version: 2.4\nName: Foo.Bar\nVersion: 1.0\nLicense-Expression: MIT OR Apache-2.0\n"
                "Requires-Dist: old>=1\nRequires-Dist: extra; extra == 'x'\n"
                "Project-URL: Homepage, https://foo\n\nName: no"
            ),
            f"{SITE}/Foo_Bar-1.0.dist-info/licenses/LICENSE": "text",
            f"{SITE}/Foo_Bar-1.0.dist-info/licenses/sub/NOTICE": "-> /etc/shadow",
            f"{SITE}/old-2.egg-info/PKG-INFO": (
                "Name: old\nVersion: 2\nLicense: BSD\nClassifier: License :: OSI Approved :: MIT License\n"
            ),
            f"{SITE}/single.egg-info": "Name: single\nVersion: 3\nLicense: Nobody's\n",
            f"{SITE}/extra-1.dist-info/METADATA": "Name: extra\nVersion: 1\n",
            f"{SITE}/extra-1.dist-info/COPYING": "SPDX-License-Identifier: ISC\n",
            f"{SITE}/bad-1.dist-info/METADATA": "Nme: x",
            "etc/shadow": "secret",
            "var/lib/dpkg/status": "Package: python3-old\nVersion: 2-1\nStatus: install ok installed\n",
            "var/lib/dpkg/info/python3-old.list": f"/.\n/{SITE}/old-2.egg-info/PKG-INFO\n",
        },
    )
    found = by_name(inventory)
    assert sorted(found) == ["extra", "foo-bar", "old", "python3-old", "single"]
    assert purl_of(found["foo-bar"]).to_string() == "pkg:pypi/foo-bar@1.0"
    assert (found["foo-bar"].licence, found["foo-bar"].homepage) == ("MIT OR Apache-2.0", "https://foo")
    assert found["foo-bar"].depends == (found["old"].key,)
    assert found["foo-bar"].licence_files == (f"{SITE}/Foo_Bar-1.0.dist-info/licenses/LICENSE",)
    assert found["old"].licence == "MIT"
    assert found["old"].owner == found["python3-old"].key
    assert found["single"].licence == "LicenseRef-Nobody-s"
    assert (found["extra"].licence, found["extra"].basis) == ("ISC", Basis.RECOGNISED)
    assert "bad-1.dist-info/METADATA: a distribution without" in warnings(inventory)


def test_npm(tmp_path: Path) -> None:
    digest = b"\x01" * 64
    lock = {
        "packages": {
            "node_modules/left": {"version": "1.0.0", "integrity": "sha512-" + base64.b64encode(digest).decode()},
            "node_modules/@s/right": {"version": "9", "integrity": "sha512-AAAA"},
        }
    }
    single = {"packages": {"": {}, "node_modules/a": {"version": "1"}, "node_modules/b": {"version": "1", "dev": True}}}
    inventory = described(
        tmp_path,
        {
            "app/node_modules/left/package.json": json.dumps(
                {"name": "left", "version": "1.0.0", "license": "MIT", "dependencies": {"@s/right": "*", "none": "*"}}
            ),
            "app/node_modules/left/LICENSE": "MIT",
            "app/node_modules/@s/right/package.json": json.dumps(
                {"name": "@s/right", "version": "2.0.0", "licenses": [{"type": "MIT"}, {"type": "ISC"}]}
            ),
            "app/node_modules/.package-lock.json": json.dumps(lock),
            "app/node_modules/left/lib/package.json": '{"type": "module"}',
            "app/node_modules/bad/package.json": "{",
            "app/node_modules/odd/package.json": '{"name": 1, "version": []}',
            "app/node_modules/twice/package.json": '{"name": "a", "name": "b"}',
            "app/node_modules/list/package.json": "[]",
            "bundle/package-lock.json": json.dumps(single),
        },
    )
    found = by_name(inventory)
    assert sorted(found) == ["a", "left", "right"]
    assert found["left"].hashes == (("SHA-512", digest.hex()),)
    assert found["left"].depends == (found["right"].key,)
    assert found["left"].licence_files == ("app/node_modules/left/LICENSE",)
    assert (found["right"].licence, found["right"].hashes) == ("MIT OR ISC", ())
    assert purl_of(found["right"]).to_string() == "pkg:npm/%40s/right@2.0.0"
    told = warnings(inventory)
    assert all(f"node_modules/{name}/package.json" in told for name in ("bad", "odd", "twice", "list"))


MODULES = (
    "path\texample.org/cmd\nmod\texample.org/cmd\t(devel)\t\n"
    "dep\tgithub.com/a/b\tv1.2.3\th1:abc=\ndep\tgithub.com/c\tv1.0.0\n=>\tgithub.com/fork/c\tv1.0.1\th1:x=\n"
    "build\tCGO_ENABLED=0\n"
)


@pytest.mark.parametrize("mode", [Mode.BARE_USER, Mode.ARCHIVE])
@pytest.mark.parametrize(("wide", "order"), [(True, "<"), (False, "<"), (True, ">")])
def test_go(tmp_path: Path, mode: Mode, wide: bool, order: str) -> None:
    program = elf({".text": b"x" * 100, ".go.buildinfo": go_buildinfo("go1.22.1", MODULES)}, wide=wide, order=order)
    inventory = described(tmp_path, {"usr/bin/tool": program, "usr/share/data": program}, mode)
    found = {purl_of(item).to_string(): item for item in inventory.components}
    assert sorted(found) == [
        "pkg:golang/example.org/cmd",
        "pkg:golang/github.com/a/b@v1.2.3",
        "pkg:golang/github.com/fork/c@v1.0.1",
        "pkg:golang/stdlib@1.22.1",
    ]
    assert found["pkg:golang/github.com/a/b@v1.2.3"].properties == (("go:sum", "h1:abc="),)
    assert ("go:replaces", "github.com/c") in found["pkg:golang/github.com/fork/c@v1.0.1"].properties
    assert len(found["pkg:golang/example.org/cmd"].depends) == 3
    assert {item.found_in for item in inventory.components} == {"usr/bin/tool"}
    assert inventory.warnings == ()


def test_rust(tmp_path: Path) -> None:
    crates = {
        "packages": [
            {"name": "app", "version": "0.1.0", "source": "local", "dependencies": [1, 99, "x"], "root": True},
            {"name": "serde", "version": "1.0.0", "source": "crates.io"},
            {"name": "", "version": 1},
        ]
    }
    program = elf({".dep-v0": zlib.compress(json.dumps(crates).encode())})
    inventory = described(tmp_path, {"usr/bin/tool": program})
    found = by_name(inventory)
    assert sorted(found) == ["app", "serde"]
    assert found["app"].depends == (found["serde"].key,)
    assert found["app"].kind is Kind.CARGO
    assert "a crate without a name" in warnings(inventory)


BUILDINFO = go_buildinfo("go1.22", MODULES)


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (b"\x7fELF", "cut short"),
        (b"\x7fELF\x02\x01" + b"\xff" * 58, "malformed table"),
        (elf({".go.buildinfo": BUILDINFO})[:-40], "cut short"),
        (elf({".go.buildinfo": b""}), "malformed"),
        (elf({".go.buildinfo": go_buildinfo("go1.17", "", flags=0)}), "Go before 1.18"),
        (elf({".go.buildinfo": BUILDINFO[:32] + b"\xff" * 40}), "malformed"),
        (elf({".go.buildinfo": BUILDINFO[:60]}), "malformed"),
        (elf({".dep-v0": b"no zlib"}), "damaged"),
        (elf({".dep-v0": zlib.compress(b"x" * 9_000_000)}), "too long"),
        (elf({".dep-v0": zlib.compress(b"[1]")}), "malformed"),
        (elf({".dep-v0": zlib.compress(b'{"packages": 1}')}), "malformed"),
    ],
)
def test_malformed_programs_are_warnings(tmp_path: Path, program: bytes, told: str) -> None:
    inventory = described(tmp_path, {"usr/bin/tool": program, "usr/bin/script": "#!/bin/sh"})
    assert inventory.components == ()
    assert len(inventory.warnings) == 1
    assert told in warnings(inventory)
