"""What QEMU's machines are like: which program, which console, which buses. A table, and nothing that runs.

Source: QEMU 7.2, docs/system/target-*.rst; what was tried with each is in ``docs/reference/machines.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

from wherry.core.errors import Unsupported
from wherry.machine.guest import MIB, Bus


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """How QEMU has an architecture."""

    program: str
    machine: str
    """The usual machine: one with PCI and virtio."""
    cpu: str
    console: str
    """The kernel's name of the first serial line of the usual machine."""


PROCESSORS = {
    "amd64": Processor(program="qemu-system-x86_64", machine="q35", cpu="max,la57=off", console="ttyS0"),
    "i386": Processor(program="qemu-system-i386", machine="q35", cpu="max", console="ttyS0"),
    "arm64": Processor(program="qemu-system-aarch64", machine="virt", cpu="cortex-a57", console="ttyAMA0"),
    "armhf": Processor(program="qemu-system-arm", machine="virt", cpu="cortex-a15", console="ttyAMA0"),
    "armel": Processor(program="qemu-system-arm", machine="versatilepb", cpu="arm1176", console="ttyAMA0"),
    "riscv64": Processor(program="qemu-system-riscv64", machine="virt", cpu="", console="ttyS0"),
}
"""By Debian's names; of `machine` see `machine_of`. ``la57=off``: five levels of page tables, which nobody needs here,
cost time when translated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What one of QEMU's machines has."""

    pci: bool = True
    """Whether it has PCI: for virtio, and for the watchdog."""
    drive: Bus = Bus.VIRTIO
    """What its usual drive is."""
    network: str = "virtio-net-pci"
    """The network card as a device; ``nic:MODEL`` where it is soldered on; "" for none."""
    usb: bool = False
    """Whether it has USB already, without asking for it."""
    memory_bytes: int = 0
    """Where it has just so much."""
    cpus: int = 0
    """Where it has just so many."""
    cpu: bool = True
    """Whether one may choose the CPU."""
    console: str = ""
    """The kernel's name of its serial line; "" for the architecture's."""
    serial: int = 0
    """Which of its serial lines `console` is."""


_RASPBERRY = Kind(
    pci=False, drive=Bus.SD, network="usb-net", usb=True, memory_bytes=1024 * MIB, cpus=4, cpu=False, console="ttyAMA0"
)
_RASPBERRY_ONE = Kind(
    pci=False, drive=Bus.SD, network="usb-net", usb=True, memory_bytes=512 * MIB, cpus=1, cpu=False, console="ttyAMA0"
)
KINDS = {
    "q35": Kind(),
    "pc": Kind(),
    "virt": Kind(),
    "versatilepb": Kind(memory_bytes=256 * MIB, cpus=1),
    "raspi3b": _RASPBERRY,
    "raspi3ap": Kind(
        pci=False, drive=Bus.SD, network="", usb=True, memory_bytes=512 * MIB, cpus=4, cpu=False, console="ttyAMA0"
    ),
    "raspi2b": _RASPBERRY,
    "raspi1ap": _RASPBERRY_ONE,
    "raspi0": _RASPBERRY_ONE,
    "orangepi-pc": Kind(
        pci=False,
        drive=Bus.SD,
        network="nic:allwinner-sun8i-emac",
        usb=True,
        memory_bytes=1024 * MIB,
        cpus=4,
        cpu=False,
        console="ttyS0",
    ),
}


def processor_of(architecture: str) -> Processor:
    """Returns how QEMU has an architecture.

    Raises:
        Unsupported: it is not in the table.
    """
    found = PROCESSORS.get(architecture)
    if found is None:
        raise Unsupported(f"no machine for {architecture}", hint=f"there are some for {', '.join(PROCESSORS)}")
    return found


def machine_of(architecture: str, wanted: str) -> str:
    """Returns QEMU's ``-M``: what is wanted, or the architecture's usual machine.

    The 32-bit ``virt`` has its PCI above 4 GiB unless told otherwise, where a kernel without LPAE does not reach.
    """
    machine = wanted or processor_of(architecture).machine
    return f"{machine},highmem=off" if machine == "virt" and architecture in ("armhf", "armel") else machine


def kind_of(machine: str) -> Kind:
    """Returns what a machine has; options behind a comma (``virt,gic-version=3``) do not matter.

    One that is not in the table is taken for one with PCI: QEMU says itself what it has not.
    """
    name = machine.partition(",")[0]
    if name.startswith(("pc-q35-", "pc-i440fx-")):
        name = "pc"
    return KINDS.get(name.removeprefix("type="), Kind())
