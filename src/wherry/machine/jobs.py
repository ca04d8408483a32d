"""One command in a guest of its own: a container's root, or none, under a kernel of its own.

The command's standard streams and its exit status come through channels, so that they are as clean as a container's.
With a terminal the person's is passed through, window size and signals included. The guest ends with the command.

``Ctrl-P Ctrl-Q`` on a terminal ends the machine: there is nobody whom it could be left to.
"""

from __future__ import annotations

import os
import selectors
import signal
import stat
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.errors import Timeout, ToolError, Unsupported
from wherry.machine import agent, initramfs, launching, launching_uml
from wherry.machine.console import Text, tail_of
from wherry.machine.guest import MIB, Channel, Forward, Guest, Share
from wherry.machine.running import scratch_folder
from wherry.machine.session import Interrupted, Raw, Wake, write_all
from wherry.spec.architecture import architecture

if TYPE_CHECKING:
    import socket

    from wherry.machine.kernels import Kernel

DEFAULT_MEMORY_BYTES = 512 * MIB
START_S = 300.0
"""How long a guest may take until its command runs, while its console is silent."""
MAX_LINE_BYTES = 65536
READ_BYTES = 65536
MAX_WAITING_BYTES = 1024 * 1024
"""Of standard input, that the guest has not taken yet."""
_TURN_S = 1.0
_LEAVE = b"\x10\x11"
PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_EXECUTABLE, _PLAIN = stat.S_IFREG | 0o755, stat.S_IFREG | 0o644
_IMPATIENCE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is run, and in what."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    uid: int = 0
    gid: int = 0
    working_dir: str = "/"
    hostname: str = "guest"
    root: Path | None = None
    """The folder that is its root; None for a root in memory with busybox alone."""
    inherited: tuple[int, ...] = ()
    """Descriptors that `root` needs, as ``/proc/self/fd/N``."""
    read_only: bool = False
    as_root: bool = True
    """Whether files of the root keep owners and modes as they are; needs root's rights."""
    memory_file_systems: tuple[tuple[str, str], ...] = ()
    """Places in the guest and the options of tmpfs there."""
    files: Mapping[str, tuple[int, bytes]] = field(default_factory=dict)
    """More files for the root in memory: paths without a leading slash -> mode with its type, and content."""
    hosts: str = ""
    forwards: tuple[Forward, ...] = ()
    network: bool = True
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    cpus: int = 1
    command_line: tuple[str, ...] = ()
    """More words for the kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """This side of the command's streams."""

    stdin_fd: int | None = None
    stdout_fd: int = 1
    stderr_fd: int = 2
    terminal_fd: int | None = None
    """The person's terminal, where the command gets one."""
    tty: bool = False


def run(job: Job, kernel: Kernel, streams: Streams, *, uml: bool = False) -> int:
    """Runs a command in a guest of its own; returns its exit status.

    Raises:
        Unsupported: there is no busybox for it, or no QEMU.
        ToolError: the guest failed, or could not mount the root; has the end of its console.
        Timeout: it did not come up.
        Interrupted: a signal came before the command ran.
    """
    with scratch_folder() as folder:
        guest = _guest(job, kernel, streams, folder, uml=uml)
        if not uml:
            guest = launching.make_ready(guest, folder)
        with launching_uml.start(guest, folder) if uml else launching.start(guest, folder) as started:
            return _Attendance(started, streams).stay()


def _guest(job: Job, kernel: Kernel, streams: Streams, folder: Path, *, uml: bool) -> Guest:
    image = folder / "initramfs"
    with open(image, "wb") as file:
        initramfs.write(file, _files(job, kernel, streams, uml=uml))
    share = () if job.root is None else (_share(job, job.root),)
    return Guest(
        architecture=architecture(kernel.record.architecture),
        kernel=kernel.kernel,
        initramfs=image,
        command_line=("quiet", "panic=-1", "rdinit=/init", *(() if uml else ("no_timer_check",)), *job.command_line),
        cpus=job.cpus,
        memory_bytes=job.memory_bytes,
        shares=share,
        forwards=job.forwards,
        network=job.network,
        reboot=False,
        watchdog=False,
        channels=tuple(Channel(name=name) for name in agent.CHANNELS),
        terminal=streams.tty,
        inherited=job.inherited,
    )


def _share(job: Job, root: Path) -> Share:
    return Share(
        path=root, tag=agent.ROOT_TAG, read_only=job.read_only, owners="passthrough" if job.as_root else "none"
    )


def _files(job: Job, kernel: Kernel, streams: Streams, *, uml: bool) -> dict[str, tuple[int, bytes]]:
    busybox = _busybox(kernel)
    window = _window(streams) if streams.tty else None
    has_root = job.root is not None
    texts = {
        "init": (_EXECUTABLE, agent.INIT),
        "wherry/config": (
            _PLAIN,
            agent.config(
                uml=uml,
                has_root=has_root,
                read_only=job.read_only,
                hostname=job.hostname,
                network=job.network,
                stdin=streams.stdin_fd is not None and not streams.tty,
                terminal=window,
            ),
        ),
        "wherry/command": (
            _PLAIN,
            agent.command(
                job.argv, env=job.env, working_dir=job.working_dir, uid=job.uid, gid=job.gid, has_root=has_root
            ),
        ),
        "wherry/mounts": (_PLAIN, agent.mounts(job.memory_file_systems, has_root=has_root)),
        "wherry/etc/hosts": (_PLAIN, f"127.0.0.1\tlocalhost\n127.0.1.1\t{job.hostname}\n{job.hosts}"),
        "wherry/etc/hostname": (_PLAIN, f"{job.hostname}\n"),
        "wherry/etc/resolv.conf": (_PLAIN, "nameserver 10.0.2.3\n" if job.network else ""),
    }
    files = {path: (mode, text.encode("utf-8", "surrogateescape")) for path, (mode, text) in texts.items()}
    files["bin/busybox"] = (_EXECUTABLE, busybox.read_bytes())
    more = () if has_root else kernel.more
    for path in () if uml else (*kernel.modules, *more):
        files[f"wherry/modules/{path.name}"] = (_PLAIN, path.read_bytes())
    for folder in ("dev", "proc", "sys", "root", "tmp", "etc"):
        files[folder] = (stat.S_IFDIR | 0o755, b"")
    return {**files, **job.files}


def _busybox(kernel: Kernel) -> Path:
    if kernel.busybox is not None:
        return kernel.busybox
    own = Path("/bin/busybox")
    if own.exists() and architecture(kernel.record.architecture).machine == os.uname().machine:
        return own
    raise Unsupported(
        f"no static busybox for {kernel.record.architecture}",
        hint=f"wherry kernel fetch --arch {kernel.record.architecture} brings one, wherry kernel add takes --busybox",
    )


def _window(streams: Streams) -> tuple[int, int]:
    try:
        size = os.get_terminal_size(streams.terminal_fd if streams.terminal_fd is not None else 0)
    except OSError:
        return 24, 80
    return size.lines, size.columns


class _Attendance:
    """Stays with a guest until its command has ended, and carries its streams."""

    def __init__(self, started: launching.Started, streams: Streams) -> None:
        self._machine = started.machine
        self._streams = streams
        self._control, self._stdin, self._stdout, self._stderr = started.channels
        self._terminal = started.terminal
        self._console = Text()
        self._lines = b""
        self._code: int | None = None
        self._failure = ""
        self._ready = False
        self._waiting: dict[socket.socket, bytearray] = {}
        self._signals: list[int] = []
        self._left = False
        self._heard = time.monotonic()
        self._interrupts = 0
        self._last = b""
        self._file: int | None = None
        """Where input comes from that is a regular file."""
        self._held = False
        """Whether the person's input is not read, as the guest has enough."""

    def stay(self) -> int:
        """Returns the command's exit status."""
        with ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            for number in (*PASSED_ON, signal.SIGWINCH):
                stack.callback(signal.signal, number, signal.signal(number, lambda number, _: self._note(number)))
            wake = Wake()
            stack.callback(wake.close)
            selector.register(wake.reader, selectors.EVENT_READ, lambda _: wake.drain())
            ends = (self._control, self._stdin, self._stdout, self._stderr, self._machine.console, self._terminal)
            handlers = {
                self._control: self._on_control,
                self._stdout: lambda _: self._show(self._stdout, self._streams.stdout_fd),
                self._stderr: lambda _: self._show(self._stderr, self._streams.stderr_fd),
                self._machine.console: self._on_console,
                self._stdin: self._on_writable,
            }
            if self._terminal is not None:
                handlers[self._terminal] = self._on_terminal
            for end in ends:
                if end is not None:
                    end.setblocking(False)
                    self._waiting[end] = bytearray()
                    selector.register(end, selectors.EVENT_READ, handlers[end])
            self._selector = selector
            self._handlers = handlers
            with Raw(self._streams.terminal_fd if self._streams.tty else None):
                self._turn_until_over()
        return self._result()

    def _turn_until_over(self) -> None:
        while not self._is_over():
            for key, events in self._selector.select(0 if self._pump() else _TURN_S):
                key.data(events)
            self._pass_signals()
            if not self._ready and time.monotonic() - self._heard > START_S:
                raise Timeout(f"the guest did not come up; its console's end is: {tail_of(self._console.kept)}")
            if not self._is_over() and self._machine.poll() is not None:
                self._take_rest()
                if not self._is_over():
                    raise ToolError(
                        f"the guest ended before its command did; its console's end is: "
                        f"{tail_of(self._console.kept) or self._machine.complaint() or 'empty'}"
                    )
        self._take_rest()

    def _is_over(self) -> bool:
        return self._code is not None or bool(self._failure) or self._left

    def _result(self) -> int:
        if self._failure:
            raise ToolError(f"the guest {self._failure}; its console's end is: {tail_of(self._console.kept)}")
        return 130 if self._code is None else self._code

    def _take_rest(self) -> None:
        """Takes in what the guest wrote before it told that the command had ended: it is in the sockets by then."""
        self._on_control(selectors.EVENT_READ)
        while self._show(self._stdout, self._streams.stdout_fd) or self._show(self._stderr, self._streams.stderr_fd):
            pass
        if self._terminal is not None:
            while self._show(self._terminal, self._streams.stdout_fd):
                pass

    # --- from the guest

    def _receive(self, end: socket.socket) -> bytes:
        try:
            data = end.recv(READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data and end in self._waiting:
            del self._waiting[end]
            self._selector.unregister(end)
        return data

    def _show(self, end: socket.socket, fd: int) -> bool:
        data = self._receive(end) if end in self._waiting else b""
        if data:
            write_all(fd, data)
        return bool(data)

    def _on_console(self, events: int) -> None:
        if events & selectors.EVENT_READ:
            data = self._receive(self._machine.console)
            if data:
                self._heard = time.monotonic()
                self._console.feed(data)

    def _on_terminal(self, events: int) -> None:
        assert self._terminal is not None  # noqa: S101 registered only then
        if events & selectors.EVENT_WRITE:
            self._send(self._terminal)
        if events & selectors.EVENT_READ:
            self._show(self._terminal, self._streams.stdout_fd)

    def _on_control(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._send(self._control)
        if not events & selectors.EVENT_READ or self._control not in self._waiting:
            return
        self._lines += self._receive(self._control)
        if len(self._lines) > MAX_LINE_BYTES:
            self._failure = "says too much over its channel"
        while b"\n" in self._lines:
            line, _, self._lines = self._lines.partition(b"\n")
            self._heed(line.decode(errors="replace").strip("\r"))

    def _heed(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "ready" and not self._ready:
            self._ready = True
            self._listen()
        elif word == "exit" and rest.isascii() and rest.isdigit() and int(rest) < 256:
            self._code = int(rest)
        elif word == "failed":
            self._failure = f"failed: {rest[:200]}"

    # --- to the guest

    def _listen(self) -> None:
        """Begins to read the person's input, now that there is somebody for it."""
        fd = self._streams.stdin_fd
        if fd is None:
            return
        try:
            self._selector.register(fd, selectors.EVENT_READ, self._on_input)
        except PermissionError:
            self._file = fd

    def _pump(self) -> bool:
        """Takes in more of a regular file, which is always ready; tells whether there may be more at once."""
        if self._file is None or len(self._waiting.get(self._stdin, b"")) > MAX_WAITING_BYTES:
            return False
        data = os.read(self._file, READ_BYTES)
        if not data:
            self._file = None
        self._feed(data)
        return bool(data)

    def _on_input(self, _events: int) -> None:
        fd = self._streams.stdin_fd
        assert fd is not None  # noqa: S101 registered with it
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(fd)
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self._streams.tty:
            if _LEAVE in self._last[-1:] + data:
                self._left = True
            self._last = data or self._last
            if self._terminal is not None:
                self._put(self._terminal, data)
            return
        framed = bytearray()
        for start in range(0, len(data), agent.MAX_PIECE_BYTES):
            piece = data[start : start + agent.MAX_PIECE_BYTES]
            framed += b"%d\n" % len(piece) + piece
        self._put(self._stdin, bytes(framed) if data else b"0\n")

    def _put(self, end: socket.socket, data: bytes) -> None:
        if end in self._waiting:
            self._waiting[end] += data
            self._send(end)

    def _send(self, end: socket.socket) -> None:
        waiting = self._waiting.get(end)
        if waiting is None:
            return
        try:
            while waiting:
                del waiting[: end.send(waiting)]
        except BlockingIOError:
            pass
        except OSError:
            waiting.clear()  # reading tells that it is gone
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if waiting else 0)
        self._selector.modify(end, mask, self._handlers[end])
        self._hold_input(end, len(waiting))

    def _hold_input(self, end: socket.socket, waiting: int) -> None:
        """Reads no more input while the guest has not taken what is there."""
        fd = self._streams.stdin_fd
        if fd is None or end is not (self._terminal if self._streams.tty else self._stdin):
            return
        known = fd in self._selector.get_map()
        if known and waiting > MAX_WAITING_BYTES:
            self._selector.unregister(fd)
            self._held = True
        elif self._held and waiting == 0:
            self._held = False
            self._selector.register(fd, selectors.EVENT_READ, self._on_input)

    def _on_writable(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._send(self._stdin)
        if events & selectors.EVENT_READ:
            self._receive(self._stdin)

    # --- signals

    def _note(self, number: int) -> None:
        self._signals.append(number)

    def _pass_signals(self) -> None:
        signals, self._signals = self._signals, []
        for number in signals:
            if number == signal.SIGWINCH:
                if self._streams.tty and self._ready:
                    rows, columns = _window(self._streams)
                    self._put(self._control, b"size %d %d\n" % (rows, columns))
                continue
            self._interrupts += number == signal.SIGINT
            if not self._ready or self._interrupts >= _IMPATIENCE:
                raise Interrupted(number)
            self._put(self._control, b"signal %d\n" % number)
