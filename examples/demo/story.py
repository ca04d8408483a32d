"""How the demo talks: chapters with times, the commands that it runs, and what they print."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_TTY = sys.stdout.isatty()


def _style(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if _TTY else text


class Story:
    """Prints chapters and runs commands, and remembers how long each chapter took."""

    def __init__(self, *, log: Path) -> None:
        self._began = time.monotonic()
        self._chapter = ("", self._began)
        self.times: list[tuple[str, float]] = []
        self._log = log

    def chapter(self, title: str) -> None:
        """Ends one chapter and begins the next."""
        now = time.monotonic()
        if self._chapter[0]:
            self.times.append((self._chapter[0], now - self._chapter[1]))
        self._chapter = (title, now)
        if title:
            print(f"\n{_style('1;36', f'[{now - self._began:5.1f} s] {title}')}", flush=True)

    def say(self, text: str) -> None:
        """Tells one fact."""
        for line in text.splitlines():
            print(f"          {line}", flush=True)

    def good(self, text: str) -> None:
        """Tells a fact that has just been checked."""
        print(f"     {_style('32', 'ok')}   {text}", flush=True)

    def run(
        self,
        args: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        show: bool = True,
        lines: int = 12,
        expect: int = 0,
    ) -> str:
        """Runs a command as a person would, shows it and the first lines it prints, and returns them all.

        Raises:
            SystemExit: it ended otherwise than expected.
        """
        shown = shlex.join(["wherry" if arg.endswith("/wherry") else arg for arg in args])
        if show:
            print(f"        {_style('2', '$ ' + shown)}", flush=True)
        done = subprocess.run(
            list(args), cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
        )
        with self._log.open("a") as log:
            log.write(f"$ {shlex.join(args)}\n{done.stdout}{done.stderr}\n")
        if done.returncode != expect:
            print(f"\ndemo: exit status {done.returncode} (expected {expect}): {shown}\n{done.stdout}{done.stderr}")
            raise SystemExit(1)
        if show:
            printed = (done.stdout + done.stderr).rstrip().splitlines()
            for line in printed[:lines]:
                self.say(line[:110])
            if len(printed) > lines:
                self.say(f"... ({len(printed) - lines} more lines)")
        return done.stdout

    def summary(self) -> None:
        """Prints how long each chapter took."""
        self.chapter("")
        print(f"\n{_style('1', 'Times')}")
        for title, seconds in self.times:
            print(f"  {seconds:6.1f} s  {title}")
        print(f"  {time.monotonic() - self._began:6.1f} s  in all", flush=True)
