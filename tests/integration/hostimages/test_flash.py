"""`wherry host flash` onto loop devices: what is refused, what is written, and what is found out afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import random
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wherry.build import flashtarget
from wherry.build.flashing import flash as flash_image
from wherry.cli.root import cli
from wherry.core import trace
from wherry.core.errors import Conflict, IntegrityError, NoSpace, WherryError

MIB = 1024 * 1024

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/loop-control").exists(), reason="needs root and loop devices"
)


def _image(path: Path, size: int = 24 * MIB) -> Path:
    """Makes an image with a table, and with holes between its data."""
    with open(path, "xb") as file:
        file.truncate(size)
    table = "label: gpt\nlabel-id: 11111111-2222-3333-4444-555555555555\n- : start=2048, size=4096, name=one\n"
    subprocess.run(["sfdisk", "--quiet", path], input=table, text=True, check=True)
    chance = random.Random(3)
    with open(path, "r+b") as file:
        for at in (2 * MIB, 9 * MIB + 4096, 17 * MIB):
            file.seek(at)
            file.write(chance.randbytes(700_000))
    return path


@contextmanager
def _loop(file: Path, *, size: int, scan: bool = True, read_only: bool = False) -> Iterator[Path]:
    with open(file, "wb") as made:
        chance = random.Random(4)
        made.writelines(chance.randbytes(MIB) for _ in range(size // MIB))  # what was on the device before
    words = ["losetup", "--find", "--show", *(["--partscan"] if scan else []), *(["--read-only"] if read_only else [])]
    node = subprocess.run([*words, file], check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield Path(node)
    finally:
        subprocess.run(["losetup", "--detach", node], check=True)


def _call(*args: str | Path, typed: str = "") -> Result:
    return CliRunner().invoke(cli, ["host", "flash", *(str(arg) for arg in args)], input=typed)


def _failed(result: Result) -> WherryError:
    assert isinstance(result.exception, WherryError), result.output
    return result.exception


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return _image(tmp_path / "disk.img")


def test_a_device_has_the_image_afterwards(image: Path, tmp_path: Path) -> None:
    with _loop(tmp_path / "medium", size=40 * MIB) as device:
        result = _call(device, "--image", image, "--yes", "--expect-size", str(40 * MIB), "--json")
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout)
        assert said["verified"]
        assert said["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
        with open(device, "rb") as file:
            assert file.read(24 * MIB) == image.read_bytes()
            file.seek(39 * MIB)
            assert file.read() == bytes(MIB)  # where an old table's copy would be
        assert subprocess.run(["sfdisk", "--verify", device], check=False, capture_output=True).returncode == 0


def test_little_is_written_where_the_image_has_holes(image: Path, tmp_path: Path) -> None:
    with _loop(tmp_path / "medium", size=24 * MIB) as device:
        done = flash_image(image, flashtarget.look_at(device))
        assert done.verified
        if done.discarded:  # a loop device gives zeros after that
            assert done.written_bytes < 4 * MIB
    assert (tmp_path / "medium").read_bytes() == image.read_bytes()


def test_holes_are_zeros_though_the_device_keeps_what_it_was_told_to_forget(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry.linux.blockdevice.discard", lambda fd, offset, length: False)
    with _loop(tmp_path / "medium", size=30 * MIB) as device:
        done = flash_image(image, flashtarget.look_at(device))
        assert not done.discarded
    assert (tmp_path / "medium").read_bytes()[: 24 * MIB] == image.read_bytes()


def test_an_interruption_leaves_no_table(image: Path, tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    for point in ("build.flash.prepared", "build.flash.written"):
        with _loop(tmp_path / "medium", size=30 * MIB) as device:
            trace.arm(point, stop)
            try:
                result = _call(device, "--image", image, "--yes", "--expect-size", "30m")
            finally:
                trace.disarm()
            assert result.exit_code == 1
            assert "nothing boots from it now" in result.output
            with open(device, "rb") as file:
                assert file.read(MIB) == bytes(MIB)


def test_a_device_that_does_not_keep_what_is_written(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _loop(tmp_path / "medium", size=24 * MIB) as device:
        from wherry.build import flashing

        real = flashing._Work.write_head

        def write_head(work: flashing._Work) -> None:
            real(work)
            os.pwrite(work.target, b"flipped", 17 * MIB + 100)
            os.fsync(work.target)

        monkeypatch.setattr(flashing._Work, "write_head", write_head)
        with pytest.raises(IntegrityError, match=r"does not keep what is written to it: bytes 16777216 to 20971520"):
            flash_image(image, flashtarget.look_at(device))


def test_an_image_that_was_damaged_since_it_was_built(image: Path, tmp_path: Path) -> None:
    with _loop(tmp_path / "medium", size=24 * MIB) as device:
        with pytest.raises(IntegrityError, match="the image is not what was built"):
            flash_image(image, flashtarget.look_at(device), sha256="00" * 32)
        with open(device, "rb") as file:
            assert file.read(MIB) == bytes(MIB)


def test_refusals(image: Path, tmp_path: Path) -> None:
    yes = ("--image", image, "--yes", "--expect-size", "30m")
    assert "no such device" in _failed(_call("/dev/nothing", *yes)).what
    assert "not a block device" in _failed(_call(tmp_path, *yes)).what
    assert "not a block device" in _failed(_call("/dev/null", *yes)).what
    assert "not an image of a disk" in _failed(_call("/dev/null", "--image", __file__, *yes[2:])).what
    with _loop(tmp_path / "small", size=4 * MIB) as device:
        error = _failed(_call(device, "--image", image, "--yes", "--expect-size", "4m"))
        assert "too small" in error.what
    with _loop(tmp_path / "fixed", size=30 * MIB, read_only=True) as device:
        assert "read-only" in _failed(_call(device, *yes)).what
    with _loop(tmp_path / "other", size=31 * MIB) as device:
        assert "another device: it has" in _failed(_call(device, *yes)).what
        assert "serial number is not known" in _failed(_call(device, *yes[:3], "--expect-serial", "ABC123")).what
        assert "which device is meant" in _failed(_call(device, *yes[:3])).what
        assert "nobody to ask" in _failed(_call(device, *yes[:2])).what
    before = hashlib.sha256((tmp_path / "other").read_bytes()).hexdigest()
    with _loop(tmp_path / "other", size=31 * MIB) as device:
        result = _call(device, *yes[:2], "--dry-run")
        assert result.exit_code == 0
        assert f"device      {device}\n" in result.output
    assert hashlib.sha256((tmp_path / "other").read_bytes()).hexdigest() == before


def test_what_is_in_use_is_refused(image: Path, tmp_path: Path) -> None:
    with _loop(tmp_path / "medium", size=40 * MIB) as device:
        subprocess.run(["mke2fs", "-q", device], check=True)
        folder = tmp_path / "mount point"
        folder.mkdir()
        subprocess.run(["mount", device, folder], check=True)
        try:
            found = flashtarget.look_at(device)
            assert found.uses == (f"{device.name} is mounted at {folder}",)
            error = _failed(_call(device, "--image", image, "--yes", "--expect-size", "40m"))
            assert isinstance(error, Conflict)
            assert "is mounted at" in error.what
            with pytest.raises(Conflict, match="in use"):  # the kernel says so, too
                flash_image(image, replace(found, uses=()))
        finally:
            subprocess.run(["umount", folder], check=True)


def test_partitions_are_refused_and_shown(image: Path, tmp_path: Path) -> None:
    with _loop(tmp_path / "medium", size=40 * MIB) as device:
        result = _call(device, "--image", image, "--yes", "--expect-size", "40m")
        assert result.exit_code == 0, result.output
        folder = Path("/sys/class/block", f"{device.name}p1")
        if not folder.exists():
            pytest.skip("loop devices have no partitions here")
        major, minor = (folder / "dev").read_text().split(":")
        part = tmp_path / "node"
        os.mknod(part, stat.S_IFBLK | 0o600, os.makedev(int(major), int(minor)))
        error = _failed(_call(part, "--image", image, "--yes", "--expect-size", "2m"))
        assert "a partition, not a whole disk" in error.what
        assert f"/dev/{device.name}" in str(error)
        shown = dict(flashtarget.describe(flashtarget.look_at(device)))
        assert shown[folder.name].startswith("2.1 MB")


def test_the_running_system_is_never_written_to() -> None:
    root = os.stat("/").st_dev
    try:
        found = flashtarget.look_at(_node(root))
    except WherryError:
        pytest.skip("the root has no block device here")
    with pytest.raises(WherryError, match=r"holds the running system|a partition"):
        flashtarget.check(found, 1)


def _node(number: int) -> Path:
    link = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    return Path("/dev", link.resolve().name)


def test_to_a_file(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    result = _call(target, "--image", image, "--file", "--json")
    assert result.exit_code == 0, result.output
    assert target.read_bytes() == image.read_bytes()
    assert target.stat().st_blocks < image.stat().st_blocks * 2  # holes stay holes, by blocks of 64 KiB


def _workspace(tmp_path: Path, image: Path, *names: str) -> Path:
    folder = tmp_path / "device"
    (folder / "output/images").mkdir(parents=True)
    (folder / "host.yaml").write_text("target: virt/qemu\n")
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    for name in names:
        (folder / "output/images" / f"{name}.img").write_bytes(image.read_bytes())
    images = {name: {"path": f"output/images/{name}.img", "kind": "disk", "sha256": digest} for name in names}
    record = {"format": 1, "name": "device", "architecture": "amd64", "images": images}
    (folder / "output/host.json").write_text(json.dumps(record))
    return folder


def test_the_image_of_a_workspace(image: Path, tmp_path: Path) -> None:
    folder = _workspace(tmp_path, image, "disk")
    result = _call(tmp_path / "copy", folder, "--file")
    assert result.exit_code == 0, result.output
    assert "25 MB flashed, verified" in result.output.replace("25.2", "25")
    with open(folder / "output/images/disk.img", "r+b") as file:
        file.seek(20 * MIB)
        file.write(b"rot")
    assert "not what was built" in _failed(_call(tmp_path / "copy", folder, "--file")).what
    assert (tmp_path / "copy").read_bytes()[:MIB] == bytes(MIB)


def test_a_workspace_with_several_disks_or_none(image: Path, tmp_path: Path) -> None:
    error = _failed(_call(tmp_path / "copy", _workspace(tmp_path / "a", image, "card", "disk"), "--file"))
    assert "2 images of disks were built" in error.what
    assert "card.img; or --image" in str(error)
    assert "no image of a disk" in _failed(_call(tmp_path / "copy", _workspace(tmp_path / "b", image), "--file")).what
    assert not (tmp_path / "copy").exists()


def test_a_full_disk(image: Path, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    try:
        with pytest.raises(NoSpace):
            flash_image(image, flashtarget.look_at(folder / "copy", is_file=True))
    finally:
        subprocess.run(["umount", folder], check=True)
