"""The monitor: one small process for each container that runs, its parent and its keeper.

::

                     ┌──────────────── restart policy says so, after a delay ───────────────┐
                     ▼                                                                      │
    prepare ──▶ create ──▶ plug network ──▶ start ──▶ pump, probe health, wait ──▶ reap ────┴──▶ clean up ──▶ end

It reads the container's output into the log and to an attached client, runs health checks, applies the restart
policy, and takes away network, mounts and control groups at the end. It talks to nobody: others read ``run.json``,
ask for the end by the file ``stop`` and SIGUSR1, and know that it lives by ``monitor.lock``. When it is killed, the
container's own processes are killed by the next command that looks (``Engine.recover``).

Budget: no thread, no event loop library; memory is that of the interpreter and of what the caller had imported.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
import traceback
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any

from wherry.core import trace
from wherry.core.errors import CannotInvoke, CommandNotFound, NoSpace, WherryError
from wherry.engine import attach, bundle, joining, launch
from wherry.engine.health import STARTING, Health
from wherry.engine.logs import LogWriter
from wherry.engine.net.request import own_namespace
from wherry.engine.network import Network
from wherry.engine.prepare import Prepared, clean_up, prepare, unmount_rootfs
from wherry.engine.probe import Probe
from wherry.engine.restart import Backoff, wants_restart
from wherry.engine.spec import ContainerConfig, health_argv
from wherry.engine.state import STOP_FILE, LastRun, Paths, RunState, container_lock, finish_run, write_last, write_run
from wherry.engine.streams import Streams
from wherry.engine.volumes import remove_container
from wherry.linux import process
from wherry.runtime import container
from wherry.runtime.state import load_state
from wherry.runtime.users import Identity

if TYPE_CHECKING:
    from wherry.store.repository import Repository

PROCESS_NAME = "wherry-monitor"
"""What ps(1) shows; the kernel keeps 15 bytes."""
DRAIN_S = 2.0
"""How long output is still read after the container's end, should something outside hold its streams open."""
EXIT_ENGINE, EXIT_CANNOT_INVOKE, EXIT_NOT_FOUND = 125, 126, 127


def exit_code_of(error: WherryError) -> int:
    """Returns the status that docker gives a container which could not be started."""
    if isinstance(error, CommandNotFound):
        return EXIT_NOT_FOUND
    return EXIT_CANNOT_INVOKE if isinstance(error, CannotInvoke) else EXIT_ENGINE


class Monitor:
    """The life of one monitor process.

    Args:
        paths: of the engine root.
        repo: of the image; None with a root directory.
        config: the container's.
        fds: ``lock``, ``ready``, and ``line`` when a client is attached (``launch.fork_monitor``).
    """

    def __init__(self, paths: Paths, repo: Repository | None, config: ContainerConfig, fds: dict[str, int]) -> None:
        self._paths, self._repo, self._config = paths, repo, config
        self._lock_fd = fds["lock"]
        self._ready_fd = fds["ready"]
        self._client = attach.Client(fds.get("line"), self._on_packet)
        self._state = RunState(status="created", monitor_pid=os.getpid())
        self._last = LastRun()
        self._stop: dict[str, Any] | None = None
        self._told: dict[str, Any] | None = None
        """The wish that this run of the container was told of."""
        self._woken = True
        self._kill_due_s: float | None = None
        self._prepared: Prepared | None = None
        self._log: LogWriter | None = None
        self._streams: Streams | None = None
        self._health: Health | None = None
        self._probe: Probe | None = None
        self._waited_for: set[int] = set()
        """The container's streams that are registered with the poller."""
        self._wake_fd, wake_write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poller = select.poll()
        self._poller.register(self._wake_fd, select.POLLIN)
        signal.set_wakeup_fd(wake_write_fd, warn_on_full_buffer=False)
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        ignored = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGUSR2, signal.SIGWINCH)
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        with open("/proc/self/comm", "w", encoding="ascii") as comm:
            comm.write(PROCESS_NAME)

    def run(self) -> None:
        """Keeps the container until its end."""
        failure: WherryError | None = None
        try:
            self._log = LogWriter(self._paths.container(self._config.id) / "log", self._config.spec.log)
            self._prepared = prepare(self._paths, self._repo, self._config)
            self._supervise(self._prepared)
        except WherryError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 whatever it is: the container must be cleaned up and the caller told
            self._note(traceback.format_exc())
            failure = WherryError(f"the monitor failed: {type(error).__name__}: {error}")
        self._finish(failure)

    # --- one run after the other

    def _supervise(self, prepared: Prepared) -> None:
        backoff = Backoff()
        first = True
        while True:
            began_s = time.monotonic()
            try:
                exit_code, oom = self._run_once(prepared, first=first)
            except WherryError as error:
                if first:
                    raise
                exit_code, oom = exit_code_of(error), False
                self._state = replace(self._state, error=str(error))
            first = False
            self._last = replace(
                self._last, finished_s=time.time(), exit_code=exit_code, oom_killed=oom, error=self._state.error
            )
            restarts = self._state.restarts
            if not wants_restart(
                self._config.spec.restart, exit_code=exit_code, restarts=restarts, stopped=self._stopped()
            ):
                return
            self._write(status="restarting", pid=0, exit_code=exit_code, health="")
            delay_s = backoff.delay_s(time.monotonic() - began_s)
            self._wait(time.monotonic() + delay_s)
            if self._stopped():
                return
            self._state = replace(self._state, restarts=restarts + 1, error="")
            self._last = replace(self._last, restarts=restarts + 1)

    def _run_once(self, prepared: Prepared, *, first: bool) -> tuple[int, bool]:
        """Runs the container from its creation to its end; returns the exit status and whether memory ran out."""
        config, state_dir = self._config, bundle.runtime_dir(self._paths, self._config.id)
        streams = self._streams = Streams(tty=config.spec.tty, stdin_open=config.spec.stdin_open)
        created: container.Created | None = None
        try:
            created = container.create(
                bundle.build_spec(config, prepared, joining.namespaces(self._paths, config)),
                container_id=config.id,
                state_dir=state_dir,
                rootfs=prepared.rootfs,
                stdio=_stdio(streams.child),
            )
            streams.close_child_side()
            if created.console_fd is not None:
                streams.take_terminal(created.console_fd)
            trace.reach("engine.monitor.created")
            self._set_up_network(prepared, created.pid)
            joining.settle(config, created.pid)
            try:
                container.start(created)
            except WherryError:
                os.waitpid(created.pid, 0)
                raise
            trace.reach("engine.monitor.started")
            self._record_start(prepared, created.pid)
            if first:
                launch.report_started(self._ready_fd)
                self._close_ready()
            status = self._pump(created, streams)
            kills = load_state(state_dir).cgroup.stats().oom_kills
        finally:
            self._end_probe()
            self._health = None
            self._kill_due_s = None
            for fd in self._waited_for:
                self._unregister(fd)
            self._waited_for = set()
            streams.close()
            self._streams = None
            if created is not None:
                self._unregister(created.pidfd)
                os.close(created.pidfd)
            container.delete(state_dir)
            Network(self._paths).unplug(config.id)
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code, bool(kills)

    def _set_up_network(self, prepared: Prepared, pid: int) -> None:
        if own_namespace(self._config.spec):
            Network(self._paths).plug(self._config.id, pid)

    def _record_start(self, prepared: Prepared, pid: int) -> None:
        check = self._config.healthcheck
        self._health = Health(check, time.monotonic()) if check else None
        now_s = time.time()
        self._last = LastRun(started_s=now_s, restarts=self._state.restarts)
        self._write(
            status="running",
            pid=pid,
            started_s=now_s,
            health=STARTING if check else "",
            ip=prepared.joined.ip,
            ports=prepared.joined.ports,
            failing_streak=0,
            probes=(),
            error="",
        )
        try:
            write_last(self._paths, self._config.id, self._last, durably=False)
        except NoSpace as error:
            self._note(f"{error}\n")  # it runs; how it ends may not be remembered

    def _pump(self, created: container.Created, streams: Streams) -> int:
        """Serves streams, client and health until the container has ended; returns its wait status."""
        self._poller.register(created.pidfd, select.POLLIN)
        wait_status: int | None = None
        drain_until_s = 0.0
        self._told = None
        self._check_stop(created)
        while True:
            due = [drain_until_s] if wait_status is not None else [self._health_due_s(), self._kill_due_s]
            events = self._poll([item for item in due if item is not None])
            for fd, event in events:
                if fd == created.pidfd and wait_status is None:
                    wait_status = os.waitpid(created.pid, 0)[1]
                    self._unregister(created.pidfd)
                    drain_until_s = time.monotonic() + DRAIN_S
                elif fd in streams.outputs or fd == streams.stdin_fd:
                    if fd == streams.stdin_fd and event & (select.POLLOUT | select.POLLERR):
                        streams.flush()
                    if fd in streams.outputs and event & ~select.POLLOUT:
                        self._read_output(streams, fd)
                elif self._probe is not None and fd in self._probe.fds:
                    self._probe.advance(fd)
                    if fd not in self._probe.fds:
                        self._unregister(fd)
            if wait_status is not None:
                if self._client.busy:
                    drain_until_s = time.monotonic() + DRAIN_S  # a slow client loses nothing
                if not streams.outputs or time.monotonic() >= drain_until_s:
                    return wait_status
                continue
            self._check_stop(created)
            self._run_health()

    def _poll(self, due_s: list[float]) -> list[tuple[int, int]]:
        """Waits for the next event; client and signals are served here, the others returned."""
        streams = self._streams
        # what the client sends waits while the container does not take it, and the container's output waits while
        # the client does not take that
        self._client.register(self._poller, reading=streams is not None and not streams.backlog)
        wanted: dict[int, int] = {}
        if streams is not None:
            if not self._client.busy:
                wanted = dict.fromkeys(streams.outputs, select.POLLIN)
            if streams.backlog:
                wanted[streams.stdin_fd] = wanted.get(streams.stdin_fd, 0) | select.POLLOUT
        for fd in self._waited_for - wanted.keys():
            self._unregister(fd)  # not an empty mask: a hang-up would still be told, over and over
        for fd, mask in wanted.items():
            self._poller.register(fd, mask)
        self._waited_for = set(wanted)
        timeout_ms = max(0.0, min(due_s) - time.monotonic()) * 1000 + 1 if due_s else None
        rest: list[tuple[int, int]] = []
        for fd, event in self._poller.poll(timeout_ms):
            if fd == self._wake_fd:
                os.read(self._wake_fd, 64)
            elif fd == self._client.fd:
                self._client.serve(self._poller, event)
            else:
                rest.append((fd, event))
        return rest

    def _wait(self, until_s: float) -> None:
        while time.monotonic() < until_s and not self._stopped():
            self._poll([until_s])

    # --- output and the client

    def _read_output(self, streams: Streams, fd: int) -> None:
        if self._client.busy:
            return
        data = streams.read(fd)
        if data is None:
            return
        if not data:
            self._unregister(fd)
            streams.close_output(fd)
            return
        name = streams.outputs[fd]
        if self._log is not None:
            self._log.write(name, data)
        self._client.send((attach.STDOUT if name == "stdout" else attach.STDERR) + data)

    def _on_packet(self, kind: bytes, data: bytes) -> None:
        """Does what the client asks for; between two runs that is nothing."""
        streams = self._streams
        if streams is None:
            return
        if kind == attach.STDIN:
            streams.feed(data)
        elif kind == attach.STDIN_END:
            streams.end_input()
        elif kind == attach.WINDOW:
            streams.resize(*attach.WINDOW_SIZE.unpack(data))
        elif kind == attach.GONE and not self._config.spec.tty:
            streams.end_input()

    def _unregister(self, fd: int) -> None:
        try:
            self._poller.unregister(fd)
        except (KeyError, ValueError):
            pass

    # --- the wish for the end

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._woken = True
        if number == signal.SIGTERM and self._stop is None:  # the machine is going down
            self._stop = {
                "signal": float(bundle.signal_number(self._config.stop_signal)),
                "timeout_s": float(self._config.spec.stop_timeout_s),
            }

    def _stopped(self) -> bool:
        """Tells whether somebody asked for the end; looks only after a signal, and once at first."""
        if self._woken:
            self._woken = False
            try:
                with open(self._paths.run_dir(self._config.id) / STOP_FILE, encoding="ascii") as file:
                    self._stop = json.load(file)
            except FileNotFoundError:
                pass
        return self._stop is not None

    def _check_stop(self, created: container.Created) -> None:
        if self._kill_due_s is not None and time.monotonic() >= self._kill_due_s:
            self._kill_due_s = None
            self._signal(created, signal.SIGKILL)
        if self._stopped() and self._stop is not None and self._stop != self._told:
            self._told = self._stop
            self._signal(created, int(self._stop["signal"]))
            patience_s = self._stop["timeout_s"]
            self._kill_due_s = None if patience_s is None else time.monotonic() + patience_s

    def _signal(self, created: container.Created, number: int) -> None:
        try:
            process.pidfd_send_signal(created.pidfd, number)
        except ProcessLookupError:
            pass

    # --- health

    def _health_due_s(self) -> float | None:
        if self._probe is not None:
            return self._probe.deadline_s
        return self._health.due_s if self._health is not None else None

    def _run_health(self) -> None:
        health, check, now_s = self._health, self._config.healthcheck, time.monotonic()
        if health is None or check is None:
            return
        if self._probe is None:
            if now_s >= health.due_s:
                self._probe = Probe(lambda fds: self._exec_probe(health_argv(check), fds), timeout_s=health.timeout_s)
                for fd in self._probe.fds:
                    self._poller.register(fd, select.POLLIN)
            return
        result = self._probe.result(now_s)
        if result is not None:
            self._end_probe()
            health.record(result, now_s)
            self._write(health=health.status, failing_streak=health.failing_streak, probes=health.probes)

    def _exec_probe(self, argv: tuple[str, ...], fds: tuple[int, int, int]) -> tuple[int, int]:
        identity = self._prepared.identity if self._prepared is not None else Identity()
        executed = container.exec_process(
            bundle.runtime_dir(self._paths, self._config.id),
            bundle.build_process(self._config, identity, argv),
            stdio=_stdio(fds),
        )
        return executed.pid, executed.pidfd

    def _end_probe(self) -> None:
        if self._probe is not None:
            for fd in self._probe.fds:
                self._unregister(fd)
            self._probe.close()
            self._probe = None

    # --- what others see, and the end

    def _write(self, **changes: object) -> None:
        self._state = replace(self._state, **changes)  # type: ignore[arg-type]
        try:
            write_run(self._paths, self._config.id, self._state)
        except WherryError as error:
            self._note(f"cannot record the state: {error}\n")  # a full disk must not stop the container

    def _note(self, text: str) -> None:
        if self._log is not None:
            self._log.write("stderr", f"wherry: {text}".encode())

    def _close_ready(self) -> None:
        if self._ready_fd >= 0:
            os.close(self._ready_fd)
            self._ready_fd = -1

    def _finish(self, failure: WherryError | None) -> None:
        """Cleans up, records the end, and tells whoever waits; in this order, so that they find all in place."""
        never_started = self._ready_fd >= 0
        if failure is not None:
            code = exit_code_of(failure)
            self._last = replace(self._last, finished_s=time.time(), exit_code=code, error=str(failure))
        for problem in clean_up(self._paths, self._config, self._prepared):
            self._note(f"cleaning up: {problem}\n")
        unmount_rootfs(self._paths, self._config)
        if self._log is not None:
            self._log.close()
        exit_code = self._last.exit_code if self._last.exit_code is not None else EXIT_ENGINE
        trace.reach("engine.monitor.cleaned")
        try:
            self._record_end(exit_code, locked=never_started)
        except WherryError as error:
            failure = failure or error
        finally:
            if never_started and failure is not None:
                launch.report_error(self._ready_fd, failure)
            self._client.finish(exit_code)

    def _record_end(self, exit_code: int, *, locked: bool) -> None:
        """Leaves the outcome on disk, or no trace when the container removes itself.

        Args:
            exit_code: the container's.
            locked: the starter, who still waits for our word, holds the container's lock for us.
        """
        os.pwrite(self._lock_fd, f"{exit_code}\n".encode(), 0)
        if not self._config.spec.rm:
            try:
                write_last(self._paths, self._config.id, self._last, durably=True)
            finally:
                finish_run(self._paths, self._config.id)
        elif locked:
            remove_container(self._paths, self._config)
        else:
            with container_lock(self._paths, self._config.id):
                remove_container(self._paths, self._config)


def _stdio(fds: tuple[int, int, int] | None) -> container.Stdio | None:
    return None if fds is None else container.Stdio(stdin_fd=fds[0], stdout_fd=fds[1], stderr_fd=fds[2])
