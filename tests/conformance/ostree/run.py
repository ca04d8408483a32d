"""Runs the tests that upstream packages for ``ostree`` with ``wherry store`` in its place.

Debian's ``ostree-tests`` puts them below ``/usr/libexec/installed-tests/libostree``; each calls a bare ``ostree`` from
PATH, in an empty directory of its own. A file counts as passed when it ends with 0 and skips nothing. ``known.toml``
beside this file says of every file that does not pass why that is so: it skips something, or, with ``fails = true``, it
fails. An entry for a file that does better is an error too, as the table is what the documentation tells.

Usage: run.py [--oracle] [--jobs N] [--keep DIR] [FILE ...]        --oracle runs the real ostree instead
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INSTALLED = Path("/usr/libexec/installed-tests/libostree")
TIMEOUT_S = 900
OUTSIDE = re.compile(
    r"test-(admin-.*|osupdate-dtb|no-initramfs|switchroot|sysroot.*|demo-buildsystem|rofiles-fuse)\.sh"
)
"""Of ``ostree admin``, or of other programs than ``ostree``: not what the store is for."""
_KNOWN = Path(__file__).with_name("known.toml")
_SKIP = re.compile(r"# *skip", re.IGNORECASE)
_RESULT = re.compile(r"(not ok|ok)\b(.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one file of tests ended."""

    name: str
    status: int
    passed: int
    skipped: tuple[str, ...]
    seconds: float
    tail: str

    @property
    def good(self) -> bool:
        """A check that is skipped needs a reason too."""
        return self.status == 0 and not self.skipped


def stand_in(folder: Path) -> None:
    """Makes a directory for PATH, with Wherry in it by the name ``ostree``, which makes it ``wherry store``."""
    folder.mkdir()
    (folder / "ostree").symlink_to(Path(sys.executable).with_name("wherry"))


def run_file(name: str, work: Path, path: str) -> Outcome:
    """Runs one file in a directory of its own."""
    place = work / name
    place.mkdir()
    environment = {
        "PATH": path,
        "HOME": str(place.parent),
        "LANG": "C.UTF-8",
        "TMPDIR": str(work),
        "OSTREE_NO_XATTRS": "1",
        "G_TEST_SRCDIR": str(INSTALLED),
        "G_TEST_BUILDDIR": str(INSTALLED),
    }
    began = time.monotonic()
    log = work / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [INSTALLED / name], cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            status = 124
    text = log.read_text(errors="replace")
    results = [match for match in map(_RESULT.match, text.splitlines()) if match]
    if any(match[1] == "not ok" for match in results):
        status = status or 1
    skipped = tuple(match[2].strip() for match in results if _SKIP.search(match[2]))
    skipped += tuple(line for line in text.splitlines() if re.match(r"1\.\.0 *# *skip", line, re.IGNORECASE))
    return Outcome(
        name=name,
        status=status,
        passed=sum(match[1] == "ok" for match in results) - sum(bool(_SKIP.search(match[2])) for match in results),
        skipped=skipped,
        seconds=time.monotonic() - began,
        tail="\n".join(text.splitlines()[-12:]),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle", action="store_true", help="run the real ostree")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="leave the logs and working directories here")
    parser.add_argument("--show", type=int, default=0, metavar="LINES", help="of each failed file, the end of its log")
    parser.add_argument("names", nargs="*", metavar="FILE")
    options = parser.parse_args()
    names = options.names or sorted(
        path.name for path in INSTALLED.glob("test-*.sh") if not OUTSIDE.fullmatch(path.name)
    )
    known: dict[str, dict[str, Any]] = tomllib.loads(_KNOWN.read_text())
    work = Path(tempfile.mkdtemp(prefix="wherry-ostree-tests-", dir="/var/tmp"))  # xattrs of users: not every tmpfs
    path = os.environ["PATH"]
    if not options.oracle:
        stand_in(work / "bin")
        path = f"{work / 'bin'}:{path}"
    outcomes = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for outcome in pool.map(lambda name: run_file(name, work, path), names):
            outcomes.append(outcome)
            word = "FAIL" if outcome.status else "skip" if outcome.skipped else "pass"
            reason = known.get(outcome.name, {}).get("reason", "") if not options.oracle else ""
            skips = f", {len(outcome.skipped)} skipped" if outcome.skipped else ""
            print(
                f"{word}  {outcome.name:36} {outcome.passed:3} ok{skips}  {outcome.seconds:.1f} s  {reason}", flush=True
            )
            if outcome.status and options.show:
                print("\n".join(f"        {line}" for line in outcome.tail.splitlines()[-options.show :]))
    if options.keep:
        shutil.copytree(work, options.keep, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(work, ignore_errors=True)
    failed = [outcome.name for outcome in outcomes if outcome.status]
    skipping = [outcome.name for outcome in outcomes if outcome.skipped and not outcome.status]
    surprises = [name for name in failed if not known.get(name, {}).get("fails")]
    surprises += [name for name in skipping if name not in known]
    stale = [outcome.name for outcome in outcomes if outcome.good and outcome.name in known]
    stale += [name for name in skipping if known.get(name, {}).get("fails")]
    if options.oracle:
        surprises, stale = failed, []
    print(
        f"{len(outcomes)} files, {sum(item.passed for item in outcomes)} checks pass: "
        f"{sum(item.good for item in outcomes)} files pass whole, {len(skipping)} skip something, {len(failed)} fail"
    )
    for name in surprises:
        print(f"fails, or skips something, without a reason in {_KNOWN.name}: {name}")
    for name in stale:
        print(f"better than {_KNOWN.name} says: {name}")
    return 1 if surprises or stale else 0


if __name__ == "__main__":
    sys.exit(main())
