"""``make bench-build``: hosts beside mmdebstrap with image tools, and mkosi; chains of layers beside SkiffOS' scripts.

All in one run, each round in another order, each tool with folders of its own on one file system, all from one local
mirror and without the network. Times are those of whole processes; processor time is that of the user and of the
system, children and sandboxes included. Nothing passes or fails here.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.build.hosts import Host
from benchmarks.build.skiffos import resolve_table
from benchmarks.engine.timing import Command, run_once

from wherry.build.building import STEPS_FILE
from wherry.core.proc import run

Taken = dict[str, list[tuple[float, float]]]
_COLD, _SAME, _CHANGED = "wherry: cold", "wherry: nothing changed", "wherry: one file changed"
_ALL, _IMAGES = "tools: all of it", "tools: only the images"
_MKOSI_COLD, _MKOSI_CHANGED = "mkosi: cold, no boot loader", "mkosi: one file changed"
_ROWS = (_COLD, _SAME, _CHANGED, _ALL, _IMAGES, _MKOSI_COLD, _MKOSI_CHANGED)
_FORM = ("gpt_ext4", "--root-size=1G")
"""What mkosi can do on a kernel without FAT; squashfs it does not do incrementally."""
_SHOWN_CHARS = 200


def debian(kind: str, scratch: Path, rounds: int) -> None:
    """A host out of Debian's packages, cold and after a change."""
    print(f"==> preparing the host {kind}", flush=True)
    host = Host(kind=kind, scratch=scratch)
    found: Taken = {}
    ways: dict[str, Callable[[Host, Taken], None]] = {"wherry": _wherry, "tools": _tools}
    if kind == "base":
        ways["mkosi"] = _mkosi
    names = list(ways)
    order = random.Random(0)
    for _ in range(rounds):
        order.shuffle(names)
        for name in names:
            host.forget(name)
            ways[name](host, found)
    _print(kind, found)
    print(f"  wherry, one file changed: {_steps(host)}")
    _sizes(host)
    if kind == "base":
        print(f"  mkosi, an image that boots: {_bootable(host)}")
    shutil.rmtree(host.top)


def _wherry(host: Host, found: Taken) -> None:
    _time(found, _COLD, host.build)
    _time(found, _SAME, host.build)
    host.change()
    os.sync()
    _time(found, _CHANGED, host.build)


def _tools(host: Host, found: Taken) -> None:
    _time(found, _ALL, host.chain)
    host.change()
    os.sync()
    _time(found, _IMAGES, host.chain_images)


def _mkosi(host: Host, found: Taken) -> None:
    _time(found, _MKOSI_COLD, host.mkosi_of(*_FORM, "--incremental"))
    host.change()
    os.sync()
    _time(found, _MKOSI_CHANGED, host.mkosi_of(*_FORM, "--incremental"))


def _bootable(host: Host) -> str:
    """Returns whether mkosi makes an image that boots on this machine, and in its own words why not."""
    host.forget("mkosi")
    done = run(host.mkosi_of(*_FORM, "--bootable"), check=False)
    if done.returncode == 0:
        return "made"
    lines = [each.strip() for each in (done.stdout + b"\n" + done.stderr).decode(errors="replace").splitlines()]
    why = next((each for each in lines if each.startswith(("mount:", "losetup:"))), lines[-1] if lines else "")
    return f"not made here: {why[:_SHOWN_CHARS]}"


def _time(found: Taken, name: str, args: Sequence[str]) -> None:
    found.setdefault(name, []).append(run_once(Command(args)))


def _print(kind: str, found: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    def middle(name: str) -> float:
        return statistics.median(real for real, _ in found[name])

    count = len(found[_ALL])
    print(f"\nhost/{kind} ({count} runs each, medians; ratios of real time to the tools)")
    print(f"  {'':<32}{'real':>9}{'least':>9}{'cpu':>9}{'to all':>8}{'to images':>10}")
    for name in (each for each in _ROWS if each in found):
        taken = found[name]
        cpu = statistics.median(each for _, each in taken)
        least = min(real for real, _ in taken)
        ratios = f"{middle(name) / middle(_ALL):>7.2f}x{middle(name) / middle(_IMAGES):>9.2f}x"
        print(f"  {name:<32}{middle(name):>7.2f} s{least:>7.2f} s{cpu:>7.2f} s{ratios}", flush=True)


def _steps(host: Host) -> str:
    """Returns how long each step of Wherry's last build took."""
    rows = json.loads((host.workspace / ".wherry" / STEPS_FILE).read_bytes())
    return ", ".join(f"{row['name']} {row['seconds']:.2f} s" for row in rows if not row["cached"])


def _sizes(host: Host) -> None:
    ours, theirs = host.workspace / "output/images", host.plain
    for name in ("root.erofs", "disk.img"):
        sizes = [
            f"{(folder / name).stat().st_size / 1e6:.1f} MB" for folder in (ours, theirs) if (folder / name).exists()
        ]
        print(f"  {name}: {' and '.join(sizes)}")


TABLES: dict[str, tuple[Callable[[Path, int], None], int]] = {
    "minimal": (partial(debian, "minimal"), 3),
    "base": (partial(debian, "base"), 2),
    "resolve": (resolve_table, 5),
}
"""Table -> what prints it, and how many rounds it has unless another number is given."""


def main() -> None:
    """Measures the tables that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}")
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args()
    unknown = set(options.tables) - TABLES.keys()
    if unknown:
        parser.error(f"no table {unknown.pop()!r}")
    scratch = Path(tempfile.mkdtemp(prefix="wherry-bench-", dir=os.environ.get("BENCH_DIR", "/var/tmp")))
    scratch.chmod(0o755)
    try:
        for name in options.tables or TABLES:
            table, rounds = TABLES[name]
            table(scratch, options.rounds or rounds)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
