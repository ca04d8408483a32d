"""Debian's docker-registry on a loopback address: anonymous, with passwords, with TLS of its own authority."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.image.makers import Layout, directory, file, make_tar, symlink

from wherry.core.proc import run

_START_S = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    domain: str
    log: Path

    def skopeo(self, *args: str) -> bytes:
        """Runs skopeo; ``REGISTRY`` in an argument is this one."""
        return run(["skopeo", *(arg.replace("REGISTRY", f"docker://{self.domain}") for arg in args)]).stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A command of one root folder."""

    root: Path
    environment: dict[str, str]

    def __call__(self, *args: str, status: int = 0, stdin: bytes | None = None) -> str:
        command = [sys.executable, "-m", "wherry", "--root", str(self.root), "--run-root", f"{self.root}-run", *args]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=120, env=self.environment)
        assert done.returncode == status, done.stderr.decode()
        return (done.stdout if not status else done.stderr).decode()


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], Machine]:
    def make(name: str) -> Machine:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(home)}
        return Machine(root=tmp_path / name, environment=environment)

    return make


@pytest.fixture
def start_registry(tmp_path: Path) -> Iterator[Callable[[str, str], Registry]]:
    running: list[subprocess.Popen[bytes]] = []

    def start(http: str = "", more: str = "") -> Registry:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            domain = f"127.0.0.1:{found.getsockname()[1]}"
        folder = tmp_path / f"registry-{len(running)}"
        folder.mkdir()
        (folder / "config.yml").write_text(
            "version: 0.1\nlog: {level: error}\n"
            f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '{domain}'{http}}}\n{more}"
        )
        log = folder / "log"
        with log.open("wb") as file:
            running.append(
                subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")], stdout=file, stderr=file)
            )
        deadline = time.monotonic() + _START_S
        host, port = domain.split(":")
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                break
            except OSError:
                assert running[-1].poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        return Registry(domain=domain, log=log)

    yield start
    for process in running:
        process.terminate()
        process.wait()


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[list[str]]:
    """A podman of its own."""
    with tempfile.TemporaryDirectory(prefix="podman-") as run_root:  # it takes no path of more than 50 characters
        yield ["podman", f"--root={tmp_path}/podman", f"--runroot={run_root}", "--storage-driver=vfs"]
    shutil.rmtree(tmp_path / "podman", ignore_errors=True)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An image of two layers, for two platforms."""
    made = Layout(tmp_path / "layout")
    manifests = []
    for architecture in ("amd64", "arm64"):
        base = make_tar(directory("bin"), file("bin/app", architecture * 1000, mode=0o755), symlink("app", "bin/app"))
        config = {"config": {"Cmd": ["/bin/app"]}, "created": "2026-01-02T03:04:05Z"}
        manifests.append(made.image([base, make_tar(file("top", "top"))], config=config, architecture=architecture))
    index = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    made.add(made.blob(index, "application/vnd.oci.image.index.v1+json"), "both")
    made.add(manifests[0], "one")
    return made
