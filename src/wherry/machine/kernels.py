"""Kernels that containers and scripts run under, kept below the root of this machine's images and containers.

::

    <root>/kernels/amd64/           one for each architecture, and ``amd64-uml`` for user-mode Linux
        record.json                 what it is, and the digest of each file; written last: without it there is nothing
        kernel                      as QEMU takes it: unpacked, where that is known how, as unpacking in a guest is slow
        busybox                     static, of that architecture
        modules/00-virtio.ko ...    in the order in which they are loaded
        more/20-ext4.ko ...         those that scripts get besides, and containers have no use for

A kernel is put there as a whole, by one rename; who runs it reads it under no lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from wherry.core.durable import make_dirs, write_file
from wherry.core.errors import IntegrityError, InvalidInput, NotFound
from wherry.core.jsonio import loads
from wherry.core.lock import file_lock
from wherry.spec.architecture import Architecture
from wherry.spec.codec import decode, encode

FORMAT = 1
RECORD = "record.json"
UML_SUFFIX = "-uml"
UML_PROGRAM = "linux.uml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is written of a kernel."""

    format: int
    architecture: str
    uml: bool = False
    version: str = ""
    source: str = ""
    """The package and its version, or ``added``."""
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel."""

    name: str
    path: Path
    record: Record
    kernel: Path
    """What is booted."""
    busybox: Path | None = None
    """Of its architecture; None where there is none."""
    modules: tuple[Path, ...] = ()
    """In the order in which they are loaded."""
    more: tuple[Path, ...] = ()
    """Behind those, for scripts."""

    def verify(self) -> None:
        """Looks whether its files are what they were.

        Raises:
            IntegrityError: names the file that is not.
        """
        for name, digest in self.record.files.items():
            path = self.path / name
            if not path.is_file() or sha256_file(path) != digest:
                raise IntegrityError("a kernel's file is not what was put there", where=path, hint="fetch it again")


def sha256_file(path: Path) -> str:
    """Returns the digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Kernels:
    """The kernels of one root.

    Args:
        root: this machine's images and containers.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / "kernels"

    def list(self) -> list[Kernel]:
        """Returns all, by name."""
        if not self.folder.is_dir():
            return []
        names = sorted(entry.name for entry in self.folder.iterdir() if not entry.name.startswith("."))
        return [self._read(name) for name in names if (self.folder / name / RECORD).exists()]

    def get(self, architecture: str, *, uml: bool = False) -> Kernel:
        """Returns a kernel.

        Raises:
            NotFound: there is none; says how to get one.
        """
        name = architecture + (UML_SUFFIX if uml else "")
        if not (self.folder / name / RECORD).exists():
            words = "--uml" if uml else f"--arch {architecture}"
            raise NotFound(f"no kernel for {name}", hint=f"get the distribution's: wherry kernel fetch {words}")
        return self._read(name)

    def remove(self, name: str) -> None:
        """Removes a kernel.

        Raises:
            NotFound: there is none of that name.
        """
        if "/" in name or name.startswith(".") or not (self.folder / name / RECORD).exists():
            raise NotFound(f"no kernel {name!r}", hint="see `wherry kernel ls`")
        with self._lock():
            self._remove(name)

    @contextmanager
    def new(self, architecture: str, *, uml: bool = False) -> Iterator[Path]:
        """Gives an empty folder on the same file system, to put files into; it goes when the block ends."""
        make_dirs(self.folder)
        with self._lock():
            folder = self.folder / f".new-{architecture}{UML_SUFFIX if uml else ''}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def put(self, folder: Path, *, architecture: str, uml: bool, version: str, source: str) -> Kernel:
        """Takes what is in a folder of `new` as the kernel of its architecture, in the place of the one before.

        Args:
            folder: of `new`; ``kernel`` and perhaps others are in it.
            architecture: Debian's name.
            uml: whether it is user-mode Linux.
            version: as ``uname -r`` says.
            source: what it came from.
        """
        files = {
            str(path.relative_to(folder)): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()
        }
        if "kernel" not in files:
            raise InvalidInput("no kernel in it", where=folder)
        record = Record(format=FORMAT, architecture=architecture, uml=uml, version=version, source=source, files=files)
        write_file(folder / RECORD, json.dumps(encode(record), indent=2).encode() + b"\n")
        os.sync()
        name = architecture + (UML_SUFFIX if uml else "")
        self._remove(name)
        folder.rename(self.folder / name)
        return self._read(name)

    def _remove(self, name: str) -> None:
        if (self.folder / name).exists():
            doomed = self.folder / f".old-{name}"
            shutil.rmtree(doomed, ignore_errors=True)
            (self.folder / name).rename(doomed)
            shutil.rmtree(doomed)

    def _read(self, name: str) -> Kernel:
        path = self.folder / name
        record = decode(Record, loads((path / RECORD).read_bytes(), where=path / RECORD), where=path / RECORD)
        return Kernel(
            name=name,
            path=path,
            record=record,
            kernel=path / "kernel",
            busybox=path / "busybox" if "busybox" in record.files else None,
            modules=tuple(path / each for each in sorted(record.files) if each.startswith("modules/")),
            more=tuple(path / each for each in sorted(record.files) if each.startswith("more/")),
        )

    def _lock(self) -> file_lock:
        return file_lock(self.folder / ".lock", what="the folder of kernels")


def of_file(path: Path, architecture: str, *, uml: bool, beside: Kernels) -> Kernel:
    """Returns a kernel that is a file somewhere, and has no modules; busybox is the one of the kernel that is kept.

    Args:
        path: the file.
        architecture: Debian's name.
        uml: whether it is a program, user-mode Linux.
        beside: the kernels that are kept.
    """
    busybox = None
    try:
        busybox = beside.get(architecture).busybox
    except NotFound:
        pass  # that of this machine may do
    record = Record(format=FORMAT, architecture=architecture, uml=uml, source=str(path))
    return Kernel(name=path.name, path=path.parent, record=record, kernel=path, busybox=busybox)


def kernel_for(root: Path | str, architecture: Architecture, *, uml: bool, file: Path | str | None) -> Kernel:
    """Returns the kernel for a container or a script: a file, the one that is kept, or this machine's own UML.

    Args:
        root: this machine's images and containers.
        architecture: of the programs that run under it.
        uml: whether it is user-mode Linux.
        file: where one is named.

    Raises:
        NotFound: there is none; says how to get one.
    """
    kernels = Kernels(Path(root))
    if file:
        path = Path(file).absolute()
        if not path.is_file():
            raise NotFound("no such kernel", where=path)
        return of_file(path, architecture.name, uml=uml, beside=kernels)
    try:
        return kernels.get(architecture.name, uml=uml)
    except NotFound:
        installed = shutil.which(UML_PROGRAM) if uml and architecture.machine == os.uname().machine else None
        if installed is None:
            raise
        return of_file(Path(installed), architecture.name, uml=True, beside=kernels)
