"""From a guest to QEMU's command line. Pure: nothing is looked for, made or started here.

Nothing that QEMU would add by itself is there (``-nodefaults -no-user-config``), so that a line means the same with
every version. Ports are forwarded from the loopback address unless another is asked for. It never uses KVM unasked.

Source: QEMU 7.2, qemu(1) and docs/system.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry.core.errors import InvalidInput, Unsupported
from wherry.machine.boards import Kind, Processor, kind_of, machine_of, processor_of
from wherry.machine.guest import MIB, Bus, Drive, Firmware, Forward, Guest, Share

MAX_CPUS = 255
MIN_MEMORY_BYTES = 16 * MIB
_NO_NETWORK_BOOT = "romfile="
"""Without the card's own ROM nothing waits for a boot server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What ties a machine to this process; descriptors are inherited."""

    console_fd: int | None = None
    """A connected socket for the serial console; None takes standard input and output, with QEMU's own keys."""
    qmp_fd: int | None = None
    """A connected socket for QEMU's machine protocol."""
    channel_fds: tuple[int, ...] = ()
    """Connected sockets, one for each of the guest's channels."""
    terminal_fd: int | None = None
    """A connected socket for ``hvc0``."""
    firmware: Path | None = None
    """The file of its firmware."""
    variables: Path | None = None
    """UEFI's variables, which are written to."""
    incoming_fd: int | None = None
    """A machine's saved memory, from which it goes on."""


def console_of(guest: Guest) -> str:
    """Returns the kernel's name of the serial console, as ``ttyS0``."""
    processor = processor_of(guest.architecture.name)
    kind = kind_of(machine_of(guest.architecture.name, guest.machine))
    return guest.console or kind.console or processor.console


def command_line(guest: Guest, wiring: Wiring) -> list[str]:
    """Returns the program and its arguments.

    Raises:
        InvalidInput: the guest asks for what contradicts itself, or for a path that QEMU cannot be told.
        Unsupported: QEMU has no such machine, or the machine has no such device.
    """
    processor = processor_of(guest.architecture.name)
    machine = machine_of(guest.architecture.name, guest.machine)
    kind = kind_of(machine)
    _check(guest, kind, machine)
    return [
        processor.program,
        *("-nodefaults", "-no-user-config"),
        *(() if guest.reboot else ("-no-reboot",)),
        *(("-name", _text(guest.name)) if guest.name else ()),
        *("-M", machine, "-accel", guest.accelerator),
        *_processor(guest, processor, kind),
        *("-m", f"{(kind.memory_bytes or guest.memory_bytes) // MIB}M"),
        *(() if guest.graphics else ("-display", "none")),
        *_graphics(guest, kind),
        *_firmware(guest, machine, wiring),
        *_kernel(guest),
        *_serial(guest, kind, wiring),
        *_drives(guest, kind),
        *_shares(guest),
        *_network(guest, kind),
        *_devices(guest, kind),
        *_channels(guest, wiring),
        *(
            ("-chardev", f"socket,id=qmp,fd={wiring.qmp_fd}", "-mon", "chardev=qmp,mode=control")
            if wiring.qmp_fd
            else ()
        ),
        *(("-incoming", f"fd:{wiring.incoming_fd}") if wiring.incoming_fd is not None else ()),
    ]


def _check(guest: Guest, kind: Kind, machine: str) -> None:
    if not 1 <= guest.cpus <= MAX_CPUS:
        raise InvalidInput(f"{guest.cpus} CPUs", hint=f"there may be 1 to {MAX_CPUS}")
    if guest.memory_bytes < MIN_MEMORY_BYTES:
        raise InvalidInput(f"{guest.memory_bytes} bytes of memory", hint="a kernel needs some: 512m")
    if (guest.initramfs or guest.device_tree) and not guest.kernel:
        raise InvalidInput("an initramfs or a device tree without a kernel", hint="name the kernel as well")
    if guest.kernel and guest.firmware == Firmware.U_BOOT and guest.architecture.name == "riscv64":
        raise InvalidInput("a kernel and U-Boot, which is loaded in its place")
    if not kind.pci:
        needs = "shared folders" if guest.shares else "channels" if guest.channels or guest.terminal else ""
        if needs:
            raise Unsupported(f"QEMU's {machine} has no virtio for {needs}", hint="use another --machine, such as virt")


def _processor(guest: Guest, processor: Processor, kind: Kind) -> Iterator[str]:
    cpu = guest.cpu or ("host" if guest.accelerator == "kvm" else processor.cpu)
    if cpu and kind.cpu:
        yield from ("-cpu", cpu)
    cpus = kind.cpus or guest.cpus
    if cpus > 1:
        yield from ("-smp", str(cpus))


def _graphics(guest: Guest, kind: Kind) -> Iterator[str]:
    if guest.graphics and kind.pci:
        yield from ("-device", "virtio-gpu-pci", "-device", "qemu-xhci", "-device", "usb-kbd", "-device", "usb-tablet")


def _firmware(guest: Guest, machine: str, wiring: Wiring) -> Iterator[str]:
    if wiring.firmware is None:
        return
    path = _path(wiring.firmware)
    if guest.firmware == Firmware.UEFI:
        yield from ("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={path}")
        if wiring.variables is not None:
            # a line for people names the distribution's file, which must stay as it is
            kept = ",snapshot=on" if wiring.console_fd is None else ""
            yield from ("-drive", f"if=pflash,unit=1,format=raw,file={_path(wiring.variables)}{kept}")
    elif machine.startswith(("raspi", "orangepi")) or guest.architecture.name == "riscv64":
        # these begin with what is loaded as a kernel: the boards' first stages are not part of QEMU
        yield from ("-kernel", str(wiring.firmware))
    else:
        yield from ("-bios", str(wiring.firmware))


def _kernel(guest: Guest) -> Iterator[str]:
    if guest.kernel is None:
        return
    yield from ("-kernel", str(guest.kernel))
    if guest.initramfs:
        yield from ("-initrd", str(guest.initramfs))
    if guest.device_tree:
        yield from ("-dtb", str(guest.device_tree))
    console = console_of(guest)
    own = () if any(word.startswith("console=") for word in guest.command_line) else (f"console={console}",)
    yield from ("-append", " ".join((*own, *guest.command_line)))


def _serial(guest: Guest, kind: Kind, wiring: Wiring) -> Iterator[str]:
    for _ in range(kind.serial):
        yield from ("-serial", "null")
    if (
        guest.architecture.name == "arm64"
        and guest.machine.startswith("raspi3")
        and console_of(guest).partition(",")[0] == "ttyS1"
    ):
        yield from ("-serial", "null")  # the small UART is the second one
    if wiring.console_fd is None:
        yield from ("-serial", "mon:stdio")
    else:
        yield from ("-chardev", f"socket,id=console,fd={wiring.console_fd}", "-serial", "chardev:console")


def _drives(guest: Guest, kind: Kind) -> Iterator[str]:
    usb = False
    for index, drive in enumerate(guest.drives):
        source = _source(drive)
        options = [source, f"format={'raw' if drive.format == 'nbd' else drive.format}"]
        options += [*(["readonly=on"] if drive.read_only else []), *(["snapshot=on"] if drive.snapshot else [])]
        if drive.bus == Bus.SD:
            yield from ("-drive", ",".join(("if=sd", f"index={index}", *options)))
            continue
        if drive.bus == Bus.UBD:
            raise Unsupported("a drive of user-mode Linux in QEMU", where=drive.path)
        name = f"drive{index}"
        yield from ("-drive", ",".join((f"if=none,id={name}", *options)))
        if drive.bus == Bus.USB:
            if not usb and not kind.usb:
                yield from ("-device", "qemu-xhci,id=usb-drives")
            usb = True
            yield from ("-device", f"usb-storage,drive={name},bootindex={index + 1}")
        elif not kind.pci:
            raise Unsupported(
                "a virtio drive in a machine without PCI", where=drive.path, hint="attach it as sd or usb"
            )
        else:
            yield from ("-device", f"virtio-blk-pci,drive={name},bootindex={index + 1}")


def _source(drive: Drive) -> str:
    if drive.format == "nbd":
        return f"file.driver=nbd,file.server.type=unix,file.server.path={_path(drive.path)}"
    return f"file={_path(drive.path)}"


def _shares(guest: Guest) -> Iterator[str]:
    for index, share in enumerate(guest.shares):
        options = f"local,id=share{index},path={_path(share.path)},security_model={share.owners},multidevs=remap"
        yield from ("-fsdev", options + (",readonly=on" if share.read_only else ""))
        yield from ("-device", f"virtio-9p-pci,fsdev=share{index},mount_tag={_tag(share)}")


def _network(guest: Guest, kind: Kind) -> Iterator[str]:
    if not guest.network:
        if guest.forwards:
            raise InvalidInput("a port is forwarded, and there is no network")
        if kind.network.startswith("nic:"):
            yield from ("-nic", "none")
        return
    if not kind.network:
        if guest.forwards:
            raise Unsupported("this machine has no network card for a forwarded port")
        return
    user = ",".join(("user", *(f"hostfwd={forward_text(each)}" for each in guest.forwards)))
    if kind.network.startswith("nic:"):
        yield from ("-nic", f"{user},model={kind.network.removeprefix('nic:')}")
        return
    yield from ("-netdev", f"{user},id=net0")
    rom = f",{_NO_NETWORK_BOOT}" if kind.pci else ""
    yield from ("-device", f"{kind.network},netdev=net0{rom}")


def forward_text(forward: Forward) -> str:
    """Returns a forwarded port in QEMU's words: ``tcp:127.0.0.1:8080-:80``."""
    return f"{forward.protocol}:{forward.host_ip}:{forward.host_port}-:{forward.guest_port}"


def _devices(guest: Guest, kind: Kind) -> Iterator[str]:
    if kind.pci:
        yield from ("-device", "virtio-rng-pci")
        if guest.watchdog:
            yield from ("-device", "i6300esb", "-action", "watchdog=reset")


def _channels(guest: Guest, wiring: Wiring) -> Iterator[str]:
    if not guest.channels and not guest.terminal:
        return
    if len(wiring.channel_fds) != len(guest.channels):
        raise InvalidInput(f"{len(guest.channels)} channels, and sockets for {len(wiring.channel_fds)}")
    yield from ("-device", "virtio-serial-pci,id=channels")
    if guest.terminal:
        if wiring.terminal_fd is None:
            raise InvalidInput("a terminal, and no socket for it")
        yield from ("-chardev", f"socket,id=terminal,fd={wiring.terminal_fd}")
        yield from ("-device", "virtconsole,chardev=terminal,bus=channels.0")
    for index, (channel, fd) in enumerate(zip(guest.channels, wiring.channel_fds, strict=True)):
        yield from ("-chardev", f"socket,id=channel{index},fd={fd}")
        yield from ("-device", f"virtserialport,chardev=channel{index},bus=channels.0,name={channel.name}")


def _control(wiring: Wiring) -> Iterator[str]:
    if wiring.qmp_fd is not None:
        yield from ("-chardev", f"socket,id=qmp,fd={wiring.qmp_fd}", "-mon", "chardev=qmp,mode=control")
    if wiring.incoming_fd is not None:
        yield from ("-incoming", f"fd:{wiring.incoming_fd}")


def _path(path: Path) -> str:
    """Returns a path within an option of QEMU's, where a comma is written twice."""
    text = str(path)
    if "\n" in text or "\0" in text:
        raise InvalidInput(f"QEMU cannot be told of a file of this name: {text!r}")
    return text.replace(",", ",,")


def _text(text: str) -> str:
    return text.replace(",", ",,")


MAX_TAG_BYTES = 31
"""Of virtio-9p: longer ones are cut short by QEMU."""


def _tag(share: Share) -> str:
    if (
        not share.tag
        or len(share.tag.encode()) > MAX_TAG_BYTES
        or not share.tag.replace("-", "").replace("_", "").isalnum()
    ):
        raise InvalidInput(
            f"not a tag of a shared folder: {share.tag!r}", hint=f"letters, digits, - and _, at most {MAX_TAG_BYTES}"
        )
    return share.tag


def shown(words: Sequence[str]) -> str:
    """Returns a command line for people: one option a line, to be pasted into a shell."""
    import shlex

    lines: list[str] = []
    for word in words:
        if word.startswith("-") or not lines:
            lines.append(shlex.quote(word))
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return " \\\n  ".join(lines)
