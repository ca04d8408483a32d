"""The real ``mkcomposefs``: Debian 12 and 13 do not have it, so it comes from a small root of a newer Debian."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.core.lock import file_lock
from wherry.core.proc import run

CACHE = Path("build/cache").absolute()
SUITE = "forky"
_LOADER = "usr/lib64/ld-linux-x86-64.so.2"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"

Tool = Callable[..., bytes]


@pytest.fixture(scope="session")
def composefs_root() -> Path:
    """The packages ``composefs`` and what it needs, unpacked; made once."""
    root = CACHE / f"composefs-{SUITE}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with file_lock(CACHE / ".lock-composefs"):
        if not (root / "usr/bin/mkcomposefs").exists():
            new = CACHE / f".composefs-{SUITE}.new"
            shutil.rmtree(new, ignore_errors=True)
            # A mirror may be a frozen one, whose lists have run out; their signatures are checked all the same.
            stale = 'Acquire::Check-Valid-Until "false"'
            options = ["--variant=extract", "--mode=root", f"--aptopt={stale}", "--include=composefs"]
            run(["mmdebstrap", *options, SUITE, str(new)], env={"PATH": os.environ["PATH"]})
            shutil.rmtree(new / "var/lib/apt", ignore_errors=True)
            shutil.rmtree(root, ignore_errors=True)
            new.rename(root)
    return root


def _tool(root: Path, name: str) -> Tool:
    def call(*arguments: str | Path, check: bool = True) -> bytes:
        loader = [str(root / _LOADER), "--library-path", str(root / _LIBRARIES), str(root / "usr/bin" / name)]
        done = run([*loader, *map(str, arguments)], check=check)
        return done.stdout if done.returncode == 0 else b""

    return call


@pytest.fixture(scope="session")
def mkcomposefs(composefs_root: Path) -> Tool:
    return _tool(composefs_root, "mkcomposefs")


@pytest.fixture(scope="session")
def composefs_info(composefs_root: Path) -> Tool:
    return _tool(composefs_root, "composefs-info")
