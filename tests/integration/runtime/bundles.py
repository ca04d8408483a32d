"""Bundles and the runtime's command, for the tests that run it as an engine would."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("wherry-runc")
Config = dict[str, Any]


class Bundle:
    """A bundle, and the runtime with states of its own."""

    def __init__(self, path: Path, rootfs: Path, *, prefix: tuple[str, ...] = ()) -> None:
        self.path = path
        self.root = path / "states"
        self.prefix = prefix
        path.mkdir(exist_ok=True)
        self.call("spec", "--bundle", str(path), *(("--rootless",) if prefix else ()), check=True)
        self.change(lambda config: config["root"].update(path=str(rootfs), readonly=False))
        self.change(lambda config: config["process"].update(terminal=False))

    def change(self, how: Callable[[Config], object]) -> None:
        file = self.path / "config.json"
        config = json.loads(file.read_text())
        how(config)
        file.write_text(json.dumps(config))

    def runs(self, *args: str) -> None:
        self.change(lambda config: config["process"].update(args=list(args)))

    def words(self, *args: str) -> list[str]:
        return [*self.prefix, str(COMMAND), "--root", str(self.root), *args]

    def call(self, *args: str, check: bool = False, **more: Any) -> subprocess.CompletedProcess[str]:
        """Runs one command; output goes through files, as a container would keep a pipe open."""
        out, errors = self.path / "stdout", self.path / "stderr"
        with out.open("w") as stdout, errors.open("w") as stderr:
            done = subprocess.run(
                self.words(*args), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, check=False, **more
            )
        found = subprocess.CompletedProcess(done.args, done.returncode, out.read_text(), errors.read_text())
        if check:
            assert found.returncode == 0, found.stderr
        return found

    def ok(self, *args: str, **more: Any) -> str:
        return self.call(*args, check=True, **more).stdout

    def state(self, name: str) -> Config:
        found: Config = json.loads(self.ok("state", name))
        return found

    def close(self) -> None:
        if self.root.exists():
            for entry in self.root.iterdir():
                self.call("delete", "--force", entry.name)
