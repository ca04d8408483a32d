"""The life of one container, from its first process to the last trace of it, as an object on an event loop.

::

                     ┌──────────────── restart policy says so, after a delay ───────────────┐
                     ▼                                                                      │
    start ──▶ create ──▶ plug network ──▶ tell it to start ──▶ output, health, wait ──▶ end ─┴──▶ settle ──▶ over

The same object serves a command in the foreground, in that command's own process, and every detached container in
the one supervisor. It waits for nothing but the few milliseconds of `create` and `start`, and for one worker process
at its end (`detached`). What was prepared for it (``prepare.py``) was so by the command.

Where a supervisor can be killed, another must find enough to go on: what is so is in ``run.json`` before it matters,
descriptors are held by the keeper too (`Keep`), output goes through the limbo. `take_on` begins where another stopped.
"""

from __future__ import annotations

import os
import time

from wherry.core import trace
from wherry.core.errors import NoSpace, WherryError
from wherry.core.value import replace
from wherry.engine import bundle, ended, joining, prepare
from wherry.engine.ending import Outcome, exit_code_of, not_started, settle, settle_in_child
from wherry.engine.flow import Flow
from wherry.engine.logwriter import LogWriter
from wherry.engine.loop import GONE, Timers
from wherry.engine.net.records import Joined
from wherry.engine.plugging import Plugged
from wherry.engine.records import LastRun, RunState
from wherry.engine.restart import Backoff, wants_restart
from wherry.engine.rootfs import root_of
from wherry.engine.signals import SIGKILL
from wherry.engine.spec import ContainerConfig
from wherry.engine.specification import further_process, specification
from wherry.engine.state import Paths, read_config, read_stop, write_last, write_run
from wherry.engine.streams import Streams, stdio_of
from wherry.engine.telling import tell
from wherry.engine.unfinished import Unfinished
from wherry.linux import packets, process
from wherry.runtime import container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from wherry.engine.health import Health
    from wherry.engine.keep import Keep
    from wherry.engine.limbo import Limbo
    from wherry.engine.loop import Loop
    from wherry.engine.watching import Watch
    from wherry.runtime.state import State

DRAIN_S = 2.0
"""How long output is still read after the container's end, should something outside hold its streams open."""
REAPED_S = 5.0
EXIT_UNKNOWN = 255


class Life:
    """The life of one container.

    Args:
        loop: what it waits on.
        paths: of the engine root.
        config: the container's.
        store: the folder of its image's store, or "".
        lock_fd: holds the container's ``life.lock``; this object's from now on.
        port_fds: hold its published ports; this object's from now on.
        keep: who else holds them.
        limbo: how output is taken where this process may be killed and the container lives on; None reads it.
        detached: whether it is one of several in a supervisor.
        parent_death_signal: see ``container.create``.
        over: called when nothing is left to do.
    """

    def __init__(
        self,
        loop: Loop,
        paths: Paths,
        config: ContainerConfig,
        *,
        store: str,
        lock_fd: int,
        port_fds: tuple[int, ...] = (),
        keep: Keep,
        limbo: Limbo | None,
        detached: bool,
        parent_death_signal: int = 0,
        over: Callable[[Life], None],
    ) -> None:
        self._loop, self._paths, self.config = loop, paths, config
        self._lock_fd, self._port_fds = lock_fd, port_fds
        self._keep, self._detached = keep, detached
        self._death_signal, self._over = parent_death_signal, over
        self.state = RunState(status="starting", supervisor_pid=os.getpid(), foreground=not detached, store=store)
        self.failure: WherryError | None = None
        self.started = False  # whether the first start is done, so that whoever asked for it can be told
        self.is_over = False
        self.preserved: tuple[int, ...] = ()  # descriptors that become 3 and up in its next first process
        self._last = LastRun()
        self._wish: dict[str, Any] | None = None
        self._told: dict[str, Any] | None = None  # the wish that this run of the container was told of
        self._first, self._began_s = True, 0.0
        self._pid = self._pidfd = -1
        self._exit_status: int | None = None
        self._prepared: prepare.Prepared | None = None
        self._created: container.Created | None = None
        self._watch: Watch | None = None
        self._backoff, self._timers, self._network = Backoff(), Timers(loop), Plugged(paths, keep)
        self._run_dir = paths.run_dir(config.id)
        self._log = LogWriter(f"{paths.container(config.id)}/log", config.spec.log)
        self.flow = Flow(
            loop,
            config.id,
            log=self._log,
            unfinished=Unfinished(self._run_dir),
            limbo=limbo,
            keep=keep,
            drained=self._on_drained,
        )
        self._state_dir = bundle.runtime_dir(paths, config.id)

    def start(self, prepared: prepare.Prepared | None = None) -> None:
        """Starts the container; how that went is in `started` and `failure`, the latter once the life is over."""
        self._prepared = prepared
        self._keep.hold(self._own_fds())
        self._begin()

    def _own_fds(self) -> dict[str, int]:
        ports = {f"port{index}": fd for index, fd in enumerate(self._port_fds)}
        return self._named({"lock": self._lock_fd, **ports})

    def held(self) -> dict[str, int]:
        """Returns all descriptors that the container hangs on, by the names of the keeper."""
        fds = {} if self.flow.streams is None else self.flow.streams.held()
        pidfd = {"pidfd": self._pidfd} if self._pidfd >= 0 else {}
        return {**self._own_fds(), **self._named({**fds, **pidfd, **self._network.held()})}

    def _named(self, fds: Mapping[str, int]) -> dict[str, int]:
        return {f"{self.config.id}/{name}": fd for name, fd in fds.items()}

    def _begin(self) -> None:
        """Starts the container, the first time or again."""
        self._began_s = time.monotonic()
        try:
            self._create()
        except WherryError as error:
            self._end_run()
            if self._first:
                self._fail(error)
            else:
                self._write(error=str(error))
                self._decide(exit_code_of(error))

    def _create(self) -> None:
        config = self.config
        self._prepared = self._prepared or prepare.standing(self._paths, config)
        self.state = replace(self.state, ports=self._prepared.joined.ports)
        streams = self.flow.streams = Streams(tty=config.spec.tty, stdin_open=config.spec.stdin_open)
        created = container.create(
            specification(self._paths, config, self._prepared),
            container_id=config.id,
            state_dir=self._state_dir,
            rootfs=f"{self._paths.container(config.id)}/rootfs",
            stdio=stdio_of(streams.child),
            mount_root=root_of(self._paths, self.state.store, config),
            parent_death_signal=self._death_signal,
            preserved=self.preserved,
        )
        streams.close_child_side()
        if created.console_fd is not None:
            streams.take_terminal(created.console_fd)
        self._pid, self._pidfd = created.pid, created.pidfd
        self._keep.remember(created.pid)
        self._keep.hold(self._named({**streams.held(), "pidfd": created.pidfd, "channel": created.end.fileno()}))
        trace.reach("engine.life.created")
        self._network.plug(config, created.pid, self.state.ports)
        joining.settle(config, created.pid)
        if self._detached:
            self._write(status="plugged", pid=created.pid)
        trace.reach("engine.life.plugged")
        self._tell_to_start(created)

    def _tell_to_start(self, created: container.Created, *, again: bool = False) -> None:
        container.start(created, again=again)
        trace.reach("engine.life.started")
        self._created = None if self._detached else created  # a supervisor has many, for a long time
        check = self.config.healthcheck
        joined = self._prepared.joined if self._prepared is not None else Joined()
        now_s = time.time()
        self._last = LastRun(started_s=now_s, restarts=self.state.restarts)
        self._write(
            status="running",
            pid=created.pid,
            started_s=now_s,
            health="starting" if check else "",
            ip=joined.ip,
            ports=joined.ports,
            failing_streak=0,
            probes=(),
            error="",
            exit_code=None,
        )
        self._keep.drop(f"{self.config.id}/channel")
        trace.reach("engine.life.running")
        try:
            write_last(self._paths, self.config.id, self._last, durably=False)
        except NoSpace as error:
            self._note(f"{error}\n")  # it runs; how it ends may not be remembered
        self._tell("start")
        self._first, self.started = False, True
        self._serve()

    def _serve(self, before: RunState | None = None) -> None:
        """Waits for what a running container does."""
        self._exit_status = None
        self._told = None
        self._loop.watch(self._pidfd, self._on_exit)
        self.flow.let_output_flow()
        check = self.config.healthcheck
        if check is not None:
            from wherry.engine.watching import Watch  # seldom wanted

            self._watch = Watch(self._loop, check, self._run_dir, start=self._exec, tell=self._on_health, before=before)
        self.look()

    def _fail(self, error: WherryError) -> None:
        """Ends a life that did not begin."""
        self.failure = error
        self.state = replace(self.state, error=str(error))
        self._last = not_started(self._paths, self.config, error)
        self._finish()

    # --- going on where another process stopped

    def take_on(self, run: RunState, held: Mapping[str, int]) -> None:
        """Goes on with a container that another process kept.

        Args:
            run: what that process said last.
            held: by name, what the container hangs on: ``pidfd``, ``stdout`` ...
        """
        self.state = replace(run, supervisor_pid=os.getpid(), foreground=not self._detached)
        self._last = LastRun(started_s=run.started_s, restarts=run.restarts)
        self.flow.settle()
        if run.status == "ending":
            self.started = bool(run.started_s)
            known = {"exit_code": run.exit_code, "oom_killed": run.oom_killed, "error": run.error}
            self._last = replace(self._last, finished_s=time.time(), **known)
            self._finish()
            return
        if run.status == "restarting":
            self._first = False
            self.started = True
            container.delete(self._state_dir)
            self._wait_and_restart()
            return
        self._pidfd = held.get("pidfd", -1)
        self._network.take_on(held)
        self._pid = run.pid or (process.pidfd_pid(self._pidfd) if self._pidfd >= 0 else -1)
        self.flow.streams = Streams.taken_on(held, stdin_open=self.config.spec.stdin_open)
        if run.status == "running" and self._pidfd >= 0:
            self._first, self.started = False, True
            self._began_s = time.monotonic()
            self._write()
            self._serve(run)
            return
        self._take_on_start(run, held)

    def _take_on_start(self, run: RunState, held: Mapping[str, int]) -> None:
        """Goes on with a start that was not finished; the command may run by now, and is not run twice."""
        self._began_s = time.monotonic()
        self._first = not run.restarts
        try:
            if self._pidfd < 0 or "channel" not in held:
                self._end_run()
                self._begin()
                return
            self._prepared = prepare.standing(self._paths, self.config)
            created = container.Created(
                self._pid, self._pidfd, None, os.fspath(self._state_dir), packets.from_fd(held["channel"])
            )
            if run.status == "starting":
                self._network.plug(self.config, self._pid, self.state.ports)
                joining.settle(self.config, self._pid)
                self._write(status="plugged", pid=self._pid)
            self._tell_to_start(created, again=True)
        except WherryError as error:
            self._end_run()
            if self._first:
                self._fail(error)
            else:
                self._decide(exit_code_of(error))

    def hand_over(self) -> dict[str, int]:
        """Lets go of a running container without ending it; returns what it hangs on, for another to take it on."""
        self.flow.leave()
        self._stop_waiting()
        return self.held()

    def close_handed_over(self) -> None:
        """Closes our share of what was handed over."""
        for fd in self.held().values():
            os.close(fd)
        self.is_over = True

    def _stop_waiting(self) -> None:
        self._timers.cancel_all()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self.flow.stop()
        if self._pidfd >= 0:
            self._loop.forget(self._pidfd)

    def _exec(self, argv: tuple[str, ...], fds: tuple[int, int, int]) -> tuple[int, int]:
        """Runs a command of the health check."""
        from wherry.runtime.execute import exec_process

        executed = exec_process(self._state_dir, further_process(self._paths, self.config, argv), stdio=stdio_of(fds))
        return executed.pid, executed.pidfd

    def _on_health(self, health: Health, changed: bool) -> None:
        if changed:
            self._tell(f"health_status: {health.status}")
        self._write(health=health.status, failing_streak=health.failing_streak, probes=health.probes)

    # --- the wish for the end

    def look(self) -> None:
        """Looks at what others left for it: the wish for the end, and a config that was changed."""
        if (wish := read_stop(self._paths, self.config.id)) is not None:
            self._wish = wish
            self.state = replace(self.state, stopped=True)
        self._obey()

    def reload(self) -> None:
        """Reads the config again: another command has changed it."""
        self.config = read_config(self._paths, self.config.id)
        self.look()

    def end(self) -> None:
        """Ends the container as the machine does when it goes down; nobody asked for it, so a boot starts it again."""
        self._wish = self._wish or ended.stop_wish(self.config)
        self._obey()

    def _obey(self) -> None:
        if self._wish is None or self._wish == self._told:
            return
        if self.state.status == "restarting":
            self._timers.cancel("restart")
            self._told = self._wish
            ended.tell_stopped(self._paths, self.config, self._wish)
            self._finish()
        elif self.state.status == "running" and self._exit_status is None:
            self._told = self._wish
            self.kill(int(self._wish["signal"]))
            patience_s = self._wish["timeout_s"]
            if patience_s is not None:
                self._timers.sooner("kill", patience_s, lambda: self.kill(SIGKILL))

    def kill(self, number: int) -> None:
        """Sends a signal that somebody asked for, and tells of it."""
        if self._pidfd >= 0:
            self._tell("kill", signal=number)
            self.signal(number)

    def signal(self, number: int) -> None:
        """Sends a signal to the first process, if it lives."""
        if self._pidfd >= 0:
            try:
                process.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                pass

    def _on_exit(self, events: int) -> None:
        status = ended.status_of(self._pidfd, self._pid, self._keep)
        if status is None and not events & GONE:
            # It is somebody else's child, and the kernel tells its status when it is reaped.
            self._loop.watch(self._pidfd, self._on_exit, 0)
            self._timers.after("reaped", REAPED_S, lambda: self._on_exit(GONE))
            return
        self._timers.cancel("reaped")
        self._loop.forget(self._pidfd)
        if status is None:
            self.state = replace(self.state, error=ended.UNKNOWN)
        self._exit_status = EXIT_UNKNOWN << 8 if status is None else status
        trace.reach("engine.life.exited")
        self._timers.after("drain", DRAIN_S, self._on_drain_timeout)
        self.flow.ended = True
        self.flow.let_output_flow()

    def _on_drain_timeout(self) -> None:
        if self.flow.busy:
            self._timers.after("drain", DRAIN_S, self._on_drain_timeout)  # a slow client loses nothing
        else:
            self._on_drained()

    def _on_drained(self) -> None:
        self._timers.cancel("drain")
        if self._exit_status is not None:
            self._decide(ended.exit_code(self._exit_status), ended.state_of(self._state_dir, self._created))

    def _decide(self, exit_code: int, state: State | None = None) -> None:
        """Takes in how a run ended, and what comes next; the state is that of a process that has ended."""
        oom = ended.lacked_memory(state)
        self._last = replace(
            self._last,
            finished_s=time.time(),
            exit_code=exit_code,
            oom_killed=oom,
            error=self.state.error,
            restarts=self.state.restarts,
            stopped=self.state.stopped,
        )
        again = wants_restart(
            self.config.spec.restart,
            exit_code=exit_code,
            restarts=self.state.restarts,
            stopped=self._wish is not None,
        )
        self._write(status="restarting" if again else "ending", pid=0, exit_code=exit_code, oom_killed=oom, health="")
        trace.reach("engine.life.ended")
        if oom:
            self._tell("oom")
        self._tell("die", exitCode=exit_code)
        ended.tell_stopped(self._paths, self.config, self._wish)
        self._end_run(state)
        if again:
            self._wait_and_restart()
        else:
            self._finish()

    def _end_run(self, state: State | None = None) -> None:
        """Takes away what belongs to one run of the container, whose state is known if its process has ended."""
        self._stop_waiting()
        self.flow.close()
        if self._pidfd >= 0:
            if self._exit_status is None:
                self.signal(SIGKILL)
            ended.reap(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        self._exit_status = None
        self._keep.forget(self._pid)
        for name in ("pidfd", "std", "tty", "channel"):
            self._keep.drop(f"{self.config.id}/{name}")
        container.delete(self._state_dir, known=state)
        self._network.unplug(self.config)

    def _wait_and_restart(self) -> None:
        delay_s = self._backoff.delay_s(time.monotonic() - self._began_s)
        self._timers.after("restart", delay_s, self._restart)
        self.look()

    def _restart(self) -> None:
        self._write(status="starting", restarts=self.state.restarts + 1, error="")
        self._begin()

    def _finish(self) -> None:
        """Has everything cleaned up and recorded; then the life is over."""
        self._stop_waiting()
        last = self._last = replace(self._last, stopped=self.state.stopped)
        if self.state.status != "ending":
            self._write(status="ending", exit_code=last.exit_code, pid=0, health="")
        self._log.close()
        outcome = Outcome(last=last, never_started=not self.started)
        if self._detached:
            settle_in_child(self._loop, self._paths, self.config, outcome, self._lock_fd, self._close)
        else:
            settle(self._paths, self.config, outcome, self._lock_fd)
            self._close()

    def _close(self) -> None:
        trace.reach("engine.life.settled")
        exit_code = self._last.exit_code
        for fd in self._own_fds().values():
            os.close(fd)
        self._keep.drop(f"{self.config.id}/")
        self.is_over = True
        for sink in list(self.flow.sinks):
            sink.finish(EXIT_UNKNOWN if exit_code is None else exit_code, self.failure)
        self._over(self)

    def _write(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)
        try:
            write_run(self._paths, self.config.id, self.state)
        except WherryError as error:
            self._note(f"cannot record the state: {error}\n")  # a full disk must not stop the container

    def _note(self, text: str) -> None:
        self._log.write("stderr", f"wherry: {text}".encode())

    def _tell(self, action: str, **attributes: object) -> None:
        tell(self._paths, self.config, action, **attributes)
