"""The entry point: finds the command, imports only what it needs, and maps every error to an exit code.

Called by the name ``ostree`` (a symbolic link is enough) it is ``wherry store``, for scripts that were written for it;
by the name ``wherry-runc``, ``wherry runtime``, for engines that want a runtime.

Budget: ``wherry --version`` imports nothing beyond the interpreter; ``wherry --help`` imports click alone. The launcher
(``bin/wherry``) starts an interpreter that does not look for packages; `find_packages` does, before anything needs one.
"""

from __future__ import annotations

import gc
import os
import sys

PROGRAM = "wherry"
STORE_ALIAS = "ostree"
RUNTIME_ALIAS = "wherry-runc"


def main() -> None:
    """Runs the command line of this process and exits with its status."""
    open_standard_streams()
    if sys.argv[1:2] == ["runtime"] or sys.argv[0].rpartition("/")[2] == RUNTIME_ALIAS:
        from wherry.cli.runtime import main_runtime

        main_runtime(alias=sys.argv[1:2] != ["runtime"])
    alias = sys.argv[0].rpartition("/")[2] == STORE_ALIAS
    if "rev-parse" in sys.argv and (alias or sys.argv[1] == "store"):
        from wherry.cli.quick import run_quickly

        if run_quickly(sys.argv[1 if alias else 2 :]):
            return
    if alias:
        find_packages()
        from wherry.cli.root import run

        sys.exit(run([STORE_ALIAS, *sys.argv[1:]], program=""))
    if "run" in sys.argv or "exec" in sys.argv:
        from wherry.cli import quick_container

        status = quick_container.run_quickly(sys.argv[1:])
        if status is not None:
            quick_container.leave(status)
    if sys.argv[1:] in (["--version"], ["-V"]):
        from wherry.version import __version__

        print(f"{PROGRAM} {__version__}")
        return
    find_packages()
    from wherry.cli.root import run

    sys.exit(run(sys.argv[1:]))


def open_standard_streams() -> None:
    """Has standard input, output and errors be something where the caller closed them (``<&- >&-``).

    What is opened next would take the place of one of them otherwise: a lock, or a container's pipe.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            try:
                os.fstat(fd)
            except OSError:
                os.set_inheritable(os.open("/dev/null", os.O_RDWR), True)
            setattr(sys, name, open(fd, "w" if fd else "r", closefd=False))  # noqa: SIM115 as long as the process


def find_packages() -> None:
    """Has an interpreter that was started bare (``-S``) look for packages, as others have done when they started."""
    if not gc.isenabled():
        gc.enable()
    if sys.flags.no_site and "site" not in sys.modules:
        import site

        site.main()
