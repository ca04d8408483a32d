"""Root trees from Debian packages, made once and kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from wherry.core.lock import file_lock
from wherry.core.proc import run

SUITE = "bookworm"
EPOCH = "1767225600"
"""2026-01-01: the time stamp of every file, so that the tree is the same bytes each time."""


def debian_tree(cache: Path, name: str, packages: str, say: Callable[[str], None]) -> Path:
    """Returns a tarball with a minimal Debian and `packages`; makes it when it is not there.

    Args:
        cache: the folder that keeps it.
        name: the tarball's name.
        packages: comma-separated.
        say: told what happens.
    """
    target = cache / f"debian-{name}.tar"
    cache.mkdir(parents=True, exist_ok=True)
    with file_lock(cache / ".lock"):
        if target.exists():
            say(f"{target.name} is there ({target.stat().st_size // 1_000_000} MB)")
            return target
        say(f"mmdebstrap: {SUITE} with {packages}; this takes a minute, once")
        temporary = cache / f"debian-{name}.tmp.tar"
        run(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                "--mode=root",
                f"--include={packages}",
                SUITE,
                str(temporary),
            ],
            env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
        )
        temporary.rename(target)
    return target
