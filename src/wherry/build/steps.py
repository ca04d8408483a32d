"""Steps of a build: what each needs, what it makes, and the key that names its result.

A step fills a folder of its own from the folders of the steps that it needs. Its key is a digest of all that its result
depends on: its own inputs and the keys of those steps. Where a result of that key is kept, the step is not taken again
(`executing.py`). So a step must read nothing that is not in its key: no clock, no host name, no place on this machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wherry.core.errors import InvalidInput
from wherry.core.jsonio import canonical
from wherry.core.progress import Progress

if TYPE_CHECKING:
    from wherry.runtime.spec import Mount


class Place(Protocol):
    """Where a step does its work, and what it may call."""

    output: Path
    """An empty folder, to be filled: the result."""
    scratch: Path
    """An empty folder that is thrown away."""
    kept: Path
    """A folder that stays from one run of this step in this workspace to the next, whatever the key: for incremental
    work. What is in it must not change the result."""
    downloads: Path
    """A folder that all builds share, for what is fetched; a file in it counts only by its digest."""
    inputs: Mapping[str, Path]
    """The results of the steps that this one needs, by name; to be read only."""
    progress: Progress

    def say(self, line: str) -> None:
        """Writes a line to the step's log."""

    def warn(self, line: str) -> None:
        """Writes a line to the step's log that a person shall see when the build is done, too."""

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
        """Runs a program in the step's sandbox, with what it prints in the log.

        It sees this machine's ``/usr`` and what a program needs besides, read only; `output`, `scratch` and `kept` to
        write to, the inputs and downloads to read; a ``/tmp`` of its own; no network unless the step fetches. The
        folders are there under their own paths, and as ``/build/output``, ``/build/scratch``, ``/build/kept``,
        ``/build/downloads`` and ``/build/in/NAME``, which are the same everywhere: use these where a path gets into
        the result.

        Args:
            args: the program and its arguments.
            cwd: where it starts; None is `scratch`.
            env: variables besides PATH, HOME, LC_ALL and SOURCE_DATE_EPOCH, which it always has, and nothing else.
            stdin: bytes for its standard input; None gives it an empty one.
            readable: more that it may read.
            writable: more that it may write to.
            mounts: more mounts, as the runtime has them: an overlay.
            root: a root file system in whose place it runs, in place of this machine's; written to.
            on_line: called with each line that it prints.

        Raises:
            ToolError: it failed; the error has the end of what it printed.
        """

    def read(
        self,
        args: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        readable: Sequence[Path] = (),
    ) -> str:
        """Runs a program as `run` does, and returns what it wrote on its standard output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step."""

    name: str
    """A word, the step's name in the plan: ``kernel``."""
    what: str
    """What a person sees while it goes on: ``compile the kernel``."""
    work: Callable[[Place], None]
    inputs: Mapping[str, str] = field(default_factory=dict)
    """All that the result depends on, by name: digests, versions, texts."""
    needs: tuple[str, ...] = ()
    """Names of steps before this one, whose results it reads."""
    layer: str = ""
    """The layer that it is done for; "" where there is no single one."""
    network: bool = False
    """Whether it fetches; such a step checks what it fetched by digests that are in `inputs`."""
    makes_roots: bool = False
    """Whether its programs mount, change root and make device nodes, as those do that make root file systems."""
    kept: bool = True
    """Whether its result is kept for other builds; else it is taken every time that a step needs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a builder wants done, in order."""

    steps: tuple[Step, ...]
    root: str = ""
    """The step whose result has ``root/``: the host's files, with owners and modes as they shall be; "" for none."""
    boot: str = ""
    """The step whose result has ``boot/``: ``kernel``, ``initramfs`` (if any), ``dtb/VENDOR/NAME.dtb``, and
    ``firmware/`` for what boards put elsewhere; "" for none."""
    finished: bool = False
    """Whether root overlays, users and hooks are in ``root/`` already."""

    def step(self, name: str) -> Step:
        """Returns the step of that name.

        Raises:
            InvalidInput: there is none.
        """
        found = next((step for step in self.steps if step.name == name), None)
        if found is None:
            raise InvalidInput(f"no step {name!r}", hint=f"there are {', '.join(step.name for step in self.steps)}")
        return found

    def keys(self) -> dict[str, str]:
        """Returns each step's key: 64 hex digits.

        Raises:
            InvalidInput: a step stands before one that it needs, or two have one name.
        """
        keys: dict[str, str] = {}
        for step in self.steps:
            missing = [name for name in step.needs if name not in keys]
            if missing or step.name in keys:
                raise InvalidInput(f"step {step.name!r} stands before {missing[0]!r}" if missing else "one name twice")
            text = {"step": step.name, "inputs": dict(step.inputs), "needs": {name: keys[name] for name in step.needs}}
            keys[step.name] = hashlib.sha256(canonical(text)).hexdigest()
        return keys
