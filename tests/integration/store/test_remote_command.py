"""``wherry store remote``, ``pull`` and ``summary`` on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.compat.store.archive_server import serving
from tests.unit.store.conftest import commit_files, make_repo

from wherry.store.format.objects import Mode, parse_dict
from wherry.store.repository import Repository
from wherry.store.summary import update_summary


def wherry(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wherry", "store", *args],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def at(user_repo: Repository) -> str:
    return f"--repo={user_repo.path}"


def test_add(at: str, user_repo: Repository) -> None:
    options = ("--collection-id=org.example.Os", "--contenturl=http://cdn/", "--set=http2=false", "--no-sign-verify")
    assert wherry("remote", "add", at, *options, "o", "http://host/repo", "main", "other").returncode == 0
    text = (user_repo.path / "config").read_text()
    for line in ("url=http://host/repo", "branches=main;other;", "contenturl=http://cdn/", "http2=false",
                 "gpg-verify=false", "sign-verify=false", "collection-id=org.example.Os"):  # fmt: skip
        assert line in text.splitlines()
    assert wherry("remote", "add", at, "m", "metalink=http://host/x").returncode == 0
    assert wherry("remote", "show-url", at, "m").stdout == "metalink=http://host/x\n"
    for args, said in (
        (("--gpg-import=x", "p", "http://host/"), "no GPG"),
        (("--collection-id=bad", "p", "http://host/"), "Invalid collection ID"),
        (("--sign-verify=ed25519", "p", "http://host/"), "Failed to parse KEYTYPE"),
        (("--sign-verify=ed25519=x:y", "p", "http://host/"), "Invalid key reference"),
        (("--if-not-exists", "--force", "p", "http://host/"), "only specify one"),
        (("p",), "must be specified"),
    ):
        done = wherry("remote", "add", at, *args)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr


def test_a_summary_is_signed_with_the_keys_of_a_file(at: str, user_repo: Repository, tmp_path: Path) -> None:
    commit_files(user_repo, {"a": b"1"})
    key = Ed25519PrivateKey.generate()
    secret = b64encode(key.private_bytes_raw() + key.public_key().public_bytes_raw()).decode()
    keys = tmp_path / "secret.key"
    keys.write_text("no key\n")
    done = wherry("summary", at, "-u", f"--keys-file={keys}")
    assert done.returncode == 1
    assert not (user_repo.path / "summary").exists()
    keys.write_text(f"{secret}\n")
    assert wherry("summary", at, "-u", f"--keys-file={keys}").returncode == 0
    signed = user_repo.path / "summary.sig"
    (signature,) = parse_dict(signed.read_bytes())["ostree.sign.ed25519"]
    key.public_key().verify(signature, (user_repo.path / "summary").read_bytes())


def test_refs_and_summary_of_a_remote(at: str, archive: Repository) -> None:
    commit = commit_files(archive, {"a": b"1"})
    update_summary(archive, metadata={"key": "value"})
    with serving(archive.path) as server:
        wherry("remote", "add", at, "--no-sign-verify", "o", f"{server.url}/repo")
        assert wherry("remote", "refs", at, "o").stdout == "o:main\n"
        assert wherry("remote", "refs", at, "-r", "o").stdout == f"o:main\t{commit}\n"
        shown = wherry("remote", "summary", at, "o").stdout
        assert "* main\n" in shown
        assert "key: 'value'\n" in shown
        assert wherry("remote", "summary", at, "--print-metadata-key=key", "o").stdout == "'value'\n"
        assert "key" in wherry("remote", "summary", at, "--list-metadata-keys", "o").stdout.splitlines()
        assert wherry("remote", "summary", at, "--raw", "o").stdout.startswith("([('main', (uint64 ")


def test_headers_and_json(at: str, archive: Repository, tmp_path: Path) -> None:
    commit_files(archive, {"a": b"1", "b": b"2"})
    with serving(archive.path) as server:
        wherry("remote", "add", at, "--no-sign-verify", "o", f"{server.url}/repo")
        done = wherry("pull", at, "--json", "--http-header=X-A=b", "o:main")
        took = json.loads(done.stdout)
        assert (took["content_fetched"], took["objects"]) == (2, 2 + took["metadata_fetched"])
        again = json.loads(wherry("pull", at, "--json", "o:main").stdout)
        assert again["objects"] == again["metadata_fetched"] < took["metadata_fetched"]
        done = wherry("pull", at, "--http-header=X-A=b\nc", "o", "main")
        assert (done.returncode, "line break" in done.stderr) == (1, True)
        proxied = wherry("pull", at, "--network-retries=0", "o", "main", http_proxy="http://127.0.0.1:9")
        assert (proxied.returncode, "no connection" in proxied.stderr) == (1, True)
        direct = wherry("pull", at, "o", "main", http_proxy="http://127.0.0.1:9", no_proxy="127.0.0.1")
        assert direct.returncode == 0, direct.stderr


def test_pull_local(at: str, user_repo: Repository, archive: Repository, tmp_path: Path) -> None:
    commit = commit_files(archive, {"a": b"1", "b": b""})
    done = wherry("pull-local", at, str(archive.path))
    assert done.stdout.startswith("3 metadata, 2 content objects imported; ")
    assert user_repo.resolve("main") == commit
    for mode in (Mode.ARCHIVE, Mode.BARE_USER, Mode.BARE):
        other = make_repo(tmp_path / f"to-{mode}", mode)
        done = wherry("pull-local", f"--repo={other.path}", "--untrusted", "--remote=r", str(user_repo.path), "main")
        assert done.returncode == 0, done.stderr
        assert other.resolve("r:main") == commit
        assert wherry("fsck", f"--repo={other.path}").returncode == 0
    refused = wherry("pull-local", at, "--gpg-verify", str(archive.path))
    assert (refused.returncode, "no GPG" in refused.stderr) == (1, True)
