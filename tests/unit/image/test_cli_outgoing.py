"""``wherry image save`` and ``serve``, and several platforms on the command line."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.unit.image.makers import Layout, file, make_tar

from wherry.cli.root import run
from wherry.image.catalog import Images
from wherry.image.indexes import record_index
from wherry.image.platforms import Platform
from wherry.image.reference import Reference
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository

Machine = Callable[..., SimpleNamespace]


@pytest.fixture
def wherry(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Machine:
    def call(*args: str) -> SimpleNamespace:
        status = run(["--root", str(tmp_path / "root"), "--run-root", str(tmp_path / "run"), *args])
        out, err = capsysbinary.readouterr()
        return SimpleNamespace(status=status, out=out, err=err.decode())

    return call


@pytest.fixture
def both(wherry: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A store with ``both:1``, for two platforms."""
    monkeypatch.setattr(Platform, "of_this_machine", classmethod(lambda cls: cls(architecture="amd64")))
    repo = Repository.init(tmp_path / "root/store", Mode.BARE_USER)
    repo.config.set("core", "fsync", "false")
    repo.save_config()
    for architecture in ("amd64", "arm64"):
        made = Layout(tmp_path / architecture)
        made.add(made.image([make_tar(file("x", architecture))], architecture=architecture))
        args = (f"oci:{made.path}", f"--name={architecture}:1", f"--platform=linux/{architecture}", "--keep-layers")
        assert wherry("image", "import", *args).status == 0
    members = [Images(repo).get(f"{architecture}:1") for architecture in ("amd64", "arm64")]
    record_index(repo, Reference.parse("both:1"), members)
    return repo


def test_platforms_are_shown(both: Repository, wherry: Machine) -> None:
    assert len(wherry("image", "ls").out.splitlines()) == 4
    lines = wherry("image", "ls", "both", "--all-platforms").out.decode().splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["both", "1", "linux/amd64"], ["both", "1", "linux/arm64"]]
    shown = json.loads(wherry("image", "inspect", "both:1").out)[0]
    assert (shown["Architecture"], shown["Platforms"]) == ("amd64", ["linux/amd64", "linux/arm64"])
    assert json.loads(wherry("image", "inspect", "both:1", "--platform=arm64").out)[0]["Architecture"] == "arm64"
    missing = wherry("image", "inspect", "both:1", "--platform=riscv64")
    assert (missing.status, "linux/amd64, linux/arm64" in missing.err) == (3, True)


def test_removing_one_name_of_several_platforms(both: Repository, wherry: Machine) -> None:
    assert wherry("image", "rm", "amd64:1", "arm64:1").status == 0
    assert wherry("image", "inspect", "both:1", "--platform=arm64").status == 0, "its files are still there"
    commits = set(both.commits())
    assert wherry("image", "rm", "both:1").status == 0
    assert not both.refs()
    assert commits
    assert not set(both.commits()), "nothing of it stays"


def test_pruning(both: Repository, wherry: Machine) -> None:
    assert wherry("image", "prune", "-f").status == 0
    assert len(both.refs("image-platform")) == 1
    assert wherry("image", "prune", "-af").status == 0
    assert not both.refs()
    assert not set(both.commits())


def test_save(both: Repository, wherry: Machine, tmp_path: Path) -> None:
    archive = wherry("image", "save", "both:1", "arm64:1")
    assert archive.status == 0
    with tarfile.open(fileobj=io.BytesIO(archive.out)) as opened:
        names = opened.getnames()
    assert "manifest.json" in names
    assert len([name for name in names if name.startswith("blobs/sha256/")]) == 6
    assert wherry("save", "both:1", "arm64:1", "-o", str(tmp_path / "x.tar")).status == 0
    assert (tmp_path / "x.tar").read_bytes() == archive.out
    one = wherry("image", "save", "both:1", "--platform=arm64")
    assert b"arm64" in one.out
    every = wherry("image", "save", "both:1", "--all-platforms", "--format=oci-dir", "-o", str(tmp_path / "dir"))
    assert every.status == 0
    index = json.loads((tmp_path / "dir/index.json").read_bytes())
    assert index["manifests"][0]["mediaType"] == "application/vnd.oci.image.index.v1+json"
    (tmp_path / "dir/blobs/sha256" / index["manifests"][0]["digest"][7:]).read_bytes()


@pytest.mark.parametrize(
    ("args", "status", "told"),
    [
        (("save", "none:1"), 3, "no such image"),
        (("save", "both:1", "--format=oci-dir"), 2, "-o DIR"),
        (("save", "both:1", "--platform=arm64", "--all-platforms"), 2, "exclude"),
        (("save", "both:1", "-o", "/no/such/folder/x.tar"), 1, "/no/such/folder"),
        (("save", "both:1", "--platform=x/y/z/w"), 5, "platform"),
        (("serve", "--push"), 2, "--htpasswd"),
        (("serve", "--delete"), 2, "--push"),
        (("serve", "--login-to-read"), 2, "--htpasswd"),
        (("serve", "--tls-cert=x"), 2, "--tls-key"),
        (("serve", "--listen=nowhere"), 5, "127.0.0.1"),
        (("serve", "--htpasswd=/no/such/file"), 1, "/no/such/file"),
        (("serve", "--listen=192.0.2.1:0"), 4, "--listen"),
    ],
)
def test_what_is_refused(both: Repository, wherry: Machine, args: tuple[str, ...], status: int, told: str) -> None:
    found = wherry("image", *args)
    assert (found.status, told in found.err) == (status, True), found.err


def test_not_to_a_terminal(both: Repository, wherry: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    found = wherry("image", "save", "both:1")
    assert (found.status, found.out) == (2, b"")
    assert "terminal" in found.err
