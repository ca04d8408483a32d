"""From a guest to the command line of user-mode Linux: a kernel that is a program of this machine's. Pure.

It shares folders by hostfs, in which a path of the guest's is one of this machine's. Its serial lines are descriptors.
Its network, where it has one, is QEMU's user-mode network, which `network_command` gives: a QEMU without any machine in
it, that carries packets between a socket and the world. So ports are forwarded by the same code as for other machines.

It is no wall: root in the guest can mount by hostfs whatever the one who started it can read and write, ``hostfs=`` or
not, as ``..`` leads out of that. Do not run there what is not trusted.

Refused: firmware, other architectures, SD and USB drives, snapshots of memory, graphics.

Source: Linux 6.1, Documentation/virt/uml/user_mode_linux_howto_v2.rst; arch/um/drivers/vector_user.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wherry.core.errors import InvalidInput, Unsupported
from wherry.machine.guest import MIB, Firmware, Guest
from wherry.machine.qemu import forward_text

ARCHITECTURES = ("amd64", "i386")
MAX_DRIVES = 8
MAX_LINES = 64
CONSOLE = "tty0"
TERMINAL = "tty1"
"""The console for one command's terminal, in the place of ``hvc0``."""
NETWORK_MAC = "52:54:00:12:34:57"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What ties a machine to this process; descriptors are inherited."""

    program: Path
    folder: Path
    """For its own files: the number of its process, and the socket of its control."""
    console_fd: int
    channel_fds: tuple[int, ...] = ()
    """Connected sockets, one for each of the guest's channels: its serial lines ``ttyS0`` and on."""
    terminal_fd: int | None = None
    network_fd: int | None = None
    """A socket of packets, each one frame of Ethernet."""
    overlays: tuple[Path | None, ...] = ()
    """For each drive the file that takes what is written, or None."""


def check(guest: Guest) -> None:
    """Looks whether user-mode Linux can be such a guest.

    Raises:
        Unsupported: it cannot; says why.
    """
    name = guest.architecture.name
    if name not in ARCHITECTURES:
        raise Unsupported(f"user-mode Linux is of this machine's architecture, not {name}", hint="use QEMU for that")
    if guest.firmware != Firmware.NONE or guest.firmware_file is not None:
        raise Unsupported("user-mode Linux starts without firmware", hint="use QEMU to boot an image as a device does")
    if guest.graphics:
        raise Unsupported("user-mode Linux has no graphics")
    if len(guest.drives) > MAX_DRIVES:
        raise Unsupported(f"user-mode Linux has at most {MAX_DRIVES} drives")
    for drive in guest.drives:
        if drive.format != "raw":
            raise Unsupported(f"user-mode Linux takes raw drives, not {drive.format}", where=drive.path)
        if "," in str(drive.path) or ":" in str(drive.path):
            raise InvalidInput("user-mode Linux cannot be told of a file with , or : in its name", where=drive.path)
    if guest.cpus != 1:
        raise Unsupported("user-mode Linux has one CPU")


def command_line(guest: Guest, wiring: Wiring) -> list[str]:
    """Returns the program and its arguments.

    Raises:
        Unsupported: user-mode Linux cannot be such a guest.
        InvalidInput: a path cannot be told to it.
    """
    check(guest)
    if len(wiring.channel_fds) != len(guest.channels):
        raise InvalidInput(f"{len(guest.channels)} channels, and sockets for {len(wiring.channel_fds)}")
    return [
        str(wiring.program),
        f"mem={guest.memory_bytes // MIB}M",
        f"umid={guest.name or 'machine'}",
        f"uml_dir={wiring.folder}",
        *_lines(guest, wiring),
        *_drives(guest, wiring),
        *_hostfs(guest),
        *((f"initrd={guest.initramfs}",) if guest.initramfs else ()),
        *((f"vec0:transport=fd,fd={wiring.network_fd},mac={NETWORK_MAC}",) if wiring.network_fd is not None else ()),
        *(() if guest.reboot else ("noreboot",)),
        f"console={CONSOLE}",
        *guest.command_line,
    ]


def _lines(guest: Guest, wiring: Wiring) -> Iterator[str]:
    yield "con=null"
    yield f"con0=fd:{wiring.console_fd},fd:{wiring.console_fd}"
    if guest.terminal:
        if wiring.terminal_fd is None:
            raise InvalidInput("a terminal, and no socket for it")
        yield f"con1=fd:{wiring.terminal_fd},fd:{wiring.terminal_fd}"
    yield "ssl=null"
    for index, fd in enumerate(wiring.channel_fds):
        yield f"ssl{index}=fd:{fd},fd:{fd}"


def _drives(guest: Guest, wiring: Wiring) -> Iterator[str]:
    overlays = wiring.overlays or (None,) * len(guest.drives)
    for index, (drive, overlay) in enumerate(zip(guest.drives, overlays, strict=True)):
        flags = "r" if drive.read_only else ""
        yield f"ubd{index}{flags}={drive.path}" if overlay is None else f"ubd{index}{flags}={overlay},{drive.path}"


def _hostfs(guest: Guest) -> Iterator[str]:
    """Has a single shared folder be what the guest mounts without saying more; `..` leads out of it all the same."""
    if len(guest.shares) == 1:
        path = str(guest.shares[0].path)
        if "," in path:
            raise InvalidInput("hostfs cannot be told of a folder with a comma in its name", where=path)
        yield f"hostfs={path}"


def network_command(guest: Guest, fd: int, *, program: str = "qemu-system-x86_64") -> list[str]:
    """Returns the command line of the network: QEMU's user-mode network on a socket of packets.

    Args:
        guest: its forwarded ports.
        fd: the network's side of the socket, inherited.
        program: QEMU.
    """
    user = ",".join(("user,id=world", *(f"hostfwd={forward_text(each)}" for each in guest.forwards)))
    return [
        program,
        *("-M", "none", "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg"),
        *("-netdev", user, "-netdev", "hubport,hubid=0,id=port0,netdev=world"),
        *(
            "-netdev",
            f"dgram,id=guest,local.type=fd,local.str={fd}",
            "-netdev",
            "hubport,hubid=0,id=port1,netdev=guest",
        ),
    ]
