"""A running machine as an image: through a real OpenSSH server on loopback, with keys of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.integration.image.systems import make_tree
from tests.unit.image.makers import make_repo, show

from wherry.core.errors import NetworkError, NotFound, WherryError
from wherry.image.importing import import_image
from wherry.image.remote import Machine
from wherry.store.repository import Repository

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin")
pytestmark = [
    pytest.mark.skipif(SSHD is None, reason="openssh-server is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed: sshd starts a session as a user"),
]


@dataclass(frozen=True)
class Server:
    machine: Machine
    known_hosts: Path
    process: subprocess.Popen[bytes]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    (tmp_path / "authorized").write_text((tmp_path / "user.pub").read_text())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\n"
        "StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\nPasswordAuthentication no\n"
    )
    separation = Path("/run/sshd")  # where sshd's unprivileged part has its root
    made = not separation.exists()
    separation.mkdir(exist_ok=True)
    process = subprocess.Popen([str(SSHD), "-D", "-e", "-f", tmp_path / "config"], stderr=subprocess.DEVNULL)
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {(tmp_path / 'host.pub').read_text()}")
    options = (f"IdentityFile={tmp_path}/user", "IdentitiesOnly=yes", f"UserKnownHostsFile={known}",
               "GlobalKnownHostsFile=/dev/null")  # fmt: skip
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        machine = Machine(host="127.0.0.1", port=port, user=getpass.getuser(), options=options, ask=False)
        yield Server(machine, known, process)
    finally:
        process.terminate()
        process.wait(10)
        if made:
            separation.rmdir()


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "repo")


def test_a_machine(server: Server, repo: Repository, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "proc/1").touch()
    with open(tree / "etc/sparse", "wb") as file:
        file.truncate(50_000_000)
    machine = replace(server.machine, path=str(tree))
    record = import_image(repo, "ssh://127.0.0.1", name="robot:1", machine=machine)
    (tree / "proc/1").unlink()
    (tree / "tmp/leftover").unlink()
    assert show(repo, record.commit) == show(repo, import_image(repo, f"dir:{tree}", name="tree:1").commit)
    assert record.config.architecture == "amd64"
    assert "security.capability" in show(repo, record.commit)["usr/bin/ping"]


def test_a_tar_that_is_not_gnus(server: Server, repo: Repository, tmp_path: Path) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed")
    tree = make_tree(tmp_path / "tree")
    (tree / "proc/1").touch()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("tar", "sh", "grep"):
        (tools / name).symlink_to(busybox)
    authorized = tmp_path / "authorized"
    authorized.write_text(f'command="PATH={tools} ; eval \\"$SSH_ORIGINAL_COMMAND\\"" ' + authorized.read_text())
    notes: list[str] = []
    machine = replace(server.machine, path=str(tree))
    found = show(repo, import_image(repo, "ssh://x", name="a:1", machine=machine, note=notes.append).commit)
    assert any("no GNU tar" in text for text in notes)
    assert "usr/bin/su" in found
    assert not [name for name in found if name.startswith("proc")]
    assert "tmp/leftover" not in found


def test_the_whole_of_a_small_machine(server: Server, repo: Repository, tmp_path: Path) -> None:
    """The command for ``/`` as a machine gives it that has BusyBox alone: seen from a root of its own."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed")
    tree = make_tree(tmp_path / "tree")
    for name in ("sh", "ash"):
        (tree / "bin" / name).unlink()
    shutil.copy(busybox, tree / "bin/busybox")
    for name in ("sh", "tar", "grep", "cat"):
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "bin/serve").write_text('#!/bin/sh\nPATH=/bin; eval "$SSH_ORIGINAL_COMMAND"\n')
    (tree / "bin/serve").chmod(0o755)
    (tree / ".hidden").touch()
    authorized = tmp_path / "authorized"
    authorized.write_text(f'command="exec chroot {tree} /bin/serve" ' + authorized.read_text())
    found = show(repo, import_image(repo, "ssh://x", name="a:1", machine=server.machine).commit)
    assert ".hidden" in found
    assert found["tmp"] == "1777 0:0 dir"
    assert found["proc"] == "755 0:0 dir"
    assert found["usr/bin/su"].startswith("4755 ")


def test_what_goes_wrong(server: Server, repo: Repository, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such directory on the machine"):
        import_image(repo, "ssh://x", name="a:1", machine=replace(server.machine, path="/no/such"))
    known = server.known_hosts.read_text()
    server.known_hosts.write_text("")
    with pytest.raises(NetworkError, match="Host key verification failed"):
        import_image(repo, "ssh://x", name="a:1", machine=server.machine)
    server.known_hosts.write_text(known)
    (tmp_path / "authorized").write_text("")
    with pytest.raises(NetworkError, match="Permission denied"):
        import_image(repo, "ssh://x", name="a:1", machine=server.machine)
    assert not repo.refs()


def test_a_connection_that_breaks(server: Server, repo: Repository, tmp_path: Path) -> None:
    """The session is ended in the middle of the archive: nothing is imported, and the error says why."""
    tree = make_tree(tmp_path / "tree")
    with open(tree / "big", "wb") as file:
        file.writelines(os.urandom(1024 * 1024) for _ in range(400))
    killed: list[int] = []

    class Killer:
        def update(self, task: str, done: int, total: int | None, *, unit: str = "") -> None:
            if done > 20_000_000 and not killed:
                listed = subprocess.run(
                    ["ps", "-o", "pid=", "--ppid", str(server.process.pid)], capture_output=True, text=True, check=True
                )
                for word in listed.stdout.split():
                    killed.append(int(word))
                    os.kill(int(word), signal.SIGKILL)

    with pytest.raises(WherryError) as caught:
        import_image(repo, "ssh://x", name="a:1", machine=replace(server.machine, path=str(tree)), progress=Killer())
    assert killed
    assert isinstance(caught.value, NetworkError), caught.value
    assert not repo.refs()
