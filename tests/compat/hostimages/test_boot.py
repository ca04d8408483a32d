"""A disk is booted by QEMU: UEFI, systemd-boot, Debian's kernel, an initramfs made here, and a root from EROFS."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fixtures.busybox import put_busybox
from tests.fixtures.guest import MODULES, kernel
from tests.fixtures.hostproduct import make_product
from tests.fixtures.plainplace import PlainPlace

from wherry.build.images.layout import parse_layout
from wherry.build.images.making import make_image

_FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE.fd")
_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS.fd")
_LOADER = Path("/usr/lib/systemd/boot/efi/systemd-bootx64.efi")
_TIMEOUT_S = 240

pytestmark = pytest.mark.skipif(
    not all(path.exists() for path in (_FIRMWARE, _LOADER)) or shutil.which("qemu-system-x86_64") is None,
    reason="needs QEMU, OVMF and systemd-boot",
)
_LAYOUT = {
    "images": {
        "root": {"kind": "erofs", "from": "root"},
        "early": {"kind": "initramfs", "from": "root", "below": "early"},
        "disk": {
            "kind": "disk",
            "partitions": {
                "esp": {
                    "order": 1,
                    "type": "esp",
                    "filesystem": "fat",
                    "size": "64MiB",
                    "content": [{"from": "boot-entries"}],
                },
                "root": {"order": 2, "type": "root", "content": [{"from": "image:root"}]},
                "persist": {"order": 3, "filesystem": "ext4", "size": "16MiB", "label": "persist"},
            },
        },
    }
}
_EARLY = """#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in {modules}; do insmod /modules/$module.ko; done
node=$(grep -l "PARTNAME=root" /sys/class/block/*/uevent | cut -d/ -f5)
echo "early: root is on $node"
mount -t erofs -o ro /dev/$node /new
exec switch_root /new /init
"""
_INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
echo "booted: $(cat /etc/hostname), EFI $(test -d /sys/firmware/efi && echo yes)"
echo "words: $(cat /proc/cmdline)"
poweroff -f
"""


def test_uefi(tmp_path: Path) -> None:
    product = make_product(tmp_path / "host")
    assert product.root is not None
    assert product.boot is not None
    found = kernel()
    early = product.root / "early"
    put_busybox(early, ("sh", "mount", "insmod", "grep", "sed", "cut", "switch_root", "echo"))
    for name in ("proc", "sys", "dev", "new"):
        (early / name).mkdir()
    shutil.copytree(found / "modules", early / "modules")
    (early / "init").write_text(_EARLY.format(modules=" ".join(Path(name).name for name in MODULES)))
    (early / "init").chmod(0o755)
    shutil.rmtree(product.root / "dev")
    (product.root / "bin").unlink()
    (product.root / "dev").mkdir()
    (product.root / "sys").mkdir()
    put_busybox(product.root, ("sh", "mount", "cat", "poweroff", "test", "echo"))
    (product.root / "init").write_text(_INIT)
    (product.root / "init").chmod(0o755)
    shutil.copyfile(found / "vmlinuz", product.boot / "kernel")
    (product.boot / "firmware/systemd-bootx64.efi").unlink()  # this machine's own is taken
    layout = parse_layout(_LAYOUT)
    made = make_image(layout, "early", product, tmp_path / "images", PlainPlace(tmp_path / "place"))
    shutil.copyfile(made, product.boot / "initramfs")
    shutil.rmtree(early)
    host = replace(product, command_line=("panic=-1", *product.command_line))
    disk = make_image(layout, "disk", host, tmp_path / "images", PlainPlace(tmp_path / "place2"))

    out = _boot(disk, tmp_path)
    partuuid = product.uuid("disk", "partition", "root")
    assert "early: root is on vda2" in out
    assert "booted: kiosk, EFI yes" in out
    assert f"root=PARTUUID={partuuid}" in out
    # the boot loader has counted: of three tries one is done
    listing = subprocess.run(
        ["mdir", "-b", "-i", f"{disk}@@{1024 * 1024}", "::/loader/entries"], check=True, capture_output=True, text=True
    ).stdout
    assert "kiosk+2-1.conf" in listing


def _boot(disk: Path, tmp_path: Path) -> str:
    variables = tmp_path / "vars.fd"
    shutil.copyfile(_VARIABLES, variables)
    done = subprocess.run(
        [
            *("qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "max", "-m", "512"),
            *("-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"),
            *("-drive", f"if=pflash,format=raw,readonly=on,file={_FIRMWARE}"),
            *("-drive", f"if=pflash,format=raw,file={variables}"),
            *("-drive", f"if=virtio,format=raw,file={disk}"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_TIMEOUT_S,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    return done.stdout.decode(errors="replace").replace("\r", "") + done.stderr.decode(errors="replace")
