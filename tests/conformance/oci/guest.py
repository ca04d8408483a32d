"""The same run under another kernel: user-mode Linux, with control groups of version 2 alone.

``linux.uml`` boots from the host's own tree. The guest's first process, ``uml_init.sh``, runs ``run.py`` there; its
results come back as lines of JSON on the console.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.conformance.oci.cases import Case, Outcome

VERSION = "v2"
_ROOT = Path(__file__).parents[3]
_MARK = "OUTCOME "
_TIMEOUT_S = 3600


def version_here() -> str:
    """Returns the version of this machine's control groups, where the controllers are."""
    return "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1"


def tell(outcome: Outcome) -> None:
    """Prints an outcome for the host to read."""
    print(_MARK + json.dumps(asdict(outcome)), flush=True)


def run(suites: Path, runtime: str, names: list[str], build: Path) -> list[Outcome]:
    """Runs all in the guest and prints each as it ends."""
    outcomes: list[Outcome] = []
    arguments = ["--tell", "--suites", str(suites.resolve()), "--runtime", runtime, *names]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *("linux.uml", "mem=1G", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", "quiet"),
            *("con0=null,fd:1", "con=null", f"uml_dir={folder}", f"init={Path(__file__).with_name('uml_init.sh')}"),
            f"wherry_root={_ROOT}",
            f"wherry_python={sys.executable}",
            f'wherry_arguments="{" ".join(arguments)}"',
        ]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": "/dev/shm", "HOME": folder},
        ) as process:
            assert process.stdout is not None
            for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip("\r\n")
                _, mark, told = line.partition(_MARK)
                if mark:
                    value = json.loads(told)
                    outcome = Outcome(**{**value, "cases": tuple(Case(**case) for case in value["cases"])})
                    outcomes.append(outcome)
                    print(outcome.line(), flush=True)
                elif line.startswith("guest: "):
                    print(line, flush=True)
    return outcomes
