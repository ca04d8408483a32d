"""What our commands print is what ``ostree`` prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.compat.store.conftest import make_source, ostree


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("formats")
    source = base / "source"
    source.mkdir()
    make_source(source)
    path = base / "repo"
    ostree("init", f"--repo={path}", "--mode=archive")
    commit = ["commit", f"--repo={path}", "-b", "os/main"]
    ostree(*commit, "-s", "First", "-m", "two\nlines", "--timestamp=@0", "--add-metadata-string=version=1.0", source)
    (source / "usr/bin/program").write_bytes(b"changed")
    (source / "empty").unlink()
    (source / "usr/lib/new/er").mkdir(parents=True)
    (source / "usr/lib/new/er/file").write_bytes(b"new")
    (source / "link").unlink()
    (source / "link").write_bytes(b"a file now")
    ostree(*commit, "--timestamp=@86400", "--add-detached-metadata-string=k=v", source)
    ostree("refs", f"--repo={path}", "--create=os/old", "os/main^")
    ostree("remote", "add", f"--repo={path}", "--no-gpg-verify", "origin", "http://example.com/repo")
    ostree("remote", "add", f"--repo={path}", "z", "http://example.com/z")
    ostree("summary", "-u", f"--repo={path}")
    return path


@pytest.mark.parametrize(
    "command",
    [
        "ls os/main",
        "ls -R os/main",
        "ls -C os/main /usr",
        "ls -X os/main^ /empty /usr/bin",
        "ls -d os/main /usr /dangling",
        "ls -R --nul-filenames-only os/main",
        "cat os/main /usr/bin/program /usr/lib/new/er/file",
        "log os/main",
        "log --raw os/main",
        "show os/main",
        "show os/main^",
        "show --raw os/main",
        "show --print-metadata-key=version os/main^",
        "show --print-metadata-key=ostree.ref-binding os/main",
        "show --print-detached-metadata-key=k os/main",
        "diff os/main",
        "diff os/main os/main^",
        "refs",
        "refs os",
        "refs --list os",
        "rev-parse os/main",
        "rev-parse os/main^",
        "remote list",
        "remote list -u",
        "remote show-url origin",
        "summary --view",
        "summary --raw",
        "prune --no-prune",
    ],
)
def test_same_words(repo: Path, command: str) -> None:
    words = command.split()
    count = 2 if words[0] == "remote" else 1
    args = [*words[:count], f"--repo={repo}", *words[count:]]
    expected = subprocess.run(["ostree", *args], capture_output=True, check=True)
    got = subprocess.run([sys.executable, "-m", "wherry", "store", *args], capture_output=True, check=False)
    assert got.returncode == 0, got.stderr
    if words[0] == "refs":  # ostree's order is that of a hash table
        assert sorted(got.stdout.split()) == sorted(expected.stdout.split())
    else:
        assert got.stdout.decode() == expected.stdout.decode()
