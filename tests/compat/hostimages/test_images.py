"""Images, each judged by the field's own tools."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.hostproduct import EPOCH, make_product
from tests.fixtures.plainplace import PlainPlace

from wherry.build.boards import Boot
from wherry.build.images.layout import Layout, parse_layout
from wherry.build.images.making import make_image
from wherry.build.images.product import Product
from wherry.core.errors import InvalidInput
from wherry.image.importing import load_images
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository

MIB = 1024 * 1024
LAYOUT: dict[str, Any] = {
    "images": {
        "root": {"kind": "erofs", "from": "root"},
        "plain": {"kind": "erofs", "from": "root", "compression": "none"},
        "modules": {"kind": "squashfs", "from": "root", "below": "usr/lib/modules"},
        "data": {"kind": "ext4", "from": "root", "label": "data"},
        "ram": {"kind": "initramfs", "from": "root"},
        "ramxz": {"kind": "initramfs", "from": "root", "compression": "xz"},
        "ramgz": {"kind": "initramfs", "from": "root", "compression": "gzip"},
        "rambare": {"kind": "initramfs", "from": "root", "compression": "none"},
        "box": {"kind": "oci", "from": "root"},
        "files": {"kind": "tar", "from": "root", "compression": "gzip"},
        "windows": {"kind": "wsl", "from": "root"},
        "disk": {
            "kind": "disk",
            "partitions": {
                "esp": {
                    "order": 10,
                    "type": "esp",
                    "filesystem": "fat",
                    "size": "48MiB",
                    "label": "ESP",
                    "content": [
                        {"from": "boot-entries"},
                        {"from": "image:root", "to": "root.erofs"},
                        {"from": "boot", "below": "firmware/raspberry-pi", "to": "extra"},
                    ],
                },
                "root": {"order": 20, "type": "root", "content": [{"from": "image:root"}], "attributes": ["read-only"]},
                "persist": {"order": 30, "filesystem": "ext4", "size": "64MiB", "label": "persist", "grow": True},
            },
        },
        "card": {
            "kind": "disk",
            "table": "mbr",
            "partitions": {
                "boot": {
                    "order": 1,
                    "type": "fat",
                    "filesystem": "fat",
                    "attributes": ["active"],
                    "content": [{"from": "boot-entries"}],
                },
                "root": {
                    "order": 2,
                    "type": "root",
                    "filesystem": "ext4",
                    "content": [{"from": "root"}, {"from": "boot", "below": "dtb", "to": "boot/dtb"}],
                },
            },
            "raw": {"u-boot": {"file": "firmware/u-boot-sunxi-with-spl.bin", "offset": "8KiB"}},
        },
    }
}


def _run(*args: str | Path) -> str:
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/nonexistent"}
    done = subprocess.run([str(arg) for arg in args], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, f"{args}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def layout() -> Layout:
    return parse_layout(LAYOUT, where="test")


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Product:
    return make_product(tmp_path_factory.mktemp("host"))


def _make(layout: Layout, name: str, product: Product, tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    place = PlainPlace(tmp_path / "place")
    made = make_image(layout, name, product, folder, place)
    assert not os.listdir(place.scratch)
    assert made.parent == folder
    return made


def test_erofs(layout: Layout, product: Product, tmp_path: Path) -> None:
    made = _make(layout, "root", product, tmp_path)
    _run("fsck.erofs", made)
    assert product.root is not None
    told = _run("dump.erofs", made)
    assert f"{product.uuid('root', 'filesystem')}" in told.lower()
    out = tmp_path / "out"
    _run("fsck.erofs", f"--extract={out}", "--preserve", made)
    assert (out / "usr/bin/sh").read_bytes() == (product.root / "usr/bin/sh").read_bytes()
    assert os.readlink(out / "bin") == "usr/bin"
    told = _run("dump.erofs", "--path=/usr/bin/sh", made)  # which shows nine bits of the mode
    number = int(told.split("NID: ")[1].split()[0])
    image = made.read_bytes()
    meta = int.from_bytes(image[1024 + 40 : 1024 + 44], "little") * 4096
    assert int.from_bytes(image[meta + 32 * number + 4 :][:2], "little") == stat.S_IFREG | 0o4755
    assert (out / "etc/hostname").stat().st_mtime == EPOCH
    bare = make_image(layout, "plain", product, tmp_path / "images", PlainPlace(tmp_path / "other"))
    _run("fsck.erofs", bare)


def test_squashfs_of_a_part(layout: Layout, product: Product, tmp_path: Path) -> None:
    made = _make(layout, "modules", product, tmp_path)
    lines = _run("unsquashfs", "-UTC", "-lln", made).splitlines()
    assert lines[-1].split()[-1] == "squashfs-root/6.1/modules.dep"
    assert all(" 2023-11-14 22:13 " in line for line in lines)
    assert "zstd" in _run("unsquashfs", "-s", made)


def test_ext4(layout: Layout, product: Product, tmp_path: Path) -> None:
    made = _make(layout, "data", product, tmp_path)
    _run("e2fsck", "-fn", made)
    head = _run("dumpe2fs", "-h", made)
    assert "Filesystem volume name:   data" in head
    assert "Block size:               4096" in head
    assert {"verity", "metadata_csum", "64bit"} <= set(head.split("Filesystem features:")[1].split("\n")[0].split())
    assert str(product.uuid("data", "filesystem")) in head
    out = tmp_path / "sh"
    _run("debugfs", "-R", f"dump /usr/bin/sh {out}", made)
    assert product.root is not None
    assert out.read_bytes() == (product.root / "usr/bin/sh").read_bytes()
    for path in ("/", "/usr/bin/tool with spaces", "/etc/dangling", "/lost+found"):
        said = _run("debugfs", "-R", f'stat "{path}"', made)
        times = [line.split("0x")[1].split(":")[0] for line in said.splitlines() if "time: 0x" in line]
        assert times == [f"{EPOCH:08x}"] * 4, said
    assert "Mode:  01777" in _run("debugfs", "-R", "stat /tmp", made)


@pytest.mark.parametrize("name", ["ram", "ramxz", "ramgz", "rambare"])
def test_initramfs(layout: Layout, product: Product, tmp_path: Path, name: str) -> None:
    made = _make(layout, name, product, tmp_path)
    tool = {".zst": ["zstd", "-dc"], ".xz": ["xz", "-dc"], ".gz": ["gzip", "-dc"]}.get(made.suffix, ["cat"])
    archive = subprocess.run([*tool, made], capture_output=True, check=True).stdout
    out = tmp_path / "out"
    out.mkdir()
    command = ["cpio", "-idm", "--no-absolute-filenames"]
    subprocess.run(command, input=archive, cwd=out, check=True, capture_output=True)
    assert product.root is not None
    assert (out / "usr/bin/sh").read_bytes() == (product.root / "usr/bin/sh").read_bytes()
    assert (out / "usr/bin/sh").stat().st_ino == (out / "usr/bin/bash").stat().st_ino
    assert (out / "usr/share/zeros").stat().st_size == 300_000
    assert os.readlink(out / "etc/dangling") == os.readlink(product.root / "etc/dangling")
    listing = subprocess.run(
        ["cpio", "-tv"], input=archive, check=True, capture_output=True, text=False
    ).stdout.decode()
    assert any(line.startswith("crw-------") and line.endswith("dev/console") for line in listing.splitlines())
    if name == "ram":
        # the kernel unpacks with busybox' strictness
        subprocess.run(["busybox", "cpio", "-t"], input=archive, check=True, capture_output=True)


def test_archives(layout: Layout, product: Product, tmp_path: Path) -> None:
    for name, suffix in (("files", ".tar.gz"), ("windows", ".wsl")):
        made = make_image(layout, name, product, tmp_path / "images", PlainPlace(tmp_path / name))
        assert made.name == name + suffix
        listing = _run("tar", "--numeric-owner", "-tvzf", made)
        assert "-rwsr-xr-x 0/0" in listing
        assert "./etc/wsl.conf" in listing
        out = tmp_path / f"out-{name}"
        out.mkdir()
        _run("tar", "-xzf", made, "-C", out)
        assert product.root is not None
        _run("diff", "-r", "--no-dereference", product.root, out)
        with open(made, "rb") as file:
            assert file.read(10)[4:8] == bytes(4)  # no time in gzip's head


def test_wsl_wants_a_system(layout: Layout, product: Product, tmp_path: Path) -> None:
    document = {"images": {"w": {"kind": "wsl", "from": "root", "below": "usr"}}}
    with pytest.raises(InvalidInput, match="WSL starts nothing without /etc/passwd"):
        make_image(parse_layout(document), "w", product, tmp_path / "images", PlainPlace(tmp_path / "place"))
    assert os.listdir(tmp_path / "images") == []


def test_container(layout: Layout, product: Product, tmp_path: Path) -> None:
    made = _make(layout, "box", product, tmp_path)
    said = json.loads(_run("skopeo", "inspect", "--config", f"oci-archive:{made}"))
    assert said["architecture"] == "amd64"
    assert said["config"] == {"Cmd": ["/sbin/init"], "StopSignal": "SIGRTMIN+3"}
    assert said["created"] == "2023-11-14T22:13:21Z"
    tags = json.loads(_run("tar", "-xOf", made, "manifest.json"))[0]["RepoTags"]
    assert tags == ["localhost/kiosk:latest"]
    assert json.loads(_run("skopeo", "inspect", f"docker-archive:{made}"))["Architecture"] == "amd64"
    out = tmp_path / "copy"
    _run("skopeo", "copy", f"oci-archive:{made}", f"dir:{out}")
    layer = next(path for path in out.iterdir() if path.name not in ("manifest.json", "version") and _is_tar(path))
    assert "./usr/bin/sh" in "\n".join(f"./{name.removeprefix('./')}" for name in _run("tar", "-tf", layer).split("\n"))


def test_container_engines_load_it(layout: Layout, product: Product, tmp_path: Path) -> None:
    made = _make(layout, "box", product, tmp_path)
    repo = Repository.init(tmp_path / "store", Mode.BARE_USER)
    record = load_images(repo, made, platform="linux/amd64")[0]
    assert str(record.reference) == "localhost/kiosk:latest"
    assert record.config.document()["config"]["StopSignal"] == "SIGRTMIN+3"
    if shutil.which("podman") is None or os.geteuid() != 0:
        pytest.skip("no podman to ask")
    with tempfile.TemporaryDirectory(prefix="wh") as folder:  # podman takes no more than 50 characters
        store = ("--root", f"{folder}/a", "--runroot", f"{folder}/b", "--storage-driver", "vfs")
        assert "localhost/kiosk:latest" in _run("podman", *store, "load", "-i", made)


def _is_tar(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(512)[257:262] == b"ustar"


def _part(disk: Path, number: int, out: Path) -> tuple[dict[str, Any], Path]:
    table = json.loads(_run("sfdisk", "--json", disk))["partitiontable"]
    entry = table["partitions"][number - 1]
    with open(disk, "rb") as file, open(out, "wb") as copy:
        file.seek(entry["start"] * 512)
        copy.write(file.read(entry["size"] * 512))
    return entry, out


def test_gpt_disk(layout: Layout, product: Product, tmp_path: Path) -> None:
    made = _make(layout, "disk", product, tmp_path)
    assert "No errors detected" in _run("sfdisk", "--verify", made)
    table = json.loads(_run("sfdisk", "--json", made))["partitiontable"]
    assert table["label"] == "gpt"
    assert table["id"].lower() == str(product.uuid("disk", "disk"))
    assert [entry["name"] for entry in table["partitions"]] == ["ESP", "root", "persist"]
    assert all(entry["start"] % 2048 == 0 for entry in table["partitions"])
    assert table["partitions"][1]["type"].lower() == "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
    assert table["partitions"][1]["attrs"] == "GUID:60"
    assert table["partitions"][2]["attrs"] == "GUID:59"
    size = made.stat().st_size
    with open(made, "rb") as file:
        head = file.read(520)
        file.seek(size - 512)
        assert file.read(8) == b"EFI PART"  # the second table is at the very end
    assert (head[510:512], head[450], head[512:520]) == (b"\x55\xaa", 0xEE, b"EFI PART")
    assert made.stat().st_blocks * 512 < size / 2  # holes stay holes
    assert product.root is not None

    _, esp = _part(made, 1, tmp_path / "esp")
    _run("fsck.fat", "-n", esp)
    assert 'disk type="FAT32' in _run("minfo", "-i", esp)
    entry = _run("mtype", "-i", esp, "::/loader/entries/kiosk+3.conf")
    partuuid = product.uuid("disk", "partition", "root")
    assert f"options console=ttyS0,115200 quiet root=PARTUUID={partuuid} gpt\n" in entry
    assert table["partitions"][1]["uuid"].lower() == str(partuuid)
    assert _run("mtype", "-i", esp, "::/EFI/BOOT/BOOTX64.EFI") == "MZ other loader"
    assert _run("mtype", "-i", esp, "::/extra/overlays/a.dtbo") == "overlay"
    assert "2023-11-14  22:13" in _run("mdir", "-i", esp, "::/loader")

    entry_root, root = _part(made, 2, tmp_path / "root")
    _run("fsck.erofs", root)
    copied = tmp_path / "root.erofs"
    _run("mcopy", "-i", esp, "::/root.erofs", copied)
    assert copied.read_bytes() == (made.parent / "root.erofs").read_bytes()
    assert root.read_bytes().rstrip(b"\0") == copied.read_bytes().rstrip(b"\0")
    assert entry_root["size"] == 2048

    _, persist = _part(made, 3, tmp_path / "persist")
    _run("e2fsck", "-fn", persist)
    assert "has_journal" in _run("dumpe2fs", "-h", persist)


def test_mbr_card_with_a_raw_area(tmp_path: Path, layout: Layout) -> None:
    product = make_product(tmp_path / "host", arch="armhf", boot=Boot.EXTLINUX)
    made = _make(layout, "card", product, tmp_path)
    _run("sfdisk", "--verify", made)
    table = json.loads(_run("sfdisk", "--json", made))["partitiontable"]
    assert (table["label"], table["id"]) == ("dos", f"0x{product.number('card', 'disk'):08x}")
    assert [entry["type"] for entry in table["partitions"]] == ["c", "83"]
    assert table["partitions"][0]["bootable"]
    with open(made, "rb") as file:
        file.seek(8192)
        assert file.read(700_001) == b"\xeb" * 700_000 + b"\0"
    _, boot = _part(made, 1, tmp_path / "boot")
    _run("fsck.fat", "-n", boot)
    text = _run("mtype", "-i", boot, "::/extlinux/extlinux.conf")
    assert f"root=PARTUUID={product.number('card', 'disk'):08x}-02\n" in text
    assert "fdt /kiosk/dtb/allwinner/sun8i-h3-orangepi-pc.dtb\n" in text
    _, root = _part(made, 2, tmp_path / "root")
    _run("e2fsck", "-fn", root)
    assert "tree of the orange" in _run("debugfs", "-R", "cat /boot/dtb/allwinner/sun8i-h3-orangepi-pc.dtb", root)
    assert "Links: 2" in _run("debugfs", "-R", "stat /usr/bin/bash", root)


def test_the_root_is_named_where_nobody_says_it(layout: Layout, product: Product, tmp_path: Path) -> None:
    made = _make(layout, "disk", replace(product, command_line=("quiet",)), tmp_path)
    _, esp = _part(made, 1, tmp_path / "esp")
    entry = _run("mtype", "-i", esp, "::/loader/entries/kiosk+3.conf")
    partuuid = product.uuid("disk", "partition", "root")
    assert f"options console=ttyS0,115200 quiet root=PARTUUID={partuuid} gpt\n" in entry


def test_a_gpt_that_leaves_room_for_the_spl(layout: Layout, product: Product, tmp_path: Path) -> None:
    disk = {**LAYOUT["images"]["disk"], "raw": LAYOUT["images"]["card"]["raw"]}
    small = parse_layout({"images": {**LAYOUT["images"], "disk": disk}})
    made = _make(small, "disk", product, tmp_path)
    assert "No errors detected" in _run("sfdisk", "--verify", made)
    table = json.loads(_run("sfdisk", "--json", made))["partitiontable"]
    assert table["table-length"] == "56" if "table-length" in table else True
    with open(made, "rb") as file:
        file.seek(8192)
        assert file.read(700_000) == b"\xeb" * 700_000


TOO_MUCH = {
    "fat": ({"filesystem": "fat", "size": "600KiB", "content": [{"from": "boot"}]}, "does not fit.*"),
    "ext4": (
        {
            "filesystem": "ext4",
            "size": "2MiB",
            "content": [{"from": "root"}, *({"from": "boot", "to": to} for to in "bcd")],
        },
        "fit",
    ),
    "raw": ({"size": "4KiB", "content": [{"from": "boot", "below": "kernel"}]}, "does not fit.*30000 bytes into 4096"),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_too_small(name: str, product: Product, tmp_path: Path) -> None:
    partition, message = TOO_MUCH[name]
    document = {"images": {"d": {"kind": "disk", "partitions": {"p": partition}}}}
    assert product.boot is not None
    with pytest.raises(InvalidInput, match=message) as found:
        make_image(
            parse_layout(document, where="layers/x"), "d", product, tmp_path / "images", PlainPlace(tmp_path / "place")
        )
    assert "layers/x: images.d.partitions.p" in str(found.value)
    assert os.listdir(tmp_path / "images") == []


def test_sizes_that_nobody_says_are_enough(product: Product, tmp_path: Path) -> None:
    for number, big in enumerate((100, 5 * MIB, 70 * MIB)):
        root = tmp_path / f"root{number}"
        root.mkdir()
        (root / "big").write_bytes(os.urandom(big))
        for index in range(300):
            (root / f"file-with-a-long-name-{index:05}").write_bytes(b"x" * (index % 3))
        document = {
            "images": {
                "d": {
                    "kind": "disk",
                    "partitions": {
                        "f": {"filesystem": "fat", "content": [{"from": "boot"}]},
                        "e": {"filesystem": "ext4", "content": [{"from": "root"}]},
                    },
                }
            }
        }
        host = replace(product, boot=root, root=root)
        made = make_image(parse_layout(document), "d", host, tmp_path / "images", PlainPlace(tmp_path / f"p{number}"))
        _, fat = _part(made, 1, tmp_path / "fat")
        _run("fsck.fat", "-n", fat)
        _, ext = _part(made, 2, tmp_path / "ext")
        _run("e2fsck", "-fn", ext)
        made.unlink()
