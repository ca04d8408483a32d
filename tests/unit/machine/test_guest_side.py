"""What a guest is given: its first RAM file system, its modules in order, its kernel unpacked, its command quoted."""

from __future__ import annotations

import gzip
import io
import lzma
import shlex
import shutil
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from wherry.core.errors import InvalidInput, NotFound
from wherry.machine import agent, initramfs, modules


def test_the_archive_is_a_cpio_and_always_the_same(tmp_path: Path) -> None:
    files = {"a/b/c": (stat.S_IFREG | 0o755, b"content"), "empty": (stat.S_IFDIR | 0o700, b"")}
    first, second = io.BytesIO(), io.BytesIO()
    initramfs.write(first, files)
    initramfs.write(second, dict(reversed(files.items())))
    assert first.getvalue() == second.getvalue()
    if shutil.which("cpio") is None:
        pytest.skip("no cpio")
    subprocess.run(["cpio", "-i", "--quiet"], input=first.getvalue(), cwd=tmp_path, check=True)
    assert (tmp_path / "a/b/c").read_bytes() == b"content"
    assert (tmp_path / "a/b/c").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "empty").is_dir()


@pytest.mark.parametrize("path", ["/a", "../a", "a/../b", "a\0b"])
def test_no_path_for_an_archive(path: str) -> None:
    with pytest.raises(InvalidInput):
        initramfs.write(io.BytesIO(), {path: (stat.S_IFREG, b"")})


def tree(path: Path, dependencies: str, builtin: str = "") -> Path:
    (path / "modules.dep").write_text(dependencies)
    (path / "modules.builtin").write_text(builtin)
    return path


def test_modules_come_behind_what_they_need(tmp_path: Path) -> None:
    place = tree(
        tmp_path,
        "kernel/fs/9p/9p.ko.xz: kernel/net/9pnet.ko.xz kernel/fs/netfs.ko.xz\nkernel/net/9pnet.ko.xz:\n"
        "kernel/fs/netfs.ko.xz:\nkernel/virtio-pci.ko.xz: kernel/net/9pnet.ko.xz\n",
        "kernel/drivers/virtio_console.ko\n",
    )
    found = modules.in_order(place, ["9p", "virtio_pci", "virtio_console"], optional=["nothing"])
    names = [path.name.partition(".")[0] for path in found]
    assert names.index("9pnet") < names.index("9p")
    assert names.index("netfs") < names.index("9p")
    assert sorted(names) == ["9p", "9pnet", "netfs", "virtio-pci"]
    with pytest.raises(NotFound, match="no module ext4"):
        modules.in_order(place, ["ext4"])


def test_modules_in_a_circle_or_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="need each other"):
        modules.in_order(tree(tmp_path, "a.ko: b.ko\nb.ko: a.ko\n"), ["a"])
    with pytest.raises(InvalidInput, match="outside"):
        modules.in_order(tree(tmp_path, "../../a.ko:\n"), ["a"])


def bz_image(payload: bytes, protocol: int = 0x20F) -> bytes:
    image = bytearray(1024)
    image[0x1F1] = 1
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, protocol)
    struct.pack_into("<II", image, 0x248, 0, len(payload))
    return bytes(image) + payload


def test_a_kernel_is_unpacked_where_qemu_can_start_it() -> None:
    bare = b"\x7fELF" + struct.pack("<III", 4, 8, 18) + b"Xen\0" + bytes(100)
    for pack in (lzma.compress, gzip.compress):
        assert modules.bare_kernel(bz_image(pack(bare) + b"size")) == bare
    for other in (
        bz_image(b"\x02\x21\x4c\x18"),
        bz_image(lzma.compress(b"no ELF")),
        bz_image(lzma.compress(bare), 0x200),
    ):
        assert modules.bare_kernel(other) == other
    assert modules.bare_kernel(bz_image(lzma.compress(b"\x7fELF" + bytes(100))))[:4] != b"\x7fELF"
    assert modules.bare_kernel(bz_image(b"\xfd7zXZ\x00damaged"))[0x202:0x206] == b"HdrS"
    assert modules.bare_kernel(b"short") == b"short"


def test_packed_files() -> None:
    assert modules.unpacked(b"plain") == b"plain"
    assert modules.unpacked(lzma.compress(b"x")) == b"x"
    with pytest.raises(InvalidInput):
        modules.unpacked(b"\xfd7zXZ\x00damaged")


def test_the_command_reaches_the_guest_as_it_is() -> None:
    argv = ("sh", "-c", "echo $HOME; `id`", "it's", "", "a\nb")
    text = agent.command(argv, env={"A": "b 'c' $d"}, working_dir="/w x", uid=5, gid=6, has_root=True)
    words = shlex.split(text)
    assert words[-len(argv) :] == list(argv)
    assert "A=b 'c' $d" in words
    assert f"-w{agent.GUEST_ROOT}/w x" in words
    assert words[words.index("-S") + 1] == "5"
    bare = agent.command(argv, env={}, working_dir="/w x", uid=0, gid=0, has_root=False)
    assert shlex.split(bare)[-len(argv) :] == list(argv)


def test_hostile_words_stay_words() -> None:
    text = agent.config(
        uml=False, has_root=True, read_only=True, hostname="x; reboot", network=True, stdin=False, terminal=(5, 6)
    )
    done = subprocess.run(["sh", "-c", f'{text}\necho "$HOST|$ROWS|$READ_ONLY"'], capture_output=True, check=True)
    assert done.stdout == b"x; reboot|5|,ro\n"
    assert shlex.quote("/a b;c") not in agent.mounts([("/a b;c", "size=1")], has_root=False).replace("'/a b;c'", "")


def test_the_script_is_a_script() -> None:
    subprocess.run(["sh", "-n"], input=agent.INIT.encode(), check=True)
