"""Refs that one program has put on a medium are found and pulled by the other; remotes are found alike."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.compat.store.conftest import ostree

from wherry.cli.root import run
from wherry.store.pull.finders import Finder, find_remotes, pull_found
from wherry.store.pull.usb import repositories_on
from wherry.store.refs import CollectionRef
from wherry.store.repository import Repository

COLLECTION = "org.example.Os"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes a repository in a collection with two refs, made by the real tool."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tree").mkdir()
    ostree("init", "--repo=source", "--mode=archive", f"--collection-id={COLLECTION}")
    for name in ("one", "two"):
        (tmp_path / "tree/file").write_text(name)
        ostree("commit", "--repo=source", "-b", name, "tree")
    ostree("summary", "--repo=source", "-u")
    return tmp_path / "source"


def client(source: Path) -> Repository:
    ostree("init", "--repo=client", "--mode=archive")
    ostree(
        "remote", "--repo=client", "add", "--no-gpg-verify", f"--collection-id={COLLECTION}", "os", f"file://{source}"
    )
    return Repository.open(Path("client"))


def refs_of(repo: str) -> list[str]:
    return sorted(ostree("refs", f"--repo={repo}", "--collections").splitlines())


@pytest.mark.parametrize("place", ["", "deep/er"])
def test_create_usb_as_ostree_does(source: Path, place: str, capfd: pytest.CaptureFixture[str]) -> None:
    more = [f"--destination-repo={place}"] if place else []
    for name in ("ours", "theirs"):
        Path(name).mkdir()
        words = ["create-usb", f"--repo={source}", *more, name]
        for ref in ("one", "two"):
            if name == "ours":
                assert run(["store", *words, COLLECTION, ref]) == 0
            else:
                ostree(*words, COLLECTION, ref)
    said = capfd.readouterr().out
    assert "Copied 1/1 refs successfully" in said
    where = place or ".ostree/repo"
    assert (
        refs_of(f"ours/{where}") == refs_of(f"theirs/{where}") == [f"({COLLECTION}, {ref})" for ref in ("one", "two")]
    )
    ostree("fsck", f"--repo=ours/{where}")
    for name in ("ours", "theirs"):  # the real tool makes a second link for the second ref
        links = {path.name: str(path.readlink()) for path in Path(name, ".ostree/repos.d").glob("00-*")}
        assert links == ({"00-generated": f"../../{place}"} if place else {})
    assert len(list(Path("ours/.ostree/repos.d").glob("*"))) == bool(place)
    assert [path.resolve() for path in repositories_on(Path("ours"))] == [Path("ours", where).resolve()]


@pytest.mark.parametrize(
    "words",
    [
        ["nowhere", COLLECTION, "one"], ["ours", COLLECTION, "none"], ["ours", COLLECTION], ["ours"],
        ["--destination-repo=../out", "ours", COLLECTION, "one"],
        ["--destination-repo=/out", "ours", COLLECTION, "one"],
        ["--commit=one", "ours", COLLECTION, "one", COLLECTION, "two"],
    ],
)  # fmt: skip
def test_refused(source: Path, words: list[str]) -> None:
    Path("ours").mkdir()
    assert run(["store", "create-usb", f"--repo={source}", *words]) == 1
    assert not Path("out").exists()


def test_find_remotes_prints_what_ostree_prints(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    client(source)
    for words in ([COLLECTION, "one"], [COLLECTION, "one", COLLECTION, "none"], ["org.example.Other", "one"]):
        assert run(["store", "find-remotes", "--repo=client", "--finders=config", *words]) == 0
        mine = capfd.readouterr().out
        assert mine == ostree("find-remotes", "--repo=client", "--finders=config", *words)
    for refused in (["--finders=lan"], ["--finders=config,config"], ["--finders=,"], ["--mirror"]):
        assert run(["store", "find-remotes", "--repo=client", *refused, COLLECTION, "one"]) == 1
    assert run(["store", "find-remotes", "--repo=client", "--pull", COLLECTION, "one"]) == 0
    assert "Pulled 1/1 refs successfully." in capfd.readouterr().out
    assert ostree("rev-parse", "--repo=client", "os:one") == ostree("rev-parse", f"--repo={source}", "one")


def test_the_newest_is_taken_from_where_it_is(source: Path) -> None:
    repo = client(source)
    Path("stick").mkdir()
    ostree("create-usb", f"--repo={source}", "stick", COLLECTION, "one", COLLECTION, "two")
    subprocess.run(["touch", "tree/file"], check=True)
    ostree("commit", f"--repo={source}", "-b", "two", "--timestamp=@4000000000", "tree")
    ostree("summary", f"--repo={source}", "-u")
    asked = [CollectionRef(COLLECTION, "one"), CollectionRef(COLLECTION, "two")]
    results = find_remotes(repo, asked, mounts=[Path("stick")])
    assert [result.finder for result in results] == [Finder.MOUNT, Finder.CONFIG]
    assert [[commit is not None for commit in result.refs.values()] for result in results] == [
        [True, False],
        [True, True],
    ]
    assert set(pull_found(repo, results)) == set(asked)
    assert ostree("rev-parse", "--repo=client", "os:two") == ostree("rev-parse", f"--repo={source}", "two")


def test_a_link_out_of_the_medium_is_not_followed(source: Path) -> None:
    Path("stick/.ostree/repos.d").mkdir(parents=True)
    Path("stick/.ostree/repos.d/00-evil").symlink_to(source)
    assert repositories_on(Path("stick")) == []
