"""From a guest to a user-mode Linux that runs, with QEMU's user-mode network beside it where there is a network."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

from wherry.core.errors import Unsupported
from wherry.machine import uml
from wherry.machine.guest import Guest
from wherry.machine.launching import Started
from wherry.machine.running import Running, die_with_parent, pair

PROGRAM = "linux.uml"
PACKAGE = "user-mode-linux"
NETWORK_PROGRAMS = ("qemu-system-x86_64", "qemu-system-i386", "qemu-system-aarch64", "qemu-system-arm")
"""Any of them carries packets."""


def find_program(kernel: Path | None) -> Path:
    """Returns the kernel that is a program: the one that is asked for, or the distribution's.

    Raises:
        Unsupported: there is none.
    """
    if kernel is not None:
        if not os.access(kernel, os.X_OK):
            raise Unsupported("not a program, as a kernel of user-mode Linux is", where=kernel)
        return kernel
    found = shutil.which(PROGRAM)
    if found is None:
        raise Unsupported(
            "user-mode Linux is not installed", hint=f"apt install {PACKAGE}, or wherry kernel fetch --uml"
        )
    return Path(found)


class StartedUml(Started):
    """User-mode Linux with its network."""

    network: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """Ends both."""
        super().close()
        if self.network is not None:
            self.network.kill()
            self.network.wait()


def start(guest: Guest, folder: Path) -> StartedUml:
    """Starts a guest in user-mode Linux.

    Args:
        guest: as `launching.make_ready` returns it, but for snapshots of drives, which UML makes itself.
        folder: for what it needs, as long as it runs.

    Raises:
        Unsupported: it, or its network, is not installed, or it cannot be such a guest.
    """
    uml.check(guest)
    program = find_program(guest.kernel)
    network_program = _network_program(guest)
    console, console_fd = pair()
    channels = [pair() for _ in guest.channels]
    terminal, terminal_fd = pair() if guest.terminal else (None, None)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) if network_program else (None, None)
    network_fd = None if ours is None else ours.detach()
    wiring = uml.Wiring(
        program=program,
        folder=folder,
        console_fd=console_fd,
        channel_fds=tuple(fd for _, fd in channels),
        terminal_fd=terminal_fd,
        network_fd=network_fd,
        overlays=tuple(folder / f"drive{i}.cow" if each.snapshot else None for i, each in enumerate(guest.drives)),
    )
    words = uml.command_line(replace(guest, kernel=None), wiring)
    handed = [console_fd, *wiring.channel_fds, *(fd for fd in (terminal_fd, network_fd) if fd is not None)]
    started = StartedUml(
        Running(words, hand_down=handed, inherit=guest.inherited, console=console, package=PACKAGE, guarded=True),
        tuple(end for end, _ in channels),
        terminal,
    )
    if theirs is not None and network_program is not None:
        with theirs:
            started.network = _start_network(
                uml.network_command(guest, theirs.fileno(), program=network_program), theirs
            )
    return started


def _network_program(guest: Guest) -> str | None:
    """Returns QEMU; None where there is no network, or nothing that carries it and nobody needs it."""
    if not guest.network:
        return None
    found = next((path for name in NETWORK_PROGRAMS if (path := shutil.which(name))), None)
    if found is None and guest.forwards:
        raise Unsupported(
            "the network of user-mode Linux is QEMU's, which is not installed", hint="apt install qemu-system-x86"
        )
    return found


def _start_network(words: list[str], end: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(end.fileno(),),
        preexec_fn=die_with_parent,
        start_new_session=True,
    )
