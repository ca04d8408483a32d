"""The command in a process of its own, a machine with a busybox image, and a real hub."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.busybox import make_tree

PASSWORD = "a long enough password"
COMPOSE = """\
services:
  web:
    image: web:1.0
    command: ["/bin/httpd", "-f", "-p", "8080"]
    environment:
      TZ: UTC
    ports:
      - "18080:8080"
"""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, kw_only=True)
class Cli:
    """Runs ``wherry`` on one machine, in one folder."""

    machine: Path
    cwd: Path
    env: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.machine / "home"),
            "LC_ALL": "C.UTF-8",
            "WHERRY_ROOT": str(self.machine / "root"),
            "WHERRY_RUN_ROOT": str(self.machine / "run"),
            **self.env,
        }

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "wherry", *args],
            cwd=self.cwd,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *args: str, status: int = 0) -> Done:
        process = self.start(*args)
        out, err = process.communicate(timeout=60)
        assert process.returncode == status, f"wherry {' '.join(args)}: {process.returncode}\n{out}\n{err}"
        return Done(status=process.returncode, out=out, err=err)

    def at(self, cwd: Path) -> Cli:
        return replace(self, cwd=cwd)

    def with_env(self, **env: str) -> Cli:
        return replace(self, env={**self.env, **env})


def one_line(text: str) -> str:
    """Returns an error, which must be one line in Wherry's form."""
    assert re.fullmatch(r"wherry: .*\n", text), text
    return text.removeprefix("wherry: ").rstrip("\n")


@pytest.fixture(scope="session")
def busybox_machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine whose store has busybox images web:1.0 and web:1.1; to be copied."""
    base = tmp_path_factory.mktemp("machine")
    tree = make_tree(base / "tree", "sh httpd true")
    cli = Cli(machine=base, cwd=base)
    cli("image", "import", str(tree), "--name", "web:1.0")
    (tree / "etc/version").write_text("1.1\n")
    cli("image", "import", str(tree), "--name", "web:1.1")
    shutil.rmtree(tree)
    return base


@pytest.fixture(scope="session")
def templates(busybox_machine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two projects to be copied: ``new``, with one app and not yet committed, and ``good``, the same committed."""
    base = tmp_path_factory.mktemp("templates")
    cli = Cli(machine=busybox_machine, cwd=base)
    cli("init", "new", "--name", "kiosk")
    (base / "new/compose.yaml").write_text(COMPOSE)
    (base / "new/config/web").mkdir()
    (base / "new/config/web/index.html").write_text("hello\n")
    copy_tree(base / "new", base / "good")
    cli.at(base / "good")("commit", "-m", "first")
    return base


def copy_tree(source: Path, dest: Path) -> None:
    """Copies with extended attributes, which a bare-user repository keeps its metadata in."""
    subprocess.run(["cp", "-a", str(source), str(dest)], check=True)


def head_of(project: Cli) -> str:
    """Returns the newest revision, from the store's own file."""
    return (project.cwd / ".wherry/store/refs/heads/revision/kiosk").read_text().strip()


@pytest.fixture
def cli(tmp_path: Path, busybox_machine: Path) -> Cli:
    machine = tmp_path / "machine"
    machine.mkdir()
    copy_tree(busybox_machine / "root", machine / "root")
    return Cli(machine=machine, cwd=tmp_path)


@pytest.fixture
def project(cli: Cli, templates: Path) -> Cli:
    """A project with one app, not yet committed."""
    copy_tree(templates / "new", cli.cwd / "kiosk")
    return cli.at(cli.cwd / "kiosk")


@pytest.fixture
def good(cli: Cli, templates: Path) -> Cli:
    """The same project with one revision."""
    copy_tree(templates / "good", cli.cwd / "kiosk")
    return cli.at(cli.cwd / "kiosk")


@dataclass(kw_only=True)
class Hub:
    """A hub process."""

    folder: Path
    cli: Cli
    process: subprocess.Popen[str]
    url: str

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=20)


@pytest.fixture
def hub(cli: Cli, tmp_path: Path) -> Iterator[Hub]:
    folder, ready = tmp_path / "hub", tmp_path / "hub-ready"
    by_password = cli.with_env(WHERRY_HUB_PASSWORD=PASSWORD)
    by_password("hub", "init", str(folder))
    process = cli.start("hub", "serve", "--dir", str(folder), "--listen", "127.0.0.1:0", "--ready-file", str(ready))
    running = Hub(folder=folder, cli=cli, process=process, url="")
    try:
        deadline = time.monotonic() + 30
        while not (ready.exists() and ready.read_text().strip()):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "the hub does not start"
            time.sleep(0.05)
        running.url = ready.read_text().strip()
        by_password("fleet", "login", running.url)
        yield running
    finally:
        running.stop()
