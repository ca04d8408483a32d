"""What a workspace may say of the builder ``source``, in its ``source:`` section.

::

    source:
      arch: um                     # user-mode Linux; left out: the architecture that the host is for
      kernel:
        package: linux-source-6.1  # the distribution's package of the kernel's source
        base: tinyconfig           # what the fragments are laid over: a target of the kernel's Makefile
      busybox:
        package: busybox           # a source package
        base: allnoconfig
      libcap: true                 # capsh, getcap and setcap, static; left out: no
      compression: xz              # of the initramfs: xz, gzip or none
      jobs: 4                      # programs at once; left out: as many as there are processors
      suite: bookworm              # of the distribution
      mirrors: []                  # left out: those that this machine's apt has for the suite
      lock: source.lock

A source may be a file instead of a package: ``url: file:/…`` or a path below the workspace, or an address, and its
``sha256``. A layer may say all of it, too, in ``resources/source.yaml``: what the layers say is merged key by key, the
later over the earlier (RFC 7396), and the workspace's own section over all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from wherry.build.yamlfiles import merge_patch, read_mapping
from wherry.core.digest import parse_checksum
from wherry.core.errors import InvalidInput
from wherry.spec.codec import decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wherry.build.builder import Inputs

FILE = "resources/source.yaml"
SECTION = "host.yaml: source"
MAX_JOBS = 1024
UML = "um"
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{1,120}\Z")
_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,100}config\Z")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,100}\Z")
_SUITE = re.compile(r"[a-z][a-z0-9.-]{0,40}\Z")


class Compression(StrEnum):
    """How the initramfs is packed."""

    XZ = "xz"
    GZIP = "gzip"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where one source is from."""

    package: str = ""
    url: str = ""
    """A file, in the place of a package."""
    sha256: str = ""
    base: str = ""
    """The configuration that the fragments are laid over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The section."""

    arch: str = ""
    kernel: Origin = field(default_factory=Origin)
    busybox: Origin = field(default_factory=Origin)
    libcap: Origin | None = None
    """None: none of it."""
    compression: Compression = Compression.XZ
    jobs: int = 0
    suite: str = "bookworm"
    mirrors: tuple[str, ...] = ()
    lock: str = "source.lock"

    def origins(self) -> dict[str, Origin]:
        """Returns where each source that is built is from, by its name."""
        found = {"busybox": self.busybox, "kernel": self.kernel}
        return found if self.libcap is None else {**found, "libcap": self.libcap}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    arch: str = ""
    kernel: Origin = field(default_factory=Origin)
    busybox: Origin = field(default_factory=Origin)
    libcap: Any = False
    compression: Compression = Compression.XZ
    jobs: int = 0
    suite: str = "bookworm"
    mirrors: tuple[str, ...] = ()
    lock: str = "source.lock"


_DEFAULTS = {
    "kernel": Origin(package="linux-source-6.1", base="tinyconfig"),
    "busybox": Origin(package="busybox", base="allnoconfig"),
    "libcap": Origin(package="libcap2"),
}


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
            _checked(merged, path)
    return _checked(merge_patch(merged, dict(inputs.options)), SECTION)


def _checked(section: Mapping[str, Any], where: object) -> Options:
    said = decode(_Written, section, where=where)
    if said.arch not in ("", UML):
        raise InvalidInput(
            f"arch: must be {UML}, or left out: {said.arch[:60]!r}", where=where, hint="`architecture` of the host"
        )
    if not 0 <= said.jobs <= MAX_JOBS:
        raise InvalidInput(f"jobs: must be from 0 to {MAX_JOBS}", where=where)
    if not _SUITE.match(said.suite):
        raise InvalidInput(f"suite: not a name of one: {said.suite[:60]!r}", where=where, hint="as bookworm")
    if not _FILE_NAME.match(said.lock):
        raise InvalidInput(f"lock: not a file's name: {said.lock[:60]!r}", where=where, hint="without a folder")
    libcap: Origin | None = None
    if isinstance(said.libcap, bool) or said.libcap is None:
        libcap = Origin() if said.libcap else None
    else:
        libcap = decode(Origin, said.libcap, where=f"{where}: libcap")
    return Options(
        arch=said.arch,
        kernel=_origin("kernel", said.kernel, where),
        busybox=_origin("busybox", said.busybox, where),
        libcap=None if libcap is None else _origin("libcap", libcap, where),
        compression=said.compression,
        jobs=said.jobs,
        suite=said.suite,
        mirrors=said.mirrors,
        lock=said.lock,
    )


def _origin(name: str, said: Origin, where: object) -> Origin:
    usual = _DEFAULTS[name]
    base = said.base or usual.base
    if base and not _TARGET.match(base):
        raise InvalidInput(f"{name}.base: no target that configures: {base[:60]!r}", where=where, hint="as tinyconfig")
    if said.url:
        if said.package:
            raise InvalidInput(f"{name}: either a package or a url", where=where)
        if not said.sha256:
            raise InvalidInput(f"{name}: a url needs its sha256", where=where)
        return Origin(url=said.url, sha256=parse_checksum(said.sha256, where=f"{where}: {name}.sha256"), base=base)
    if said.sha256:
        raise InvalidInput(f"{name}: a sha256 without a url", where=where, hint="packages are pinned by the lock")
    package = said.package or usual.package
    if not _PACKAGE.match(package):
        raise InvalidInput(f"{name}.package: not a package's name: {package[:60]!r}", where=where)
    return Origin(package=package, base=base)
