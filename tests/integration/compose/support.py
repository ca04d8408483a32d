"""``wherry compose`` in a folder."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.integration.engine.support import IMAGE, Cli, Result

from wherry.core.jsonio import loads


class Compose:
    """A project: a folder with a ``compose.yaml``, whose services are of the test image unless they say otherwise."""

    def __init__(self, cli: Cli, folder: Path) -> None:
        self.cli, self.folder = cli, folder

    def write(self, text: str, name: str = "compose.yaml") -> None:
        """Writes a file; ``IMAGE`` stands for the test image and a short patience."""
        (self.folder / name).write_text(text.replace("IMAGE", f"image: {IMAGE}, stop_grace_period: 1s"))

    def run(self, *args: str, status: int | None = 0, **options: Any) -> Result:
        """Runs ``wherry compose`` to its end."""
        return self.cli.run("compose", *args, status=status, cwd=self.folder, **options)

    def start(self, *args: str, **options: Any) -> subprocess.Popen[bytes]:
        """Starts ``wherry compose``."""
        return self.cli.start("compose", *args, cwd=self.folder, **options)

    def ps(self) -> dict[str, dict[str, Any]]:
        """Returns the project's containers by name."""
        lines = self.run("ps", "-a", "--format", "json").stdout.splitlines()
        return {found["Name"]: found for found in map(loads, lines)}

    def ids(self) -> dict[str, str]:
        """Returns the ids of the project's containers by name."""
        return {name: found["ID"] for name, found in self.ps().items()}

    def left(self) -> list[str]:
        """Returns what is left of containers, networks, volumes and files."""
        found = self.cli.run("ps", "-aq").stdout.split()
        for name in ("networks", "volumes", "compose"):
            folder = self.cli.root / name
            found += [str(path) for path in folder.iterdir()] if folder.is_dir() else []
        return found
