"""Chains of SkiffOS' size, resolved and merged: by SkiffOS' own scripts, by Wherry's commands, by Wherry in process.

The scripts run as they are, from the checkout that ``WHERRY_SKIFFOS`` names, up to where they call Buildroot: its
``make defconfig`` is one that makes an empty file. What they write goes to a folder of the benchmark's own.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.build.hosts import WHERRY
from benchmarks.engine.timing import Command, Row, run_once

from wherry.build.contributions import gather
from wherry.build.layers import find_layers
from wherry.build.resolving import resolve
from wherry.core.errors import ToolError
from wherry.core.proc import run

VARIABLE = "WHERRY_SKIFFOS"
CHAINS = ("virt/qemu,skiff/core", "pi/4,skiff/core", "odroid/xu4,skiff/core")
_SCRIPT = """
set -e
cd "$SKIFF_ROOT_DIR/configs"
. ../scripts/enumerate_configs.sh >/dev/null
[ "$1" = resolve ] || ../scripts/build_configs.sh >/dev/null 2>&1
echo "$SKIFF_CONFIG"
"""
_MAKEFILE = "defconfig:\n\t@touch .config\n"
_AGAIN = 5
"""How often a chain is taken in process for one measurement, as the clock is coarse."""


class Scripts:
    """SkiffOS' scripts, with folders of their own.

    Args:
        checkout: of SkiffOS.
        scratch: a folder.
    """

    def __init__(self, checkout: Path, scratch: Path) -> None:
        self.checkout = checkout
        self.scratch = scratch
        workspace = scratch / "workspaces/bench"
        for folder in (workspace, scratch / "overrides/workspaces/bench"):
            folder.mkdir(parents=True)
        (workspace / "Makefile").write_text(_MAKEFILE)

    def command(self, chain: str, *, merge: bool) -> list[str]:
        """Returns the command that resolves a chain, and merges it if that is wanted."""
        own, scratch = self.checkout, self.scratch
        workspaces, overrides = scratch / "workspaces", scratch / "overrides"
        environment = {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C",
            "TERM": "xterm",
            "SKIFF_CONFIG": chain,
            "SKIFF_FORCE_RECONFIG": "true",
            "ROOT_DIR": own,
            "SKIFF_ROOT_DIR": own,
            "SKIFF_CONFIGS_DIR": own / "configs",
            "SKIFF_BASE_CONFIGS_DIR": own / "configs-base",
            "SKIFF_SCRIPTS_DIR": own / "scripts",
            "SKIFF_RESOURCES_DIR": own / "resources",
            "SKIFF_VERSION": "bench",
            "SKIFF_VERSION_COMMIT": "bench",
            "SKIFF_WORKSPACE": "bench",
            "SKIFF_WORKSPACES_DIR": workspaces,
            "SKIFF_OVERRIDES_DIR": overrides,
            "SKIFF_WS_OVERRIDES_DIR": overrides / "workspaces/bench",
            "SKIFF_FINAL_CONFIG_DIR": workspaces / ".config_bench",
            "BUILDROOT_DIR": workspaces / "bench",
            "BR2_CCACHE_DIR": scratch / "ccache",
        }
        words = [f"{name}={value}" for name, value in environment.items()]
        return ["env", "-i", *words, "bash", "-c", _SCRIPT, "bash", "merge" if merge else "resolve"]

    def check(self, chain: str) -> None:
        """Makes sure that both take the same layers, and that the scripts merge something."""
        theirs = run(self.command(chain, merge=True)).stdout.decode().strip().split(",")
        layers = find_layers([self.checkout / "configs"])
        ours = [layer.name for layer in resolve(layers, chain.split(","))]
        merged = self.scratch / "workspaces/.config_bench/buildroot/config"
        if sorted(theirs) != sorted(ours) or merged.stat().st_size == 0:
            raise ToolError(f"not the same layers: {' '.join(theirs)}; {' '.join(ours)}", where=chain)


def measure(checkout: Path, scratch: Path, rounds: int) -> list[Row]:
    """Returns what each way takes; of each round all ways, one after the other, for every chain."""
    scripts = Scripts(checkout, scratch)
    path = f"--layers-path={checkout / 'configs'}"
    wherry = [str(WHERRY), "--root", str(scratch / "state")]
    found: dict[str, list[tuple[float, float]]] = {}
    for chain in CHAINS:
        scripts.check(chain)
    for turn in range(-1, rounds):
        for chain in CHAINS:
            ways = {
                "SkiffOS: enumerate_configs.sh": scripts.command(chain, merge=False),
                "SkiffOS: and build_configs.sh": scripts.command(chain, merge=True),
                "wherry --version": [*wherry, "--version"],
                "wherry layer resolve": [*wherry, "layer", "resolve", path, chain],
                "wherry layer plan": [*wherry, "layer", "plan", path, chain],
                "wherry layer kconfig kernel": [*wherry, "layer", "kconfig", "kernel", path, chain],
            }
            taken = {name: run_once(Command(line)) for name, line in ways.items()}
            taken["in process: find, resolve"] = in_process(checkout, chain.split(","), merge=False)
            taken["in process: find, resolve, merge"] = in_process(checkout, chain.split(","), merge=True)
            if turn >= 0:
                for name, each in taken.items():
                    found.setdefault(name, []).append(each)
    return [_row(name, each) for name, each in found.items()]


def in_process(checkout: Path, names: Sequence[str], *, merge: bool) -> tuple[float, float]:
    """Finds the layers, puts a chain in order and merges it; returns real and processor time of one, in seconds.

    Nothing is kept from one time to the next but what the kernel keeps of files.
    """
    real, cpu = time.perf_counter(), time.process_time()
    for _ in range(_AGAIN):
        chain = resolve(find_layers([checkout / "configs"]), names)
        if merge:
            for merged in gather(chain).fragments.values():
                merged.text()
    return (time.perf_counter() - real) / _AGAIN, (time.process_time() - cpu) / _AGAIN


def _row(name: str, taken: Sequence[tuple[float, float]]) -> Row:
    real, cpu = [each[0] * 1000 for each in taken], [each[1] * 1000 for each in taken]
    return Row(name, statistics.median(real), min(real), statistics.median(cpu), len(taken))


def resolve_table(scratch: Path, rounds: int) -> None:
    """Prints the table."""
    named = os.environ.get(VARIABLE, "")
    if not named:
        print(f"\nresolve: passed over: {VARIABLE} names no checkout of SkiffOS", file=sys.stderr)
        return
    rows = {row.name: row for row in measure(Path(named).absolute(), scratch, rounds)}
    count = sum(1 for _ in find_layers([Path(named) / "configs"]))
    print(f"\nChains of {count} layers: {'; '.join(CHAINS)} ({next(iter(rows.values())).runs} runs each)")
    print("  ratios of processor time: how many times as fast as the scripts that do the same")
    print(f"  {'':<38}{'median':>11}{'min':>11}{'cpu':>11}{'resolve':>10}{'and merge':>10}")
    bases = (rows["SkiffOS: enumerate_configs.sh"], rows["SkiffOS: and build_configs.sh"])
    for row in rows.values():
        ratios = "".join(f"{base.cpu_ms / row.cpu_ms:>9.1f}x" for base in bases)
        print(f"  {row.name:<38}{row.median_ms:>8.1f} ms{row.least_ms:>8.1f} ms{row.cpu_ms:>8.1f} ms{ratios}")
