"""What people write of machines: ports, folders, drives and power cuts, as values. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from wherry.core.errors import UsageError
from wherry.machine.guest import Bus, Drive, Forward, Share
from wherry.machine.writecache import Cut

LOOPBACK = "127.0.0.1"
MAX_PORT = 65535
_FORWARD = re.compile(r"(?:(\d{1,3}(?:\.\d{1,3}){3}):)?(\d{0,5}):(\d{1,5})(?:/(tcp|udp))?\Z")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,30}\Z")
DRIVE_FORMATS = ("raw", "qcow2")


def parse_forward(text: str) -> Forward:
    """Returns the port that ``[IP:][HOST]:GUEST[/udp]`` means; without an address it is the loopback's.

    Raises:
        UsageError: it is none.
    """
    match = _FORWARD.match(text)
    if match is None:
        raise UsageError(
            f"-p: not a port: {text!r}", hint="write HOST:GUEST, such as 8022:22, or 127.0.0.1:5353:53/udp"
        )
    address, host, guest, protocol = match.groups()
    if int(host or 0) > MAX_PORT or not 1 <= int(guest) <= MAX_PORT:
        raise UsageError(f"-p: no such port: {text!r}", hint=f"ports are 1 to {MAX_PORT}")
    try:
        ip = str(ipaddress.IPv4Address(address or LOOPBACK))
    except ValueError:
        raise UsageError(f"-p: not an address: {address!r}") from None
    return Forward(guest_port=int(guest), host_port=int(host or 0), host_ip=ip, protocol=protocol or "tcp")


def parse_share(text: str, *, index: int, cwd: Path) -> Share:
    """Returns the folder that ``DIR[:TAG][:ro]`` means.

    Raises:
        UsageError: the tag is none.
    """
    parts = text.split(":")
    read_only = parts[-1] == "ro" and len(parts) > 1
    if read_only:
        parts.pop()
    tag = parts.pop() if len(parts) > 1 else f"share{index}"
    folder = ":".join(parts)
    if not folder:
        raise UsageError("--share: no folder", hint="write DIR, DIR:TAG or DIR:TAG:ro")
    if not _TAG.match(tag):
        raise UsageError(f"--share: not a tag: {tag!r}", hint="letters, digits, - and _, at most 31 of them")
    return Share(path=cwd / folder, tag=tag, read_only=read_only)


def parse_drive(text: str, *, usual: Bus, cwd: Path) -> Drive:
    """Returns the drive that ``FILE[:virtio|sd|usb][:ro]`` means; its format is found by its first bytes.

    Raises:
        UsageError: there is no file in it.
    """
    parts = text.split(":")
    read_only = parts[-1] == "ro" and len(parts) > 1
    if read_only:
        parts.pop()
    bus = usual
    if len(parts) > 1 and parts[-1] in (Bus.VIRTIO, Bus.SD, Bus.USB):
        bus = Bus(parts.pop())
    name = ":".join(parts)
    if not name:
        raise UsageError("--drive: no file", hint="write FILE, FILE:usb or FILE:virtio:ro")
    path = cwd / name
    return Drive(path=path, format=format_of(path), bus=bus, read_only=read_only)


def format_of(path: Path) -> str:
    """Returns the format of a disk image: ``qcow2`` by its first bytes, else ``raw``; what is not there is raw."""
    try:
        with open(path, "rb") as file:
            return "qcow2" if file.read(4) == b"QFI\xfb" else "raw"
    except OSError:
        return "raw"  # whoever opens it says what is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class CutWish:
    """A power cut that somebody wants."""

    after_s: float
    mode: Cut = Cut.DROP
    seed: int | None = None


def parse_cut(text: str) -> CutWish:
    """Returns the power cut that ``SECONDS[:drop|random|torn[:SEED]]`` means.

    Raises:
        UsageError: it is none.
    """
    seconds, _, rest = text.partition(":")
    mode, _, seed = rest.partition(":")
    try:
        wish = CutWish(after_s=float(seconds), mode=Cut(mode or Cut.DROP), seed=int(seed) if seed else None)
    except ValueError:
        wish = None
    if wish is None or not 0 <= wish.after_s < 10**6:
        raise UsageError(f"--power-cut: not a cut: {text!r}", hint="write SECONDS, or SECONDS:drop, :random or :torn")
    return wish
