"""Programs of other architectures: whether this kernel runs an image's, and what a container needs for it.

The kernel hands a program that is not its own to the interpreter that is registered for it (binfmt_misc); for whole
architectures that is qemu's user mode emulation. An entry with the flag F has its interpreter open already, so that it
works in every root; without F the interpreter is looked for *in the container* by the registered path, and is mounted
there. This module only reads what is registered: to register is the host's affair (``binfmt-support``, systemd).

Source: Linux, Documentation/admin-guide/binfmt-misc.rst; ELF gABI, "Machine Information".
"""

from __future__ import annotations

import os

from wherry.core.errors import Unsupported
from wherry.core.value import Value
from wherry.engine.platforms import is_native, parts_of
from wherry.runtime.spec import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = "/proc/sys/fs/binfmt_misc"
MAX_ENTRY_BYTES = 8192
MAX_ENTRIES = 1024
_ELF = {
    "amd64": (2, 1, 62),
    "arm64": (2, 1, 183),
    "arm": (1, 1, 40),
    "386": (1, 1, 3),
    "riscv64": (2, 1, 243),
    "ppc64le": (2, 1, 21),
    "s390x": (2, 2, 22),
    "loong64": (2, 1, 258),
    "mips64le": (2, 1, 8),
    "mipsle": (1, 1, 8),
}
"""Go's name of an architecture -> class, data and machine of its ELF files."""
_TELLING = ("bin/busybox", "bin/sh", "usr/bin/env", "sbin/init", "usr/bin/dpkg", "init")
"""Programs that say what a root tree is for."""


class Entry(Value):
    """One registered interpreter."""

    interpreter: str
    flags: str = ""
    offset: int = 0
    magic: bytes = b""
    mask: bytes = b""

    def takes(self, head: bytes) -> bool:
        """Tells whether programs that begin so are handed to it."""
        part = head[self.offset : self.offset + len(self.magic)]
        mask = self.mask or b"\xff" * len(self.magic)
        same = ((a ^ b) & c == 0 for a, b, c in zip(part, self.magic, mask, strict=False))
        return bool(self.magic) and len(part) == len(self.magic) and all(same)


def parse_entry(text: str) -> Entry | None:
    """Returns what a file of binfmt_misc says; None for one that is disabled, or goes by a file's name."""
    fields = dict(line.partition(" ")[::2] for line in text.splitlines() if line)
    if "enabled" not in fields or "magic" not in fields or "interpreter" not in fields:
        return None
    try:
        return Entry(
            interpreter=fields["interpreter"],
            flags=fields.get("flags:", "").strip(),
            offset=int(fields.get("offset", "0")),
            magic=bytes.fromhex(fields["magic"]),
            mask=bytes.fromhex(fields.get("mask", "")),
        )
    except ValueError:
        return None


def head_of(architecture: str) -> bytes:
    """Returns how a program of an architecture begins; b"" for an architecture that is not known."""
    if architecture not in _ELF:
        return b""
    width, order, machine = _ELF[architecture]
    endian: tuple[str, str] = ("little", "big")
    both = (2).to_bytes(2, endian[order - 1]) + machine.to_bytes(2, endian[order - 1])  # type: ignore[arg-type]
    return b"\x7fELF" + bytes((width, order, 1)) + bytes(9) + both + bytes(108)


def interpreters(architecture: str, folder: str = FOLDER) -> tuple[Entry, ...]:
    """Returns what may run the programs of another architecture here: of several, the kernel takes the newest.

    Raises:
        Unsupported: nothing does; says what to install.
    """
    head = head_of(architecture)
    try:
        names = sorted(os.listdir(folder))[:MAX_ENTRIES]
    except OSError:
        names = []
    found: list[Entry] = []
    for name in names:
        if name in ("register", "status"):
            continue
        try:
            with open(f"{folder}/{name}", encoding="ascii", errors="replace") as file:
                entry = parse_entry(file.read(MAX_ENTRY_BYTES))
        except OSError:
            continue  # it was taken away just now
        if entry is not None and entry.takes(head):
            found.append(entry)
    if found:
        return tuple(found)
    hint = "install the packages qemu-user-static and binfmt-support"
    if "register" not in names:
        hint += f", and mount it: `mount -t binfmt_misc binfmt_misc {FOLDER}`"
    raise Unsupported(f"this machine does not run programs for {architecture}", hint=hint)


def mounts(platform: str) -> Iterator[Mount]:
    """Gives the mounts of the interpreters that a container of another architecture needs, if it needs any.

    Raises:
        Unsupported: nothing runs its programs here any more.
    """
    architecture = parts_of(platform)[1]
    if is_native(architecture):
        return
    found = interpreters(architecture)
    programs = {entry.interpreter: os.path.realpath(entry.interpreter) for entry in found if "F" not in entry.flags}
    there = {path: source for path, source in programs.items() if os.path.isfile(source)}
    if programs and not there and len(programs) == len(found):
        raise Unsupported(
            f"the interpreter of {architecture} programs is not there",
            where=found[0].interpreter,
            hint="install qemu-user-static",
        )
    for path, source in there.items():
        yield Mount(destination=path, type="bind", source=source, options=("bind", "rprivate", "ro"))


def platform_of_tree(path: str) -> str:
    """Returns what a root directory is for, by the head of one of its programs; "" when none says."""
    from wherry.linux.beneath import open_in_root

    try:
        root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        for name in _TELLING:
            try:
                fd = open_in_root(root, name, os.O_RDONLY | os.O_NONBLOCK)
            except OSError:
                continue
            with os.fdopen(fd, "rb") as file:
                head = file.read(20)
            for architecture in _ELF:
                wanted = head_of(architecture)
                if head[:6] == wanted[:6] and head[18:20] == wanted[18:20]:
                    return f"linux/{architecture}"
    finally:
        os.close(root)
    return ""
