"""``wherry runtime``: create, start, run, kill and delete."""

from __future__ import annotations

import errno
import os

from wherry.cli.runtime_folder import CONFIG_COPY, known
from wherry.cli.runtime_process import (
    Console,
    Signals,
    check_terminal,
    preserved_fds,
    send_console,
    standard_fds,
    wait_for,
    write_pid_file,
)
from wherry.core.errors import Conflict, InvalidInput, NotFound, WherryError
from wherry.core.value import replace
from wherry.linux.signals import SIGKILL, SIGTERM, number_of
from wherry.runtime import container, hooks
from wherry.runtime.config import parse_config, root_path_of
from wherry.runtime.config_process import MAX_CONFIG_BYTES
from wherry.runtime.create import unlink
from wherry.runtime.state import FILE, Status, load_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.arguments import Arguments
    from wherry.cli.runtime import Context
    from wherry.cli.runtime_notify import Notify
    from wherry.runtime.container import Created
    from wherry.runtime.spec import Process


def create_command(context: Context, found: Arguments) -> int:
    """Makes a container that waits for `start`."""
    created = _create(context, found, detached=True)
    created.end.close()
    return 0


def start_command(context: Context, found: Arguments) -> int:
    """Starts a container that waits for it."""
    hooks.inherit(os.environ)
    directory = context.directory(found.rest[0])
    notify = _notify(directory, context)
    container.start_detached(directory, warn=context.warn)
    if notify is not None:
        from wherry.cli.runtime_notify import wait_detached

        wait_detached(notify, directory)
        notify.close()
    return 0


def run_command(context: Context, found: Arguments) -> int:
    """Makes and starts a container, and stays until its end."""
    detach = found.flag("detach")
    if not detach and not found.flag("no-subreaper"):
        from wherry.linux.process import set_child_subreaper

        set_child_subreaper()
    kept = None if detach else Signals()
    created = _create(context, found, detached=False)
    directory = created.state_dir
    console: Console | None = None
    notify: Notify | None = None
    try:
        if created.console_fd is not None:
            console = Console(created.console_fd)
        notify = _notify(directory, context)
        container.start(created, warn=context.warn)
    except BaseException:
        if console is not None:
            console.close()
        _kill_and_reap(created.pid)
        _remove(directory, context)
        raise
    if kept is None:
        if notify is not None:
            notify.wait(created.pid, created.pidfd)
        return 0
    try:
        status = wait_for(created.pid, created.pidfd, console, kept, notify)
    finally:
        if console is not None:
            console.close()
    if not found.flag("keep"):
        _remove(directory, context, created)
    return status


def _create(context: Context, found: Arguments, *, detached: bool) -> Created:
    container_id = found.rest[0]
    preserved, listening = preserved_fds(found, context.warn)
    directory = context.directory(container_id)
    bundle = os.path.realpath(found.text("bundle", "."))
    config_path = os.path.join(bundle, found.text("config", "config.json"))
    data = _read(config_path)
    config = parse_config(data, where=config_path, warn=context.warn)
    spec = replace(config.spec, process=_with_listeners(config.spec.process, listening))
    socket = found.text("console-socket")
    check_terminal(spec.process, socket, detached=detached or found.flag("detach"))
    rootfs = root_path_of(config, bundle)
    if not os.path.isdir(rootfs):
        raise NotFound("root.path: there is no such directory", where=rootfs)
    hooks.inherit(os.environ)
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        from wherry.cli.runtime_notify import with_notify

        spec = with_notify(spec, address, directory, context.warn)
    try:
        created = container.create(
            spec,
            container_id=container_id,
            state_dir=directory,
            rootfs=os.path.realpath(rootfs),
            stdio=None if spec.process.terminal else standard_fds(),
            bundle=bundle,
            detached=detached,
            preserved=preserved,
            cgroups=_wants_cgroups(context),
            new_keyring=not found.flag("no-new-keyring"),
            pivot=not found.flag("no-pivot"),
            warn=context.warn,
        )
    except Conflict:
        raise  # the directory is another container's
    except BaseException:
        if address:
            _remove_directory(directory)
        raise
    try:
        _write(f"{directory}/{CONFIG_COPY}", data)
        if socket and created.console_fd is not None:
            send_console(socket, created.console_fd)
            created.console_fd = None
        if found.given("pid-file"):
            write_pid_file(found.text("pid-file"), created.pid)
    except BaseException:
        container.abandon(created)
        _remove(directory, context)
        raise
    return created


def _notify(directory: str, context: Context) -> Notify | None:
    """Returns what waits for a container's word that it is ready, if a service manager does."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return None
    from wherry.cli.runtime_notify import listening

    return listening(address, directory, context.warn)


def _wants_cgroups(context: Context) -> bool:
    return os.geteuid() == 0 if context.cgroups is None else context.cgroups


def _with_listeners(process: Process, listening: int) -> Process:
    """Returns the process with what socket activation tells it: sd_listen_fds(3)."""
    if not listening:
        return process
    names = os.environ.get("LISTEN_FDNAMES")
    more = (f"LISTEN_FDS={listening}", "LISTEN_PID=1", *((f"LISTEN_FDNAMES={names}",) if names else ()))
    return replace(process, env=(*process.env, *more))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        raise NotFound("there is no configuration", where=path, hint="make one with `spec`") from None


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def _kill_and_reap(pid: int) -> None:
    try:
        os.kill(pid, SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def kill_command(context: Context, found: Arguments) -> int:
    """Sends a signal to a container."""
    number = number_of(found.rest[1]) if len(found.rest) > 1 else SIGTERM
    for name in _named(context, found):
        _kill(context.directory(name), number, everything=found.flag("all"))
    return 0


def _kill(directory: str, number: int, *, everything: bool) -> None:
    from wherry.linux.namespaces import CLONE_NEWPID

    state = load_state(directory)
    shared = not state.namespaces & CLONE_NEWPID
    if everything or (shared and number == SIGKILL):
        # Without a pid namespace of its own nothing else ends what the first process leaves behind.
        pids = state.cgroup.pids()
        if number == SIGKILL and state.cgroup.groups:
            state.cgroup.kill()
        else:
            for pid in pids or ({state.pid} if state.status != Status.STOPPED else ()):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
        if everything or state.status == Status.STOPPED:
            return
    if state.status == Status.STOPPED:
        raise Conflict("the container is not running", where=state.container_id)
    container.kill(directory, number)


def delete_command(context: Context, found: Arguments) -> int:
    """Removes a container."""
    force = found.flag("force")
    for name in _named(context, found):
        directory = context.directory(name)
        try:
            state = load_state(directory)
        except NotFound:
            _remove_directory(directory)
            if force:
                continue
            raise
        if state.status != Status.STOPPED and not force:
            raise Conflict(
                f"cannot delete a container that is {state.status}", where=name, hint="stop it first, or use --force"
            )
        _remove(directory, context)
    return 0


def _named(context: Context, found: Arguments) -> list[str]:
    """Returns the containers that the first argument means."""
    word = found.rest[0]
    if not found.flag("regex"):
        return [word]
    import re

    try:
        pattern = re.compile(word)
    except re.error as error:
        raise InvalidInput(f"not a regular expression: {error}", where=word) from None
    return [name for name in known(context.root) if pattern.search(name)]


def _remove(directory: str, context: Context, ended: Created | None = None) -> None:
    try:
        hooks.inherit(os.environ)
        known = None if ended is None or not os.path.lexists(f"{directory}/{FILE}") else container.ended_state(ended)
        container.delete(directory, known=known, warn=context.warn)
    finally:
        _remove_directory(directory)


def _remove_directory(directory: str) -> None:
    try:
        if not os.path.lexists(f"{directory}/{FILE}"):
            unlink(f"{directory}/{CONFIG_COPY}")
            try:
                os.rmdir(directory)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                from wherry.cli.runtime_notify import forget

                forget(directory)
                os.rmdir(directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise WherryError(f"cannot remove the state directory: {error.strerror}", where=directory) from None
