"""Brings together how an app's files are found: ELF headers, a traced run, what the user adds or leaves out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from wherry.core.errors import Unsupported
from wherry.engine.pack import tracing
from wherry.engine.pack.needed import Collector, Needed
from wherry.engine.pack.tracing import Traced
from wherry.engine.pack.tree import Tree
from wherry.engine.spec import DEFAULT_PATH

TRACE_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What shall be packed."""

    words: tuple[str, ...]
    """The command and its arguments."""
    env: tuple[tuple[str, str], ...] = ()
    """The image's environment; its PATH finds the command."""
    add: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    everything: bool = False
    trace: bool | None = None
    """None: where it is possible."""
    trace_timeout_s: float = TRACE_TIMEOUT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What it comes to."""

    needed: Needed
    traced: Traced | None
    not_traced: str
    """Why there was no traced run; empty: there was one, or it was not wanted."""


def choose(tree: Tree, wish: Wish) -> Choice:
    """Finds the files of an app.

    Raises:
        CommandNotFound: the command is not in the tree.
        NotFound: what shall be added is not there.
        Unsupported: a traced run is asked for and not possible.
    """
    env = dict(wish.env)
    collector = Collector(tree)
    command = collector.command(wish.words[0], env.get("PATH", DEFAULT_PATH))
    if wish.everything:
        collector.add_all("/", "the whole tree")
    for pattern in wish.add:
        collector.add_pattern(pattern)
    traced = None
    why_not = ""
    if wish.trace is not False and not wish.everything:
        why_not = obstacle(collector.machine)
        if why_not and wish.trace:
            raise Unsupported(f"the command cannot be traced: {why_not}", where=command)
        if not why_not:
            traced = _trace(tree, collector, [command, *wish.words[1:]], env, wish.trace_timeout_s)
    collector.exclude(wish.exclude)
    return Choice(needed=collector.result(command), traced=traced, not_traced=why_not)


def obstacle(machine: str) -> str:
    """Tells why a command for a machine cannot be traced here; empty: it can."""
    here = os.uname().machine
    if machine not in ("", here) and (machine, here) != ("i686", "x86_64"):
        return f"it is for {machine}, and this machine is {here}"
    if os.geteuid() != 0:
        return "only root can"
    missing = [tool for tool in ("strace", "unshare", "chroot") if shutil.which(tool) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def _trace(tree: Tree, collector: Collector, command: Sequence[str], env: dict[str, str], timeout_s: float) -> Traced:
    traced = tracing.trace(tree, command, env={"PATH": DEFAULT_PATH, **env}, timeout_s=timeout_s)
    for path in traced.paths:
        collector.add(path, "opened in the traced run")
    return traced
