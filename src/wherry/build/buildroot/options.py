"""The ``buildroot:`` section of ``host.yaml``.

::

    buildroot:
      path: ../buildroot              # a tree of Buildroot; needed
      base: [../SkiffOS/configs-base/pre]   # layers' folders that come before all others, by their paths
      downloads: ../dl                # what was downloaded, shared with others (BR2_DL_DIR)
      ccache: true                    # or false, or the folder of the cache; left out: as the layers say
      jobs: 8                         # programs at once; left out: one more than there are processors
      target: all                     # what is made; left out: as the layers say (metadata/buildtarget), or all
      version: 1.2.3                  # what the host calls its version (SKIFF_VERSION)
      incremental: false              # whether packages whose options changed are left as they were built
      check_hashes: false             # whether sources that Buildroot has no hash of are refused
      initramfs: false                # whether the kernel is given the whole root as its initramfs
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wherry.core.errors import InvalidInput, NotFound
from wherry.spec.codec import decode

SECTION = "buildroot"
MAX_JOBS = 1024
TREE_FILES = ("Makefile", "Config.in", "package/Makefile.in", "support/scripts/br2-external")
"""Files by which a tree of Buildroot is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    path: str = ""
    base: tuple[str, ...] = ()
    downloads: str = ""
    ccache: Any = None
    jobs: int = 0
    target: str = ""
    version: Any = ""
    incremental: bool = False
    check_hashes: bool = False
    initramfs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user says of Buildroot."""

    path: Path
    base: tuple[Path, ...] = ()
    downloads: Path | None = None
    ccache: bool | None = None
    """None: as the layers say."""
    ccache_folder: Path | None = None
    jobs: int = 0
    """0: as Buildroot thinks."""
    target: str = ""
    version: str = ""
    incremental: bool = False
    check_hashes: bool = False
    initramfs: bool = False


def read_options(section: Mapping[str, Any], *, workspace: Path) -> Options:
    """Returns the options of the section of ``host.yaml``.

    Args:
        section: as parsed.
        workspace: what relative paths are relative to.

    Raises:
        InvalidInput: a key is unknown, or its value no such thing.
        NotFound: a folder is not there, or is no tree of Buildroot.
    """
    where = f"host.yaml: {SECTION}"
    said = decode(_Written, dict(section), where=where)
    if not said.path:
        raise InvalidInput(
            "which Buildroot?", where=f"{where}.path", hint="say where its tree is, or set WHERRY_BUILDROOT"
        )
    path = _folder(said.path, workspace, f"{where}.path")
    missing = next((name for name in TREE_FILES if not (path / name).is_file()), None)
    if missing:
        raise NotFound(f"no tree of Buildroot: it has no {missing}", where=path, hint=f"{where}.path names it")
    if not 0 <= said.jobs <= MAX_JOBS:
        raise InvalidInput(f"must be from 0 to {MAX_JOBS}", where=f"{where}.jobs")
    if said.target and not all(char.isalnum() or char in "._- " for char in said.target):
        raise InvalidInput(f"no target of make: {said.target[:80]!r}", where=f"{where}.target")
    if not (said.ccache is None or isinstance(said.ccache, bool | str)):
        raise InvalidInput("must be true, false or a folder", where=f"{where}.ccache")
    if not isinstance(said.version, str | int) or any(char in '"\\$`\n' for char in str(said.version)):
        raise InvalidInput('must be a text without " \\ $ and `', where=f"{where}.version")
    return Options(
        path=path,
        base=tuple(_folder(text, workspace, f"{where}.base") for text in said.base),
        downloads=_within(said.downloads, workspace) if said.downloads else None,
        ccache=True if isinstance(said.ccache, str) else said.ccache,
        ccache_folder=_within(said.ccache, workspace) if isinstance(said.ccache, str) else None,
        jobs=said.jobs,
        target=said.target,
        version=str(said.version),
        incremental=said.incremental,
        check_hashes=said.check_hashes,
        initramfs=said.initramfs,
    )


def _within(text: str, workspace: Path) -> Path:
    return (workspace / Path(text).expanduser()).resolve()


def _folder(text: str, workspace: Path, where: str) -> Path:
    path = _within(text, workspace)
    if not path.is_dir():
        raise NotFound(f"no such folder: {path}", where=where)
    return path
