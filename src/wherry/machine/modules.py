"""Kernel modules that a guest needs, in the order in which they can be loaded, and kernels as QEMU starts them fastest.

The order is that of ``modules.dep``, which kmod's ``depmod`` writes; what is built in is in ``modules.builtin``.
Compressed modules are unpacked, as busybox loads plain ones alone.
"""

from __future__ import annotations

import gzip
import lzma
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from wherry.core.errors import InvalidInput, NotFound

NEEDED = ("virtio_pci", "virtio_console", "virtio_net", "9pnet_virtio", "9p")
"""Without these no container's root is seen."""
WELCOME = ("virtio_blk", "virtio_rng", "overlay", "ext4", "af_packet", "i6300esb")
"""Loaded where there are any."""
MAX_MODULE_BYTES = 64 * 1024 * 1024
MAX_KERNEL_BYTES = 512 * 1024 * 1024
_ELF, _GZIP, _XZ, _ZSTD = b"\x7fELF", b"\x1f\x8b", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
_MIN_PROTOCOL = 0x208
"""Of the boot protocol: the first to say where the packed kernel is."""


def _name_of(path: str) -> str:
    """Returns a module's name: of ``kernel/fs/9p/9p.ko.xz`` it is ``9p``."""
    return PurePosixPath(path).name.partition(".ko")[0].replace("-", "_")


def in_order(tree: Path, names: Sequence[str], *, optional: Sequence[str] = ()) -> list[Path]:
    """Returns the files of modules and of all that they need, each behind what it needs.

    Args:
        tree: ``lib/modules/VERSION``, with ``modules.dep``.
        names: modules that must be there, or be built in.
        optional: those that may be missing.

    Raises:
        NotFound: a module is not there; names it.
        InvalidInput: modules need each other in a circle, or a path leads out of the tree.
    """
    needs: dict[str, list[str]] = {}
    for line in (tree / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    known = {_name_of(path): path for path in needs}
    builtin = {_name_of(line) for line in _lines(tree / "modules.builtin")}
    found: dict[str, None] = {}
    for name in (*names, *optional):
        file = known.get(name.replace("-", "_"))
        if file is not None:
            _visit(file, needs, found, ())
        elif name not in builtin and name not in optional:
            raise NotFound(f"the kernel has no module {name}", where=tree, hint="take another kernel")
    for path in found:
        if path.startswith("/") or ".." in PurePosixPath(path).parts:
            raise InvalidInput(f"a module outside its tree: {path!r}", where=tree)
    return [tree / path for path in found]


def _lines(path: Path) -> Iterator[str]:
    if path.exists():
        yield from path.read_text().splitlines()


def _visit(path: str, needs: dict[str, list[str]], found: dict[str, None], trail: tuple[str, ...]) -> None:
    if path in trail:
        raise InvalidInput(f"modules need each other: {' -> '.join((*trail, path))}")
    if path in found:
        return
    for other in needs.get(path, ()):
        _visit(other, needs, found, (*trail, path))
    found[path] = None


def unpacked(data: bytes) -> bytes:
    """Returns what is in a compressed file; what is not compressed as it is.

    Raises:
        InvalidInput: it is damaged, or grows beyond a limit.
    """
    try:
        if data.startswith(_XZ):
            return _limited(lzma.LZMADecompressor().decompress(data, max_length=MAX_KERNEL_BYTES + 1))
        if data.startswith(_GZIP):
            return _limited(zlib.decompressobj(31).decompress(data, MAX_KERNEL_BYTES + 1))
        if data.startswith(_ZSTD):
            import zstandard

            return _limited(zstandard.ZstdDecompressor().decompressobj().decompress(data))
    except (lzma.LZMAError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise InvalidInput("damaged compressed data") from error
    return data


def _limited(data: bytes) -> bytes:
    if len(data) > MAX_KERNEL_BYTES:
        raise InvalidInput(f"it unpacks to more than {MAX_KERNEL_BYTES} bytes")
    return data


def bare_kernel(data: bytes) -> bytes:
    """Returns the ELF file that is packed in an x86 kernel; any other kernel, or one packed otherwise, as it is.

    QEMU starts such a file at its PVH entry. In a guest whose code is translated unpacking takes longer than all the
    rest of the boot: 9 s and more with xz.

    Source: Linux, Documentation/x86/boot.rst ("Real-mode kernel header").
    """
    if len(data) < 0x250 or data[0x202:0x206] != b"HdrS":
        return data
    (protocol,) = struct.unpack_from("<H", data, 0x206)
    if protocol < _MIN_PROTOCOL:
        return data
    sectors = data[0x1F1] or 4
    offset, length = struct.unpack_from("<II", data, 0x248)
    start = (sectors + 1) * 512 + offset
    packed = data[start : start + length]
    if not packed.startswith((_XZ, _GZIP, _ZSTD)):
        return data
    try:
        found = unpacked(packed)
    except InvalidInput:
        return data  # as it is, it unpacks itself
    return found if found.startswith(_ELF) and _has_pvh(found) else data


def _has_pvh(data: bytes) -> bool:
    """Tells whether an ELF kernel has the note that QEMU looks for (XEN_ELFNOTE_PHYS32_ENTRY of "Xen")."""
    return struct.pack("<III", 4, 8, 18) + b"Xen\0" in data or struct.pack("<III", 4, 4, 18) + b"Xen\0" in data
