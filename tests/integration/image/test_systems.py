"""Systems of vendors: file systems and disks, made by the field's own tools, imported with and without the kernel."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.image.systems import (
    CAPABILITY,
    ESP,
    LINUX,
    ROOT_AMD64,
    ROOT_ARM64,
    Part,
    make_disk,
    make_filesystem,
    make_tree,
    run,
    sized,
)
from tests.unit.image.makers import make_repo, show

from wherry.core import proc
from wherry.core.errors import InvalidInput, NotFound, Unsupported, WherryError
from wherry.image.importing import import_image
from wherry.image.systems import AS_FOUND, Choice
from wherry.linux.confining import confine
from wherry.store.format.objects import FileHeader
from wherry.store.repository import Repository
from wherry.store.tree.walk import lookup

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to mount, and for owners")
BY_TOOLS = Choice(may_mount=False)


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "repo")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    def state() -> tuple[str, str]:
        loops = subprocess.run(["losetup", "--list", "--noheadings"], capture_output=True, text=True, check=True)
        mounts = Path("/proc/self/mountinfo").read_text()
        own = [line for line in loops.stdout.splitlines() if str(tmp_path) in line]
        return "\n".join(own), "\n".join(line for line in mounts.splitlines() if str(tmp_path) in line)

    yield
    assert state() == ("", "")
    assert not [path for path in tmp_path.glob("*/tmp/*") if path.name.startswith("wherry-import-")]


def expected(repo: Repository, tree: Path) -> dict[str, str]:
    """Returns what a tree becomes, but for what is emptied and made by a file system."""
    found = show(repo, import_image(repo, f"dir:{tree}", name="expected:1").commit)
    return {path: text for path, text in found.items() if path != "tmp/leftover"}


def imported(repo: Repository, source: Path, disk: Choice = AS_FOUND, **more: object) -> dict[str, str]:
    record = import_image(repo, str(source), name="found:1", disk=disk, **more)  # type: ignore[arg-type]
    assert record.config.architecture in ("amd64", more.get("platform"))
    found = show(repo, record.commit)
    found.pop("lost+found", None)
    return found


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4", "squashfs", "erofs", "btrfs", "xfs"])
def test_file_systems_by_the_kernel(repo: Repository, tree: Path, tmp_path: Path, kind: str) -> None:
    path = make_filesystem(kind, tree, tmp_path / "image")
    assert imported(repo, path) == expected(repo, tree)
    found = lookup(repo, repo.resolve("image/docker.io/library/found_3A1"), "/usr/bin/ping")
    assert isinstance(found, str)
    header: FileHeader = repo.load_file_header(found)
    assert header.xattrs == ((b"security.capability", CAPABILITY),)


@pytest.mark.parametrize("kind", ["ext2", "ext4", "squashfs", "erofs"])
def test_file_systems_by_tools(repo: Repository, tree: Path, tmp_path: Path, kind: str) -> None:
    path = make_filesystem(kind, tree, tmp_path / "image")
    wanted = expected(repo, tree)
    if kind != "squashfs":  # debugfs and fsck.erofs leave attributes out
        wanted["usr/bin/ping"] = wanted["usr/bin/ping"].partition(" security.")[0]
    if kind == "erofs":
        wanted["usr/bin/su"] = wanted["usr/bin/su"].replace("4755", "755")
    assert imported(repo, path, BY_TOOLS) == wanted


def test_btrfs_needs_the_kernel(repo: Repository, tree: Path, tmp_path: Path) -> None:
    path = make_filesystem("btrfs", tree, tmp_path / "image")
    with pytest.raises(Unsupported, match="btrfs is read by mounting it alone"):
        imported(repo, path, BY_TOOLS)


@pytest.mark.parametrize("table", ["gpt", "dos"])
@pytest.mark.parametrize("disk", [AS_FOUND, BY_TOOLS], ids=["kernel", "tools"])
def test_the_root_of_a_disk(repo: Repository, tree: Path, tmp_path: Path, table: str, disk: Choice) -> None:
    other = tmp_path / "other"
    (other / "data").mkdir(parents=True)
    parts = [
        Part(make_filesystem("ext4", other, tmp_path / "data.img")),
        Part(make_filesystem("squashfs", tree, tmp_path / "root.img")),
    ]
    path = make_disk(tmp_path / "disk.img", parts, table=table)
    assert imported(repo, path, disk) == expected(repo, tree)


def test_logical_partitions(repo: Repository, tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "data").mkdir(parents=True)
    data = make_filesystem("squashfs", other, tmp_path / "data.img")
    root = make_filesystem("squashfs", tree, tmp_path / "root.img")
    path = make_disk(tmp_path / "disk.img", [Part(data), Part(data), Part(root)], table="dos", logical=True)
    assert imported(repo, path) == expected(repo, tree)
    assert imported(repo, path, Choice(partition=6)) == expected(repo, tree)
    assert "data" in imported_anything(repo, path, 5)


def imported_anything(repo: Repository, path: Path, partition: int) -> dict[str, str]:
    return show(repo, import_image(repo, str(path), name="x:1", disk=Choice(partition=partition)).commit)


def test_two_systems_are_the_users_choice(repo: Repository, tree: Path, tmp_path: Path) -> None:
    other = make_tree(tmp_path / "other", "other")
    parts = [
        Part(make_filesystem("squashfs", tree, tmp_path / "a.img"), name="rootfs_a"),
        Part(make_filesystem("squashfs", other, tmp_path / "b.img"), name="rootfs_b"),
    ]
    path = make_disk(tmp_path / "disk.img", parts)
    with pytest.raises(InvalidInput, match="several partitions hold a system") as caught:
        imported(repo, path)
    assert "--partition N; there are: 1 'rootfs_a': squashfs" in str(caught.value)
    assert "2 'rootfs_b': squashfs" in str(caught.value)
    assert "'NAME=\"other\"\\n'" in imported(repo, path, Choice(partition=2))["etc/os-release"]
    with pytest.raises(NotFound, match="there is no partition 7"):
        imported(repo, path, Choice(partition=7))
    assert not [ref for ref in repo.refs() if "found" in ref and repo.resolve(ref) is None]


def test_types_of_roots(repo: Repository, tree: Path, tmp_path: Path) -> None:
    other = make_tree(tmp_path / "other", "other")
    rescue = make_filesystem("squashfs", other, tmp_path / "rescue.img")
    root = make_filesystem("squashfs", tree, tmp_path / "root.img")
    path = make_disk(tmp_path / "one.img", [Part(rescue, LINUX), Part(root, ROOT_AMD64)])
    assert imported(repo, path) == expected(repo, tree)
    path = make_disk(tmp_path / "two.img", [Part(rescue, ROOT_ARM64), Part(root, ROOT_AMD64)])
    with pytest.raises(InvalidInput, match="several partitions"):
        imported(repo, path)
    assert imported(repo, path, platform="linux/amd64") == expected(repo, tree)


def test_a_label_decides(repo: Repository, tree: Path, tmp_path: Path) -> None:
    other = make_tree(tmp_path / "other", "other")
    parts = [
        Part(make_filesystem("ext4", other, tmp_path / "a.img", label="recovery")),
        Part(make_filesystem("ext4", tree, tmp_path / "b.img", label="rootfs")),
    ]
    assert imported(repo, make_disk(tmp_path / "disk.img", parts)) == expected(repo, tree)


def test_what_fstab_lays_over_the_root(repo: Repository, tree: Path, tmp_path: Path) -> None:
    home, boot = tmp_path / "homes", tmp_path / "esp"
    (home / "ann").mkdir(parents=True)
    boot.mkdir()
    (boot / "KERNEL").write_bytes(b"k")
    (tree / "etc/fstab").write_text(
        "# <file system> <mount point>\n"
        "LABEL=rootfs / ext4 defaults 0 1\n"
        "PARTLABEL=homes /home ext4 defaults 0 2\n"
        "/dev/mmcblk0p3 /boot/efi vfat defaults 0 2\n"
        "UUID=01234567-89ab-cdef-0123-456789abcdef /srv ext4 defaults 0 2\n"
        "tmpfs /tmp tmpfs defaults 0 0\n"
        "PARTLABEL=homes /../../out ext4 defaults 0 0\n"
    )
    parts = [
        Part(make_filesystem("ext4", tree, tmp_path / "root.img", label="rootfs")),
        Part(make_filesystem("ext4", home, tmp_path / "home.img"), name="homes"),
        Part(make_filesystem("vfat", boot, tmp_path / "esp.img"), ESP),
    ]
    path = make_disk(tmp_path / "disk.img", parts)
    notes: list[str] = []
    found = show(repo, import_image(repo, str(path), name="a:1", note=notes.append).commit)
    assert "home/ann" in found
    assert "boot/efi" in found
    assert not any(name.lower().endswith("kernel") for name in found)
    assert "/srv is left out: UUID=01234567-89ab-cdef-0123-456789abcdef is not in the image" in notes
    assert any("whole system" in note for note in notes)
    found = show(repo, import_image(repo, str(path), name="a:2", disk=Choice(with_boot=True)).commit)
    assert any(name.lower() == "boot/efi/kernel" for name in found)


def test_subvolumes_and_deployments(repo: Repository, tree: Path, tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "ostree/deploy/os/deploy").mkdir(parents=True)
    tree.rename(top / "ostree/deploy/os/deploy/abc.0")
    path = make_filesystem("squashfs", top, tmp_path / "image")
    assert "etc/os-release" in imported(repo, path)
    make_tree(top / "ostree/deploy/os/deploy/def.0")
    path = make_filesystem("squashfs", top, tmp_path / "two")
    with pytest.raises(InvalidInput, match="several systems") as caught:
        imported(repo, path)
    assert "--subdir one of: ostree/deploy/os/deploy/abc.0" in str(caught.value)
    assert "etc/os-release" in imported(repo, path, Choice(subdir="ostree/deploy/os/deploy/def.0"))
    for name, error in (("../etc", InvalidInput), ("no/such", NotFound)):
        with pytest.raises(error):
            imported(repo, path, Choice(subdir=name))


@pytest.mark.parametrize("suffix", ["gz", "xz", "zst", "qcow2"])
def test_packed_disks(repo: Repository, tree: Path, tmp_path: Path, suffix: str) -> None:
    root = make_filesystem("squashfs", tree, tmp_path / "root.img")
    disk = make_disk(tmp_path / "disk.img", [Part(root)])
    packed = tmp_path / f"disk.img.{suffix}"
    if suffix == "qcow2":
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", disk, packed)
    else:
        program = {"gz": "gzip", "xz": "xz", "zst": "zstd"}[suffix]
        with open(packed, "wb") as out:
            subprocess.run([program, "-c", disk], stdout=out, check=True)
    assert imported(repo, packed) == expected(repo, tree)


def test_a_qcow2_that_names_another_file(repo: Repository, tmp_path: Path) -> None:
    secret = sized(tmp_path / "secret", 1024 * 1024)
    path = tmp_path / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", path)
    with pytest.raises(InvalidInput, match="needs another file"):
        imported(repo, path)
    path.unlink()
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path}/data,data_file_raw=on", path, "1M")
    with pytest.raises(InvalidInput, match="needs another file"):
        imported(repo, path)


def test_large_sectors(repo: Repository, tree: Path, tmp_path: Path) -> None:
    root = make_filesystem("squashfs", tree, tmp_path / "root.img")
    for table in ("gpt", "dos"):
        disk = sized(tmp_path / f"{table}.img", 64 * 1024 * 1024)
        loop = subprocess.run(
            ["losetup", "--sector-size", "4096", "--find", "--show", disk], capture_output=True, text=True, check=True
        ).stdout.strip()
        try:
            script = f"label: {table}\nstart=1024, size=4096, type={LINUX if table == 'gpt' else '83'}\n"
            subprocess.run(["sfdisk", "--quiet", "--no-tell-kernel", loop], input=script.encode(), check=True)
        finally:
            subprocess.run(["losetup", "--detach", loop], check=True)
        run("dd", f"if={root}", f"of={disk}", "bs=4096", "seek=1024", "conv=notrunc", "status=none")
        assert imported(repo, disk) == expected(repo, tree)


def broken_superblock(tree: Path, tmp_path: Path) -> Path:
    path = make_filesystem("ext4", tree, tmp_path / "broken.img")
    with open(path, "r+b") as file:
        file.seek(1024 + 24)
        file.write(b"\xff" * 4)  # s_log_block_size
    return path


@pytest.mark.parametrize("disk", [AS_FOUND, BY_TOOLS], ids=["kernel", "tools"])
def test_damaged_file_systems(repo: Repository, tree: Path, tmp_path: Path, disk: Choice) -> None:
    cut = make_filesystem("squashfs", tree, tmp_path / "cut.img")
    os.truncate(cut, 600)
    for path in (broken_superblock(tree, tmp_path), cut):
        with pytest.raises(WherryError):
            imported(repo, path, disk)
    assert not repo.refs()


def test_what_is_no_system(repo: Repository, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "file").touch()
    path = make_disk(tmp_path / "disk.img", [Part(make_filesystem("squashfs", empty, tmp_path / "a.img"))])
    with pytest.raises(NotFound, match="holds no system"):
        imported(repo, path)
    swap = sized(tmp_path / "swap", 1024 * 1024)
    run("mkswap", swap)
    with pytest.raises(Unsupported, match="but swap"):
        imported(repo, swap, Choice(partition=None))


def test_a_hostile_tree(repo: Repository, tree: Path, tmp_path: Path) -> None:
    """Links in the image lead nowhere outside of it, and its devices are left out."""
    for name in ("etc/fstab", "usr/bin/ping"):
        (tree / name).unlink(missing_ok=True)
    (tree / "etc/fstab").symlink_to("/etc/passwd")
    (tree / "home").rmdir()
    (tree / "home").symlink_to("/root")
    os.mknod(tree / "etc/disk", 0o60666, os.makedev(8, 0))
    os.mkfifo(tree / "etc/fifo")
    for kind, disk in itertools.product(("squashfs", "ext4", "erofs"), (AS_FOUND, BY_TOOLS)):
        path = make_filesystem(kind, tree, tmp_path / f"{kind}.img")
        found = imported(repo, path, disk)
        assert found["home"] == "-> /root"
        assert found["etc/fstab"] == "-> /etc/passwd"
        assert "etc/disk" not in found
        assert "etc/fifo" not in found


def test_a_tool_can_write_nowhere_else(tmp_path: Path) -> None:
    """What a broken tool could be made to do: write outside, through the network, or be another user."""
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    done = proc.run(
        ["sh", "-c", f"touch here; touch {outside}/there; touch /etc/there; ls /sys/class/net; id -u"],
        before_exec=lambda: confine(str(folder)),
        check=False,
    )
    assert (folder / "here").exists()
    assert list(outside.iterdir()) == []
    assert done.stderr.count(b"Read-only file system") == 2
    assert not Path("/etc/there").exists()


def test_a_vendors_disk_runs(tmp_path: Path) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed")
    tree = make_tree(tmp_path / "tree")
    for name in ("sh", "ash"):
        (tree / "bin" / name).unlink()
    shutil.copy(busybox, tree / "bin/sh")
    disk = make_disk(tmp_path / "disk.img", [Part(make_filesystem("ext4", tree, tmp_path / "root.img"))], table="dos")
    wherry = [sys.executable, "-m", "wherry", "--root", f"{tmp_path}/root", "--run-root", f"{tmp_path}/run"]

    def call(*args: str) -> str:
        done = subprocess.run([*wherry, *args], capture_output=True, text=True, check=False, timeout=100)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    assert "a whole system" in call("image", "import", str(disk), "--name", "vendor:1", "-c", "ENV A=b")
    command = "cat /etc/os-release /etc/machine-id; echo $A"
    assert call("run", "--rm", "--network", "none", "vendor:1", "/bin/sh", "-c", command).splitlines() == [
        'NAME="vendor"', "0123456789abcdef0123456789abcdef", "b",
    ]  # fmt: skip
