"""The compilers and other programs that a build from source calls, looked for before it begins.

Cross compilers are Debian's, named by the architecture's triplet. What a compiler is goes into the keys of the steps
that call it, by the bytes of its program, so that another version compiles anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.source.options import UML
from wherry.core.durable import map_os_error
from wherry.core.errors import NotFound, Unsupported

if TYPE_CHECKING:
    from wherry.spec.architecture import Architecture

FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin")
KERNEL_TOOLS = {
    "bc": "bc",
    "bison": "bison",
    "dpkg-deb": "dpkg",
    "flex": "flex",
    "gcc": "gcc",
    "make": "make",
    "patch": "patch",
    "perl": "perl",
    "tar": "tar",
    "xz": "xz-utils",
}
SOURCE_TOOLS = {"dpkg-source": "dpkg-dev", "bzip2": "bzip2", "patch": "patch"}
HEADERS = {"/usr/include/gelf.h": "libelf-dev"}
_UML_ARCHITECTURES = ("amd64", "i386")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is compiled for, and by what."""

    architecture: Architecture
    uml: bool = False

    @property
    def arch(self) -> str:
        """The kernel's ``ARCH``."""
        return UML if self.uml else self.architecture.kernel

    @property
    def image(self) -> str:
        """What the kernel's build makes to boot from, below its output."""
        return "linux" if self.uml else self.architecture.kernel_image

    @property
    def make_target(self) -> str:
        """What is asked of the kernel's Makefile for that."""
        return Path(self.image).name

    @property
    def cross(self) -> str:
        """What stands before the names of compilers."""
        return f"{self.architecture.triplet}-"

    @property
    def libc(self) -> tuple[str, ...]:
        """Where a static C library is: this machine's, or that of a cross compiler."""
        triplet = self.architecture.triplet
        return (f"/usr/lib/{triplet}/libc.a", f"/usr/{triplet}/lib/libc.a")

    @property
    def gcc_package(self) -> str:
        """Debian's package of the compiler."""
        return f"gcc-{self.architecture.triplet.replace('_', '-')}"

    def make_arguments(self) -> list[str]:
        """Returns what every call of the kernel's Makefile says."""
        found = [f"ARCH={self.arch}", f"CROSS_COMPILE={self.cross}"]
        return [*found, f"SUBARCH={self.architecture.kernel}"] if self.uml else found


def target_of(architecture: Architecture, *, uml: bool) -> Target:
    """Returns what is compiled for.

    Raises:
        Unsupported: user-mode Linux is not for that architecture.
    """
    if uml and architecture.name not in _UML_ARCHITECTURES:
        raise Unsupported(
            f"user-mode Linux is not for {architecture.name}", hint=f"it is for {', '.join(_UML_ARCHITECTURES)}"
        )
    return Target(architecture=architecture, uml=uml)


def find(name: str, *, folders: Sequence[str] = FOLDERS) -> Path | None:
    """Returns a program of this machine; None where there is none."""
    return next((path for folder in folders if (path := Path(folder, name)).exists()), None)


def check_tools(target: Target, *, folders: Sequence[str] = FOLDERS) -> None:
    """Looks whether all programs are here.

    Raises:
        NotFound: names those that are missing, and the packages to install.
    """
    wanted = {**KERNEL_TOOLS, **SOURCE_TOOLS}
    wanted |= {f"{target.cross}gcc": target.gcc_package, f"{target.cross}ld": target.gcc_package}
    missing = {name: package for name, package in wanted.items() if find(name, folders=folders) is None}
    missing |= {name: package for name, package in HEADERS.items() if not os.path.exists(name)}
    if not any(map(os.path.exists, target.libc)):
        missing["libc.a"] = f"libc6-dev-{target.architecture.name}-cross"
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise NotFound(
            f"to compile for {target.architecture.name}, these are missing: {', '.join(sorted(missing))}",
            hint=f"apt-get install {packages}",
        )


def compiler_digest(target: Target, *, folders: Sequence[str] = FOLDERS) -> str:
    """Returns what names the compiler and linker by their bytes: 64 hex digits."""
    whole = hashlib.sha256()
    for name in (f"{target.cross}gcc", f"{target.cross}ld"):
        path = find(name, folders=folders)
        if path is not None:
            whole.update(_digest(path.resolve()))
    return whole.hexdigest()


@cache
def _digest(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise map_os_error(error, "cannot read a compiler", where=path) from error
