"""What a host asks of the distribution: its layers' packages, a kernel, and what the initramfs is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.build.boards import FILE as BOARD
from wherry.build.boards import Boot, firmware_of
from wherry.build.debian.lock import Lock, Role
from wherry.build.debian.options import NO_KERNEL, PACKAGE, Options
from wherry.core.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    from wherry.build.builder import Inputs

KERNELS = {
    "amd64": "linux-image-amd64",
    "arm64": "linux-image-arm64",
    "armel": "linux-image-rpi",
    "armhf": "linux-image-armmp",
    "i386": "linux-image-686",
    "riscv64": "linux-image-riscv64",
}
KERNEL_PREFIX = "linux-image-"
BUSYBOX = "busybox-static"
BOOT_LOADER = "systemd-boot-efi"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A package that is asked for."""

    role: Role
    name: str
    where: str
    """Who asks: a layer's file and line, or a key of ``host.yaml``."""


def wishes_of(inputs: Inputs, options: Options) -> list[Wish]:
    """Returns what a host asks for.

    A layer's ``linux-image-…`` is the kernel, and is not installed but unpacked; the last one counts. ``kernel`` of the
    options goes before the layers', then comes the board's, and then the architecture's usual one.

    Raises:
        InvalidInput: a package of another architecture is asked for.
        Unsupported: there is no kernel for the architecture.
    """
    found: list[Wish] = []
    kernel = options.kernel
    kernel_where = "host.yaml: debian: kernel"
    for line in inputs.contributions.packages:
        where = f"{line.layer}: {line.path}:{line.line}"
        name, _, architecture = line.text.partition(":")
        if architecture not in ("", "any", "native", inputs.architecture.name):
            raise InvalidInput(
                f"{line.text}: only packages of {inputs.architecture.name} can be in this host", where=where
            )
        if not PACKAGE.match(name):
            raise InvalidInput(f"not a package's name: {name[:60]!r}", where=where, hint="they are in small letters")
        if name.startswith(KERNEL_PREFIX):
            if not options.kernel:
                kernel, kernel_where = name, where
        else:
            found.append(Wish(role=Role.ROOT, name=name, where=where))
    if not kernel:
        kernel, kernel_where = inputs.board.kernel, "board/board.yaml: kernel"
    if not kernel:
        kernel, kernel_where = KERNELS.get(inputs.architecture.name, ""), "the architecture's usual kernel"
        if not kernel:
            raise Unsupported(
                f"no kernel of the distribution's for {inputs.architecture.name}",
                hint="name one: `debian: {kernel: …}`",
            )
    if kernel != NO_KERNEL:
        found.append(Wish(role=Role.BOOT, name=kernel, where=kernel_where))
        found.append(Wish(role=Role.BOOT, name=BUSYBOX, where="the initramfs"))
    firmware = dict.fromkeys(options.firmware, "host.yaml: debian: firmware")
    if inputs.board.boot == Boot.UEFI:
        firmware.setdefault(BOOT_LOADER, "board/board.yaml: boot: uefi")
    for file in firmware_of(inputs.board):
        firmware.setdefault(file.package, f"{BOARD}: firmware: {file.name}")
    found += [Wish(role=Role.BOOT, name=name, where=where) for name, where in firmware.items()]
    return found


def kernel_of(wishes: list[Wish]) -> str:
    """Returns the kernel's package; "" for none."""
    return next((one.name for one in wishes if one.role == Role.BOOT and one.name.startswith(KERNEL_PREFIX)), "")


def asked(inputs: Inputs, options: Options, wishes: list[Wish]) -> Lock:
    """Returns the lock's head and wishes, without packages."""
    return Lock(
        suite=options.suite,
        architecture=inputs.architecture.name,
        variant=options.variant.value,
        components=options.components,
        recommends=options.recommends,
        wants=frozenset((one.role, one.name) for one in wishes),
    )
