"""Commits mounted as folders: every form that a kernel may need, what is kept for it, and how it ends.

The tests with ``kernel`` in their names also run under an older and a newer kernel: see test_old_kernel.py and
test_fs_verity.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.composefs.conftest import compare

from wherry.core.digest import Checksum, Ref
from wherry.core.errors import Conflict, IntegrityError, NotFound, Unsupported
from wherry.store.format.objects import Mode
from wherry.store.mount import images, mounting
from wherry.store.mount.images import Kind, prune_images
from wherry.store.mount.mounting import DataLayer, unmount
from wherry.store.mount.seen import mounts
from wherry.store.mount.trees import MountedTree, Verity, mount_commit
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_directory

KERNEL = tuple(int(part) for part in os.uname().release.split(".")[:2])
MODES = [Mode.BARE_USER, Mode.BARE, Mode.BARE_USER_ONLY]
MountIt = Callable[..., MountedTree]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree that every mode of repository can keep; its names are those of the folders of objects, too."""
    top = tmp_path / "tree"
    (top / "bin/deep/er").mkdir(parents=True)
    (top / "bin/tool").write_bytes(bytes(range(256)) * 100)
    (top / "bin/tool").chmod(0o755)
    (top / "bin/deep/er/empty").touch()
    (top / "bin/deep/link").symlink_to("../tool")
    (top / "00").mkdir()
    (top / "ff").write_text("a file")
    return top


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder to mount on; what is mounted there goes at the end."""
    target = tmp_path / "mnt"
    target.mkdir()
    yield target
    while any(seen.target == target for seen in mounts()):
        unmount(target, lazy=True)


@pytest.fixture(params=MODES)
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    return Repository.init(tmp_path / "repo", request.param)


def commit(repo: Repository, tree: Path) -> Checksum:
    return commit_directory(repo, tree, timestamp_s=0, ref=Ref("x"), canonical_permissions=True)


def leftovers() -> set[str]:
    return {name for name in os.listdir("/tmp") if name.startswith(".wherry-")}


def test_any_kernel_mounts(repo: Repository, tree: Path, place: Path) -> None:
    """By the newest form that this kernel has, and by hand what it should be."""
    before = leftovers()
    checksum = commit(repo, tree)
    done = mount_commit(repo, checksum, place)
    assert done.how == "composefs"
    assert done.data_layer is (DataLayer.DATA_ONLY if KERNEL >= (6, 5) else DataLayer.LOWER)
    assert done.loop is (KERNEL < (6, 12))
    assert compare(tree, place) == 9
    assert [(seen.commit, seen.read_only) for seen in mounts() if seen.target == place] == [(checksum, True)]
    with pytest.raises(OSError, match="Read-only"):
        (place / "new").touch()
    assert unmount(place) == checksum
    assert os.listdir(place) == []
    assert leftovers() == before


@pytest.mark.parametrize("layer", [DataLayer.LOWER, DataLayer.DATA_ONLY])
@pytest.mark.parametrize("loop", [True, None])
def test_every_form(repo: Repository, tree: Path, place: Path, layer: DataLayer, loop: bool | None) -> None:
    """What older kernels need, on this one."""
    checksum = commit(repo, tree)
    done = mount_commit(repo, checksum, place, data_layers=(layer,), loop=loop)
    assert (done.data_layer, done.loop) == (layer, bool(loop))
    assert compare(tree, place) == 9
    unmount(place)


def test_any_kernel_writes_beside_it(repo: Repository, tree: Path, place: Path, tmp_path: Path) -> None:
    checksum = commit(repo, tree)
    upper, work = tmp_path / "upper", tmp_path / "work"
    upper.mkdir()
    work.mkdir()
    for kept in (True, False):
        folders = {"upper": upper, "work": work} if kept else {}
        done = mount_commit(repo, checksum, place, in_memory=not kept, **folders)  # type: ignore[arg-type]
        assert not done.read_only
        with open(place / "bin/tool", "ab") as file:
            file.write(b"more")
        assert (place / "bin/tool").stat().st_size == 25604
        (place / "bin/deep").rename(place / "bin/moved")
        (place / "ff").unlink()
        (place / "aa").mkdir()
        unmount(place)
        assert sorted(os.listdir(upper)) == ["aa", "bin", "ff"]
        if kept:
            shutil.rmtree(upper)
            upper.mkdir()
            (upper / "aa").touch()
            (upper / "bin").touch()
            (upper / "ff").touch()
    mount_commit(repo, checksum, place)
    compare(tree, place)
    subprocess.run(["ostree", "fsck", "-q", f"--repo={repo.path}"], check=True)


def test_any_kernel_without_erofs(repo: Repository, tree: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the files are laid out, once, by hard links where those are right, and mounted from there."""
    checksum = commit(repo, tree)

    def refuse(*args: object, **rest: object) -> bool:
        raise Unsupported("no EROFS in this test")

    monkeypatch.setattr(mounting, "mount_image", refuse)
    with pytest.raises(Unsupported):
        mount_commit(repo, checksum, place, may_check_out=False)
    for in_memory in (False, True):
        done = mount_commit(repo, checksum, place, in_memory=in_memory)
        assert (done.how, done.image) == ("checkout", None)
        compare(tree, place)
        if in_memory:
            (place / "bin/tool").write_text("changed")
        else:
            with pytest.raises(OSError, match="Read-only"):
                (place / "bin/tool").write_text("changed")
        links = os.stat(images.tree(repo, checksum) / "bin/tool").st_nlink
        assert links == (1 if repo.mode is Mode.BARE_USER else 2)
        unmount(place)
    subprocess.run(["ostree", "fsck", "-q", f"--repo={repo.path}"], check=True)


def test_an_archive_is_refused(tree: Path, place: Path, tmp_path: Path) -> None:
    repo = Repository.init(tmp_path / "repo", Mode.ARCHIVE)
    checksum = commit(repo, tree)
    for check in Verity:
        with pytest.raises(Unsupported, match="archive"):
            mount_commit(repo, checksum, place, check=check)
    with pytest.raises(Unsupported, match="archive"):
        images.tree(repo, checksum)


def test_what_is_kept_and_what_goes(repo: Repository, tree: Path, place: Path) -> None:
    checksum = commit(repo, tree)
    with images.image(repo, checksum) as path:
        first = path.stat()
    with images.image(repo, checksum) as again, images.image(repo, checksum, Kind.DIGESTS) as other:
        assert again.stat() == first
        assert other != again
    folder = path.parent
    (folder / ".half.tmp").write_text("a crash left this")
    (folder / f"{checksum}.plain-0.erofs").write_text("an older format")
    laid_out = images.tree(repo, checksum)
    (laid_out.parents[1] / f".{checksum}.abc").mkdir()
    assert prune_images(repo, lambda _: True, dry_run=True) > 0
    assert len(os.listdir(folder)) == 4
    prune_images(repo, lambda _: True)
    assert sorted(os.listdir(folder)) == [f"{checksum}.digests-1.erofs", f"{checksum}.plain-1.erofs"]
    assert os.listdir(laid_out.parents[1]) == [checksum]
    mount_commit(repo, checksum, place)
    prune_images(repo, lambda _: False)
    assert os.listdir(folder) == os.listdir(laid_out.parents[1]) == []
    compare(tree, place)  # the mount holds what it needs of the image


def test_a_repository_that_cannot_be_written_to(repo: Repository, tree: Path, place: Path, tmp_path: Path) -> None:
    """Its image is made for the mount alone."""
    from wherry.linux.mount import MS_BIND, MS_RDONLY, MS_REMOUNT, mount, umount

    checksum = commit(repo, tree)
    before = leftovers()
    mount(repo.path, repo.path, None, MS_BIND)
    try:
        mount(None, repo.path, None, MS_BIND | MS_REMOUNT | MS_RDONLY)
        mount_commit(Repository.open(repo.path), checksum, place)
        assert compare(tree, place) == 9
        unmount(place)
    finally:
        umount(repo.path)
    assert leftovers() == before
    assert not (repo.path / "extensions/wherry").exists()


def test_an_image_that_is_not_the_commits(repo: Repository, tree: Path) -> None:
    from wherry.store.format.variant import Variant

    wrong = commit_directory(
        repo,
        tree,
        timestamp_s=0,
        canonical_permissions=True,
        metadata={"ostree.composefs.digest.v0": Variant("ay", bytes(32))},
    )
    with pytest.raises(IntegrityError, match="doesn't match expected digest"):
        with images.image(repo, wrong, images.kind_with_digests(repo, wrong)):
            pass
    assert not list((repo.path / "extensions/wherry/images").iterdir())


def test_mounting_costs_the_same_for_small_and_large(tmp_path: Path, place: Path) -> None:
    repo = Repository.init(tmp_path / "repo", Mode.BARE_USER)
    times = {}
    for count in (10, 10_000):
        top = tmp_path / f"tree{count}"
        for number in range(count):
            folder = top / str(number // 100)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / str(number)).write_text(str(number % 50))
        checksum = commit(repo, top)
        taken = []
        for _ in range(9):
            begin = time.perf_counter()
            mount_commit(repo, checksum, place)
            taken.append(time.perf_counter() - begin)
            unmount(place)
        times[count] = min(taken)
    assert times[10_000] < 2 * times[10] + 0.001, times


# --- the command


def wherry(*arguments: object, trace: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "WHERRY_TRACE": trace, "WHERRY_ROOT": "/nonexistent"}
    command = [sys.executable, "-m", "wherry", "store", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def stored(tmp_path: Path, tree: Path) -> Repository:
    found = Repository.init(tmp_path / "repo", Mode.BARE_USER)
    commit(found, tree)
    return found


def test_the_command(stored: Repository, tree: Path, place: Path) -> None:
    done = wherry("mount", f"--repo={stored.path}", "--json", "x", place)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["how"], told["read_only"], told["verity"]) == ("composefs", True, False)
    compare(tree, place)
    listed = json.loads(wherry("mount", "--json").stdout)
    assert {"commit": told["commit"], "target": str(place), "read_only": True} in listed
    assert str(place) in wherry("mount").stdout
    with open(place / "ff"):
        refused = wherry("unmount", place)
        assert refused.returncode == 1
        assert "in use" in refused.stderr
    assert wherry("unmount", place).returncode == 0
    again = wherry("unmount", place)
    assert again.returncode == 1
    assert again.stderr.startswith("error: no commit is mounted here")


def test_options(stored: Repository, place: Path, tmp_path: Path) -> None:
    (tmp_path / "u").mkdir()
    (tmp_path / "w").mkdir()
    options = f"nosuid,noexec,upperdir={tmp_path}/u,workdir={tmp_path}/w"
    assert wherry("mount", f"--repo={stored.path}", "-o", options, "x", place).returncode == 0
    (place / "new").touch()
    assert os.listdir(tmp_path / "u") == ["new"]
    assert os.statvfs(place).f_flag & os.ST_NOSUID
    assert os.statvfs(place).f_flag & os.ST_NOEXEC
    unmount(place)
    assert wherry("mount", f"--repo={stored.path}", "-w", "x", place).returncode == 0
    (place / "other").touch()
    unmount(place)
    for wrong, said in (
        (("-o", "what", "x", place), "-o what is not known"),
        (("-o", f"upperdir={tmp_path}/u", "x", place), "given together"),
        (("x",), "no folder"),
        (("-o", "digest=00", "x", place), "has the digest"),
        (("x", tmp_path / "nowhere"), "no such folder"),
        (("y", place), "y"),
    ):
        failed = wherry("mount", f"--repo={stored.path}", *wrong)
        assert failed.returncode == 1
        assert failed.stderr.startswith("error: ")
        assert said in failed.stderr


@pytest.mark.parametrize("point", ["store.image.made"])
def test_killed_while_it_makes_the_image(stored: Repository, tree: Path, place: Path, point: str) -> None:
    done = wherry("mount", f"--repo={stored.path}", "x", place, trace=f"{point}=kill")
    assert done.returncode == -signal.SIGKILL
    assert not [seen for seen in mounts() if seen.target == place]
    assert wherry("mount", f"--repo={stored.path}", "x", place).returncode == 0
    compare(tree, place)


def test_killed_while_it_lays_the_tree_out(stored: Repository, tree: Path) -> None:
    """Half a tree is never taken for a whole one."""
    script = (
        "import os, signal, sys; from pathlib import Path; from wherry.core import trace\n"
        "from wherry.store import Repository; from wherry.store.mount.images import tree\n"
        "repo = Repository.open(Path(sys.argv[1]))\n"
        "trace.arm('store.tree.made', lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
        "tree(repo, repo.resolve('x'))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(stored.path)], check=False)
    assert done.returncode == -signal.SIGKILL
    folder = stored.path / "extensions/wherry/trees"
    assert len(os.listdir(folder)) == 1
    compare(tree, images.tree(stored, stored.resolve("x")))
    prune_images(stored, lambda _: True)
    assert os.listdir(folder) == [stored.resolve("x")]


def test_only_its_own_mounts_are_ended(place: Path, stored: Repository) -> None:
    from wherry.linux.mount import mount, umount

    mount("tmpfs", place, "tmpfs")
    try:
        with pytest.raises(NotFound):
            unmount(place)
    finally:
        umount(place)
    with pytest.raises(NotFound):
        unmount(place / "nowhere")


def test_busy(stored: Repository, place: Path) -> None:
    mount_commit(stored, stored.resolve("x"), place)
    with open(place / "ff"):
        with pytest.raises(Conflict, match="in use"):
            unmount(place)
        unmount(place, lazy=True)
