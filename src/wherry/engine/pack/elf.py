"""What a program or a library says of itself in its ELF headers; nothing is run.

pyelftools reads them (imported when the first file is read). What it cannot read is no ELF file, whatever its first
four bytes say.
"""

from __future__ import annotations

from dataclasses import dataclass

from wherry.core.errors import InvalidInput, Unsupported

MAGIC = b"\x7fELF"
MAX_NEEDED = 4096
"""Libraries of one file; a desktop's largest programs name about two hundred."""

MACHINES = {
    ("EM_X86_64", 64): "x86_64",
    ("EM_X86_64", 32): "x86_64",
    ("EM_386", 32): "i686",
    ("EM_AARCH64", 64): "aarch64",
    ("EM_ARM", 32): "armv7l",
    ("EM_RISCV", 64): "riscv64",
    ("EM_PPC64", 64): "ppc64le",
    ("EM_S390", 64): "s390x",
}
"""(e_machine, bits) -> what ``uname -m`` says there."""

TRIPLETS = {
    "x86_64": "x86_64-linux-gnu",
    "i686": "i386-linux-gnu",
    "aarch64": "aarch64-linux-gnu",
    "armv7l": "arm-linux-gnueabihf",
    "riscv64": "riscv64-linux-gnu",
    "ppc64le": "powerpc64le-linux-gnu",
    "s390x": "s390x-linux-gnu",
}
"""Debian's folders of libraries (Multiarch)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elf:
    """One ELF file."""

    machine: str
    """``uname -m``'s word; else pyelftools' name of e_machine."""
    bits: int
    interpreter: str = ""
    """PT_INTERP; empty: static, or a library."""
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()

    def fits(self, other: Elf) -> bool:
        """Whether it can be loaded into the same process."""
        return (self.machine, self.bits) == (other.machine, other.bits)


def read(path: str, *, where: str) -> Elf:
    """Reads a file's headers (System V ABI, chapters 4 and 5).

    Args:
        path: the file on this machine.
        where: what errors call it.

    Raises:
        InvalidInput: it is cut off or malformed.
        Unsupported: pyelftools is not installed.
    """
    try:
        from elftools.common.exceptions import ELFError
        from elftools.elf.dynamic import DynamicSegment
        from elftools.elf.elffile import ELFFile
        from elftools.elf.segments import InterpSegment
    except ImportError as error:
        raise Unsupported("pyelftools is not installed", hint="pip install 'wherry[images]'") from error

    needed: list[str] = []
    paths: dict[str, tuple[str, ...]] = {}
    interpreter = ""
    try:
        with open(path, "rb") as file:
            elf = ELFFile(file)
            bits = int(elf.elfclass)
            kind = str(elf["e_machine"])
            for segment in elf.iter_segments():
                if isinstance(segment, InterpSegment):
                    interpreter = str(segment.get_interp_name())
                elif isinstance(segment, DynamicSegment):
                    for tag in segment.iter_tags():
                        if tag.entry.d_tag == "DT_NEEDED":
                            needed.append(_text(tag, "needed"))
                        elif tag.entry.d_tag == "DT_RPATH":
                            paths["rpath"] = tuple(part for part in _text(tag, "rpath").split(":") if part)
                        elif tag.entry.d_tag == "DT_RUNPATH":
                            paths["runpath"] = tuple(part for part in _text(tag, "runpath").split(":") if part)
                        if len(needed) > MAX_NEEDED:
                            raise InvalidInput(f"more than {MAX_NEEDED} libraries", where=where)
    except (ELFError, OSError, ValueError, KeyError, AttributeError, TypeError, AssertionError) as error:
        # On headers that contradict each other pyelftools ends with whatever Python makes of it.
        raise InvalidInput("an ELF file that is cut off or malformed", where=where) from error
    return Elf(
        machine=MACHINES.get((kind, bits), kind),
        bits=bits,
        interpreter=interpreter,
        needed=tuple(needed),
        rpath=paths.get("rpath", ()),
        runpath=paths.get("runpath", ()),
    )


def _text(tag: object, name: str) -> str:
    """Returns what pyelftools sets on a tag by its name (``DynamicTag.__init__``), which no type tells."""
    return str(getattr(tag, name))
