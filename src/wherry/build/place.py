"""Where a step does its work: its folders, its log, and the programs that it runs in a sandbox (`sandbox.py`)."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from wherry.build import sandbox, sandboxed
from wherry.core.durable import map_os_error, write_file
from wherry.core.errors import ToolError, WherryError
from wherry.core.jsonio import canonical
from wherry.core.progress import QUIET, Progress
from wherry.engine.keeper import command as interpreter
from wherry.runtime.serialize import serialize_config

if TYPE_CHECKING:
    from wherry.runtime.spec import Mount

TAIL_LINES = 20
MAX_LINE_BYTES = 64 * 1024
MAX_READ_BYTES = 64 * 1024 * 1024
COMMAND_FILE = "command.json"
"""In a bundle: what ran last, for people (`config.json` is its container)."""


class Failed(ToolError):
    """A program of a step failed; `tail` is the end of what it printed."""

    def __init__(self, what: str, *, tail: Sequence[str], where: object = None) -> None:
        super().__init__(what, where=where)
        self.tail = tuple(tail)


@dataclass(kw_only=True)
class StepPlace:
    """A `steps.Place`, on this machine."""

    output: Path
    scratch: Path
    kept: Path
    downloads: Path
    bundle: Path
    """For the sandbox itself."""
    log: IO[bytes]
    inputs: Mapping[str, Path] = field(default_factory=dict)
    network: bool = False
    makes_roots: bool = False
    epoch: int = 0
    progress: Progress = QUIET
    heard: Callable[[str], None] = lambda line: None
    """Called with each line of the log."""
    warnings: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Writes a line to the step's log."""
        self._write(line.encode(errors="surrogateescape"))

    def warn(self, line: str) -> None:
        """Writes a line to the step's log that a person shall see when the build is done, too."""
        self.say(f"warning: {line}")
        self.warnings.append(line)

    def run(
        self,
        args: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        readable: Sequence[Path] = (),
        writable: Sequence[Path] = (),
        mounts: Sequence[Mount] = (),
        root: Path | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        """Runs a program in the step's sandbox, with what it prints in the log; see `steps.Place`.

        Raises:
            ToolError: it failed, or could not be started.
        """
        command = self.command(args, cwd=cwd, env=env, readable=readable, writable=writable, mounts=mounts, root=root)
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.say(f"$ {shlex.join(args)}")

        def hear(line: bytes) -> None:
            text = line.decode(errors="replace")
            tail.append(text)
            self._write(line)
            if on_line is not None:
                on_line(text)

        self._execute(command, stdin, subprocess.STDOUT, lambda out: _lines(out, hear), tail)

    def read(
        self,
        args: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        readable: Sequence[Path] = (),
    ) -> str:
        """Runs a program as `run` does, and returns what it wrote on its standard output.

        Raises:
            ToolError: it failed, or wrote more than `MAX_READ_BYTES`.
        """
        command = self.command(args, cwd=cwd, env=env, readable=readable)
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        said: list[bytes] = []
        self.say(f"$ {shlex.join(args)}")

        def take(out: IO[bytes]) -> None:
            said.append(out.read(MAX_READ_BYTES + 1))
            if len(said[0]) > MAX_READ_BYTES:
                raise ToolError(f"more than {MAX_READ_BYTES} bytes", where=shlex.join(args))

        with open(self.scratch / ".stderr", "w+b") as errors:
            try:
                self._execute(command, None, errors, take, tail)
            finally:
                errors.seek(0)
                for line in errors.read(MAX_READ_BYTES).splitlines():
                    tail.append(line.decode(errors="replace"))
                    self._write(line)
        (self.scratch / ".stderr").unlink(missing_ok=True)
        return said[0].decode(errors="replace")

    def command(
        self,
        args: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        readable: Sequence[Path] = (),
        writable: Sequence[Path] = (),
        mounts: Sequence[Mount] = (),
        root: Path | None = None,
    ) -> sandbox.Command:
        """Returns what `run` runs."""
        downloads = {"downloads": self.downloads}
        return sandbox.Command(
            args=tuple(args),
            cwd=cwd or (self.scratch if root is None else Path("/")),
            env=sandbox.environment(env or {}, epoch=self.epoch),
            folders=sandbox.Folders(
                writable={
                    "output": self.output,
                    "scratch": self.scratch,
                    "kept": self.kept,
                    **(downloads if self.network else {}),
                },
                readable={
                    **({} if self.network else downloads),
                    **{f"in/{name}": path for name, path in self.inputs.items()},
                },
            ),
            readable=tuple(readable),
            writable=tuple(writable),
            network=self.network,
            makes_roots=self.makes_roots,
            mounts=tuple(mounts),
            root=root,
        )

    def _execute(
        self,
        command: sandbox.Command,
        stdin: bytes | None,
        stderr: int | IO[bytes],
        take: Callable[[IO[bytes]], None],
        tail: deque[str],
    ) -> None:
        prepare_bundle(self.bundle, command)
        if stdin is not None:
            (self.bundle / "stdin").write_bytes(stdin)
        words = interpreter(sys.executable, _package_folder(), "wherry.build.sandboxed", str(self.bundle))
        with open(self.bundle / "stdin", "rb") if stdin is not None else open(os.devnull, "rb") as source:
            process = subprocess.Popen(
                words, stdin=source, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True, env={}
            )
        stdout = process.stdout
        if stdout is None:
            raise RuntimeError("there is a pipe")
        try:
            take(stdout)
            status = process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            stdout.close()
            process.wait()
            with suppress(WherryError):  # of one that was killed; the next run says it again if it cannot be
                sandboxed.clean(str(self.bundle))
        line = shlex.join(command.args)
        with suppress(FileNotFoundError):
            why = (self.bundle / sandboxed.ERROR_FILE).read_text(errors="replace")
            self.say(why)
            raise Failed(f"cannot run: {why}", where=line, tail=tail)
        if status:
            self.say(f"exit status {status}")
            raise Failed(f"exit status {status}", where=line, tail=tail)

    def _write(self, line: bytes) -> None:
        self.log.write(line + b"\n")
        self.log.flush()
        self.heard(line.decode(errors="replace"))


def _lines(stream: IO[bytes], hear: Callable[[bytes], None]) -> None:
    """Calls with each line of a stream; of one that is redrawn by carriage returns, with each state."""
    left = b""
    while data := os.read(stream.fileno(), MAX_LINE_BYTES):
        *whole, left = (left + data).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in whole:
            hear(line)
        if len(left) > MAX_LINE_BYTES:
            hear(left)
            left = b""
    if left:
        hear(left)


def prepare_bundle(bundle: Path, command: sandbox.Command) -> None:
    """Writes the bundle of a command: an empty root, or the one that it has, and the container's configuration.

    Raises:
        NoSpace, NotPermitted: the folder cannot be made.
    """
    root = command.root or bundle / sandboxed.ROOT_FOLDER
    try:
        if bundle.exists():
            sandboxed.clean(str(bundle))
            for name in (sandboxed.ERROR_FILE, "stdin", COMMAND_FILE):
                (bundle / name).unlink(missing_ok=True)
            if command.root is None:
                shutil.rmtree(root, ignore_errors=True)
        (bundle / sandboxed.STATE_FOLDER).mkdir(parents=True, exist_ok=True)
        root.mkdir(exist_ok=True)
    except OSError as error:
        raise map_os_error(error, "cannot prepare a sandbox", where=bundle) from error
    if command.root is None:
        try:
            _fill(root)
        except OSError as error:
            raise map_os_error(error, "cannot prepare a sandbox", where=error.filename) from error
    document = serialize_config(sandbox.specification(command), str(root))
    write_file(bundle / sandboxed.CONFIG_FILE, canonical(document))


def _fill(root: Path) -> None:
    """Makes the links to /usr that this machine's root has, and copies the small files of /etc."""
    for name in sandbox.SYSTEM:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), root / name)
    for name in sandbox.ETC_FILES:
        source, target = f"/etc/{name}", root / "etc" / name
        if os.path.isfile(source):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def _package_folder() -> str:
    import wherry

    return str(Path(wherry.__file__).parent.parent)
