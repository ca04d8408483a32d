"""Where the engine's folders are unless they are named: the machine's for root, a user's own for everybody else.

Source: XDG Base Directory Specification 0.8. Budget: on the way of every ``wherry run``; as root it imports nothing.
"""

from __future__ import annotations

import os
import sys

ROOT, RUN_ROOT = "/var/lib/wherry", "/run/wherry"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def default_root(environment: Mapping[str, str], uid: int) -> str:
    """Returns where images and containers live."""
    if uid == 0:
        return ROOT
    data = environment.get("XDG_DATA_HOME", "")
    if not data.startswith("/"):
        data = f"{environment.get('HOME') or _home(uid)}/.local/share"
    return f"{data}/wherry"


def default_run_root(environment: Mapping[str, str], uid: int) -> str:
    """Returns where state lives that a reboot may clear; `engine.home.check_private` looks whose it is."""
    if uid == 0:
        return RUN_ROOT
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    return f"{runtime}/wherry" if runtime.startswith("/") else f"/tmp/wherry-{uid}"  # noqa: S108 checked


def enter_home(root: str, run_root: str) -> None:
    """Makes somebody without root the root of a user namespace of their own; root stays as it is.

    This process begins anew there: the kernel counts its memory to the namespace that it was executed in, and lets
    nobody in another look at a child that is made of it.

    Args:
        root: of the engine.
        run_root: the same.
    """
    if os.geteuid() == 0:
        return
    from wherry.engine import home
    from wherry.engine.state import Paths

    home.check_private(run_root)
    home.enter(Paths(root, run_root))
    os.environ.update(WHERRY_ROOT=root, WHERRY_RUN_ROOT=run_root)
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 this command itself


def _home(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"
