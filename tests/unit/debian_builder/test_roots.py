"""Roots: unpacked packages put into one tree, furnished, cleaned; packages read as files."""

from __future__ import annotations

import os
import py_compile
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fixtures.mirrors import make_package

from wherry.build.debian import base
from wherry.build.debian.cleaning import clean, unchecked
from wherry.build.debian.deb import control_of
from wherry.build.debian.lock import Package, Role
from wherry.core.errors import InvalidInput, Unsupported
from wherry.spec.architecture import architecture

EPOCH = 1_600_000_000


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")


def test_what_belongs_to_the_machine_is_gone(tmp_path: Path) -> None:
    mine = (
        "etc/hostname",
        "etc/resolv.conf",
        "etc/apt/sources.list",
        "etc/ssh/ssh_host_rsa_key",
        "etc/ssh/ssh_host_rsa_key.pub",
    )
    logs = ("var/log/dpkg.log", "var/log/apt/history.log", "var/cache/ldconfig/aux-cache", "run/x", "tmp/x/y", "dev/x")
    stays = ("etc/ssh/sshd_config", "var/lib/dpkg/status", "usr/bin/tool", "var/log/journal/x")
    put(tmp_path, *mine, *logs, *stays, "etc/machine-id")
    clean(tmp_path, epoch=EPOCH)
    assert [name for name in (*mine, *logs) if (tmp_path / name).exists()] == []
    assert [name for name in stays if not (tmp_path / name).exists()] == []
    assert (tmp_path / "etc/machine-id").read_bytes() == b""
    assert stat.S_IMODE((tmp_path / "tmp").stat().st_mode) == 0o1777


def test_times_are_no_later_than_the_epoch(tmp_path: Path) -> None:
    put(tmp_path, "usr/new", "usr/old")
    (tmp_path / "usr/link").symlink_to("new")
    os.utime(tmp_path / "usr/old", (1000, 1000))
    clean(tmp_path, epoch=EPOCH)
    assert (tmp_path / "usr/new").stat().st_mtime == EPOCH
    assert (tmp_path / "usr/old").stat().st_mtime == 1000
    assert (tmp_path / "usr/link").lstat().st_mtime == EPOCH
    assert (tmp_path / "usr").stat().st_mtime == EPOCH


@pytest.mark.parametrize("mode", list(py_compile.PycInvalidationMode))
def test_what_python_compiled_is_used_whatever_the_sources_time(
    tmp_path: Path, mode: py_compile.PycInvalidationMode
) -> None:
    source = tmp_path / "thing.py"
    source.write_text("print('compiled')\n")
    compiled = py_compile.compile(str(source), doraise=True, invalidation_mode=mode)
    assert compiled is not None
    unchecked(Path(compiled))
    source.write_text("print('from the source')\n")
    words = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import thing"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "compiled\n"


def test_damaged_pyc_files_are_left_alone(tmp_path: Path) -> None:
    for data in (b"", b"short", bytes(4) + b"\xff" * 12):
        (tmp_path / "x.pyc").write_bytes(data)
        unchecked(tmp_path / "x.pyc")
        assert (tmp_path / "x.pyc").read_bytes() == data


@pytest.mark.parametrize("compression", ["xz", "gzip", "zstd", "none"])
def test_the_control_file_of_a_package(tmp_path: Path, compression: str) -> None:
    made = make_package(tmp_path, "thing", "1:2")
    target = tmp_path / "again.deb"
    words = ["dpkg-deb", "--root-owner-group", f"-Z{compression}", "--uniform-compression", "--build"]
    subprocess.run([*words, str(tmp_path / ".thing"), str(target)], check=True, capture_output=True)
    for path in (made, target):
        assert control_of(path).splitlines()[:2] == ["Package: thing", "Version: 1:2"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a package",
        b"!<arch>\n",
        b"!<arch>\n" + b"debian-binary   0           0     0     100644  4         `\n2.0\n",
        b"!<arch>\n" + b"control.tar.xz  0           0     0     100644  4         `\nnope",
        b"!<arch>\n" + b"control.tar     0           0     0     100644  4         `\nnope",
        b"!<arch>\n" + b"control.tar.gz  0           0     0     100644  99999999999`\nnope",
    ],
)
def test_what_is_no_package(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.deb").write_bytes(data)
    with pytest.raises(InvalidInput, match=r"x\.deb"):
        control_of(tmp_path / "x.deb")


def test_a_repository_of_the_locks_files(tmp_path: Path) -> None:
    made = make_package(tmp_path, "thing", "1:2")
    package = Package(
        role=Role.ROOT,
        name="thing",
        version="1:2",
        architecture="amd64",
        size=made.stat().st_size,
        sha256="ab" * 32,
        path="pool/thing.deb",
    )
    made.rename(tmp_path / package.file_name)
    base.write_repository(tmp_path / "repository", [package], tmp_path, "bookworm", "amd64")
    index = (tmp_path / "repository/Packages").read_text()
    assert "Package: thing\n" in index
    assert f"Filename: ./thing_1%3a2_amd64.deb\nSize: {package.size}\nSHA256: {'ab' * 32}\n" in index
    assert (
        "Suite: bookworm\nCodename: bookworm\nArchitectures: amd64 all\n"
        in (tmp_path / "repository/Release").read_text()
    )


def test_programs_that_run_here_and_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from wherry.engine import foreign

    base.check_runs(architecture("amd64" if os.uname().machine == "x86_64" else "arm64"))

    def nobody(name: str) -> tuple[foreign.Entry, ...]:
        raise Unsupported(f"this machine does not run programs for {name}", hint="install it")

    monkeypatch.setattr(foreign, "interpreters", nobody)
    with pytest.raises(Unsupported, match=r"packages of riscv64 cannot be installed here.*variant: extract"):
        base.check_runs(architecture("riscv64"))
    monkeypatch.setattr(foreign, "interpreters", lambda name: (foreign.Entry(interpreter="/usr/bin/qemu", flags="P"),))
    with pytest.raises(Unsupported, match=r"not kept open \(flag F"):
        base.check_runs(architecture("riscv64"))
    monkeypatch.setattr(foreign, "interpreters", lambda name: (foreign.Entry(interpreter="/usr/bin/qemu", flags="F"),))
    base.check_runs(architecture("riscv64"))
