"""The ways to bring a device from one tree to another: each makes its update, and applies it.

Every step is one process (or a pipe of two), measured from outside: seconds, and the most memory that it or a child of
it held. Peers run as their manuals say, with the settings that make the smallest update in reasonable time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.delta_pairs import TreePair

from wherry.core.proc import run

WHERRY = Path(sys.executable).with_name("wherry")
_TIME = "--timestamp=@1750000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a step took."""

    seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way, for one pair."""

    name: str
    size: int
    make: Cost | None
    apply: Cost | None
    note: str = ""


def measured(args: Sequence[str | Path]) -> Cost:
    """Runs a program to its end.

    Raises:
        RuntimeError: it failed.
    """
    begun = time.monotonic()
    with open(os.devnull, "wb") as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([str(arg) for arg in args], stdin=subprocess.DEVNULL, stdout=out, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            said = errors.read()[-500:].decode(errors="replace")
            raise RuntimeError(f"exit status {process.returncode}: {' '.join(str(arg) for arg in args)}: {said}")
    return Cost(seconds=time.monotonic() - begun, memory_bytes=usage.ru_maxrss * 1024)


class Bench:
    """All ways for one pair.

    Args:
        pair: the trees.
        scratch: an empty folder.
    """

    def __init__(self, pair: TreePair, scratch: Path) -> None:
        self.pair = pair
        self.scratch = scratch
        self.repo = scratch / "repo"
        self.archive = scratch / "archive"

    def prepare(self) -> None:
        """Commits both trees; what all that work on repositories share."""
        for path, mode in ((self.repo, "bare"), (self.archive, "archive")):
            run(["ostree", "init", f"--repo={path}", f"--mode={mode}"])
        for branch, tree in (("old", self.pair.old), ("new", self.pair.new)):
            run(["ostree", "commit", f"--repo={self.repo}", "-b", branch, _TIME, str(tree)])
        run(["ostree", "pull-local", f"--repo={self.archive}", str(self.repo), "old", "new"])

    def ways(self) -> dict[str, Callable[[], Row]]:
        """Returns the ways by their names."""
        return {
            "wherry": self.wherry,
            "wherry-quick": self.wherry_quick,
            "ostree": self.ostree,
            "objects": self.objects,
            "casync": self.casync,
            "xdelta3": self.xdelta3,
            "zstd": self.zstd,
            "tar": self.tar,
        }

    def _commit(self, branch: str) -> str:
        return run(["ostree", "rev-parse", f"--repo={self.repo}", branch]).stdout.decode().strip()

    def _device(self) -> Path:
        """Returns a repository that has the old tree."""
        path = self.scratch / "device"
        shutil.rmtree(path, ignore_errors=True)
        run(["ostree", "init", f"--repo={path}", "--mode=bare"])
        run(["ostree", "pull-local", f"--repo={path}", str(self.repo), self._commit("old")])
        return path

    def _check(self, device: Path) -> None:
        """Checks that the device has the new tree, whole, by the real ostree."""
        commit = self._commit("new")
        if (device / f"state/{commit}.commitpartial").exists():
            raise RuntimeError("the commit is still partial")
        run(["ostree", "fsck", f"--repo={device}"])
        if differences := run(["ostree", "diff", f"--repo={device}", commit, str(self.pair.new)]).stdout:
            raise RuntimeError(f"the device has not the new tree: {differences[:500].decode(errors='replace')}")

    def wherry(self) -> Row:
        """Wherry's device delta."""
        return self._wherry("Wherry's device delta")

    def wherry_quick(self) -> Row:
        """Wherry's device delta, made quickly."""
        return self._wherry("the same, --quick", "--quick")

    def _wherry(self, name: str, *options: str) -> Row:
        file = self.scratch / "delta"
        made = measured(
            [WHERRY, "store", "delta", "make", f"--repo={self.repo}", "--from=old", "--to=new", "-o", file, *options]
        )
        device = self._device()
        applied = measured([WHERRY, "store", "delta", "apply", f"--repo={device}", file])
        self._check(device)
        return Row(name=name, size=file.stat().st_size, make=made, apply=applied)

    def ostree(self) -> Row:
        """OSTree's static delta, in one file, with bsdiff; objects that it leaves out count too."""
        file = self.scratch / "static-delta"
        made = measured(
            [
                "ostree",
                "static-delta",
                "generate",
                f"--repo={self.repo}",
                "--from=old",
                "--to=new",
                "--inline",
                "--min-fallback-size=0",
                f"--filename={file}",
            ]
        )
        device = self._device()
        applied = measured(["ostree", "static-delta", "apply-offline", f"--repo={device}", file])
        self._check(device)
        return Row(name="ostree static-delta", size=file.stat().st_size, make=made, apply=applied)

    def objects(self) -> Row:
        """The objects that are missing, one by one, as an archive repository serves them."""
        old, new = self._reachable("old"), self._reachable("new")
        size = sum((self.archive / "objects" / name).stat().st_size for name in new - old)
        return Row(name="ostree objects", size=size, make=None, apply=None, note=f"{len(new - old)} requests")

    def _reachable(self, branch: str) -> set[str]:
        from wherry.core.digest import Checksum
        from wherry.store.format.objects import ObjectType, object_name
        from wherry.store.repository import Repository
        from wherry.store.tree.walk import reachable

        repo = Repository.open(self.archive)
        found = reachable(repo, Checksum(self._commit(branch)))
        return {object_name(kind, name, repo.mode) for kind, name in found if kind is not ObjectType.COMMITMETA}

    def casync(self) -> Row:
        """casync with chunks of 64 KiB; its seed is the old tree."""
        store, old_store = self.scratch / "chunks", self.scratch / "old-chunks"
        index, old_index = self.scratch / "new.catar.caidx", self.scratch / "old.catar.caidx"
        digest = ["--digest=sha256", "--with=unix", "--compression=zstd"]
        run(["casync", "make", *digest, f"--store={old_store}", str(old_index), str(self.pair.old)])
        made = measured(["casync", "make", *digest, f"--store={store}", index, self.pair.new])
        known = {path.name for path in old_store.rglob("*.cacnk")}
        size = sum(path.stat().st_size for path in store.rglob("*.cacnk") if path.name not in known)
        out = self.scratch / "casync-out"
        applied = measured(
            ["casync", "extract", *digest[:2], f"--store={store}", f"--seed={self.pair.old}", index, out]
        )
        return Row(name="casync, 64 KiB", size=size + index.stat().st_size, make=made, apply=applied)

    def _tars(self) -> tuple[Path, Path]:
        return self.pair.old.with_suffix(".tar"), self.pair.new.with_suffix(".tar")

    def xdelta3(self) -> Row:
        """xdelta3 over whole tars, with a window for all of it, compressed by xz as well."""
        old, new = self._tars()
        file, out = self.scratch / "xdelta", self.scratch / "xdelta-out"
        window = str(max(old.stat().st_size, 1 << 29))
        made = measured(["xdelta3", "-e", "-9", "-S", "lzma", "-B", window, "-f", "-s", old, new, file])
        applied = measured(["xdelta3", "-d", "-B", window, "-f", "-s", old, file, out])
        _same(new, out)
        return Row(name="xdelta3 -9 -S lzma, tar", size=file.stat().st_size, make=made, apply=applied)

    def zstd(self) -> Row:
        """zstd --patch-from over whole tars."""
        old, new = self._tars()
        file, out = self.scratch / "zstd", self.scratch / "zstd-out"
        made = measured(["zstd", "-q", "-f", "-19", "--long=31", f"--patch-from={old}", new, "-o", file])
        applied = measured(["zstd", "-q", "-f", "-d", "--long=31", f"--patch-from={old}", file, "-o", out])
        _same(new, out)
        return Row(name="zstd -19 --patch-from, tar", size=file.stat().st_size, make=made, apply=applied)

    def tar(self) -> Row:
        """The whole tree."""
        _, new = self._tars()
        file, out = self.scratch / "whole", self.scratch / "whole-out"
        made = measured(["zstd", "-q", "-f", "-9", "-T2", new, "-o", file])
        applied = measured(["zstd", "-q", "-f", "-d", file, "-o", out])
        return Row(name="the whole tar, zstd -9", size=file.stat().st_size, make=made, apply=applied)


def _same(first: Path, second: Path) -> None:
    run(["cmp", str(first), str(second)])
