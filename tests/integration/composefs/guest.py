"""A virtual machine with a Debian kernel newer than the tests' own, and nothing but Python and Wherry in it.

The kernel comes from the package of a newer Debian, unpacked once below build/cache. The guest's root is an initial
RAM file system that is put together here: busybox, the interpreter with its library, Wherry's sources and what they
import. QEMU translates: KVM, where it is offered, may be one that works only for the machine that it was made for.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from wherry.core.lock import file_lock
from wherry.core.proc import run

ROOT = Path(__file__).parents[3]
CACHE = ROOT / "build/cache"
SUITE = "trixie"
MODULES = ("drivers/block/virtio_blk", "lib/libcrc32c", "fs/erofs/erofs", "fs/overlayfs/overlay")
PACKAGES = ("isal", "isal-*")
_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin PYTHONHOME=/usr PYTHONPATH=/app:/app/site PYTHONDONTWRITEBYTECODE=1
mkdir -p /proc /sys /dev /tmp /disk /mnt /run
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
for module in {modules}; do insmod /modules/$module.ko; done
/usr/bin/python3 /app/guest.py
echo "the script ended with $?"
poweroff -f
"""


def kernel() -> Path:
    """Returns a folder with ``vmlinuz`` and ``modules/``; made once."""
    folder = CACHE / f"linux-{SUITE}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with file_lock(CACHE / ".lock-linux"):
        if not (folder / "vmlinuz").exists():
            unpacked = CACHE / f".linux-{SUITE}.new"
            shutil.rmtree(unpacked, ignore_errors=True)
            options = ["--variant=extract", "--mode=root", "--include=linux-image-cloud-amd64"]
            run(["mmdebstrap", *options, SUITE, str(unpacked)], env={"PATH": os.environ["PATH"]})
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "modules").mkdir(parents=True)
            tree = next((unpacked / "usr/lib/modules").iterdir()) / "kernel"
            for name in MODULES:
                data = lzma.decompress((tree / f"{name}.ko.xz").read_bytes())
                (folder / "modules" / f"{Path(name).name}.ko").write_bytes(data)
            shutil.copyfile(next((unpacked / "boot").glob("vmlinuz-*")), folder / "vmlinuz.new")
            shutil.rmtree(unpacked)
            (folder / "vmlinuz.new").rename(folder / "vmlinuz")
    return folder


def make_initrd(script: Path, folder: Path) -> Path:
    """Returns an initial RAM file system that runs a Python script and halts."""
    top = folder / "root"
    for name in ("bin", "app/site", "usr/bin", "usr/lib", "modules"):
        (top / name).mkdir(parents=True)
    shutil.copyfile("/bin/busybox", top / "bin/busybox")
    (top / "bin/busybox").chmod(0o755)
    (top / "init").write_text(_INIT.format(modules=" ".join(Path(name).name for name in MODULES)))
    (top / "init").chmod(0o755)
    shutil.copytree(kernel() / "modules", top / "modules", dirs_exist_ok=True)
    interpreter = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    shutil.copyfile(interpreter, top / "usr/bin/python3")
    (top / "usr/bin/python3").chmod(0o755)
    skipped = shutil.ignore_patterns("__pycache__", "test", "site-packages", "dist-packages", "idlelib", "config-*")
    shutil.copytree(library, top / "usr/lib" / library.name, ignore=skipped, symlinks=False)
    shutil.copytree(ROOT / "src/wherry", top / "app/wherry", ignore=shutil.ignore_patterns("__pycache__", "hub"))
    site = Path(sysconfig.get_path("purelib"))
    for pattern in PACKAGES:
        for package in site.glob(pattern):
            shutil.copytree(package, top / "app/site" / package.name)
    shutil.copyfile(script, top / "app/guest.py")
    for binary in (interpreter, *top.rglob("*.so")):
        for found in re.findall(r"(/\S+) \(0x", run(["ldd", str(binary)], check=False).stdout.decode()):
            target = top / found.lstrip("/")
            if not target.exists() and not found.startswith(str(top)):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found, target)
                target.chmod(0o755)
    names = "\n".join(str(path.relative_to(top)) for path in sorted(top.rglob("*")))
    image = folder / "initrd"
    image.write_bytes(run(["busybox", "cpio", "-o", "-H", "newc"], cwd=top, stdin=names.encode()).stdout)
    shutil.rmtree(top)
    return image


def boot(script: Path, folder: Path, *, disk: Path, timeout_s: float) -> str:
    """Runs a Python script in a new machine.

    Args:
        script: the file.
        folder: for what is made on the way.
        disk: becomes /dev/vda.
        timeout_s: after which the machine is killed.

    Returns:
        What came on the console.
    """
    command = [
        "qemu-system-x86_64",
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-m",
        "768",
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
        "-serial",
        "stdio",
    ]
    command += ["-kernel", str(kernel() / "vmlinuz"), "-initrd", str(make_initrd(script, folder))]
    command += ["-append", "console=ttyS0 quiet panic=-1"]
    command += ["-drive", f"if=none,id=d,format=raw,file={disk}", "-device", "virtio-blk-pci,drive=d"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False)
    return done.stdout.decode(errors="replace").replace("\r", "") + done.stderr.decode(errors="replace")
