"""Where the engine's folders are unless they are named: the machine's for root, a user's own for everybody else.

Source: XDG Base Directory Specification 0.8. Budget: on the way of every ``wherry run``; imports nothing.
"""

from __future__ import annotations

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


def _home(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"
