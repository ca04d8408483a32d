"""Boards: what a layer says of the hardware that a build is for, in ``board/board.yaml``.

Where several layers of a chain have one, they are merged key by key, the later over the earlier (RFC 7396), so that a
board's layer may stand on its family's. Of ``command_line`` and ``modules`` the words of all layers count, in the order
of the chain; ``-WORD`` takes one away. A board is of one architecture; others that it can be built for are named under
``architectures``, each with what is different there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from wherry.build.yamlfiles import merge_patch, read_mapping
from wherry.core.errors import InvalidInput
from wherry.spec.architecture import architecture as find_architecture
from wherry.spec.codec import decode

if TYPE_CHECKING:
    from wherry.build.layers import Layer
    from wherry.spec.architecture import Architecture

FILE = "board/board.yaml"
_LISTS = ("command_line", "modules")


class Boot(StrEnum):
    """How the board's firmware finds the kernel."""

    NONE = "none"
    """It does not: the host is a container, or another program loads the kernel."""
    UEFI = "uefi"
    """systemd-boot, with entries of the Boot Loader Specification."""
    EXTLINUX = "extlinux"
    """U-Boot reads ``extlinux/extlinux.conf``."""
    RASPBERRY_PI = "raspberry-pi"
    """The Raspberry Pi's own firmware reads ``config.txt``."""
    U_BOOT_SCRIPT = "u-boot-script"
    """U-Boot runs ``boot.scr``."""


class Proof(StrEnum):
    """How far a board is proven."""

    BOOTED = "booted"
    """Booted in QEMU, by a test."""
    BUILDS = "builds"
    """An image was built."""
    CONFIGURED = "configured"
    """Its configuration was checked against Buildroot's own Kconfig, and no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """How QEMU imitates the board."""

    machine: str = ""
    """QEMU's ``-M``; ``uml`` for user-mode Linux; "" where QEMU has nothing like it."""
    cpu: str = ""
    cpus: int = 1
    memory: str = "1GiB"
    firmware: str = ""
    """``uefi``, ``u-boot``, ``card``, where the machine's ROM reads it from there, or ``none``, where QEMU loads the
    kernel itself; "" for what the board boots by."""
    drive: str = "virtio"
    console: str = ""
    """The kernel's console there, if another than the board's."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One board."""

    title: str = ""
    """Its maker's name for it."""
    family: str = ""
    """What it has in common with others: a maker's systems on a chip, or PCs."""
    architecture: str = ""
    """Debian's name; "" where the layer says nothing of it."""
    architectures: Mapping[str, Any] = field(default_factory=dict)
    """Others that it can be built for -> what is different there, as a patch (RFC 7396) over all else that it says."""
    boot: Boot = Boot.NONE
    console: str = ""
    """The kernel's ``console=``, as ``ttyS0,115200``."""
    command_line: tuple[str, ...] = ()
    """More words for the kernel."""
    device_tree: str = ""
    """The file below ``dtb/``, as ``broadcom/bcm2837-rpi-3-b.dtb``."""
    modules: tuple[str, ...] = ()
    """Kernel modules that reach the root: for the initramfs."""
    firmware: Mapping[str, str] = field(default_factory=dict)
    """Files of ``boot/firmware`` that the distribution has -> ``PACKAGE:PATH``, as
    ``u-boot-sunxi:usr/lib/u-boot/Bananapi/u-boot-sunxi-with-spl.bin``."""
    kernel: str = ""
    """The distribution's package of the kernel, if another than its usual one."""
    builder: str = ""
    """The builder that is taken where nobody says which."""
    machine: Machine = field(default_factory=Machine)
    proof: Proof = Proof.CONFIGURED
    proof_note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareFile:
    """A file of ``boot/firmware`` that the distribution has."""

    name: str
    """Below ``boot/firmware``."""
    package: str
    path: str
    """In the package, without a leading slash."""


def firmware_of(board: Board) -> tuple[FirmwareFile, ...]:
    """Returns the files that a board wants of the distribution, in the order of their names.

    Raises:
        InvalidInput: one is not said as ``PACKAGE:PATH``, or leads out of its folder.
    """
    found = []
    for name, text in sorted(board.firmware.items()):
        package, colon, path = text.partition(":")
        if not (package and colon and path) or any(
            part in ("", ".", "..") for part in (*name.split("/"), *path.split("/"))
        ):
            raise InvalidInput(
                f"not a file of a package: {name[:60]}: {text[:100]}",
                where=f"{FILE}: firmware",
                hint="as u-boot.bin: u-boot-rpi:usr/lib/u-boot/rpi_3/u-boot.bin",
            )
        found.append(FirmwareFile(name=name, package=package, path=path))
    return tuple(found)


def board_of(chain: Sequence[Layer], architecture: str = "") -> Board:
    """Returns the board of a chain of layers; an empty one where no layer says anything.

    Args:
        chain: the layers, in their order.
        architecture: the one that is wanted; "" for the board's own.

    Raises:
        InvalidInput: a file is malformed; names the layer, the key and the line where it is known. Or the board is not
            of the architecture that is wanted.
    """
    merged: dict[str, Any] = {}
    last: object = None
    for layer in chain:
        path = layer.path / FILE
        if path.is_file():
            merged = _patched(merged, read_mapping(path))
            decode(Board, merged, where=path)  # so that an error names the file that brought it
            last = path
    board = decode(Board, merged, where=last)
    for name in (architecture, board.architecture, *board.architectures):
        if name:
            find_architecture(name, where=last if name != architecture else None)
    if architecture and architecture != board.architecture:
        board = decode(Board, _other(board, merged, architecture, last), where=last)
    return board


def _other(board: Board, merged: dict[str, Any], architecture: str, where: object) -> dict[str, Any]:
    """Returns what is said of a board where it is of another architecture than its own."""
    patch = board.architectures.get(architecture)
    if patch is None and board.architecture:
        known = ", ".join((board.architecture, *board.architectures))
        raise InvalidInput(
            f"{board.title or 'the board'} is not {architecture}",
            where=where,
            hint=f"it is {known}; or take another board",
        )
    if patch is not None and not isinstance(patch, Mapping):
        raise InvalidInput(f"architectures.{architecture} must be a mapping", where=where)
    return _patched(merged, {**(patch or {}), "architecture": architecture})


def _patched(merged: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    lists = {key: _gathered(merged.get(key), patch[key]) for key in _LISTS if isinstance(patch.get(key), list)}
    found: dict[str, Any] = merge_patch(merged, {**patch, **lists})
    return found


def _gathered(before: object, words: list[object]) -> list[object]:
    gathered = list(before) if isinstance(before, list) else []
    for word in words:
        taken = word[1:] if isinstance(word, str) and word.startswith("-") else word
        gathered = [each for each in gathered if each != taken]
        if taken is word:
            gathered.append(word)
    return gathered


def architecture_of(board: Board) -> Architecture | None:
    """Returns a board's architecture; None where it says none."""
    return find_architecture(board.architecture) if board.architecture else None
