"""Real trees to measure with: a Debian 12 device, and the same with its security updates; made once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from wherry.core.lock import file_lock
from wherry.core.proc import run

CACHE = Path(__file__).parents[1] / "build/cache"
PACKAGES = "linux-image-cloud-amd64,systemd,systemd-sysv,python3,openssh-server,git,perl,curl,initramfs-tools"
EPOCH = "1767225600"
_ONLY_MAIN = '--setup-hook=sed -i "/security/d;/updates/d" "$1"/etc/apt/sources.list'


def debian_pair() -> tuple[Path, Path]:
    """Returns the folders of both trees, without devices: some 11,000 files and 480 MB each."""
    return _tree("device-old", _ONLY_MAIN), _tree("device-new")


def _tree(name: str, *options: str) -> Path:
    """Makes a tree unless it is there; what was begun and not finished is made anew."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with file_lock(CACHE / f".lock-{name}"):
        tree = CACHE / name
        if tree.is_dir():
            return tree
        tar, new = CACHE / f".{name}.tar", CACHE / f".{name}.new"
        shutil.rmtree(new, ignore_errors=True)
        tar.unlink(missing_ok=True)
        print(f"==> making {tree} (mmdebstrap)", flush=True)
        environment = {"PATH": os.environ["PATH"], "SOURCE_DATE_EPOCH": EPOCH}
        command = ["mmdebstrap", "--mode=root", "--variant=important", f"--include={PACKAGES}", *options]
        run([*command, "bookworm", str(tar)], env=environment)
        new.mkdir()
        run(["tar", "-C", str(new), "--numeric-owner", "--exclude=./dev/*", "-xf", str(tar)])
        tar.unlink()
        new.rename(tree)
        return tree


def many_files(folder: Path, count: int) -> Path:
    """Makes a tree of small files that all differ, 1,000 to a folder."""
    for number in range(count):
        if not number % 1000:
            below = folder / f"{number // 1000:04}"
            below.mkdir(parents=True)
        (below / f"file-{number}").write_bytes(b"%d\n" % number * 10)
    return folder
