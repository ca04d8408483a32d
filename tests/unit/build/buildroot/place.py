"""A place of a step that runs programs as they are, without a sandbox."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.place import Failed
from wherry.core.progress import QUIET, Progress

if TYPE_CHECKING:
    from wherry.runtime.spec import Mount


@dataclass(slots=True, kw_only=True)
class PlainPlace:
    """A `steps.Place` below a folder of a test."""

    top: Path
    inputs: Mapping[str, Path] = field(default_factory=dict)
    progress: Progress = QUIET
    said: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    """Word of a command -> what it prints, in the place of running it."""
    output: Path = field(init=False)
    scratch: Path = field(init=False)
    kept: Path = field(init=False)
    downloads: Path = field(init=False)

    def __post_init__(self) -> None:
        for name in ("output", "scratch", "kept", "downloads"):
            setattr(self, name, self.top / name)
            (self.top / name).mkdir(parents=True, exist_ok=True)

    def say(self, line: str) -> None:
        """Keeps a line."""
        self.said.append(line)

    def warn(self, line: str) -> None:
        """Keeps a line."""
        self.said.append(f"warning: {line}")

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
        """Runs a program, or answers in its place."""
        said = self._answer(args)
        if said is None:
            done = subprocess.run(list(args), cwd=cwd or self.scratch, capture_output=True, text=True, check=False)
            said, status = done.stdout + done.stderr, done.returncode
        else:
            status = 1 if "FAILS" in said else 0
        for line in said.splitlines():
            if on_line is not None:
                on_line(line)
        if status:
            raise Failed(f"exit status {status}", where=args[0], tail=said.splitlines())

    def read(
        self,
        args: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        readable: Sequence[Path] = (),
    ) -> str:
        """Answers."""
        return self._answer(args) or ""

    def _answer(self, args: Sequence[str]) -> str | None:
        return next((text for word, text in self.answers.items() if word in args), None)
