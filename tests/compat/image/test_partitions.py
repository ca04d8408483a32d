"""Partition tables as ``sfdisk`` makes them, against what ``sfdisk`` and ``blkid`` say of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.integration.image.systems import make_filesystem, make_tree, sized

from wherry.image.filesystems import probe
from wherry.image.partitions import read_table

pytestmark = pytest.mark.skipif(shutil.which("sfdisk") is None, reason="sfdisk is not installed")

GPT = """label: gpt
size=10000, name="first one", type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709
size=2048, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4
/dev/none7 : size=4096, name=seventh
"""
DOS = """label: dos
1 : start=2048, size=4096, type=c
2 : start=8192, size=50000, type=f
4 : start=70000, size=8192, type=83
5 : start=10240, size=20480, type=83
6 : start=32768, size=2048, type=82
7 : start=36864, size=4096, type=83
"""


@pytest.mark.parametrize("script", [GPT, DOS], ids=["gpt", "dos"])
def test_tables(tmp_path: Path, script: str) -> None:
    path = sized(tmp_path / "disk", 64 * 1024 * 1024)
    subprocess.run(["sfdisk", "--quiet", path], input=script.encode(), check=True, capture_output=True)
    printed = subprocess.run(["sfdisk", "--json", path], capture_output=True, check=True).stdout
    told = json.loads(printed)["partitiontable"]["partitions"]
    expected = [
        (
            int(item["node"].removeprefix(str(path))),
            item["start"] * 512,
            item["size"] * 512,
            item["type"].lower().zfill(2),
        )
        for item in told
        if item["type"] not in ("5", "f", "85")
    ]
    with open(path, "rb") as file:
        found = read_table(lambda offset, size: os.pread(file.fileno(), size, offset), path.stat().st_size, where=path)
    assert [(item.number, item.offset_bytes, item.size_bytes, item.type) for item in found] == (expected)
    for item, theirs in zip(found, [item for item in told if item["type"] not in ("5", "f", "85")], strict=True):
        assert item.name == theirs.get("name", "")
        if "uuid" in theirs:
            assert item.uuid == theirs["uuid"].lower()


@pytest.mark.parametrize("kind", ["ext4", "squashfs", "erofs", "btrfs", "vfat", "xfs", "swap"])
def test_file_systems(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image"
    if kind == "xfs":
        sized(path, 400 * 1024 * 1024)
        subprocess.run(["mkfs.xfs", "-q", "-L", "label", path], check=True)
    elif kind == "swap":
        sized(path, 1024 * 1024)
        subprocess.run(["mkswap", path], check=True, capture_output=True)
    else:
        tree = make_tree(tmp_path / "tree") if kind != "vfat" else tmp_path / "empty"
        tree.mkdir(exist_ok=True)
        make_filesystem(kind, tree, path, "label" if kind == "ext4" else "")
    with open(path, "rb") as file:
        found = probe(lambda offset, size: os.pread(file.fileno(), size, offset))
    printed = subprocess.run(["blkid", "-p", "-o", "export", path], capture_output=True, text=True, check=True).stdout
    told = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    assert found is not None
    assert (found.kind, found.uuid, found.label.replace("NO NAME", "")) == (
        told["TYPE"], told.get("UUID", ""), told.get("LABEL", ""),
    )  # fmt: skip
