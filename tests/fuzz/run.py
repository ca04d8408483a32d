"""Runs the fuzzer: ``python -m tests.fuzz.run --seconds 600 codec summary delta``.

Targets are the lists ``TARGETS`` of the modules in ``tests/fuzz/targets/``; a word on the command line is a target or
the beginning of several. Each gets its share of the time, on as many processes as there are cores. What is found lies
in ``build/fuzz/`` and can be fed again with ``--replay FILE``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from importlib import import_module
from pathlib import Path

from tests.fuzz.engine import Finding, Outcome, Target, fuzz

_TARGETS = Path(__file__).with_name("targets")
_FOUND = Path("build/fuzz")


def load_targets() -> dict[str, Target]:
    """Returns every target by its name."""
    found: dict[str, Target] = {}
    for path in sorted(_TARGETS.glob("[a-z]*.py")):
        for target in import_module(f"tests.fuzz.targets.{path.stem}").TARGETS:
            found[target.name] = target
    return found


def chosen(targets: dict[str, Target], words: list[str]) -> list[Target]:
    """Returns the targets that words on the command line mean; all without any.

    Raises:
        SystemExit: a word means none.
    """
    for word in words:
        if not any(name.startswith(word) for name in targets):
            raise SystemExit(f"no target begins with {word!r}; there are {', '.join(sorted(targets))}")
    return [target for name, target in sorted(targets.items()) if not words or name.startswith(tuple(words))]


def _work(name: str, seconds: float, seed: int) -> tuple[str, Outcome]:
    return name, fuzz(load_targets()[name], seconds=seconds, seed=seed)


def _replay(target: Target, path: Path) -> int:
    target.read(path.read_bytes())
    print(f"{target.name} takes {path}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=None, help="for the same run again")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="feed this to the one target that is named")
    parser.add_argument("words", nargs="*", metavar="TARGET")
    options = parser.parse_args()
    targets = chosen(load_targets(), options.words)
    if options.replay:
        return _replay(targets[0], options.replay)
    seed = int(time.time()) if options.seed is None else options.seed
    share = options.seconds * options.jobs / len(targets)
    print(f"{len(targets)} targets, {share:.0f} s each on one of {options.jobs} processes, seed {seed}", flush=True)
    findings: list[Finding] = []
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
        jobs = [pool.apply_async(_work, (target.name, share, seed)) for target in targets]
        for job in jobs:
            name, outcome = job.get()
            print(f"{name:24} {outcome.executions:9} inputs, {outcome.behaviours:4} behaviours", flush=True)
            if outcome.finding is not None:
                findings.append(outcome.finding)
    for finding in findings:
        print(f"\n{finding.target}: {finding.why}\n  {finding.save(_FOUND)}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
