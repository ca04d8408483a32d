"""The partition of what a device keeps grows at the first boot: the layer's script, under a user-mode kernel."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.hostproduct import make_product
from tests.fixtures.plainplace import PlainPlace

from wherry.build.images.layout import parse_layout
from wherry.build.images.making import make_image

MIB = 1024 * 1024
_HERE = Path(__file__).parent
_SCRIPT = _HERE.parents[2] / "layers/host/persist/root_overlay/usr/lib/wherry/grow-persist"

pytestmark = pytest.mark.skipif(
    shutil.which("linux.uml") is None or os.geteuid() != 0, reason="needs root and user-mode Linux"
)


def _disk(tmp_path: Path, **more: Any) -> Path:
    """Makes a disk of 64 MiB and some, as a build has it."""
    partitions = {
        "boot": {"order": 1, "filesystem": "fat", "size": "8MiB"},
        "persist": {"order": 2, "filesystem": "ext4", "size": "32MiB", "label": "persist", "grow": True},
    }
    document = {"images": {"disk": {"kind": "disk", "partitions": partitions, **more}}}
    product = make_product(tmp_path / "host")
    return make_image(parse_layout(document), "disk", product, tmp_path / "images", PlainPlace(tmp_path / "place"))


def _boot(disk: Path, tmp_path: Path, **more: str) -> str:
    words = [f"{key}={value}" if value else key for key, value in more.items()]
    done = subprocess.run(
        [
            *("linux.uml", "mem=128M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"),
            *(f"ubd0={disk}", "con0=null,fd:1", "con=null", f"uml_dir={tmp_path}"),
            *(f"init={_HERE / 'grow_init.sh'}", f"grow_script={_SCRIPT}", *words),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": "/dev/shm", "HOME": str(tmp_path)},
        timeout=60,
        check=False,
    )
    out = done.stdout.decode(errors="replace").replace("\r", "")
    assert "grown with 0" in out, out[-3000:] + done.stderr.decode(errors="replace")[-500:]
    return out


def _table(disk: Path) -> dict[str, Any]:
    verified = subprocess.run(["sfdisk", "--verify", disk], check=False, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    found: dict[str, Any] = json.loads(subprocess.check_output(["sfdisk", "--json", disk]))["partitiontable"]
    return found


def _check(disk: Path) -> None:
    offset = _table(disk)["partitions"][1]["start"] * 512
    command = ["e2fsck", "-fn", f"{disk}?offset={offset}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _blocks(out: str) -> tuple[int, int]:
    match = re.search(r"blocks (\d+) of (\d+)", out)
    assert match is not None, out
    return int(match[1]), int(match[2])


@pytest.mark.parametrize("table", ["gpt", pytest.param("mbr", marks=pytest.mark.deep)])
def test_it_takes_the_rest_of_the_disk_once(tmp_path: Path, table: str) -> None:
    disk = _disk(tmp_path, table=table)
    before = _table(disk)
    os.truncate(disk, 200 * MIB)
    out = _boot(disk, tmp_path)
    blocks, sectors = _blocks(out)
    assert blocks * 4096 > 150 * MIB
    assert sectors * 512 > 180 * MIB
    after = _table(disk)
    assert after["id"] == before["id"]
    assert after["partitions"][0] == before["partitions"][0]
    grown = after["partitions"][1]
    assert {**grown, "size": 0} == {**before["partitions"][1], "size": 0}  # same place, id, name and attributes
    _check(disk)
    again = _boot(disk, tmp_path)
    assert "found a device's own" in again
    assert "free" not in again
    assert _blocks(again) == (blocks, sectors)
    _check(disk)


def test_a_cut_after_the_table(tmp_path: Path) -> None:
    disk = _disk(tmp_path)
    os.truncate(disk, 200 * MIB)
    subprocess.run(["sfdisk", "-q", "--relocate", "gpt-bak-std", disk], check=True)
    subprocess.run(["sfdisk", "-q", "-N", "2", disk], input=",+", text=True, check=True, stdout=subprocess.DEVNULL)
    blocks, _ = _blocks(_boot(disk, tmp_path))
    assert blocks * 4096 > 150 * MIB
    _check(disk)


@pytest.mark.deep
def test_a_cut_after_the_copy_of_the_table_was_moved(tmp_path: Path) -> None:
    disk = _disk(tmp_path)
    os.truncate(disk, 200 * MIB)
    subprocess.run(["sfdisk", "-q", "--relocate", "gpt-bak-std", disk], check=True)
    blocks, _ = _blocks(_boot(disk, tmp_path))
    assert blocks * 4096 > 150 * MIB


@pytest.mark.parametrize("offset", [pytest.param(540, marks=pytest.mark.deep), 1024 + 128 + 40])
def test_a_cut_in_the_middle_of_the_table(tmp_path: Path, offset: int) -> None:
    """The copy is whole and new; of the table itself, the entries are, and the header's checksum is of the old ones."""
    disk = _disk(tmp_path)
    os.truncate(disk, 200 * MIB)
    subprocess.run(["sfdisk", "-q", "--relocate", "gpt-bak-std", disk], check=True)
    subprocess.run(["sfdisk", "-q", "-N", "2", disk], input=",+", text=True, check=True, stdout=subprocess.DEVNULL)
    whole = _table(disk)
    with open(disk, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0xFF]))
    assert "damaged" in _boot(disk, tmp_path, gpt="")
    assert _table(disk) == whole
    assert "damaged" not in _boot(disk, tmp_path)


@pytest.mark.deep
def test_a_cut_while_it_is_mounted(tmp_path: Path) -> None:
    disk = _disk(tmp_path)
    os.truncate(disk, 200 * MIB)
    _boot(disk, tmp_path, grow_cut="yes")
    blocks, _ = _blocks(_boot(disk, tmp_path))
    assert blocks * 4096 > 150 * MIB
    _check(disk)


def test_a_disk_that_has_no_more_room(tmp_path: Path) -> None:
    disk = _disk(tmp_path)
    table = _table(disk)
    out = _boot(disk, tmp_path)
    assert "free" not in out
    assert _table(disk) == table


@pytest.mark.deep
def test_a_partition_that_is_not_the_last(tmp_path: Path) -> None:
    disk = _disk(tmp_path)
    os.truncate(disk, 200 * MIB)
    subprocess.run(["sfdisk", "-q", "--relocate", "gpt-bak-std", disk], check=True)
    entry = "start=100MiB, size=10MiB\n"
    subprocess.run(["sfdisk", "-q", "--append", disk], input=entry, text=True, check=True)
    table = _table(disk)
    assert "is not the last partition" in _boot(disk, tmp_path)
    assert _table(disk) == table


def test_without_such_a_partition(tmp_path: Path) -> None:
    disk = tmp_path / "empty"
    disk.write_bytes(bytes(MIB))
    assert "no file system is labelled persist" in _boot(disk, tmp_path)
