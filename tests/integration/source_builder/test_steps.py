"""Steps of a build from source, with small sources: unpacked, patched, put into a root, packed the same every time."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from tests.fixtures.place import PlainPlace, plain_place

from wherry.build.contributions import Part
from wherry.build.source import busybox, initramfs, kernel, libcap, unpacking
from wherry.build.source.options import Compression, Origin
from wherry.core.errors import IntegrityError, InvalidInput, NotFound, ToolError

PATCH = "--- a/hello.c\n+++ b/hello.c\n@@ -1 +1 @@\n-{old}\n+{new}\n"


def tarball(folder: Path) -> Path:
    """Returns a tarball with one folder at its top."""
    tree = folder / "hello-1"
    tree.mkdir(parents=True)
    (tree / "hello.c").write_text("one\n")
    subprocess.run(["tar", "-C", str(folder), "-cJf", str(folder / "hello-1.tar.xz"), "hello-1"], check=True)
    return folder / "hello-1.tar.xz"


def unpacked(tmp_path: Path, sources: Path, names: list[str], *patches: tuple[str, str, str]) -> PlainPlace:
    parts: dict[str, Part] = {}
    for layer, name, text in patches:
        folder = tmp_path / "layers" / layer / "kernel_patches"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        parts[layer] = Part(layer=layer, path=folder)
    place = plain_place(tmp_path, inputs={unpacking.SOURCES: sources})
    unpacking.unpack(place, names, list(parts.values()))
    return place


def test_a_tarball_is_unpacked_and_patched_in_the_order_of_the_chain(tmp_path: Path) -> None:
    archive = tarball(tmp_path / "src")
    place = unpacked(
        tmp_path,
        archive.parent,
        [archive.name],
        ("z/first", "9.patch", PATCH.format(old="one", new="two")),
        ("a/second", "1.patch", PATCH.format(old="two", new="three")),
    )
    assert (place.output / "tree/hello.c").read_text() == "three\n"
    assert not list(place.output.rglob("*.orig"))


def test_a_patch_that_does_not_apply_names_its_layer(tmp_path: Path) -> None:
    archive = tarball(tmp_path / "src")
    wrong = ("a/wrong", "1.patch", PATCH.format(old="nothing like it", new="x"))
    with pytest.raises(ToolError) as raised:
        unpacked(tmp_path, archive.parent, [archive.name], wrong)
    assert raised.value.where == "a/wrong: kernel_patches/1.patch"


def test_a_package_has_its_source_in_usr_src(tmp_path: Path) -> None:
    archive = tarball(tmp_path / "src")
    package = tmp_path / "deb"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN/control").write_text(
        "Package: hello-source\nVersion: 1\nArchitecture: all\nMaintainer: us <us@example.org>\nDescription: hello\n"
    )
    (package / "usr/src").mkdir(parents=True)
    os.link(archive, package / "usr/src/hello-1.tar.xz")
    subprocess.run(["dpkg-deb", "--build", str(package), str(tmp_path / "hello.deb")], check=True, capture_output=True)
    place = unpacked(tmp_path, tmp_path, ["hello.deb"])
    assert (place.output / "tree/hello.c").read_text() == "one\n"


@pytest.mark.parametrize("names", [[], ["one.tar", "two.tar"]])
def test_what_is_no_source_is_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(InvalidInput, match="no source"):
        unpacked(tmp_path, tmp_path, names)


def test_a_damaged_archive_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.tar.xz").write_bytes(b"not xz")
    with pytest.raises(ToolError):
        unpacked(tmp_path, tmp_path, ["x.tar.xz"])


def fetched(tmp_path: Path, origin: Origin, *, offline: bool = True) -> PlainPlace:
    place = plain_place(tmp_path)
    unpacking.fetch_sources(place, [], [origin], [], workspace=tmp_path, offline=offline)
    return place


def test_a_file_counts_by_its_digest(tmp_path: Path) -> None:
    (tmp_path / "linux.tar").write_bytes(b"linux")
    good = hashlib.sha256(b"linux").hexdigest()
    place = fetched(tmp_path, Origin(url="linux.tar", sha256=good))
    assert (place.output / "linux.tar").read_bytes() == b"linux"
    with pytest.raises(IntegrityError, match="expected sha256 0000"):
        fetched(tmp_path, Origin(url="linux.tar", sha256="0" * 64))
    with pytest.raises(NotFound):
        fetched(tmp_path, Origin(url="other.tar", sha256=good))
    with pytest.raises(NotFound, match="nothing may be fetched"):
        fetched(tmp_path, Origin(url="https://example.org/linux.tar", sha256=good))


def made(tmp_path: Path, *, links: str = "/bin/sh\n/usr/bin/head\n/bin/busybox\n", init: str = "#!/bin/sh\n") -> Path:
    """Returns the root of steps whose programs are none."""
    programs = tmp_path / "programs"
    (programs / "modules/lib/modules/6.1").mkdir(parents=True)
    (programs / "modules/lib/modules/6.1/modules.dep").write_text("")
    for name in (busybox.PROGRAM, *libcap.PROGRAMS):
        (programs / name).write_text(name)
    (programs / busybox.LINKS).write_text(links)
    inputs = {busybox.STEP: programs, kernel.STEP: programs, libcap.STEP: programs}
    base = plain_place(tmp_path, name="base", inputs=inputs)
    initramfs.make_base(base)
    upper = tmp_path / "over/upper"
    upper.mkdir(parents=True)
    if init:
        (upper / "init").write_text(init)
        (upper / "init").chmod(0o755)
    root = plain_place(tmp_path, name="root", inputs={"base": base.output, "over": tmp_path / "over"})
    initramfs.make_root(root)
    return root.output / "root"


def test_busybox_goes_by_its_names(tmp_path: Path) -> None:
    root = made(tmp_path)
    assert os.readlink(root / "usr/bin/head") == "/bin/busybox"
    assert (root / "bin/busybox").read_text() == "busybox"
    assert not (root / "bin/busybox").is_symlink()
    assert os.access(root / "sbin/capsh", os.X_OK)
    assert (root / "lib/modules/6.1/modules.dep").exists()


@pytest.mark.parametrize("name", ["../etc/passwd", "bin/sh", "/bin/../../x"])
def test_a_name_out_of_the_root_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="no name of busybox'"):
        made(tmp_path, links=f"{name}\n")


def test_a_root_that_nothing_starts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nothing for the kernel to start"):
        made(tmp_path, init="")


@pytest.mark.parametrize("compression", list(Compression))
def test_an_initramfs_is_the_same_every_time(tmp_path: Path, compression: Compression) -> None:
    packed: list[bytes] = []
    for number in (1, 2):
        top = tmp_path / f"run{number}"
        root = made(top)
        (root / f"etc/{number}").write_text("")  # the order of a folder is not the order of its making
        (root / f"etc/{3 - number}").write_text("")
        os.utime(root / "init", (number, number))
        place = plain_place(top, name="pack")
        initramfs.pack(place, root, place.output / "initramfs", compression, 1_000_000)
        packed.append((place.output / "initramfs").read_bytes())
    assert packed[0] == packed[1]
    unpack = {Compression.XZ: ["xz", "-dc"], Compression.GZIP: ["gzip", "-dc"], Compression.NONE: ["cat"]}[compression]
    plain = subprocess.run(unpack, input=packed[0], capture_output=True, check=True).stdout
    told = subprocess.run(["cpio", "-itvn"], input=plain, capture_output=True, check=True).stdout.decode()
    lines = {line.split(" -> ")[0].split()[-1]: line for line in told.splitlines()}
    assert {"init", "bin/busybox", "bin/sh", "dev", "proc"} <= lines.keys()
    assert all(line.split()[2:4] == ["0", "0"] for line in lines.values())
    assert lines["init"].startswith("-rwxr-xr-x")
    assert "1970" in lines["init"]


def test_a_folder_that_stays_is_emptied_for_another_source(tmp_path: Path) -> None:
    place = plain_place(tmp_path, inputs={"kernel-source": tmp_path / "one", "kernel-config": tmp_path / "x"})
    (kernel.fresh(place, "o") / "vmlinux.o").write_text("")
    assert (kernel.fresh(place, "o") / "vmlinux.o").exists()
    place.inputs = {"kernel-source": tmp_path / "one", "kernel-config": tmp_path / "y"}
    assert (kernel.fresh(place, "o") / "vmlinux.o").exists()
    place.inputs = {"kernel-source": tmp_path / "two"}
    assert not (kernel.fresh(place, "o") / "vmlinux.o").exists()
