"""From a guest to a machine that runs: files that it needs are made in a folder of its own, sockets tied, QEMU started.

::

    FOLDER/uefi-variables.fd    UEFI's variables, its own copy
    FOLDER/drive0.qcow2         what is written to a drive that must not change, or that had to grow

An SD card must have a power of two as its size. A user's file is never made larger: an overlay is, and what the guest
writes stays in it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from wherry.core.durable import map_os_error
from wherry.core.errors import NotFound, Timeout, ToolError
from wherry.core.proc import run
from wherry.machine import firmware, qemu
from wherry.machine.guest import Bus, Drive, Firmware, Forward, Guest
from wherry.machine.running import Running, pair

PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-system-i386": "qemu-system-x86",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-arm": "qemu-system-arm",
    "qemu-system-riscv64": "qemu-system-misc",
}
INCOMING_S = 600.0
"""How long a machine's memory may take to be read."""
_POLL_S = 0.02
GREETING_S = 60.0
"""How long QEMU may take to begin, on a machine that has much else to do."""


def _nothing(_text: str) -> None:
    pass


def make_ready(guest: Guest, folder: Path, *, note: Callable[[str], None] = _nothing) -> Guest:
    """Returns the guest as it can be started: its files are looked at, overlays made, free ports chosen.

    Args:
        guest: the guest.
        folder: for what is made.
        note: told what a person should know.

    Raises:
        NotFound: a file or a folder is not there.
    """
    for path in (guest.kernel, guest.initramfs, guest.device_tree, guest.firmware_file):
        if path is not None and not path.is_file():
            raise NotFound("no such file", where=path)
    for share in guest.shares:
        if not share.path.is_dir():
            raise NotFound("no such folder to share", where=share.path)
    drives = tuple(_ready(drive, index, folder, note) for index, drive in enumerate(guest.drives))
    return replace(guest, drives=drives, forwards=tuple(_with_port(each) for each in guest.forwards))


def _ready(drive: Drive, index: int, folder: Path, note: Callable[[str], None]) -> Drive:
    if drive.format == "nbd":
        return drive
    try:
        size = os.stat(drive.path).st_size
    except OSError as error:
        raise map_os_error(error, "cannot use the drive", where=drive.path) from error
    grown = 1 << max(0, size - 1).bit_length()
    must_grow = drive.bus == Bus.SD and drive.format == "raw" and grown != size
    if not must_grow and not (drive.snapshot and not drive.read_only):
        return drive
    if must_grow and not drive.snapshot:
        note(f"an SD card's size is a power of two, and {drive.path.name}'s is not: what is written is thrown away")
    target = folder / f"drive{index}.qcow2"
    make_overlay(drive.path, drive.format, target, size_bytes=grown if must_grow else None)
    return replace(drive, path=target, format="qcow2", snapshot=False)


def make_overlay(base: Path, base_format: str, target: Path, *, size_bytes: int | None = None) -> None:
    """Makes a file that takes what is written to a drive, which stays as it is.

    Args:
        base: the drive.
        base_format: its format.
        target: the new file.
        size_bytes: larger than the drive's own; None keeps it.
    """
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", base_format, "-b", str(base.absolute()), str(target)]
    run([*words, *([] if size_bytes is None else [str(size_bytes)])], hint="apt install qemu-utils")


def _with_port(forward: Forward) -> Forward:
    if forward.host_port:
        return forward
    kind = socket.SOCK_DGRAM if forward.protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((forward.host_ip, 0))
        return replace(forward, host_port=int(probe.getsockname()[1]))


def wiring_of(guest: Guest, folder: Path) -> qemu.Wiring:
    """Returns what a guest's firmware needs, made in a folder; no sockets."""
    found = guest.firmware_file or firmware.find(guest.firmware, guest.architecture.name)
    variables = None
    if guest.firmware == Firmware.UEFI:
        variables = folder / "uefi-variables.fd"
        if not variables.exists():
            variables = firmware.copy_variables(guest.architecture.name, folder)
    return qemu.Wiring(firmware=found, variables=variables)


class Started:
    """A machine that was started, with this side of its sockets."""

    def __init__(self, machine: Running, channels: tuple[socket.socket, ...], terminal: socket.socket | None) -> None:
        self.machine = machine
        self.channels = channels
        self.terminal = terminal

    def close(self) -> None:
        """Ends it, and closes the sockets."""
        self.machine.close()
        for end in (*self.channels, *([self.terminal] if self.terminal else [])):
            end.close()

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start(guest: Guest, folder: Path, *, incoming: Path | None = None) -> Started:
    """Starts a guest in QEMU.

    Args:
        guest: as `make_ready` returns it.
        folder: for what it needs, as long as it runs.
        incoming: a file with saved memory, from which it goes on.

    Raises:
        Unsupported: QEMU, or a firmware, is not installed.
        ToolError: QEMU refuses the guest; has what it said.
    """
    plan = wiring_of(guest, folder)
    console, console_fd = pair()
    control, control_fd = pair()
    channels = [pair() for _ in guest.channels]
    terminal, terminal_fd = pair() if guest.terminal else (None, None)
    memory_fd = None if incoming is None else os.open(incoming, os.O_RDONLY | os.O_CLOEXEC)
    wiring = replace(
        plan,
        console_fd=console_fd,
        qmp_fd=control_fd,
        channel_fds=tuple(fd for _, fd in channels),
        terminal_fd=terminal_fd,
        incoming_fd=memory_fd,
    )
    words = qemu.command_line(guest, wiring)
    handed = [console_fd, control_fd, *wiring.channel_fds, *(fd for fd in (terminal_fd, memory_fd) if fd is not None)]
    started = Started(
        Running(
            words, hand_down=handed, inherit=guest.inherited, console=console, qmp=control, package=PACKAGES[words[0]]
        ),
        tuple(end for end, _ in channels),
        terminal,
    )
    try:
        _greet(started.machine)
        if incoming is not None:
            _go_on(started.machine)
    except BaseException:
        started.close()
        raise
    return started


def _go_on(machine: Running) -> None:
    """Has a machine whose memory is being read go on: it was halted when that was written."""
    assert machine.qmp is not None  # noqa: S101 given to it above
    end = time.monotonic() + INCOMING_S
    while machine.qmp.command("query-status")["status"] == "inmigrate":
        if time.monotonic() > end:
            raise Timeout(f"the machine's memory was not read in {INCOMING_S:g} s")
        time.sleep(_POLL_S)
    machine.qmp.resume()


def _greet(machine: Running) -> None:
    assert machine.qmp is not None  # noqa: S101 given to it above
    try:
        machine.qmp.greet(GREETING_S)
    except ToolError:
        # it is gone: what it printed says why
        status = machine.wait(5)
        if status is None:
            raise
        raise machine.failure(status) from None
