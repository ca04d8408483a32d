"""Speed as ratios to the real peers, measured in one run with hyperfine: ``make bench``.

Absolute times of a shared machine mean little; the pairs are interleaved by hyperfine and compared within one
run. Results go to ``build/bench/`` as JSON, and as a table to standard output. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from wherry.core.proc import run

PROJECT = Path(__file__).parents[1]
RESULTS = PROJECT / "build/bench"
PYTHON = Path(sys.executable)
WHERRY = PYTHON.with_name("wherry")


def measure(title: str, commands: dict[str, str], *, base: str, runs: int = 30, warmup: int = 3) -> None:
    """Times shell commands against each other and prints a table.

    Args:
        title: the name of the table and of its file.
        commands: name -> command line.
        base: the name that the ratios are to.
        runs: how often each is run.
        warmup: runs before those, not counted.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    out = RESULTS / f"{title.replace(' ', '-')}.json"
    arguments = [
        "hyperfine",
        "-N",
        "--style",
        "none",
        "--warmup",
        str(warmup),
        "--runs",
        str(runs),
        "--export-json",
        str(out),
    ]
    for name, command in commands.items():
        arguments += ["--command-name", name, command]
    run(arguments)
    results = {entry["command"]: entry for entry in json.loads(out.read_text())["results"]}
    unit = results[base]["median"]
    print(f"\n{title} ({runs} runs each)")
    print(f"  {'':<34}{'median':>10}{'min':>10}{'ratio':>8}")
    for name, entry in results.items():
        median, least = entry["median"] * 1000, entry["min"] * 1000
        print(f"  {name:<34}{median:>7.1f} ms{least:>7.1f} ms{entry['median'] / unit:>7.2f}x")


def bench_version() -> None:
    """``wherry --version`` beside what any Python command with click pays: the goal is under twice that."""
    measure(
        "cold wherry version",
        {
            "python3 -c pass": f"{PYTHON} -c pass",
            "python3 -c 'import click'": f"{PYTHON} -c 'import click'",
            "wherry --version": f"{WHERRY} --version",
            "wherry --help": f"{WHERRY} --help",
        },
        base="python3 -c 'import click'",
    )


BENCHMARKS: dict[str, Callable[[], None]] = {"version": bench_version}


def main() -> None:
    """Runs the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}")
    names = parser.parse_args().names or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark {name!r}")
        BENCHMARKS[name]()


if __name__ == "__main__":
    main()
