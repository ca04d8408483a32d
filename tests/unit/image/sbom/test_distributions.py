"""dpkg, apk and rpm."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.unit.image.sbom.parts import by_name, described, rpm_database, rpm_header, warnings

from wherry.image.sbom import dpkg
from wherry.image.sbom.model import Basis
from wherry.image.sbom.purl import purl_of
from wherry.store.format.objects import Mode

OS_RELEASE = 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\nBROKEN="\n'
STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc (2.36-9)
Version: 2.36-9+b1
Homepage: https://example.org
Maintainer: Somebody <a@example.org>
Description: the C library
 more of it
Provides: libc (= 2)

Package: bash
Status: hold ok installed
Architecture: amd64
Version: 5.2-1
Pre-Depends: libc6 (>= 2.36)
Depends: missing | libc, debianutils:any

Package: gone
Status: deinstall ok config-files
Version: 1

Package: ../evil
Status: install ok installed
Version: 1

no field
Package: debianutils
Status: install ok installed
Architecture: all
Version: 5.7
"""


@pytest.mark.parametrize("mode", [Mode.BARE_USER, Mode.ARCHIVE])
def test_dpkg(tmp_path: Path, mode: Mode) -> None:
    inventory = described(
        tmp_path,
        {
            "usr/lib/os-release": OS_RELEASE,
            "etc/os-release": "-> ../usr/lib/os-release",
            "var/lib/dpkg/status": STATUS,
            "usr/share/doc/libc6/copyright": "/usr/share/common-licenses/LGPL-2.1",
            "usr/share/doc/bash": "-> libc6",
        },
        mode,
    )
    found = by_name(inventory)
    assert sorted(found) == ["bash", "debianutils", "libc6"]
    libc = found["libc6"]
    assert (libc.version, libc.architecture, libc.source, libc.summary) == (
        "2.36-9+b1",
        "amd64",
        "glibc 2.36-9",
        "the C library",
    )
    assert purl_of(libc).to_string() == "pkg:deb/debian/libc6@2.36-9%2Bb1?arch=amd64&distro=debian-12"
    assert (libc.licence, libc.basis) == ("LGPL-2.1-only", Basis.RECOGNISED)
    assert found["bash"].licence_files == ("usr/share/doc/libc6/copyright",)
    assert set(found["bash"].depends) == {libc.key, found["debianutils"].key}
    assert (found["debianutils"].licence, found["debianutils"].basis) == ("", Basis.UNKNOWN)
    assert "'../evil'" in warnings(inventory)
    assert "malformed lines at package debianutils" in warnings(inventory)


def test_dpkg_of_images_without_dpkg(tmp_path: Path) -> None:
    inventory = described(
        tmp_path,
        {
            "var/lib/dpkg/status.d/base": "Package: base-files\nVersion: 12\nArchitecture: arm64\n",
            "var/lib/dpkg/status.d/base.md5sums": "Package: no\nVersion: 1\n",
        },
    )
    assert [item.key for item in inventory.components] == ["deb:debian/base-files:arm64@12"]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"var/lib/dpkg/status": "-> /var/lib/dpkg/status"}, ""),
        ({"var/lib/dpkg/status": "-> ../../../../../../etc/passwd"}, ""),
        ({"var/lib/dpkg/status": b"\x00\xff" * 5000}, ""),
        ({"var/lib/dpkg/status": "Package: a\nVersion: 1\n" * 20_000}, "longer than"),
        ({"var/lib/dpkg/status/x": ""}, ""),
        ({"lib/apk/db/installed": "V:1\nP:\n\nP:x\n"}, "without a name or a version"),
        ({"var/lib/rpm/Packages": b"x"}, "Berkeley DB, which is not read"),
        ({"usr/lib/sysimage/rpm/Packages.db": b"x", "var/lib/rpm": "-> ../../usr/lib/sysimage/rpm"}, "NDB"),
        ({"var/lib/rpm/rpmdb.sqlite": b"SQLite format 3\0" + b"\xff" * 5000}, "the database is damaged"),
        ({"var/lib/rpm/rpmdb.sqlite": b""}, "the database is damaged"),
    ],
)
def test_bad_databases_are_warnings(
    tmp_path: Path, files: dict[str, str | bytes], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dpkg, "MAX_STATUS_BYTES", 100_000)
    inventory = described(tmp_path, files)
    assert inventory.components == ()
    assert told in warnings(inventory)
    assert len(inventory.warnings) <= 1 + (told == "without a name or a version") + (told == "")


def test_apk(tmp_path: Path) -> None:
    inventory = described(
        tmp_path,
        {
            "etc/os-release": "ID=alpine\nVERSION_ID=3.20.1\n",
            "lib/apk/db/installed": (
                "C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nT:libc\nU:https://musl.libc.org/\nL:MIT\no:musl\n"
                "p:so:libc.musl-x86_64.so.1=1\nF:lib\nR:ld.so\nP:notme\n\n"
                "P:busybox\nV:1.36-r1\nA:x86_64\nL:GPL-2.0-only BSD\nD:so:libc.musl-x86_64.so.1 !x\n\n"
            ),
            "usr/share/licenses/musl/COPYRIGHT": "x",
        },
    )
    found = by_name(inventory)
    assert sorted(found) == ["busybox", "musl"]
    assert found["busybox"].licence == "GPL-2.0-only AND LicenseRef-BSD"
    assert found["busybox"].depends == (found["musl"].key,)
    assert found["musl"].licence_files == ("usr/share/licenses/musl/COPYRIGHT",)
    assert purl_of(found["musl"]).to_string() == "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1"


def test_rpm(tmp_path: Path) -> None:
    bash = rpm_header(
        {1000: "bash", 1001: "5.2", 1002: "1.fc40", 1003: [2], 1014: "GPL-3.0-or-later", 1022: "x86_64",
         1044: "bash-src-5.2-1.fc40.src.rpm", 1049: ["libc.so.6"], 1037: [0, 128], 1116: [0, 1],
         1117: ["bash", "COPYING"], 1118: ["/usr/bin/", "/usr/share/licenses/bash/"], 273: "ab" * 32}
    )  # fmt: skip
    libc = rpm_header({1000: "glibc", 1001: "2.39", 1002: "1", 1047: ["libc.so.6"], 1014: "LGPLv2+ and BSD"})
    key = rpm_header({1000: "gpg-pubkey", 1001: "1", 1002: "2"})
    broken = b"\0\0\0\x05\0\0\0\xff" + bytes(20)
    nameless = rpm_header({1001: "1"})
    outside = rpm_header({1000: "x"}).replace((6).to_bytes(4, "big") + bytes(4), (6).to_bytes(4, "big") + b"\0\xff\0\0")
    database = rpm_database(tmp_path / "db", [bash, libc, key, broken, nameless, outside, b""])
    inventory = described(
        tmp_path,
        {
            "etc/os-release": "ID=fedora\nVERSION_ID=40\n",
            "usr/lib/sysimage/rpm/rpmdb.sqlite": database,
            "var/lib/rpm": "-> ../../usr/lib/sysimage/rpm",
            "usr/share/licenses/bash/COPYING": "GPL",
        },
    )
    found = by_name(inventory)
    assert sorted(found) == ["bash", "glibc"]
    assert purl_of(found["bash"]).to_string() == ("pkg:rpm/fedora/bash@5.2-1.fc40?arch=x86_64&distro=fedora-40&epoch=2")
    assert found["bash"].source == "bash-src 5.2-1.fc40"
    assert found["bash"].depends == (found["glibc"].key,)
    assert found["bash"].licence_files == ("usr/share/licenses/bash/COPYING",)
    assert found["glibc"].licence == "LGPL-2.0-or-later AND LicenseRef-BSD"
    told = warnings(inventory)
    for what in ("sizes are wrong", "without a name", "lies outside of it", "cut short"):
        assert what in told


def test_a_database_that_computes_for_ever_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.image.sbom.rpm.MAX_STEPS", 20)
    connection = sqlite3.connect(tmp_path / "db")
    connection.execute(
        "CREATE VIEW Packages AS WITH RECURSIVE n(hnum, blob) AS (SELECT 1, x'00' UNION ALL "
        "SELECT hnum + 1, blob FROM n) SELECT * FROM n"
    )
    connection.commit()
    connection.close()
    inventory = described(tmp_path, {"var/lib/rpm/rpmdb.sqlite": (tmp_path / "db").read_bytes()})
    assert "damaged (interrupted)" in warnings(inventory)
