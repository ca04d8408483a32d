"""What is known of a device that an image could go to, and when it may not; against a sysfs made of files."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from wherry.build.flashtarget import Device, DevicePart, check, check_expected, describe, look_at
from wherry.core.errors import Conflict, InvalidInput, NotFound, NotPermitted, UsageError, WherryError

SDB = Device(path=Path("/dev/sdb"), name="sdb", size_bytes=32_000_000_000, model="SanDisk Ultra", serial="4C530001")


@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        (replace(SDB, whole="sdb"), InvalidInput, r"a partition, not a whole disk.*is /dev/sdb meant\?"),
        (replace(SDB, uses=("sdb1 is mounted at /media",)), Conflict, "in use: sdb1 is mounted at /media"),
        (replace(SDB, read_only=True), NotPermitted, "read-only"),
        (replace(SDB, size_bytes=0), NotFound, "no medium"),
        (replace(SDB, size_bytes=1000), InvalidInput, "it has 1000 bytes, the image 4096"),
    ],
)
def test_refused(device: Device, error: type[WherryError], message: str) -> None:
    with pytest.raises(error, match=message):
        check(device, 4096)
    check(SDB, 4096)


def test_expected() -> None:
    check_expected(SDB, serial="4C530001", size=32_000_000_000)
    with pytest.raises(Conflict, match="its serial number is 4C530001, expected 4C530002"):
        check_expected(SDB, serial="4C530002", size=None)
    with pytest.raises(Conflict, match="it has 32000000000 bytes, expected 5"):
        check_expected(SDB, serial=None, size=5)
    with pytest.raises(UsageError, match="too short"):
        check_expected(SDB, serial="", size=None)


def test_shown() -> None:
    part = DevicePart(name="sdb1", size_bytes=256_000_000, holds="vfat BOOT")
    rows = dict(describe(replace(SDB, parts=(part,), removable=True)))
    assert rows["model"] == "SanDisk Ultra"
    assert rows["size"] == "32 GB (32000000000 bytes)"
    assert rows["sdb1"] == "256 MB vfat BOOT"
    assert dict(describe(SDB))["partitions"] == "none"


def _write(top: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    """A machine with its system on sda (LVM on sda2), and a card sdb with two partitions."""
    top = tmp_path / "sys"
    block = top / "devices/usb"
    _write(
        block,
        {
            "sdb/dev": "8:16",
            "sdb/size": "62500000",
            "sdb/ro": "0",
            "sdb/removable": "1",
            "sdb/device/model": "Ultra   ",
            "sdb/device/vendor": "SanDisk ",
            "sdb/sdb1/dev": "8:17",
            "sdb/sdb1/partition": "1",
            "sdb/sdb1/size": "524288",
            "sdb/sdb2/dev": "8:18",
            "sdb/sdb2/partition": "2",
            "sdb/sdb2/size": "1048576",
            "sda/dev": "8:0",
            "sda/size": "1000",
            "sda/sda2/dev": "8:2",
            "sda/sda2/partition": "2",
            "sda/sda2/size": "900",
            "dm-0/dev": "253:0",
            "dm-0/size": "800",
        },
    )
    (block / "sdb/device/vpd_pg80").write_bytes(b"\0\x80\0\x08 4C53001")
    (block / "sda/sda2/holders").mkdir()
    (block / "sda/sda2/holders/dm-0").symlink_to(block / "dm-0")
    (top / "dev/block").mkdir(parents=True)
    for number, name in {
        "8:16": "sdb",
        "8:17": "sdb/sdb1",
        "8:18": "sdb/sdb2",
        "8:0": "sda",
        "8:2": "sda/sda2",
        "253:0": "dm-0",
    }.items():
        (top / "dev/block" / number).symlink_to(block / name)
    return top


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    top = tmp_path / "proc"
    lines = [
        "22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/root rw",
        "30 22 0:5 / /dev rw - devtmpfs udev rw",
        r"41 22 8:18 / /media/my\040card rw - ext4 /dev/sdb2 rw",
    ]
    _write(top, {"self/mountinfo": "\n".join(lines), "swaps": "Filename Type Size Used Priority"})
    return top


def _node(monkeypatch: pytest.MonkeyPatch, major: int, minor: int) -> None:
    real = os.stat
    fake = SimpleNamespace(st_mode=stat.S_IFBLK | 0o660, st_rdev=os.makedev(major, minor))
    monkeypatch.setattr(os, "stat", lambda path, **more: fake if str(path) == "/dev/node" else real(path, **more))


def test_a_card_that_is_mounted(sys: Path, proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _node(monkeypatch, 8, 16)
    found = look_at(Path("/dev/node"), sys=sys, proc=proc)
    assert (found.name, found.model, found.serial) == ("sdb", "SanDisk Ultra", "4C53001")
    assert (found.size_bytes, found.removable, found.read_only, found.whole) == (32_000_000_000, True, False, "")
    assert [part.name for part in found.parts] == ["sdb1", "sdb2"]
    assert found.uses == ("sdb2 is mounted at /media/my card",)


def test_the_disk_of_the_running_system_is_known_through_lvm(
    sys: Path, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _node(monkeypatch, 8, 0)
    found = look_at(Path("/dev/node"), sys=sys, proc=proc)
    assert "dm-0 (253:0) stands on it" in found.uses
    assert "dm-0 holds the running system" in found.uses


def test_a_partition(sys: Path, proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _node(monkeypatch, 8, 17)
    found = look_at(Path("/dev/node"), sys=sys, proc=proc)
    assert (found.name, found.whole) == ("sdb1", "sdb")


def test_nothing_there(sys: Path, proc: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such device"):
        look_at(tmp_path / "nothing", sys=sys, proc=proc)
    with pytest.raises(InvalidInput, match="not a block device"):
        look_at(Path("/dev/null"), sys=sys, proc=proc)
    with pytest.raises(InvalidInput, match="not a file"):
        look_at(tmp_path, is_file=True, sys=sys, proc=proc)
