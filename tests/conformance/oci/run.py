"""Runs the suites of other OCI runtimes with ``wherry runtime`` in the runtime's place.

The suites are not part of this repository: a folder is named that holds checkouts of them, as many as there are::

    SUITES/<any name>/tests/tests_utils.py        containers/crun: Python, and a helper in C that gcc builds
    SUITES/<any name>/validation/util/test.go     opencontainers/runtime-tools: Go, with its vendored packages

What is not there is skipped, counted and said. A suite's folder is only read; programs are built below ``build/oci``.
Every file of tests runs in process and mount namespaces of its own, so that nothing that it forgets stays.

``known.toml`` beside this file says of every case that does not pass why that is so; an entry for a case that does
better is an error too, as the table in docs/reference/oci-conformance.md tells the same.

Usage: run.py --suites DIR [--runtime wherry|crun|runc|PATH] [--guest] [--docs] [FILE ...]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.conformance.oci import guest, report, suites
from tests.conformance.oci.cases import Outcome, Runtime

ROOT = Path(__file__).parents[3]
BUILD = ROOT / "build/oci"


_FOR_WHERRY = """#!/bin/sh
# crun's tests of NOTIFY_SOCKET are skipped unless crun's list of features has SYSTEMD; Wherry does what they are about.
case " $* " in
  *" --version "*) WHERRY runtime "$@" && echo +SYSTEMD ;;
  *) exec WHERRY runtime "$@" ;;
esac
"""
_FOR_RUNC = """#!/bin/bash
# crun's tests use options of crun's: what they mean is runc's default, or there is nothing like it.
arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --cgroup-manager) shift ;;
    --config) shift; [ "$1" = config.json ] || { echo "no --config $1" >&2; exit 1; } ;;
    *) arguments+=("$1") ;;
  esac
  shift
done
exec RUNC "${arguments[@]}"
"""


def runtime_of(name: str, work: Path) -> Runtime:
    """Returns the runtime to test, as a program that takes a runtime's arguments."""
    if name == "wherry":
        wherry = Path(sys.executable).with_name("wherry")
        return Runtime(name=name, program=_script(work / "wherry-runc", _FOR_WHERRY.replace("WHERRY", str(wherry))))
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name}: there is no such program")
    if name == "runc":
        return Runtime(name=name, program=_script(work / "runc", _FOR_RUNC.replace("RUNC", found)))
    return Runtime(name=Path(name).name, program=Path(found))


def _script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def enter_namespaces(runtime: Runtime, arguments: list[str]) -> list[str]:
    """Returns a command line that runs this program again in namespaces of its own."""
    # Debian 12's crun refuses a host whose version 2 hierarchy has a controller beside version 1; it is hidden.
    hide = "umount /sys/fs/cgroup/unified 2>/dev/null; " if runtime.name == "crun" else ""
    shell = f'mount --make-rprivate /; {hide}exec "$@"'
    return [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        shell,
        "sh",
        *arguments,
    ]


def show(outcome: Outcome) -> None:
    """Prints an outcome for people."""
    print(outcome.line(), flush=True)


def run_here(
    found: list[suites.Suite], runtime: Runtime, work: Path, names: list[str], told: Callable[[Outcome], None]
) -> list[Outcome]:
    """Runs all files and tells each as it ends."""
    outcomes = []
    for suite in found:
        for file in suite.files():
            if names and file not in names:
                continue
            outcome = suite.run(file, runtime, work, lambda command: enter_namespaces(runtime, command))
            told(outcome)
            outcomes.append(outcome)
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", type=Path, help="the folder of the suites; nothing runs without")
    parser.add_argument("--runtime", default="wherry", help="wherry, crun, runc or a program")
    parser.add_argument("--guest", action="store_true", help="in user-mode Linux, with control groups of version 2")
    parser.add_argument("--docs", action="store_true", help="write the table of all results so far, and run nothing")
    parser.add_argument("--show", action="store_true", help="what failing files say")
    parser.add_argument("--tell", action="store_true", help=argparse.SUPPRESS)  # in the guest, for the host to read
    parser.add_argument("names", nargs="*", metavar="FILE", help="as the table names them: test_exec.py, hostname")
    options = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    if options.docs:
        report.write_docs(BUILD)
        return 0
    found = suites.find(options.suites) if options.suites else []
    missing = [name for name in suites.NAMES if name not in {suite.name for suite in found}]
    for name in missing:
        print(f"skip  {name}: its checkout is not there; name a folder that has it with SUITES=DIR")
    if not found:
        print(f"{len(missing)} suites skipped, nothing was run")
        return 0
    for suite in found:
        suite.build(BUILD)
    if options.guest:
        outcomes = guest.run(options.suites, options.runtime, options.names, BUILD)
    else:
        with tempfile.TemporaryDirectory(prefix="wherry-oci-", dir="/var/tmp") as folder:
            work = Path(folder)
            work.chmod(0o755)  # tests of user namespaces look in
            told = guest.tell if options.tell else show
            outcomes = run_here(found, runtime_of(options.runtime, work), work, options.names, told)
    if options.tell:
        return 0
    if options.show:
        for outcome in outcomes:
            if not outcome.good:
                print(f"--- {outcome.suite} {outcome.file}\n{outcome.text[-6000:]}")
    version = guest.VERSION if options.guest else guest.version_here()
    if not options.names:
        report.save(BUILD, Path(options.runtime).name, version, outcomes)
    return report.judge(outcomes, runtime=options.runtime, version=version, skipped_suites=len(missing))


if __name__ == "__main__":
    sys.exit(main())
