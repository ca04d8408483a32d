"""Systems to import: a small root tree, the file systems that hold it, and disks that hold those."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
ROOT_AMD64 = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
ROOT_ARM64 = "B921B045-1DF0-41C3-AF44-4C6F280D3FAE"
LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""cap_net_bind_service+ep... in the form that setcap writes."""


def make_tree(path: Path, name: str = "vendor") -> Path:
    """Makes a root tree with what an import must keep."""
    for folder in ("bin", "etc", "sbin", "usr/bin", "proc", "tmp", "var/tmp", "boot/efi", "home"):
        (path / folder).mkdir(parents=True)
    (path / "etc/os-release").write_text(f'NAME="{name}"\n')
    (path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (path / "bin/sh").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00" + bytes(2000))
    (path / "bin/sh").chmod(0o755)
    os.link(path / "bin/sh", path / "bin/ash")
    (path / "sbin/init").symlink_to("../bin/sh")
    (path / "usr/bin/ping").write_bytes(b"ping" * 1000)
    (path / "usr/bin/su").write_bytes(b"su")
    (path / "tmp/leftover").touch()
    (path / "var/tmp/kept").touch()
    if os.geteuid() == 0:
        os.setxattr(path / "usr/bin/ping", "security.capability", CAPABILITY)
        os.chown(path / "home", 1000, 1001)
    (path / "usr/bin/su").chmod(0o4755)
    return path


def make_filesystem(kind: str, tree: Path, path: Path, label: str = "") -> Path:
    """Makes a file system with a tree in it."""
    size = 64 * 1024 * 1024
    if kind == "ext4":
        run("mke2fs", "-q", "-t", "ext4", "-d", tree, *(["-L", label] if label else []), path, f"{size // 1024}k")
    elif kind in ("ext2", "ext3"):
        run("mke2fs", "-q", "-t", kind, "-d", tree, path, "16384k")
    elif kind == "squashfs":
        run("mksquashfs", tree, path, "-noappend", "-quiet", "-no-progress", "-xattrs")
    elif kind == "erofs":
        run("mkfs.erofs", path, tree)
    elif kind == "btrfs":
        sized(path, 128 * 1024 * 1024)
        run("mkfs.btrfs", "-q", "--rootdir", tree, path)
    elif kind == "xfs":
        sized(path, 400 * 1024 * 1024)
        run("mkfs.xfs", "-q", path)
        place = path.with_name("xfs-mount")
        place.mkdir()
        run("mount", "-o", "loop", path, place)
        try:
            run("cp", "-a", f"{tree}/.", place)
        finally:
            run("umount", place)
            place.rmdir()
    elif kind == "vfat":
        sized(path, 4 * 1024 * 1024)
        run("mkfs.vfat", path)
        if any(tree.iterdir()):
            run("mcopy", "-s", "-i", path, *sorted(tree.iterdir()), "::/")
    else:
        raise AssertionError(kind)
    return path


def sized(path: Path, size: int) -> Path:
    with open(path, "wb") as file:
        file.truncate(size)
    return path


@dataclass(frozen=True)
class Part:
    """A partition of a disk to be made."""

    filesystem: Path
    type: str = LINUX
    name: str = ""


def make_disk(path: Path, parts: Sequence[Part], *, table: str = "gpt", logical: bool = False) -> Path:
    """Makes a disk with `sfdisk`; with `logical` all but the first partition are in an extended one."""
    lines = [f"label: {table}"]
    start = 2048
    starts = []
    whole = start + sum(sectors(part) + 2048 for part in parts) + 4096
    for index, part in enumerate(parts):
        if logical and index == 1:
            lines.append(f"start={start}, size={whole - start - 1}, type=f")
        if logical and index:
            start += 2048
        options = f", name={part.name}" if part.name else ""
        kind = part.type if table == "gpt" else "83"
        lines.append(f"start={start}, size={sectors(part)}, type={kind}{options}")
        starts.append(start)
        start += -(-sectors(part) // 2048) * 2048
    sized(path, (max(whole, start) + 4096) * SECTOR)
    subprocess.run(["sfdisk", "--quiet", path], input="\n".join(lines).encode(), check=True, capture_output=True)
    for begin, part in zip(starts, parts, strict=True):
        run("dd", f"if={part.filesystem}", f"of={path}", f"seek={begin}", "conv=notrunc,sparse", "status=none")
    return path


def sectors(part: Part) -> int:
    return -(-part.filesystem.stat().st_size // SECTOR)


def run(*args: object) -> None:
    if shutil.which(str(args[0])) is None:
        import pytest

        pytest.skip(f"{args[0]} is not installed")
    done = subprocess.run([str(arg) for arg in args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
