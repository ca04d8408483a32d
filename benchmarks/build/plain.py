"""The same host by the tools alone: ``python -I -S plain.py FOLDER all|images``, as ``FOLDER/plan.json`` says.

What a person would put into a shell script: mmdebstrap, dpkg-deb, depmod, cpio, zstd, mkfs.erofs, mkfs.vfat, mtools,
mke2fs, sfdisk, dd. Nothing is pinned, kept by digest, sandboxed, hashed, committed or reproducible, and of ``images``
the caller knows that only an overlay has changed, not the tools. It imports nothing but the standard library.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDERS = ("root", "kernel", "firmware", "initramfs.tree")
"""What is made anew in a build of all."""
MIB = 1024 * 1024
UNDOCUMENTED = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/lintian/*",
)


def tool(*words: str | Path, stdin: str | None = None, cwd: Path | None = None) -> None:
    """Runs a tool, which must succeed."""
    subprocess.run(words, check=True, input=stdin, text=True, cwd=cwd, stdout=subprocess.DEVNULL)


def main() -> None:
    """Builds."""
    folder, stage = Path(sys.argv[1]), sys.argv[2]
    plan = json.loads((folder / "plan.json").read_text())
    if stage == "all":
        root(folder, plan)
        boot(folder, plan)
    for overlay in plan["overlays"]:
        tool("cp", "-a", "--no-preserve=ownership", f"{overlay}/.", folder / "root/")
    images(folder, plan)


def root(folder: Path, plan: dict[str, str]) -> None:
    """Installs the packages, and the kernel's modules."""
    words = ["mmdebstrap", "--quiet", "--mode=root", "--format=directory", f"--variant={plan['variant']}"]
    words += [f"--include={plan['packages']}", "--dpkgopt=force-unsafe-io", "--aptopt=APT::Install-Recommends false"]
    words += ['--aptopt=Acquire::Languages "none"', "--skip=output/dev"]
    words += [f"--dpkgopt={option}" for option in UNDOCUMENTED]
    tool(*words, plan["suite"], folder / "root", plan["line"])
    if plan["variant"] == "extract":
        for name in ("sbin", "usr/bin", "usr/sbin"):  # busybox makes no folders
            (folder / "root" / name).mkdir(parents=True, exist_ok=True)
        tool("chroot", folder / "root", "/bin/busybox", "--install", "-s")
    tool("dpkg-deb", "--extract", plan["kernel"], folder / "kernel")
    tool("dpkg-deb", "--extract", plan["boot_loader"], folder / "firmware")


def boot(folder: Path, plan: dict[str, str]) -> None:
    """Makes the initramfs, with the modules that the plan names, and puts the root's in their place."""
    modules = next((folder / "kernel/lib/modules").iterdir())
    tree = folder / "initramfs.tree"
    for name in ("bin", "dev", "etc/modprobe.d", "proc", "run", "sys", "sysroot"):
        (tree / name).mkdir(parents=True)
    (tree / "sbin").symlink_to("bin")
    shutil.copy(plan["init"], tree / "init")
    shutil.copy(plan["busybox"], tree / "bin/busybox")
    for name in plan["applets"].split():
        (tree / "bin" / name).symlink_to("busybox")
    tool("mknod", "-m", "600", tree / "dev/console", "c", "5", "1")
    tool("mknod", "-m", "666", tree / "dev/null", "c", "1", "3")
    some(modules, tree, plan["modules"].split())
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    tool("cpio", "--quiet", "-o", "-H", "newc", "-O", folder / "initramfs.cpio", stdin="\n".join(names), cwd=tree)
    tool("zstd", "-q", "-f", "-9", folder / "initramfs.cpio", "-o", folder / "initramfs")
    if plan["variant"] == "extract":
        some(modules, folder / "root", plan["modules"].split())
    else:
        (folder / "root/usr/lib/modules").mkdir(exist_ok=True)
        os.rename(modules, folder / "root/usr/lib/modules" / modules.name)
        tool("depmod", "-b", folder / "root", modules.name)


def some(modules: Path, top: Path, names: list[str]) -> None:
    """Copies some of the kernel's modules."""
    target = top / "lib/modules" / modules.name
    for name in (*names, "modules.builtin", "modules.builtin.modinfo", "modules.order"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(modules / name, target / name)
    tool("depmod", "-b", top, modules.name)


def images(folder: Path, plan: dict[str, str]) -> None:
    """Makes the images: the root, and a disk with it."""
    esp, persist, erofs, disk = (folder / name for name in ("esp.img", "persist.img", "root.erofs", "disk.img"))
    for path in (esp, persist, erofs, disk):
        path.unlink(missing_ok=True)
    tool("mkfs.erofs", "--quiet", "-zlz4hc", erofs, folder / "root")
    for path, size in ((esp, 256 * MIB), (persist, 64 * MIB)):
        with open(path, "xb") as file:
            os.truncate(file.fileno(), size)
    entry = folder / "host.conf"
    entry.write_text(f"title host\nlinux /host/linux\ninitrd /host/initrd\noptions {plan['command_line']}\n")
    tool("mkfs.vfat", "-F", "32", "-n", "ESP", esp)
    tool("mmd", "-i", esp, "::/EFI", "::/EFI/BOOT", "::/loader", "::/loader/entries", "::/host")
    loader = folder / "firmware/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    kernel = next((folder / "kernel/boot").glob("vmlinuz-*"))
    for source, target in (
        (loader, "EFI/BOOT/BOOTX64.EFI"),
        (entry, "loader/entries/host.conf"),
        (kernel, "host/linux"),
        (folder / "initramfs", "host/initrd"),
    ):
        tool("mcopy", "-i", esp, source, f"::/{target}")
    tool("mke2fs", "-q", "-F", "-t", "ext4", "-L", "persist", persist)
    parts = (("ESP", "U", esp), ("root", "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", erofs), ("persist", "L", persist))
    table, start = "label: gpt\n", 1
    places = []
    for name, kind, path in parts:
        size = -(-path.stat().st_size // MIB)
        table += f'start={start}MiB, size={size}MiB, type={kind}, name="{name}"\n'
        places.append((path, start))
        start += size
    with open(disk, "xb") as file:
        os.truncate(file.fileno(), (start + 1) * MIB)
    tool("sfdisk", "--quiet", disk, stdin=table)
    for path, at in places:
        tool("dd", f"if={path}", f"of={disk}", "bs=1M", f"seek={at}", "conv=notrunc,sparse", "status=none")


if __name__ == "__main__":
    main()
