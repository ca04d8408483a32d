"""What ``run``, ``create`` and ``exec`` do with their flags, however those were read.

Budget: on the way of every ``wherry run``; no click, and nothing that the engine does not need.
"""

from __future__ import annotations

import os
import sys

from wherry.cli.places import enter_home
from wherry.core.durable import map_os_error
from wherry.core.errors import Conflict, NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.engine.engine import Engine


def open_engine(root: str, run_root: str, *, with_store: bool = False) -> Engine:
    """Returns the engine of a root folder.

    Args:
        root: this machine's images and containers.
        run_root: what a reboot may clear.
        with_store: whether images are needed.
    """
    enter_home(root, run_root)
    from wherry.engine.engine import Engine
    from wherry.engine.imagestore import ImageStore

    store = None
    # else: told when an image is asked for; a container with a root directory needs no store
    if with_store and os.path.exists(f"{root}/store/config"):
        store = ImageStore(f"{root}/store")
    return Engine(root, run_root, store)


def create_container(engine: Engine, given: dict[str, Any], *, runs_here: bool = True) -> str:
    """Makes a container, and returns its id.

    Args:
        engine: with the store.
        given: the flags by their keys (``container_flags``), and ``image`` and ``command``.
        runs_here: see ``Engine.create``.
    """
    from wherry.cli import container_spec
    from wherry.spec.container import MountType

    policy = container_spec.check_pull(given["pull"])
    spec = container_spec.build(given, os.environ, cwd=working_directory())
    if given["secret"]:
        from wherry.cli.container_secrets import with_secrets

        spec = with_secrets(engine.paths, spec, given["secret"])
    if given["volumes_from"]:
        from wherry.engine.inheriting import with_volumes_from

        spec = with_volumes_from(engine.paths, spec, given["volumes_from"])
    cidfile = given["cidfile"]
    if cidfile and os.path.exists(cidfile):
        raise Conflict("the file for the container's id is there already", where=cidfile, hint="remove it first")
    for mount in spec.mounts[: len(given["volume"])]:
        if mount.type == MountType.BIND:
            make_source(mount.source)
    if policy == "always" and spec.image:
        from wherry.cli.container_pull import pull_anew

        pull_anew(engine, spec)
    try:
        info = engine.create(spec, runs_here=runs_here)
    except NotFound as error:
        if policy == "never" or not spec.image:
            raise
        from wherry.cli.container_pull import pull_missing

        pull_missing(engine, spec, error)
        info = engine.create(spec, runs_here=runs_here)
    if cidfile:
        with open(cidfile, "w", encoding="ascii") as file:
            file.write(info.id)
    return info.id


def working_directory() -> str:
    """Returns where relative paths begin; "/" when the directory that this was called in is gone."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def make_source(path: str) -> None:
    """Makes the directory of a ``-v`` that is not there, as docker does."""
    if not os.path.exists(path):
        try:
            os.makedirs(path)
        except OSError as error:
            raise map_os_error(error, "cannot make the source of a mount", where=path) from error


def run_container(engine: Engine, given: dict[str, Any]) -> int:
    """Makes a container and starts it; stays with it unless it is to run by itself.

    Returns:
        The command's exit status.
    """
    if given.get("machine") or given.get("kernel"):
        from wherry.cli.container_machine import run_in_machine

        return run_in_machine(engine, given)
    from wherry.cli import container_options

    streams = container_options.parse_attach(given["attach"])
    if streams and given["detach"]:
        raise UsageError("-d and -a are two ways", hint="leave out one of them")
    preserved: tuple[int, ...] = ()
    if given["preserve_fds"]:
        from wherry.cli.container_descriptors import check_once, preserved_fds

        check_once(detached=given["detach"], restart=given["restart"])
        preserved = preserved_fds(given["preserve_fds"])
    keys = _keys(given["detach_keys"])
    container_id = create_container(engine, given)
    if given["detach"]:
        engine.start(container_id)
        print(container_id)
        return 0
    return start_attached(
        engine,
        container_id,
        interactive=given["interactive"],
        tty=given["tty"],
        streams=streams,
        keys=keys,
        preserved=preserved,
    )


def _keys(text: str) -> bytes | None:
    if not text:
        return None
    from wherry.engine.person import parse_detach_keys

    return parse_detach_keys(text)


def start_attached(
    engine: Engine,
    container_id: str,
    *,
    interactive: bool,
    tty: bool,
    streams: frozenset[str] = frozenset(),
    keys: bytes | None = None,
    preserved: tuple[int, ...] = (),
) -> int:
    """Starts a container in this process and stays with it.

    Args:
        engine: with the store.
        container_id: the container.
        interactive: whether it gets this process's standard input.
        tty: whether it has a terminal.
        streams: of ``stdout`` and ``stderr``, those that are shown; all when there are none.
        keys: that leave it running; None: Ctrl-P Ctrl-Q.
        preserved: descriptors that become 3 and up in it.

    Returns:
        The command's exit status.
    """
    from wherry.engine.person import Detached

    sys.stdout.flush()
    null_fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC) if streams else -1
    try:
        return engine.start_attached(
            container_id,
            stdin_fd=0 if interactive else None,
            stdout_fd=1 if not streams or "stdout" in streams else null_fd,
            stderr_fd=2 if not streams or "stderr" in streams else null_fd,
            terminal_fd=terminal_fd() if tty else None,
            detach_keys=keys,
            preserved=preserved,
        )
    except Detached:
        print(f"\r\nleft {container_id[:12]} running", file=sys.stderr)
        return 0


def execute(engine: Engine, container: str, command: tuple[str, ...], given: dict[str, Any]) -> int:
    """Runs a further command in a container; returns its exit status."""
    from wherry.cli.container_options import parse_env

    options: dict[str, Any] = {
        "env": parse_env(given["env"], given["env_file"], os.environ),
        "user": given["user"] or None,
        "working_dir": given["workdir"] or None,
        "privileged": given["privileged"],
        "tty": given["tty"],
    }
    if given["preserve_fds"]:
        from wherry.cli.container_descriptors import preserved_fds

        options["preserved"] = preserved_fds(given["preserve_fds"])
    keys = _keys(given["detach_keys"])
    if given["detach"]:
        engine.exec_detached(container, command, **options)
        return 0
    from wherry.engine.person import Detached

    sys.stdout.flush()
    try:
        return engine.exec(
            container,
            command,
            stdin_fd=0 if given["interactive"] else None,
            terminal_fd=terminal_fd() if given["tty"] else None,
            detach_keys=keys,
            **options,
        )
    except Detached:
        print(f"\r\nleft {command[0]} running in {container}", file=sys.stderr)
        return 0


def terminal_fd() -> int | None:
    """Returns the descriptor of the person's terminal, or None without one."""
    return next((fd for fd in (0, 1, 2) if os.isatty(fd)), None)
