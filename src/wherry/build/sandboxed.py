"""The process that makes a sandbox and stays until its end: a bare interpreter with one thread, as clone(2) wants it.

It is called by `place.py` with the folder of a bundle, reads ``config.json`` there, and ends with the program's status.
It dies with whoever called it, and the sandbox with it. What goes wrong before the program runs is written to the file
``error`` in the bundle, so that it is told from what the program says.
"""

from __future__ import annotations

import os
import sys

from wherry.core.durable import write_file
from wherry.core.errors import WherryError
from wherry.linux.process import set_parent_death_signal
from wherry.linux.signals import SIGKILL
from wherry.runtime import container
from wherry.runtime.config import parse_config
from wherry.runtime.task import Stdio

ERROR_FILE = "error"
CONFIG_FILE = "config.json"
STATE_FOLDER = "state"
ROOT_FOLDER = "root"
FAILED = 125


def main() -> None:
    """Runs the bundle that is named by the last word; ends the process."""
    set_parent_death_signal(SIGKILL)
    bundle = sys.argv[-1]
    try:
        status = run(bundle)
    except WherryError as error:
        write_file(f"{bundle}/{ERROR_FILE}", str(error).encode())
        status = FAILED
    os._exit(status)


def run(bundle: str) -> int:
    """Runs a bundle's command; returns its exit status, or 128 and the number of the signal that ended it."""
    with open(f"{bundle}/{CONFIG_FILE}", "rb") as file:
        config = parse_config(file.read(), where=f"{bundle}/{CONFIG_FILE}")
    state = f"{bundle}/{STATE_FOLDER}"
    created = container.create(
        config.spec,
        container_id=f"build-{os.getpid()}",
        state_dir=state,
        rootfs=os.path.join(bundle, config.root_path),
        stdio=Stdio(stdin_fd=0, stdout_fd=1, stderr_fd=2),
        parent_death_signal=SIGKILL,
        new_keyring=False,
    )
    try:
        container.start(created)
        _, status = os.waitpid(created.pid, 0)
    finally:
        container.delete(state)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def clean(bundle: str) -> None:
    """Removes what a sandbox that was killed has left: processes, control groups, its state."""
    container.delete(f"{bundle}/{STATE_FOLDER}")
