"""Pairs of real Debian trees for ``make bench-delta``, made by mmdebstrap and cached under ``build/cache``.

security
    the same packages from bookworm as it was released, and with its security fixes and updates: another kernel, so
    another folder of modules, another initial RAM disk, new libraries
packages
    the older tree, and the same with some packages added
configuration
    the older tree, and the same with one line of configuration

What the mirror has on the day decides what is in them; nothing else is pinned. *Small* trees have no kernel: to see in
some minutes that every way still works, not to compare.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from wherry.core.errors import NotFound
from wherry.core.lock import file_lock
from wherry.core.proc import run

PACKAGES = (
    "linux-image-cloud-amd64",
    "systemd",
    "systemd-sysv",
    "python3",
    "openssh-server",
    "git",
    "perl",
    "curl",
    "initramfs-tools",
)
SMALL_PACKAGES = ("openssh-server", "python3-minimal")
SMALL_ADDED = ("rsync", "tcpdump")
ADDED = ("nginx-light", "tcpdump", "vim-tiny", "python3-requests", "rsync")
SUITE = "bookworm"
BASE = (SUITE,)
UPDATED = (SUITE, f"{SUITE}-updates", f"{SUITE}-security")
_TIME_S = "1750000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreePair:
    """Two trees and their tar files."""

    name: str
    title: str
    old: Path
    new: Path
    """Folders; beside each lies a tar file of the same name."""


def prepare(cache: Path, names: list[str], *, small: bool = False) -> list[TreePair]:
    """Makes the pairs that are not there yet, and returns them.

    Args:
        cache: where they are kept.
        names: which.
        small: whether trees without a kernel are enough.
    """
    packages, added = (SMALL_PACKAGES, SMALL_ADDED) if small else (PACKAGES, ADDED)
    cache = cache / "small" if small else cache
    cache.mkdir(parents=True, exist_ok=True)
    with file_lock(cache / ".lock"):
        base = _tree(cache / "base", BASE, packages)
        pairs = []
        if "security" in names:
            new = _tree(cache / "security", UPDATED, packages)
            title = "security updates" if small else "security updates and a new kernel"
            pairs.append(TreePair(name="security", title=title, old=base, new=new))
        if "packages" in names:
            new = _tree(cache / "packages", BASE, (*packages, *added))
            pairs.append(TreePair(name="packages", title=f"{len(added)} packages added", old=base, new=new))
        if "configuration" in names:
            new = _changed(base, cache / "configuration")
            pairs.append(TreePair(name="configuration", title="one line of configuration", old=base, new=new))
    return pairs


def _sources(suites: tuple[str, ...]) -> list[str]:
    """Returns lines of sources.list for some suites, from where this machine has them.

    Raises:
        NotFound: apt knows one of them not.
    """
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    known = run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"]).stdout.decode().splitlines()
    lines = [f"deb {line}" for line in sorted(set(known)) if line.split()[1] in suites and line.endswith(" main")]
    if lacking := set(suites).difference(line.split()[2] for line in lines):
        raise NotFound("apt has no lists of a suite", where=", ".join(sorted(lacking)), hint="apt-get update")
    return lines


def _tree(path: Path, suites: tuple[str, ...], packages: tuple[str, ...]) -> Path:
    tar = path.with_suffix(".tar")
    if not tar.exists():
        print(f"==> mmdebstrap: {path.parent.name}/{path.name}; some two minutes, once", flush=True)
        partial = path.with_suffix(".tmp.tar")
        environment = {**os.environ, "SOURCE_DATE_EPOCH": _TIME_S}
        run(
            [
                "mmdebstrap",
                "--mode=root",
                "--variant=important",
                f"--include={','.join(packages)}",
                SUITE,
                str(partial),
                *_sources(suites),
            ],
            env=environment,
        )
        partial.rename(tar)
    if not path.is_dir():
        partial = path.with_suffix(".tmp")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        run(["tar", "-C", str(partial), "-xf", str(tar), "--exclude=./dev/*"])
        partial.rename(path)
    return path


def _changed(base: Path, path: Path) -> Path:
    """Makes the tree that differs from another by one line."""
    tar = path.with_suffix(".tar")
    if not path.is_dir():
        partial = path.with_suffix(".tmp")
        shutil.rmtree(partial, ignore_errors=True)
        run(["cp", "-a", str(base), str(partial)])
        config = partial / "etc/ssh/sshd_config"
        config.write_text(config.read_text() + "PermitRootLogin no\n")
        os.utime(config, (int(_TIME_S) + 60, int(_TIME_S) + 60))
        partial.rename(path)
    if not tar.exists():
        partial = path.with_suffix(".tmp.tar")
        run(["tar", "-C", str(path), "--sort=name", "--numeric-owner", "-cf", str(partial), "."])
        partial.rename(tar)
    return path
