"""What a virtual machine is asked to be: values, which `qemu.py` and `uml.py` turn into command lines."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from wherry.spec.architecture import Architecture

MIB = 1024 * 1024
USER_MODE = "uml"
"""As the machine of a board: user-mode Linux, in the place of one of QEMU's."""


class Firmware(StrEnum):
    """What runs first in the machine."""

    NONE = "none"
    """QEMU's own loader takes the kernel (``-kernel``)."""
    UEFI = "uefi"
    U_BOOT = "u-boot"


class Bus(StrEnum):
    """How a drive is attached."""

    VIRTIO = "virtio"
    SD = "sd"
    USB = "usb"
    UBD = "ubd"
    """User-mode Linux's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """A disk image as a drive."""

    path: Path
    """A file; of `nbd` the socket of its server."""
    format: str = "raw"
    """``raw``, ``qcow2`` or ``nbd``."""
    bus: Bus = Bus.VIRTIO
    read_only: bool = False
    snapshot: bool = False
    """What is written goes to a file that is thrown away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A folder of this machine that the guest can mount: by 9p in QEMU, hostfs in user-mode Linux."""

    path: Path
    tag: str
    read_only: bool = False
    owners: str = "none"
    """How QEMU keeps owners and modes: ``passthrough`` as they are, for root; ``mapped-xattr`` beside the files;
    ``none`` as they are, and what cannot be done is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A port of this machine that leads to one of the guest's."""

    guest_port: int
    host_port: int = 0
    """0: any free one."""
    host_ip: str = "127.0.0.1"
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A stream of bytes between this machine and a program in the guest: a port of virtio-serial, or a serial line."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A virtual machine, before it starts."""

    architecture: Architecture
    machine: str = ""
    """QEMU's ``-M``; `USER_MODE` for user-mode Linux; "" for the architecture's usual one."""
    cpu: str = ""
    cpus: int = 1
    memory_bytes: int = 512 * MIB
    firmware: Firmware = Firmware.NONE
    firmware_file: Path | None = None
    """Instead of the distribution's."""
    kernel: Path | None = None
    initramfs: Path | None = None
    device_tree: Path | None = None
    command_line: tuple[str, ...] = ()
    """Of the kernel."""
    console: str = ""
    """The kernel's name of the serial console; "" for the architecture's usual one."""
    drives: tuple[Drive, ...] = ()
    shares: tuple[Share, ...] = ()
    forwards: tuple[Forward, ...] = ()
    network: bool = True
    graphics: bool = False
    reboot: bool = True
    """Whether it begins anew when the guest reboots; else it ends then."""
    watchdog: bool = True
    """A watchdog that resets it, where the machine can have one; it sleeps until the guest arms it."""
    accelerator: str = "tcg"
    """QEMU's ``-accel``."""
    channels: tuple[Channel, ...] = ()
    terminal: bool = False
    """Whether it has a second console, ``hvc0``, for one command's terminal."""
    name: str = ""
    inherited: tuple[int, ...] = ()
    """Descriptors that paths of the form ``/proc/self/fd/N`` in here mean."""
