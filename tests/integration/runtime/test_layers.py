"""Roots made in the container's own mount namespace: an image file and layers, seen nowhere on the host."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.integration.runtime.roots import bind, entered, spec_of

from wherry.linux import layers, x
from wherry.linux.mount import MS_PRIVATE, MS_REC, mount


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    for name in ("upper", "work", "place", "second"):
        (tmp_path / name).mkdir()
    (tmp_path / "second/hello").write_text("from the second layer\n")
    return tmp_path


@pytest.fixture
def image(busybox_tree: Path, tmp_path: Path) -> Path:
    subprocess.run(["mkfs.erofs", "--quiet", tmp_path / "image.erofs", busybox_tree], check=True)
    return tmp_path / "image.erofs"


def opened(parts: Path) -> dict[str, int]:
    """Opens the folders; in the mount namespace that uses them, as overlayfs takes no mounts of another one."""
    return {name: os.open(parts / name, os.O_PATH | os.O_DIRECTORY) for name in ("upper", "work", "place", "second")}


def old_kernel(patch: pytest.MonkeyPatch) -> None:
    """Refuses what kernels before 6.7 do not know, and lower layers that are nowhere."""
    real = x.new_mount

    def new_mount(fstype: str, *, source: str | None, options: tuple[str, ...], attributes: int) -> int:
        if fstype == "overlay":
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(fstype, source=source, options=options, attributes=attributes)

    patch.setattr(x, "new_mount", new_mount)


@pytest.mark.parametrize("kernel", ["this", "before Linux 6.7"])
def test_an_image_and_layers(image: Path, parts: Path, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernel != "this":
        old_kernel(monkeypatch)

    def root() -> int:
        mount(None, "/", None, MS_REC | MS_PRIVATE)
        folders = opened(parts)
        lower = [folders["second"], layers.erofs(str(image))]
        return layers.overlay(
            lower,
            upper=folders["upper"],
            work=folders["work"],
            place=folders["place"],
            source="box",
            attributes=x.MOUNT_ATTR_NODEV,
        )

    seen = entered(
        parts, spec_of(bind(parts / "second", "/data")), "cat /hello; echo x > /made; cat /proc/mounts", before=root
    )
    assert seen.status == 0, seen.out
    lines = seen.out.splitlines()
    assert lines[0] == "from the second layer"
    assert lines[1].startswith("box / overlay rw,nodev,")
    assert not [line for line in lines if "erofs" in line or str(parts) in line.partition(" overlay ")[0]]
    assert (parts / "upper/made").read_text() == "x\n"
    assert not os.path.ismount(parts / "place")
    assert list((parts / "place").iterdir()) == []


def test_a_read_only_stack_with_data_behind_it(rootfs: Path, parts: Path) -> None:
    shutil.copy(rootfs / "bin/busybox", parts / "second/data")

    def root() -> int:
        mount(None, "/", None, MS_REC | MS_PRIVATE)
        folders = opened(parts)
        tree = os.open(rootfs, os.O_PATH | os.O_DIRECTORY)
        return layers.overlay(
            [tree, folders["place"]], data=[folders["second"]], options=("metacopy=on", "redirect_dir=on")
        )

    for name in ("proc", "dev", "sys"):
        (rootfs / name).mkdir(exist_ok=True)
    seen = entered(rootfs, spec_of(), "ls /data /hello; touch /x; echo ok", before=root)
    assert "Read-only file system" in seen.out
    assert seen.out.count("No such file") == len(("data", "hello"))  # data-only: not seen by itself
    assert seen.out.endswith("ok\n")


def test_too_many_layers() -> None:
    with pytest.raises(OSError, match="at most 500") as caught:
        layers.overlay([0] * 501)
    assert caught.value.errno == errno.E2BIG


def test_what_is_no_image(parts: Path) -> None:
    (parts / "junk").write_bytes(bytes(8192))
    with pytest.raises(OSError, match=r"argument|device") as caught:
        layers.erofs(str(parts / "junk"))
    assert caught.value.errno in (errno.EINVAL, errno.ENOTBLK)
