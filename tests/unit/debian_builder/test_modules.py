"""Which files a list of kernel modules comes to."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest
import zstandard

from wherry.build.modules import Tree, name_of, read_module
from wherry.core.errors import InvalidInput, NotFound

DEP = """kernel/fs/ext4/ext4.ko: kernel/fs/mbcache.ko kernel/lib/crc16.ko
kernel/fs/mbcache.ko:
kernel/lib/crc16.ko:
kernel/lib/libcrc32c.ko.xz:
kernel/fs/erofs/erofs.ko.xz: kernel/lib/libcrc32c.ko.xz
kernel/arch/crypto/crc32c-intel.ko:
kernel/crypto/crc32c_generic.ko:
kernel/drivers/virtio/virtio_pci.ko:
"""
ALIASES = """# Aliases extracted from modules themselves.
alias crc32c crc32c_intel
alias crc32c crc32c_generic
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias fs-ext4 ext4
"""


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    folder = tmp_path / "6.1.0-1-amd64"
    folder.mkdir()
    (folder / "modules.dep").write_text(DEP)
    (folder / "modules.alias").write_text(ALIASES)
    (folder / "modules.softdep").write_text("softdep ext4 pre: crc32c post: not-this\nsoftdep nothing\n")
    (folder / "modules.builtin").write_text("kernel/drivers/nvme/host/nvme-core.ko\n")
    return Tree(folder)


def test_a_module_brings_what_it_needs_and_what_it_wants(tree: Tree) -> None:
    chosen = tree.choose(["ext4"])
    assert [name_of(path) for path in chosen.files] == ["crc16", "crc32c_generic", "crc32c_intel", "ext4", "mbcache"]
    assert chosen.release == "6.1.0-1-amd64"
    assert chosen.missing == ()


def test_the_index_has_only_what_must_be_there(tree: Tree) -> None:
    index = tree.choose(["ext4"]).index
    assert "kernel/fs/ext4/ext4.ko: kernel/fs/mbcache.ko kernel/lib/crc16.ko\n" in index["modules.dep"]
    assert "erofs" not in index["modules.dep"]
    assert index["modules.alias"] == "alias crc32c crc32c_intel\nalias crc32c crc32c_generic\nalias fs-ext4 ext4\n"


def test_compressed_modules_are_plain_in_the_index(tree: Tree) -> None:
    chosen = tree.choose(["erofs"])
    assert chosen.index["modules.dep"] == (
        "kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko\nkernel/lib/libcrc32c.ko:\n"
    )
    assert chosen.files["kernel/fs/erofs/erofs.ko"].name == "erofs.ko.xz"


def test_dash_and_underline_are_one_and_what_is_in_the_kernel_needs_no_file(tree: Tree) -> None:
    assert list(tree.choose(["virtio-pci", "nvme_core"]).files) == ["kernel/drivers/virtio/virtio_pci.ko"]


def test_optional_ones_may_be_missing_and_others_not(tree: Tree) -> None:
    assert tree.choose([], optional=["sdhci", "ext4"]).missing == ("sdhci",)
    with pytest.raises(NotFound, match=r"no module 'virtio_pc'; did you mean 'virtio_pci'\?"):
        tree.choose(["virtio_pc"])


def test_without_an_index(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="depmod"):
        Tree(tmp_path)


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("", bytes), (".xz", lzma.compress), (".gz", gzip.compress), (".zst", zstandard.ZstdCompressor().compress)],
)
def test_modules_are_read_plain(tmp_path: Path, suffix: str, pack: object) -> None:
    path = tmp_path / f"x.ko{suffix}"
    assert callable(pack)
    path.write_bytes(pack(b"\x7fELF module" * 100))
    assert read_module(path) == b"\x7fELF module" * 100
    assert name_of(f"kernel/a-b.ko{suffix}") == "a_b"


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".zst"])
def test_a_damaged_module(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.ko{suffix}"
    path.write_bytes(b"not compressed at all")
    with pytest.raises(InvalidInput, match="not a module in"):
        read_module(path)
