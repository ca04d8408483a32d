"""One boot of a guest from its start to its end: QEMU or user-mode Linux, a console, and perhaps a power cut.

A saved machine is a folder::

    DIR/machine.json         its command line's values, as QEMU must be given them again
    DIR/memory               its memory and devices
    DIR/drive0.qcow2         what was written to its drives, over the drives themselves, which must not change
    DIR/uefi-variables.fd    UEFI's variables, where it has UEFI
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wherry.core.durable import make_dirs, map_os_error, write_file
from wherry.core.errors import Conflict, InvalidInput, NotFound, Unsupported, UsageError
from wherry.core.jsonio import loads
from wherry.machine import launching
from wherry.machine.guest import Bus, Drive, Firmware, Guest
from wherry.machine.nbd import Server
from wherry.machine.running import scratch_folder
from wherry.machine.session import Outcome, Session, Wish
from wherry.machine.words import CutWish
from wherry.machine.writecache import Left
from wherry.spec.architecture import architecture

FORMAT = 1
MEMORY, DESCRIPTION = "memory", "machine.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a boot went."""

    outcome: str
    seconds: float
    left: Left | None = None
    """Of a power cut."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is wanted of a boot."""

    wish: Wish
    cut: CutWish | None = None
    save: Path | None = None
    """A new folder, for the machine as it is when the text has come."""
    load: Path | None = None
    """A folder that `save` made: the machine goes on from there; nothing is written to it."""
    uml: bool = False
    input_fd: int | None = 0
    note: Callable[[str], None] = lambda _: None


def boot(guest: Guest, order: Order) -> Result:
    """Starts a guest and stays with it.

    Raises:
        Timeout, ToolError, Unsupported, NotFound: see `session` and `launching`.
        Interrupted: by a signal; the machine has ended.
    """
    with scratch_folder() as folder:
        if order.save is not None:
            if guest.shares:
                raise Unsupported("a machine with shared folders cannot be saved", hint="leave out --share")
            folder = _new_folder(order.save)
            guest = replace(guest, drives=tuple(replace(drive, snapshot=True) for drive in guest.drives))
        if order.load is not None:
            guest = _loaded(order.load, guest, folder)
        guest = guest if order.uml else launching.make_ready(guest, folder, note=order.note)
        try:
            with _served(guest, order.cut, folder) as (ready, server):
                return _run(ready, order, folder, server)
        finally:
            if order.save is not None and not (order.save / DESCRIPTION).exists():
                shutil.rmtree(order.save)


def _run(guest: Guest, order: Order, folder: Path, server: Server | None) -> Result:
    begun = time.monotonic()
    incoming = None if order.load is None else order.load / MEMORY
    with _start(guest, folder, incoming, order, server) as started:
        for forward in guest.forwards:
            order.note(f"{forward.host_ip}:{forward.host_port} is port {forward.guest_port} of the machine")
        outcome = Session(started.machine, order.wish, input_fd=order.input_fd).run()
        seconds = time.monotonic() - begun
        if outcome == Outcome.CUT:
            assert server is not None  # noqa: S101 there is no cut without one
            assert order.cut is not None  # noqa: S101 nor without an order
            seed = secrets.randbits(32) if order.cut.seed is None else order.cut.seed
            left = server.cut(order.cut.mode, seed)
            started.machine.kill()
            return Result(outcome=outcome, seconds=seconds, left=left, seed=seed)
        if order.save is not None and outcome == Outcome.FOUND:
            _save(guest, started, order.save)
        return Result(outcome=outcome, seconds=seconds)


def _start(guest: Guest, folder: Path, incoming: Path | None, order: Order, server: Server | None) -> launching.Started:
    if order.uml:
        from wherry.machine import launching_uml

        return launching_uml.start(guest, folder)
    if server is not None:
        server.start()
    return launching.start(guest, folder, incoming=incoming)


@contextmanager
def _served(guest: Guest, cut: CutWish | None, folder: Path) -> Iterator[tuple[Guest, Server | None]]:
    """Puts the first drive behind a write cache that can lose power."""
    if cut is None:
        yield guest, None
        return
    if not guest.drives or guest.drives[0].format != "raw":
        raise UsageError("--power-cut needs a raw drive that is written to", hint="not --snapshot, nor a qcow2 file")
    socket_path = folder / "disk.sock"
    server = Server(guest.drives[0].path, socket_path)
    try:
        first = replace(guest.drives[0], path=socket_path, format="nbd")
        yield replace(guest, drives=(first, *guest.drives[1:])), server
    finally:
        server.close()


# --- saved machines


def _new_folder(path: Path) -> Path:
    if path.exists():
        raise Conflict("the folder for the saved machine is there already", where=path, hint="remove it first")
    make_dirs(path, mode=0o700)
    return path


def _save(guest: Guest, started: launching.Started, folder: Path) -> None:
    qmp = started.machine.qmp
    if qmp is None:
        raise Unsupported("this machine's memory cannot be saved", hint="QEMU's can")
    qmp.stop()
    fd = os.open(folder / MEMORY, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        qmp.save(fd)
        os.fsync(fd)
    finally:
        os.close(fd)
    write_file(folder / DESCRIPTION, json.dumps({"format": FORMAT, **_described(guest, folder)}, indent=2).encode())


def _described(guest: Guest, folder: Path) -> dict[str, Any]:
    return {
        "architecture": guest.architecture.name,
        "machine": guest.machine,
        "cpu": guest.cpu,
        "cpus": guest.cpus,
        "memory_bytes": guest.memory_bytes,
        "firmware": str(guest.firmware),
        "firmware_file": str(guest.firmware_file or ""),
        "kernel": str(guest.kernel or ""),
        "initramfs": str(guest.initramfs or ""),
        "device_tree": str(guest.device_tree or ""),
        "command_line": list(guest.command_line),
        "console": guest.console,
        "network": guest.network,
        "graphics": guest.graphics,
        "reboot": guest.reboot,
        "drives": [
            {"path": os.path.relpath(drive.path, folder), "bus": str(drive.bus), "read_only": drive.read_only}
            for drive in guest.drives
        ],
    }


def read_saved(folder: Path) -> Guest:
    """Returns the guest of a saved machine, as it was.

    Raises:
        NotFound: there is none in that folder.
        InvalidInput: its description is malformed.
    """
    path = folder / DESCRIPTION
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFound("no saved machine", where=folder, hint="make one with --save") from None
    except OSError as error:
        raise map_os_error(error, "cannot read the saved machine", where=path) from error
    told = loads(data, where=path)
    try:
        return _guest_from(told, folder)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput("not the description of a saved machine", where=path) from error


def _guest_from(told: Mapping[str, Any], folder: Path) -> Guest:
    def path(key: str) -> Path | None:
        return Path(told[key]) if told[key] else None

    if told["format"] != FORMAT:
        raise ValueError("format")
    return Guest(
        architecture=architecture(told["architecture"]),
        machine=str(told["machine"]),
        cpu=str(told["cpu"]),
        cpus=int(told["cpus"]),
        memory_bytes=int(told["memory_bytes"]),
        firmware=Firmware(told["firmware"]),
        firmware_file=path("firmware_file"),
        kernel=path("kernel"),
        initramfs=path("initramfs"),
        device_tree=path("device_tree"),
        command_line=tuple(map(str, told["command_line"])),
        console=str(told["console"]),
        network=bool(told["network"]),
        graphics=bool(told["graphics"]),
        reboot=bool(told["reboot"]),
        drives=tuple(
            Drive(
                path=folder / each["path"],
                format="raw" if each["read_only"] else "qcow2",
                bus=Bus(each["bus"]),
                read_only=bool(each["read_only"]),
                snapshot=not each["read_only"],
            )
            for each in told["drives"]
        ),
    )


def _loaded(saved: Path, guest: Guest, folder: Path) -> Guest:
    """Returns the saved guest with the ports that are wanted now; its own files stay as they are."""
    if not (saved / MEMORY).exists():
        raise NotFound("no saved machine", where=saved, hint="make one with --save")
    if (saved / "uefi-variables.fd").exists():
        shutil.copyfile(saved / "uefi-variables.fd", folder / "uefi-variables.fd")
    return replace(read_saved(saved), forwards=guest.forwards)
