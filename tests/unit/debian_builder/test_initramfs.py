"""The initramfs as values, and what its script makes of a kernel's command line and of partition tables."""

from __future__ import annotations

import io
import os
import stat
import subprocess
from pathlib import Path

import pytest

from wherry.build.images.cpio import write_cpio
from wherry.build.initramfs import APPLETS, Contents, applets, entries, init_script, wanted
from wherry.build.modules import Chosen

BUSYBOX = b"\x7fELF...\0[\0[[\0ash\0cat\0modprobe\0sh\0\0more"


def contents(tmp_path: Path) -> Contents:
    module = tmp_path / "virtio_pci.ko"
    module.write_bytes(b"module")
    chosen = Chosen(release="6.1", files={"kernel/virtio_pci.ko": module}, index={"modules.dep": "x:\n"})
    return Contents(busybox=BUSYBOX, modules=chosen, load=("virtio_pci",), wait_s=7, panic_s=3)


def test_what_is_in_it(tmp_path: Path) -> None:
    found = {entry.path: entry for entry in entries(contents(tmp_path))}
    assert found["init"].mode == stat.S_IFREG | 0o755
    assert found["bin/busybox"].source == BUSYBOX
    assert found["bin/modprobe"].target == "busybox"
    assert "bin/mount" not in found  # this busybox has none
    assert found["sbin"].target == "bin"
    assert found["lib/modules/6.1/kernel/virtio_pci.ko"].source == b"module"
    assert found["lib/modules/6.1/modules.dep"].source == b"x:\n"
    assert found["dev/console"].device == (5, 1)


def test_folders_come_before_what_is_in_them_and_each_once(tmp_path: Path) -> None:
    paths = [entry.path for entry in entries(contents(tmp_path))]
    assert len(paths) == len(set(paths))
    for path in paths:
        parent = path.rpartition("/")[0]
        assert not parent or paths.index(parent) < paths.index(path)


def test_the_archive_is_the_same_each_time(tmp_path: Path) -> None:
    archives = []
    for _ in range(2):
        out = io.BytesIO()
        write_cpio(entries(contents(tmp_path)), out, time_s=1)
        archives.append(out.getvalue())
    assert archives[0] == archives[1]
    listed = subprocess.run(["busybox", "cpio", "-t"], input=archives[0], capture_output=True, check=True).stdout
    assert b"lib/modules/6.1/kernel/virtio_pci.ko" in listed.splitlines()


def test_values_are_in_the_script(tmp_path: Path) -> None:
    script = init_script(contents(tmp_path))
    assert 'wait_s=7\npanic_s=3\nload="virtio_pci"\n' in script
    assert "@" not in script.replace("$@", "")


def test_names_of_applets() -> None:
    assert applets(BUSYBOX) == ["[", "[[", "ash", "cat", "modprobe", "sh"]
    assert applets(b"no busybox") == []
    program = Path("/bin/busybox").read_bytes()
    known = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    assert sorted([*applets(program), "busybox"]) == sorted(known)
    assert set(APPLETS) <= set(known)


def test_each_module_once() -> None:
    assert wanted(("a", "b"), ("b", "c")) == ("a", "b", "c")


def functions(tmp_path: Path, script: str, *, shell: str = "busybox") -> subprocess.CompletedProcess[str]:
    """Runs words after the script's functions, without what it does by itself."""
    text = init_script(contents(tmp_path)).partition("\nmount -t proc")[0].replace("export PATH=/bin\n", "")
    path = tmp_path / "script"
    path.write_text(f"{text}\n{script}\n")
    words = [shell, "sh", str(path)] if shell == "busybox" else [shell, str(path)]
    return subprocess.run(words, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})


def test_the_script_is_one_for_two_shells(tmp_path: Path) -> None:
    path = tmp_path / "init"
    path.write_text(init_script(contents(tmp_path)))
    for words in (["busybox", "ash", "-n"], ["dash", "-n"]):
        subprocess.run([*words, str(path)], check=True)


@pytest.mark.parametrize(
    ("at", "magic", "kind"),
    [
        (1024, "e2e1f5e0", "erofs"),
        (0, "68737173", "squashfs"),
        (1080, "53ef", "ext4"),
        (510, "55aa", "vfat"),
        (0, "00", ""),
    ],
)
def test_file_systems_by_their_magic(tmp_path: Path, at: int, magic: str, kind: str) -> None:
    image = bytearray(8192)
    image[at : at + len(magic) // 2] = bytes.fromhex(magic)
    (tmp_path / "image").write_bytes(image)
    assert functions(tmp_path, f"type_of {tmp_path}/image").stdout.strip() == kind


@pytest.mark.parametrize("block", [512, 4096])
def test_partition_uuids_of_a_gpt(tmp_path: Path, block: int) -> None:
    disk = bytearray(64 * block)
    disk[block : block + 8] = b"EFI PART"
    disk[block + 72 : block + 80] = (4).to_bytes(8, "little")
    disk[block + 84 : block + 88] = (256).to_bytes(4, "little")
    at = 4 * block + 256 + 16
    disk[at : at + 16] = bytes.fromhex("78563412bc9af0de0123456789abcdef")
    (tmp_path / "disk").write_bytes(disk)
    found = functions(tmp_path, f'cat() {{ echo {block}; }}; partition_uuid "..{tmp_path}/disk" 2')
    assert found.stdout.strip() == "12345678-9abc-def0-0123-456789abcdef", found.stderr


def test_partition_uuids_of_an_mbr(tmp_path: Path) -> None:
    disk = bytearray(4096)
    disk[440:444] = bytes.fromhex("78563412")
    (tmp_path / "disk").write_bytes(disk)
    found = functions(tmp_path, f'cat() {{ echo 512; }}; partition_uuid "..{tmp_path}/disk" 10')
    assert found.stdout.strip() == "12345678-0a"


def test_the_command_line(tmp_path: Path) -> None:
    line = "console=ttyS0 root=PARTLABEL=root rootflags=noatime * "
    line += "wherry.upper=persist/up wherry.wait=x rw wherry.shell=now"
    show = 'echo "$root|$image|$flags|$upper|$init|$mode|$shell|$wait_s"'
    found = functions(tmp_path, f"cat() {{ echo '{line}'; }}; read_command_line; {show}")
    assert found.stdout == "PARTLABEL=root||noatime|persist/up|/sbin/init|rw|now|7\n", found.stderr
