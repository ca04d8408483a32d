"""A host as a boot loader starts it: kernel, initramfs, device trees and the kernel's words.

The functions of this package are pure: from an entry to the files of a boot partition, each its bytes or where they
are. All of them put what belongs to one host into a folder of its name, so that two hosts can be side by side.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from wherry.build.boards import Board
    from wherry.spec.architecture import Architecture

KERNEL, INITRAMFS, DEVICE_TREES = "linux", "initrd", "dtb"
"""What the files of a host are called in its folder."""
MAX_COMMAND_LINE_CHARS = 2048
"""COMMAND_LINE_SIZE of most architectures; the kernel cuts the rest off without a word."""
MAX_FIRMWARE_FILES = 5000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")

Files = dict[str, Path | bytes]
"""Paths in the boot partition -> bytes, or the file that has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One host that can be booted."""

    name: str
    """Of its folder, and of the entry."""
    architecture: Architecture
    board: Board
    kernel: Path
    initramfs: Path | None = None
    device_trees: Mapping[str, Path] = field(default_factory=dict)
    """``VENDOR/NAME.dtb`` -> the file."""
    firmware: Mapping[str, Path] = field(default_factory=dict)
    """Paths below ``firmware/`` -> the file."""
    command_line: tuple[str, ...] = ()
    title: str = ""
    version: str = ""
    tries: int = 0
    epoch: int = 0

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise InvalidInput(f"not a name of a boot entry: {self.name[:80]!r}", hint="letters, digits, . _ and -")
        for word in (*self.command_line, self.title, self.version):
            if not word.isprintable():
                raise InvalidInput(f"not for a boot entry: {word[:80]!r}", hint="one line of printable characters")
        if len(self.options) > MAX_COMMAND_LINE_CHARS:
            raise InvalidInput(f"the kernel takes no more than {MAX_COMMAND_LINE_CHARS} characters", where=self.name)
        if self.board.device_tree and self.board.device_tree not in self.device_trees:
            near = [name for name in self.device_trees if name.endswith(os.path.basename(self.board.device_tree))]
            hint = f"there is {near[0]}" if near else f"there are {len(self.device_trees)} others"
            raise NotFound("the kernel came without the board's device tree", where=self.board.device_tree, hint=hint)

    @property
    def options(self) -> str:
        """The kernel's command line."""
        return " ".join(self.command_line)

    @property
    def shown(self) -> str:
        """What a boot menu says."""
        return self.title or self.name

    def own_files(self) -> Files:
        """Returns kernel, initramfs and the board's device tree, or all of them where the board names none."""
        files: Files = {f"{self.name}/{KERNEL}": self.kernel}
        if self.initramfs is not None:
            files[f"{self.name}/{INITRAMFS}"] = self.initramfs
        wanted = [self.board.device_tree] if self.board.device_tree else sorted(self.device_trees)
        files |= {f"{self.name}/{DEVICE_TREES}/{name}": self.device_trees[name] for name in wanted}
        return files

    def shell_safe(self) -> None:
        """Refuses words that U-Boot's shell would take apart.

        Raises:
            InvalidInput: there is such a word.
        """
        for word in self.command_line:
            if set(word) & set("\"'$;&|\\`{}"):
                raise InvalidInput(f"U-Boot cannot hand this word on: {word[:80]!r}", where=self.name)


def entry_of(
    boot: Path,
    *,
    name: str,
    architecture: Architecture,
    board: Board,
    command_line: Sequence[str] = (),
    version: str = "",
    tries: int = 0,
    epoch: int = 0,
) -> Entry:
    """Returns the entry of what a builder left in ``boot/``.

    Args:
        boot: the folder.
        name: the host's.
        architecture: the host's.
        board: what it is for; its console and words come before `command_line`.
        command_line: more words for the kernel.
        version: for people.
        tries: how often it may fail.
        epoch: the time of what carries one.

    Raises:
        NotFound: there is no kernel, or not the board's device tree.
    """
    kernel = _real(boot, boot / "kernel")
    if not kernel.is_file():
        raise NotFound("the host has no kernel", where=kernel, hint="take a builder or a layer that brings one")
    initramfs = _real(boot, boot / "initramfs")
    console = (f"console={board.console}",) if board.console else ()
    return Entry(
        name=name,
        architecture=architecture,
        board=board,
        kernel=kernel,
        initramfs=initramfs if initramfs.is_file() else None,
        device_trees={path: file for path, file in _below(boot / "dtb").items() if path.endswith(".dtb")},
        firmware=_below(boot / "firmware"),
        command_line=(*console, *board.command_line, *command_line),
        title=f"{board.title or name} {version}".strip(),
        version=version,
        tries=tries,
        epoch=epoch,
    )


def _below(top: Path) -> dict[str, Path]:
    """Returns all files below a folder by their paths, in the order of these."""
    found: dict[str, Path] = {}
    for folder, _, names in os.walk(top):
        for name in names:
            path = Path(folder, name)
            found[path.relative_to(top).as_posix()] = _real(top, path)
            if len(found) > MAX_FIRMWARE_FILES:
                raise InvalidInput(f"more than {MAX_FIRMWARE_FILES} files", where=top)
    return dict(sorted(found.items()))


def _real(top: Path, path: Path) -> Path:
    """Returns what a file of ``boot/`` is, where it is a link to another one of it.

    Raises:
        InvalidInput: the link leads elsewhere.
    """
    if not path.is_symlink():
        return path
    found = path.resolve()
    if not found.is_relative_to(top.resolve()):
        raise InvalidInput("a link that leads out of boot/", where=path)
    return found
