"""``--userns``, ``--uidmap``, ``--gidmap``, ``--subuidname``, ``--subgidname``: podman's words for user namespaces.

Budget: imported only when one of them is given.
"""

from __future__ import annotations

from wherry.core.errors import UsageError
from wherry.engine.idranges import AUTO_SIZE, parse_range, subordinate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_REFUSED = {
    "keep-id": "that maps the user who runs the command; root is in the container what the image says",
    "nomap": "that is for a user without ids to give away",
    "container": "a user namespace is a container's own",
    "ns": "a user namespace is a container's own",
}


def parse_user_namespace(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of ``Isolation`` that the flags mean.

    Raises:
        UsageError: a mode is unknown, or flags contradict each other.
        InvalidInput: not ranges of ids.
        NotFound: a name has no ids.
    """
    mode, _, options = given["userns"].partition(":")
    by_name = given["subuidname"] or given["subgidname"]
    by_hand = given["uidmap"] or given["gidmap"]
    if mode in _REFUSED:
        raise UsageError(f"--userns: {mode} is not there: {_REFUSED[mode]}", hint="use auto, host, or --uidmap")
    if mode not in ("", "host", "auto", "private"):
        raise UsageError(f"--userns: no mode {mode!r}", hint="use auto, host, or private with --uidmap")
    if by_name and by_hand:
        raise UsageError("--uidmap says what --subuidname does", hint="leave out one of them")
    if mode in ("host", "auto") and (by_name or by_hand):
        raise UsageError(f"--userns {mode} has no ranges of yours", hint="leave out --userns, or --uidmap and its like")
    if mode == "auto":
        return {"auto_ids": _auto(options)}
    if options:
        raise UsageError(f"--userns: {mode} has no options")
    if mode == "host":
        return {}
    if by_name:
        users = given["subuidname"] or given["subgidname"]
        groups = given["subgidname"] or given["subuidname"]
        return {"uids": subordinate(users, "/etc/subuid"), "gids": subordinate(groups, "/etc/subgid")}
    if not by_hand:
        raise UsageError("--userns private needs ranges", hint="give --uidmap 0:100000:65536, or use auto")
    uids = tuple(parse_range(text, "--uidmap") for text in given["uidmap"])
    gids = tuple(parse_range(text, "--gidmap") for text in given["gidmap"])
    return {"uids": uids or gids, "gids": gids or uids}


def _auto(options: str) -> int:
    size = AUTO_SIZE
    for option in options.split(",") if options else ():
        key, _, value = option.partition("=")
        if key != "size" or not value.isdecimal() or len(value) > 10 or not int(value):
            raise UsageError(f"--userns: auto has no option {option!r}", hint="use auto:size=N")
        size = int(value)
    return size
