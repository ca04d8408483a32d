"""``wherry store``: where the repository comes from, JSON, errors in one line, signatures of remotes."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.compat.store.archive_server import ArchiveServer, serving
from tests.unit.store.conftest import commit_files

from wherry.cli.store import COMMANDS, store
from wherry.core.digest import Checksum
from wherry.store.format.objects import ObjectType
from wherry.store.pull.remote import add_remote
from wherry.store.repository import Repository


def wherry(*args: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    whole = {**os.environ, "WHERRY_ROOT": "/nonexistent", **env}
    command = [sys.executable, "-m", "wherry", "store", *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=whole, check=False)


def test_the_repository_is_found(user_repo: Repository, tmp_path: Path) -> None:
    commit_files(user_repo, {"a": b"1"})
    path = str(user_repo.path)
    for done in (
        wherry("refs", f"--repo={path}"),
        wherry(f"--repo={path}", "refs"),
        wherry("refs", OSTREE_REPO=path),
        wherry("refs", cwd=user_repo.path),
    ):
        assert (done.returncode, done.stdout) == (0, "main\n"), done.stderr
    done = wherry("refs", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: no repository is named; give --repo=PATH, or set OSTREE_REPO\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("refs --repo=/none", "no repository"),
        ("ls --repo=R nothing", "Refspec 'nothing' not found"),
        ("ls --repo=R main /none", "No such file or directory: /none"),
        ("cat --repo=R main /", "open directory"),
        ("commit --repo=R /none", "A branch must be"),
        ("commit --repo=R -b main /none", "cannot read the directory"),
        ("commit --repo=R -b ../x /etc/apt", "Invalid ref name"),
        ("commit --repo=R -b x --timestamp=soon /etc/apt", "no time"),
        ("commit --repo=R -b x --tree=tar=/none", "cannot read the archive"),
        ("checkout --repo=R main R", "File exists"),
        ("refs --repo=R --create=main main", "already"),
        ("pull --repo=R nowhere main", 'Remote "nowhere" not found'),
        ("pull --repo=R --url=ftp://host/ o main", "Invalid URI scheme in ftp://host/"),
        ("pull --repo=R --network-retries=0 o main", "no connection"),
        ("remote add --repo=R a/b http://x/", "Invalid remote name"),
        ("remote delete --repo=R nowhere", 'Remote "nowhere" not found'),
        ("show --repo=R --print-metadata-key=x main", "No such metadata key"),
        ("summary --repo=R --view", "no summary"),
    ],
)
def test_errors(user_repo: Repository, args: str, said: str) -> None:
    commit_files(user_repo, {"a": b"1"})
    add_remote(user_repo, "o", {"url": "http://127.0.0.1:9/repo"})
    done = wherry(*args.replace("R", str(user_repo.path)).split())
    assert done.returncode == 1, done.stderr  # as with ostree, whatever the error
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_json(user_repo: Repository) -> None:
    commit = commit_files(user_repo, {"a": b"123", "d/e": b""})

    def read(*args: str) -> Any:
        done = wherry(f"--repo={user_repo.path}", *args, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    listing = read("ls", "-R", "main")
    assert [item["path"] for item in listing] == ["/", "/a", "/d", "/d/e"]
    assert listing[1]["size"] == 3
    assert listing[1]["mode"] == "0644"
    assert read("refs") == {"main": commit}
    assert read("log", "main")[0]["commit"] == commit
    assert read("show", "main")["subject"] == "test"
    assert read("fsck")["commits"] == 1
    assert read("remote", "list") == []
    assert read("diff", "main", "main") == []


def commands(group: click.Group, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*words, word))
        yield (*words, word), command


def test_every_command_has_an_example() -> None:
    found = dict(commands(store, ()))
    assert len(found) > len(COMMANDS)
    for words, command in found.items():
        assert command.epilog, words
        assert f"wherry store {' '.join(words)}" in command.epilog.replace(" --repo=repo", ""), words
        assert command.help, words


def test_nothing_heavy_is_imported_for_help() -> None:
    script = (
        "import sys; from wherry.cli.root import run; run(['store', '--help']); "
        "heavy = ('isal', 'urllib3', 'wherry.store.repository', 'cryptography'); "
        "print(sorted(name for name in heavy if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# --- remotes that want signatures


class Signed:
    def __init__(self, repo: Repository, server: ArchiveServer) -> None:
        self.repo, self.server = repo, server
        self.private = Ed25519PrivateKey.generate()

    @property
    def key(self) -> str:
        return base64.b64encode(self.private.public_key().public_bytes_raw()).decode()

    def sign(self, commit: Checksum) -> None:
        data = self.repo.metadata_bytes(ObjectType.COMMIT, commit)
        self.repo.write_detached(commit, {"ostree.sign.ed25519": [bytes(64), self.private.sign(data)]})


@pytest.fixture
def signed(archive: Repository) -> Iterator[Signed]:
    commit_files(archive, {"a": b"1"})
    with serving(archive.path) as server:
        yield Signed(archive, server)


def test_signatures(signed: Signed, user_repo: Repository, tmp_path: Path) -> None:
    at = f"--repo={user_repo.path}"
    url = f"{signed.server.url}/repo"
    (tmp_path / "keys").write_text(f"# owner\n{signed.key}\n")
    assert wherry("remote", "add", at, f"--sign-verify=ed25519=inline:{signed.key}", "o", url).returncode == 0
    assert wherry("remote", "add", at, f"--sign-verify=ed25519=file:{tmp_path}/keys", "f", url).returncode == 0
    assert wherry("remote", "add", at, "g", url).returncode == 0
    done = wherry("pull", at, "o", "main")
    assert done.returncode == 1
    assert "no signatures of my type" in done.stderr
    assert list(user_repo.list_objects()) == []
    signed.sign(signed.repo.resolve("main"))
    for name in ("o", "f"):
        done = wherry("pull", at, name, "main")
        assert done.returncode == 0, done.stderr
        assert user_repo.resolve(f"{name}:main") == signed.repo.resolve("main")
    other = base64.b64encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
    assert wherry("remote", "add", at, "--force", f"--sign-verify=ed25519=inline:{other}", "o", url).returncode == 0
    assert wherry("pull", at, "o", "main").returncode == 1
    done = wherry("pull", at, "g", "main")
    assert (done.returncode, "GPG" in done.stderr) == (1, True)


def test_a_commit_for_another_ref_is_refused(signed: Signed, user_repo: Repository) -> None:
    at = f"--repo={user_repo.path}"
    signed.repo.set_ref("stolen", signed.repo.resolve("main"))  # type: ignore[arg-type]
    wherry("remote", "add", at, "--no-gpg-verify", "o", f"{signed.server.url}/repo")
    done = wherry("pull", at, "o", "stolen")
    assert done.returncode == 1
    assert "has no requested ref" in done.stderr
    assert user_repo.refs() == {}
    assert wherry("pull", at, "--disable-verify-bindings", "o", "stolen").returncode == 0
