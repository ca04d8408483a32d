"""A real Debian root, imported and mounted, is the tree that tar unpacks."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
from tests.compat.composefs.conftest import Tool
from tests.compat.composefs.test_mkcomposefs import dump_commit
from tests.integration.composefs.conftest import facts, mounted
from tests.unit.image.makers import make_repo

from wherry.core.lock import file_lock
from wherry.core.proc import run
from wherry.image.importing import import_image
from wherry.store.mount.composefs import image_of_tree, write_image
from wherry.store.tree.checkout import checkout

CACHE = Path("build/cache")
EPOCH = "1767225600"


@pytest.fixture(scope="session")
def debian() -> Path:
    """The smallest Debian root, as a tar; made once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / "debian-minbase.tar"
    with file_lock(CACHE / ".lock"):
        if not path.exists():
            new = path.with_suffix(".tmp.tar")
            environment = {"SOURCE_DATE_EPOCH": EPOCH, "PATH": os.environ["PATH"]}
            run(["mmdebstrap", "--variant=minbase", "--mode=root", "bookworm", str(new)], env=environment)
            new.rename(path)
    return path


@pytest.mark.deep
def test_a_debian_root(debian: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    run(["tar", "-C", str(tree), "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xf", str(debian)])
    repo = make_repo(tmp_path / "repo")
    record = import_image(repo, str(debian), name="debian:12")
    write_image(repo, record.commit, tmp_path / "image")
    begin = time.perf_counter()
    write_image(repo, record.commit, tmp_path / "image")
    took = time.perf_counter() - begin
    run(["fsck.erofs", str(tmp_path / "image")])
    with mounted(tmp_path / "image", repo.objects_dir, tmp_path) as root:
        count = _compare(tree, root)
    assert count > 6000
    assert took < 2  # a quarter of a second, on a quiet machine
    assert (tmp_path / "image").stat().st_size < 2_000_000
    run(["ostree", f"--repo={repo.path}", "fsck"])


@pytest.mark.deep
def test_a_debian_root_as_mkcomposefs_has_it(
    debian: Path, tmp_path: Path, mkcomposefs: Tool, composefs_info: Tool
) -> None:
    """The image of a commit, and the digests in the image of a folder, byte for byte and all of them."""
    repo = make_repo(tmp_path / "repo")
    commit = import_image(repo, str(debian), name="debian:12").commit
    found = repo.load_commit(commit)
    for whole in (False, True):
        (tmp_path / "dump").write_bytes(dump_commit(repo, commit, digests=whole, top_folders=whole))
        mkcomposefs("--from-file", tmp_path / "dump", tmp_path / "theirs")
        ours = image_of_tree(repo, found.tree, found.meta, digests=whole, top_folders=whole)
        assert ours == (tmp_path / "theirs").read_bytes()
    tree = tmp_path / "tree"
    checkout(repo, commit, tree)
    mkcomposefs("--use-epoch", tree, tmp_path / "folder")
    digests: dict[str, str] = {}
    for image in ("theirs", "folder"):
        lines = composefs_info("dump", tmp_path / image).decode().splitlines()
        digests[image] = "\n".join(
            sorted(
                f"{fields[0]} {fields[10]}"
                for fields in map(str.split, lines)
                if int(fields[1]) > 64 and fields[10] != "-"
            )
        )
    assert digests["theirs"] == digests["folder"]
    assert digests["theirs"].count("\n") > 5000


def _compare(first: Path, second: Path) -> int:
    expected, found = facts(first), facts(second)
    if "names" in expected:
        names = [name for name in os.listdir(first) if not _is_device(first / name)]
        expected["names"] = sorted(names)
        assert expected == found, first
        return 1 + sum(_compare(first / name, second / name) for name in names)
    assert expected == found, first
    return 1


def _is_device(path: Path) -> bool:
    mode = os.lstat(path).st_mode
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISFIFO(mode)
