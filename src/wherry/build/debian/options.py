"""What a workspace may say of the builder ``debian``, in its ``debian:`` section.

A layer may say it, too, in ``resources/debian.yaml``: what the layers say is merged key by key, the later over the
earlier (RFC 7396), and the workspace's own section over all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from wherry.build.yamlfiles import merge_patch, read_mapping
from wherry.core.errors import InvalidInput
from wherry.spec.codec import decode

if TYPE_CHECKING:
    from wherry.build.builder import Inputs

FILE = "resources/debian.yaml"
NO_KERNEL = "none"
_SUITE = re.compile(r"[a-z][a-z0-9.-]{0,40}\Z")
_COMPONENT = re.compile(r"[a-z][a-z0-9-]{0,40}\Z")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,100}\Z")
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+\Z")


class Variant(StrEnum):
    """What is there besides the packages that are named, and what they need."""

    ESSENTIAL = "essential"
    """The distribution's essential packages."""
    MINBASE = "minbase"
    """Those, apt, and all that is "required"."""
    EXTRACT = "extract"
    """Nothing; packages are unpacked, and nothing in them is run: for any architecture, without its emulation."""


class Modules(StrEnum):
    """Which of the kernel's modules are in the host's root."""

    ALL = "all"
    BOOT = "boot"
    """Those of the initramfs."""
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The section."""

    suite: str = "bookworm"
    variant: Variant = Variant.ESSENTIAL
    components: tuple[str, ...] = ("main",)
    mirrors: tuple[str, ...] = ()
    """Addresses, or whole lines as in sources.list(5); none for those that this machine's apt has for the suite."""
    lock: str = "debian.lock"
    recommends: bool = False
    """Whether recommended packages come, too."""
    documentation: bool = False
    """Whether manuals, translations and what is below /usr/share/doc stay; licences always do."""
    kernel: str = ""
    """The package, or ``none``; "" for the board's or the architecture's usual one."""
    modules: Modules = Modules.ALL
    initramfs_modules: tuple[str, ...] = ()
    """More for the initramfs, besides what usual disks need and what the board names."""
    firmware: tuple[str, ...] = ()
    """Packages whose boot loaders and firmware go to ``boot/firmware``, and not into the root."""


def options_of(inputs: Inputs) -> Options:
    """Returns what layers and workspace say.

    Raises:
        InvalidInput: a key is unknown, or a value is none; says where.
    """
    merged: dict[str, Any] = {}
    for layer in inputs.contributions.chain:
        path = layer.path / FILE
        if path.is_file():
            merged = merge_patch(merged, read_mapping(path))
            _check(decode(Options, merged, where=path), path)
    options = decode(Options, merge_patch(merged, dict(inputs.options)), where="host.yaml: debian")
    _check(options, "host.yaml: debian")
    return options


def _check(options: Options, where: object) -> None:
    if not _SUITE.match(options.suite):
        raise InvalidInput(f"suite: not a name of one: {options.suite[:60]!r}", where=where, hint="as bookworm")
    if not _FILE_NAME.match(options.lock):
        raise InvalidInput(f"lock: not a file's name: {options.lock[:60]!r}", where=where, hint="without a folder")
    for name in options.components:
        if not _COMPONENT.match(name):
            raise InvalidInput(f"components: not a name of one: {name[:60]!r}", where=where)
    if not options.components:
        raise InvalidInput("components: there is none", where=where, hint="there is main at least")
    for name in (options.kernel, *options.firmware) if options.kernel else options.firmware:
        if not PACKAGE.match(name):
            raise InvalidInput(f"not a package's name: {name[:60]!r}", where=where)
