"""The container engine of one root folder: every call finds its containers on disk.

Who calls needs no state of its own and may be killed at any time: a container that was started is kept by the
supervisor (``supervisor.py``), one in the foreground by the command itself (``foreground.py``), and one whose keeper
was killed is cleaned up by the next call that meets it. Calls of several processes at once are put in order by locks
(``state.py``). This module says who does what; how is said in the modules that it calls.
"""

from __future__ import annotations

import os
import time

from wherry.core import trace
from wherry.core.errors import Conflict, NotFound, WherryError
from wherry.engine import control, pausing, platforms, state
from wherry.engine.imagestore import ImageStore, image_store, look_up
from wherry.engine.info import ContainerInfo, all_match, describe
from wherry.engine.isolation import chosen
from wherry.engine.net.request import without_root
from wherry.engine.signals import SIGKILL
from wherry.engine.spec import ContainerSpec, check, check_cpus, resolve
from wherry.engine.state import Paths
from wherry.engine.telling import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from wherry.engine.logs import LogEntry
    from wherry.store.repository import Repository

_NAME_TRIES = 50


class Engine:
    """Containers below one folder.

    Args:
        root: holds ``containers/``, ``volumes/``, ``images/``; lives through reboots.
        run_root: for state that a reboot may clear; may be shared by engines.
        repo: where images come from; None serves containers with a root directory, and all that does not start one.
    """

    def __init__(self, root: Path | str, run_root: Path | str, repo: Repository | ImageStore | None) -> None:
        self.paths = Paths(root, run_root)
        self.store = image_store(repo)

    @property
    def repo(self) -> Repository | None:
        """The repository that images come from."""
        return None if self.store is None else self.store.repo

    # --- making and starting

    def create(self, spec: ContainerSpec, *, runs_here: bool = True) -> ContainerInfo:
        """Makes a container; starts nothing. Without `runs_here` its programs may be for another machine's kernel.

        Raises:
            InvalidInput: the request contradicts itself.
            NotFound: there is no such image.
            Conflict: the name is taken.
        """
        from wherry.engine.names import free_name

        spec = without_root(spec)
        check(spec)
        check_cpus(spec.resources, os.cpu_count() or 1)
        self.paths.make()
        settings, image, commit = look_up(self.paths, self.store, spec)
        platforms.check(settings.platform, spec.platform, image=image, runs_here=runs_here)
        with chosen(self.paths, spec) as spec:
            for _ in range(_NAME_TRIES):
                container_id = os.urandom(32).hex()
                config = resolve(
                    spec,
                    settings,
                    container_id=container_id,
                    name=spec.name or free_name(self.paths),
                    created_s=time.time(),
                    image=image,
                    commit=commit,
                )
                try:
                    state.add_container(self.paths, config)
                except Conflict:
                    if spec.name:
                        raise
                    continue  # somebody took the made-up name in between
                tell(self.paths, config, "create")
                trace.reach("engine.created")
                return describe(config, None, None)
        raise Conflict("no free name was found", hint="give one with --name")

    def start(self, container: str) -> bool:
        """Starts a container in the supervisor's care, and returns when its command runs.

        Args:
            container: id, beginning of one, or name.

        Returns:
            False when it ran already.

        Raises:
            Conflict: a port is in use.
            CommandNotFound: the image has no such command.
            WherryError: anything else that keeps it from running; nothing is left behind.
        """
        from wherry.engine.starting import make_ready

        container_id = state.find(self.paths, container)
        with state.container_lock(self.paths, container_id):
            ready = make_ready(self.paths, self.store, container_id)
            if ready is None:
                return False
            from wherry.engine.calling import ask_supervisor

            try:
                request = {"do": "start", "id": container_id, "store": ready.store}
                ask_supervisor(self.paths, request, ready.fds())
            finally:
                ready.close()
        return True

    def start_all_wanted(self) -> tuple[str, ...]:
        """Starts the containers that are to run after a boot: for an init system.

        Those of the policies ``always``, ``unless-stopped`` unless somebody stopped them, and ``on-failure`` when they
        did not end well or were cut short.

        Returns:
            The names of those that could not be started.
        """
        from wherry.engine.starting import start_all_wanted

        return start_all_wanted(self)

    def run_foreground(
        self,
        spec: ContainerSpec,
        *,
        stdin_fd: int | None = None,
        stdout_fd: int = 1,
        stderr_fd: int = 2,
        terminal_fd: int | None = None,
    ) -> int:
        """Makes and starts a container in this process, and carries its streams and signals until it has ended.

        The arguments are those of `start_attached`; it reads input only with ``stdin_open``.

        Returns:
            The container's exit status.

        Raises:
            Detached: the person left it running.
        """
        return self.start_attached(
            self.create(spec).id,
            stdin_fd=stdin_fd if spec.stdin_open else None,
            stdout_fd=stdout_fd,
            stderr_fd=stderr_fd,
            terminal_fd=terminal_fd if spec.tty else None,
        )

    def start_attached(
        self,
        container: str,
        *,
        stdin_fd: int | None,
        stdout_fd: int,
        stderr_fd: int,
        terminal_fd: int | None,
        detach_keys: bytes | None = None,
        preserved: tuple[int, ...] = (),
    ) -> int:
        """Starts a container that is there in this process and stays with it, as `run_foreground` does.

        Args:
            container: id, beginning of one, or name.
            stdin_fd: None gives it no input.
            stdout_fd: for its output.
            stderr_fd: for its errors.
            terminal_fd: the person's terminal, when the container has one.
            detach_keys: that leave it running; None: Ctrl-P Ctrl-Q.
            preserved: descriptors that become 3 and up in it; they are closed here.

        Raises:
            Conflict: it runs already.
        """
        from wherry.engine.foreground import run_in_foreground

        return run_in_foreground(
            self.paths,
            self.store,
            state.find(self.paths, container),
            stdin_fd=stdin_fd,
            stdout_fd=stdout_fd,
            stderr_fd=stderr_fd,
            terminal_fd=terminal_fd,
            detach_keys=detach_keys,
            preserved=preserved,
        )

    def attach(
        self,
        container: str,
        *,
        stdin_fd: int | None,
        stdout_fd: int = 1,
        stderr_fd: int = 2,
        terminal_fd: int | None = None,
        detach_keys: bytes | None = None,
        forward_signals: bool = True,
    ) -> int:
        """Stays with a container that runs already: its output from now on, input, signals, and its end.

        Arguments and errors are those of `start_attached`; with `forward_signals` this process's signals are the
        container's.
        """
        from wherry.engine.attach import attach

        info = self._running(container)
        return attach(
            self.paths,
            info.id,
            stdin_fd=stdin_fd,
            stdout_fd=stdout_fd,
            stderr_fd=stderr_fd,
            terminal_fd=terminal_fd,
            detach_keys=detach_keys,
            forward=(lambda number: self._pass_signal(info.id, number)) if forward_signals else None,
        )

    def _pass_signal(self, container_id: str, number: int) -> None:
        try:
            self.kill(container_id, number, wait=False)
        except WherryError:
            pass  # it is on its way out

    def exec(
        self,
        container: str,
        args: tuple[str, ...],
        *,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        working_dir: str | None = None,
        privileged: bool = False,
        tty: bool = False,
        stdin_fd: int | None = None,
        stdout_fd: int = 1,
        stderr_fd: int = 2,
        terminal_fd: int | None = None,
        detach_keys: bytes | None = None,
        preserved: tuple[int, ...] = (),
    ) -> int:
        """Runs a further command in a container that runs, and waits for its end.

        Args:
            container: id, beginning of one, or name.
            args: the command.
            env: more environment.
            user: ``USER[:GROUP]``; None takes the container's.
            working_dir: None takes the container's.
            privileged: with all capabilities.
            tty: with a terminal of its own.
            stdin_fd: its input; None gives it none.
            stdout_fd: its output.
            stderr_fd: its errors.
            terminal_fd: the person's terminal, with `tty`.
            detach_keys: that leave it running; None: Ctrl-P Ctrl-Q.
            preserved: descriptors that become 3 and up in it; they are closed here.

        Returns:
            The command's exit status.

        Raises:
            Detached: the person left it running.
            Conflict: the container does not run.
            CommandNotFound: there is no such command in it.
        """
        from wherry.engine.executing import execute

        return execute(
            self.paths,
            self._running(container),
            args,
            env=env or {},
            user=user,
            working_dir=working_dir,
            privileged=privileged,
            tty=tty,
            stdin_fd=stdin_fd,
            stdout_fd=stdout_fd,
            stderr_fd=stderr_fd,
            terminal_fd=terminal_fd,
            detach_keys=detach_keys,
            preserved=preserved,
        )

    def exec_detached(self, container: str, args: tuple[str, ...], **options: Any) -> None:
        """Runs a further command in a container, and comes back when it runs.

        Args:
            container: id, beginning of one, or name.
            args: the command.
            **options: as of `exec`, but for streams.
        """
        from wherry.engine.executing import execute_detached

        execute_detached(self.paths, self._running(container), args, **options)

    def _running(self, container: str) -> ContainerInfo:
        info = self.inspect(container)
        if info.status != "running":
            what, word = ("paused", "unpause") if info.status == "paused" else ("not running", "start")
            raise Conflict(f"container {info.name} is {what}", hint=f"`wherry {word} {info.name}` lets it run")
        return info

    # --- ending

    def stop(self, container: str, timeout_s: float | None = None) -> None:
        """Ends a container: its stop signal, and SIGKILL after the timeout; it is not restarted.

        Args:
            container: id, beginning of one, or name.
            timeout_s: None takes the container's own.

        Raises:
            Timeout: it did not end even so.
        """
        from wherry.engine.bundle import signal_number

        container_id = state.find(self.paths, container)
        config = state.read_config(self.paths, container_id)
        patience_s = float(config.spec.stop_timeout_s) if timeout_s is None else timeout_s
        control.ask_for_end(self.paths, container_id, signal_number(config.stop_signal), patience_s, event="stop")
        control.await_end(self.paths, container_id, patience_s + control.KILL_GRACE_S)

    def kill(self, container: str, signal_number: int = SIGKILL, *, wait: bool = True) -> None:
        """Sends a signal to a container's first process; SIGKILL and its stop signal keep it from being restarted.

        Args:
            container: id, beginning of one, or name.
            signal_number: which.
            wait: whether to wait for the end after SIGKILL.

        Raises:
            Conflict: it does not run.
        """
        container_id = state.find(self.paths, container)
        control.send_signal(self.paths, container_id, signal_number, wait=wait)

    def restart(self, container: str, timeout_s: float | None = None) -> None:
        """Stops a container if it runs, and starts it."""
        container_id = state.find(self.paths, container)
        self.stop(container_id, timeout_s)
        self.start(container_id)
        tell(self.paths, state.read_config(self.paths, container_id), "restart")

    def remove(self, container: str, force: bool = False) -> None:
        """Removes a container with all that it wrote, but for named volumes.

        Args:
            container: id, beginning of one, or name.
            force: kill it first if it runs.

        Raises:
            Conflict: it runs.
        """
        from wherry.engine.state import remove_container

        container_id = state.find(self.paths, container)
        config = state.read_config(self.paths, container_id)
        if state.is_kept(self.paths, container_id):
            if not force:
                raise Conflict(
                    f"container {config.name} is running", hint=f"stop it first, or use `wherry rm -f {config.name}`"
                )
            control.ask_for_end(self.paths, container_id, SIGKILL, None)
            control.await_end(self.paths, container_id, control.KILL_GRACE_S)
        with state.container_lock(self.paths, container_id):
            if state.is_kept(self.paths, container_id):
                raise Conflict(f"container {config.name} was started again meanwhile")
            control.recover_locked(self.paths, container_id)
            remove_container(self.paths, config)

    def wait(self, container: str, timeout_s: float | None = None) -> int:
        """Waits for a container's end.

        Returns:
            Its exit status; that of its last run when it does not run.

        Raises:
            Timeout: it still runs.
            Conflict: it never ran.
        """
        container_id = state.find(self.paths, container)
        config = state.read_config(self.paths, container_id)
        status = control.await_end(self.paths, container_id, timeout_s)
        if status is not None:
            return status
        self.recover(container_id)
        info = describe(config, None, state.read_last(self.paths, container_id))
        if info.exit_code is None:
            raise Conflict(f"container {config.name} was never started", hint=f"start it: `wherry start {config.name}`")
        return info.exit_code

    def recover(self, container_id: str) -> None:
        """Cleans up after a container whose keeper was killed; does nothing to one that is well or being started."""
        control.recover(self.paths, container_id)

    # --- looking

    def inspect(self, container: str) -> ContainerInfo:
        """Returns all about a container.

        Raises:
            NotFound: there is none.
        """
        container_id = state.find(self.paths, container)
        lives = state.is_kept(self.paths, container_id)
        if not lives:
            self.recover(container_id)
        config, last = state.read_config(self.paths, container_id), state.read_last(self.paths, container_id)
        run = state.read_run(self.paths, container_id) if lives else None
        return describe(config, run, last, paused=pausing.is_paused(self.paths, container_id))

    def list(self, all: bool = True, labels: Mapping[str, str] | None = None) -> tuple[ContainerInfo, ...]:  # noqa: A002 docker's word
        """Returns containers, the newest first.

        Args:
            all: those that do not run, too.
            labels: only those that have these labels, each with this value; "" takes any value.
        """
        found: list[ContainerInfo] = []
        for container_id in state.all_ids(self.paths):
            try:
                info = self.inspect(container_id)
                if control.removed_after_boot(self.paths, info):
                    continue
            except NotFound:
                continue  # removed while we looked
            if not all and info.status not in ("running", "paused", "restarting"):
                continue
            if all_match(info.labels, labels or {}):
                found.append(info)
        return tuple(sorted(found, key=lambda info: -info.created_s))

    def logs(
        self,
        container: str,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
    ) -> Iterator[LogEntry]:
        """Gives what a container printed, the oldest first.

        Args:
            container: id, beginning of one, or name.
            follow: wait for more until it ends.
            tail: only that many of the last lines.
            since: only what is newer, in seconds since 1970.

        Raises:
            Unsupported: its log driver keeps nothing.
        """
        from wherry.engine.following import read_logs_of

        container_id = state.find(self.paths, container)
        return read_logs_of(self.paths, container_id, follow=follow, tail=tail, since_s=since)

    # --- images and volumes

    def gc_images(self, keep: Iterable[str] = ()) -> tuple[str, ...]:
        """Removes what is mounted of images that no container uses; see ``rootfs.remove_unused_images``."""
        from wherry.engine.rootfs import remove_unused_images

        self.paths.make()
        return remove_unused_images(self.paths, keep)

    def list_volumes(self) -> tuple[str, ...]:
        """Returns the names of all volumes."""
        from wherry.engine.volumes import list_volumes

        return list_volumes(self.paths)

    def remove_volume(self, name: str) -> None:
        """Removes a volume and what is in it.

        Raises:
            NotFound: there is none of that name.
            Conflict: a container uses it.
        """
        from wherry.engine.volumes import remove_volume

        remove_volume(self.paths, name)
