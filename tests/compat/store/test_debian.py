"""A real Debian root tree through both programs, by all ways at once."""

from __future__ import annotations

from pathlib import Path

from tests.compat.store.archive_server import serving
from tests.compat.store.conftest import ostree

from wherry.core.digest import Ref
from wherry.core.http import HttpClient
from wherry.store.care.fsck import fsck
from wherry.store.format.objects import Mode
from wherry.store.pull.pull import RemotePull
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_directory
from wherry.store.tree.walk import walk


def test_debian(tmp_path: Path, debian: Path) -> None:
    ours = Repository.init(tmp_path / "ours", Mode.ARCHIVE)
    commit = commit_directory(ours, debian, timestamp_s=0, ref=Ref("debian"), subject="s")
    assert sum(1 for _ in walk(ours, commit)) > 6000
    user = Repository.init(tmp_path / "user", Mode.BARE_USER)
    assert commit_directory(user, debian, timestamp_s=0, ref=Ref("debian"), subject="s") == commit
    for repo in (ours, user):
        ostree("fsck", "-q", f"--repo={repo.path}")

    other = tmp_path / "theirs"
    ostree("init", f"--repo={other}", "--mode=archive")
    assert ostree("commit", f"--repo={other}", "-b", "debian", "-s", "s", "--timestamp=@0", debian).strip() == commit
    assert fsck(Repository.open(other)).ok

    with serving(other) as server:
        pulled = Repository.init(tmp_path / "pulled", Mode.BARE_USER)
        client = HttpClient(server.url)
        pull = RemotePull(pulled, client)
        plan = pull.plan([commit])
        pull.commit(plan) if not plan.missing_files else pull.fetch(plan)
        assert set(server.objects().values()) == {1}
        client.close()
    pulled.set_ref(Ref("debian"), commit)
    ostree("fsck", "-q", f"--repo={pulled.path}")

    with serving(ours.path) as server:
        ostree("init", f"--repo={tmp_path}/theirs-user", "--mode=bare-user")
        ostree("remote", "add", f"--repo={tmp_path}/theirs-user", "--no-gpg-verify", "o", f"{server.url}/repo")
        ostree("pull", f"--repo={tmp_path}/theirs-user", "o", "debian")
    assert fsck(Repository.open(tmp_path / "theirs-user")).ok
