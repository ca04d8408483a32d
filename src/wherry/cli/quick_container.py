"""``wherry run`` and ``wherry exec`` without click, where the command line is plain: a third of a start is its imports.

Whatever is not plainly right is left to click, which reads the same table of flags.
"""

from __future__ import annotations

import os
import sys

from wherry.cli.container_flags import EXEC_FLAGS, RUN_FLAGS, Flag
from wherry.cli.container_work import execute, open_engine, run_container
from wherry.cli.failing import failing_as_docker, status_of
from wherry.cli.places import default_root, default_run_root
from wherry.cli.quick_flags import parse
from wherry.core import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

GLOBAL_FLAGS = (
    Flag(names=("--debug",)),
    Flag(names=("-q", "--quiet")),
    Flag(names=("--root",), metavar="DIR"),
    Flag(names=("--run-root",), metavar="DIR"),
)
"""Those of the root command (``root.cli``), with their variables and the places of ``places.py``."""
_COMPLETION = "_WHERRY_COMPLETE"


def run_quickly(words: Sequence[str]) -> int | None:
    """Runs ``run`` or ``exec`` when that is what the command line plainly says.

    Args:
        words: behind the program's name.

    Returns:
        The exit status; None when nothing was done.
    """
    if _COMPLETION in os.environ or not any(word in ("run", "exec") for word in words[:8]):
        return None
    read = parse(GLOBAL_FLAGS, words)
    if read is None:
        return None
    settings, rest = read
    if rest[:1] == ["container"]:
        del rest[0]
    if not rest or rest[0] not in ("run", "exec"):
        return None
    read = parse(RUN_FLAGS if rest[0] == "run" else EXEC_FLAGS, rest[1:])
    if read is None:
        return None
    given, operands = read
    if len(operands) < (1 if rest[0] == "run" else 2):
        return None
    debug = settings["debug"]
    uid, known = os.geteuid(), os.environ
    root = os.path.abspath(settings["root"] or known.get("WHERRY_ROOT") or default_root(known, uid))
    run_root = os.path.abspath(settings["run_root"] or known.get("WHERRY_RUN_ROOT") or default_run_root(known, uid))
    if os.environ.get("WHERRY_TRACE"):
        trace.arm_by_text(os.environ["WHERRY_TRACE"])

    def work() -> int:
        if rest[0] == "exec":
            return execute(open_engine(root, run_root), operands[0], tuple(operands[1:]), given)
        wanted = {**given, "image": operands[0], "command": tuple(operands[1:])}
        return run_container(open_engine(root, run_root, with_store=True), wanted)

    return status_of(lambda: failing_as_docker(work, debug=debug), debug=debug)


def leave(status: int) -> NoReturn:
    """Ends this process at once, its output written: taking an interpreter down takes as long as a container's end."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        if warm := sys.modules.get("wherry.warm"):
            warm.keep_all()
    finally:
        os._exit(status)
