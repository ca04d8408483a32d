"""Trees mounted from an image are the trees that were committed: every file, mode, owner, link and attribute."""

from __future__ import annotations

import os
import stat
import struct
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fixtures.examples import examples
from tests.integration.composefs.conftest import compare, facts, mounted
from tests.property.composefs.trees import xattr_values

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput, NotFound, Unsupported
from wherry.core.proc import run
from wherry.linux.erofs import mount_image
from wherry.store.format.objects import Mode
from wherry.store.mount.composefs import write_image
from wherry.store.mount.erofs import Inode, build
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_directory

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep

names = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=40).filter(
    lambda name: name not in (".", "..") and len(name.encode()) <= 255
)
xattrs = st.dictionaries(
    st.sampled_from(["user.a", "user.overlay.opaque", "trusted.t", "trusted.overlay.opaque"]),
    xattr_values.filter(lambda value: 0 < len(value) < 500),
    max_size=3,
)
ids = st.sampled_from([0, 1000, 65535, 65536, 2**31])


@st.composite
def files(draw: st.DrawFn) -> dict[str, object]:
    return {
        "content": draw(st.one_of(st.binary(max_size=100), st.integers(0, 9000).map(lambda size: b"c" * size))),
        "mode": draw(st.integers(0, 0o7777)),
        "owner": (draw(ids), draw(ids)),
        "xattrs": draw(xattrs),
    }


@st.composite
def links(draw: st.DrawFn) -> dict[str, object]:
    target = draw(st.one_of(names, st.integers(1, 4095).map(lambda size: ("t/" * size)[:size])))
    return {"target": target[:1000], "owner": (draw(ids), draw(ids))}


def folders(children: st.SearchStrategy[dict[str, object]]) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries(
        {
            "children": st.dictionaries(names, children, max_size=6),
            "mode": st.integers(0, 0o7777),
            "owner": st.tuples(ids, ids),
            "xattrs": xattrs,
        }
    )


trees = folders(st.recursive(files() | links(), folders, max_leaves=15))


def make(path: Path, node: dict[str, object]) -> None:
    """Makes a generated tree on the disk."""
    if "target" in node:
        os.symlink(str(node["target"]), path)
    elif "content" in node:
        path.write_bytes(bytes(node["content"]))  # type: ignore[call-overload]
    else:
        path.mkdir(exist_ok=True)
        for name, child in node["children"].items():  # type: ignore[attr-defined]
            make(path / name, child)
    os.chown(path, *node["owner"], follow_symlinks=False)  # type: ignore[misc]
    if "target" not in node:
        os.chmod(path, node["mode"])  # type: ignore[arg-type]
        for key, value in node["xattrs"].items():  # type: ignore[attr-defined]
            os.setxattr(path, key, value)


def commit(repo: Path, tree: Path) -> Checksum:
    """Commits a tree."""
    return commit_directory(Repository.init(repo, Mode.BARE_USER), tree, timestamp_s=0)


@given(trees)
@settings(max_examples=examples(4, 200), deadline=None, suppress_health_check=list(HealthCheck))
def test_generated_trees(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, object]) -> None:
    base = tmp_path_factory.mktemp("tree")
    make(base / "tree", tree)
    checksum = commit(base / "repo", base / "tree")
    repo = Repository.open(base / "repo")
    write_image(repo, checksum, base / "image")
    run(["fsck.erofs", str(base / "image")])
    with mounted(base / "image", repo.objects_dir, base) as root:
        compare(base / "tree", root)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with everything odd in it, by hand."""
    top = tmp_path / "tree"
    (top / "bin").mkdir(parents=True)
    (top / "bin/tool").write_bytes(b"\x7fELF" + os.urandom(5000))
    os.setxattr(top / "bin/tool", "security.capability", CAPABILITY)
    (top / "bin/su").write_text("su")
    (top / "bin/su").chmod(0o4755)
    (top / "empty").touch()
    (top / "secret").write_text("x")
    (top / "secret").chmod(0)
    (top / "owned").write_text("y")
    os.chown(top / "owned", 70000, 123456)
    (top / "link").symlink_to("../../etc/passwd")
    (top / "long").symlink_to("l" * 4000)
    (top / ("n" * 255)).write_text("name")
    (top / "+first").touch()
    (top / "many").mkdir()
    for number in range(4000):
        (top / f"many/file-number-{number:08}").write_text(str(number % 10))
    (top / "many").chmod(0o1777)
    (top / "attrs").touch()
    for number in range(40):
        os.setxattr(top / "attrs", f"user.a{number}", b"v" * (number + 1))
    return top


def test_by_hand(tree: Path, tmp_path: Path) -> None:
    checksum = commit(tmp_path / "repo", tree)
    repo = Repository.open(tmp_path / "repo")
    write_image(repo, checksum, tmp_path / "image")
    first = (tmp_path / "image").read_bytes()
    write_image(repo, checksum, tmp_path / "image")
    assert (tmp_path / "image").read_bytes() == first
    with mounted(tmp_path / "image", repo.objects_dir, tmp_path) as root:
        assert compare(tree, root) > 4000
        assert os.stat(root / "bin/tool").st_mtime == 0


def test_a_writable_root_leaves_image_and_store_alone(tree: Path, tmp_path: Path) -> None:
    checksum = commit(tmp_path / "repo", tree)
    repo = Repository.open(tmp_path / "repo")
    write_image(repo, checksum, tmp_path / "image")
    image = (tmp_path / "image").read_bytes()
    with mounted(tmp_path / "image", repo.objects_dir, tmp_path, writable=True) as root:
        before = facts(root / "bin/tool")
        with open(root / "bin/tool", "ab") as file:
            file.write(b"more")
        after = facts(root / "bin/tool")
        assert after["content"] == before["content"] + b"more"  # type: ignore[operator]
        assert after["mode"] == before["mode"]
        (root / "owned").chmod(0o600)
        assert (root / "owned").read_text() == "y"
        assert os.stat(root / "owned").st_uid == 70000
        (root / "bin").rename(root / "programs")
        assert (root / "programs/su").read_text() == "su"
        (root / "link").unlink()
        (root / "new").write_text("new")
    run(["ostree", f"--repo={tmp_path / 'repo'}", "fsck"])
    assert (tmp_path / "image").read_bytes() == image
    with mounted(tmp_path / "image", repo.objects_dir, tmp_path) as root:
        compare(tree, root)


def test_paths_that_options_must_escape(tree: Path, tmp_path: Path) -> None:
    base = tmp_path / "a:b,c\\d e"
    base.mkdir()
    checksum = commit(base / "repo", tree / "bin")
    repo = Repository.open(base / "repo")
    write_image(repo, checksum, base / "image")
    with mounted(base / "image", repo.objects_dir, base, writable=True) as root:
        compare(tree / "bin", root)


def test_a_file_beyond_4_gib(tmp_path: Path) -> None:
    size = (6 << 30) + 5
    (tmp_path / "objects").mkdir()
    with open(tmp_path / "objects/large", "wb") as file:
        file.truncate(size - 3)
        file.seek(size - 3)
        file.write(b"end")
    large = Inode(
        mode=stat.S_IFREG | 0o644,
        uid=0,
        gid=0,
        size=size,
        xattrs=((b"trusted.overlay.metacopy", b""), (b"trusted.overlay.redirect", b"/large")),
    )
    image = tmp_path / "image"
    image.write_bytes(build(Inode(mode=stat.S_IFDIR | 0o755, uid=0, gid=0, children={b"large": large})))
    with mounted(image, tmp_path / "objects", tmp_path) as root, open(root / "large", "rb") as file:
        assert os.fstat(file.fileno()).st_size == size
        file.seek(size - 10)
        assert file.read() == bytes(7) + b"end"


def test_mounting_is_fast(tree: Path, tmp_path: Path) -> None:
    checksum = commit(tmp_path / "repo", tree)
    repo = Repository.open(tmp_path / "repo")
    write_image(repo, checksum, tmp_path / "image")
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        with mounted(tmp_path / "image", repo.objects_dir, tmp_path):
            times.append(time.perf_counter() - begin)
    assert min(times) < 0.05  # a millisecond, on a quiet machine


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(8192))
    (tmp_path / "at").mkdir()
    with pytest.raises(InvalidInput, match="not an EROFS image"):
        mount_image(tmp_path / "image", tmp_path / "at")


@pytest.mark.parametrize("mode", [Mode.BARE, Mode.BARE_USER_ONLY])
def test_other_modes_of_repositories(tmp_path: Path, mode: Mode) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("content")
    (tree / "file").chmod(0o755)
    (tree / "link").symlink_to("file")
    repo = Repository.init(tmp_path / "repo", mode)
    write_image(repo, commit_directory(repo, tree, timestamp_s=0), tmp_path / "image")
    with mounted(tmp_path / "image", repo.objects_dir, tmp_path) as root:
        assert compare(tree, root) == 3


def test_real_ostree_made_the_commit(tree: Path, tmp_path: Path) -> None:
    run(["ostree", f"--repo={tmp_path / 'repo'}", "init", "--mode=bare-user"])
    done = run(["ostree", f"--repo={tmp_path / 'repo'}", "commit", "-b", "b", "-s", "s", f"--tree=dir={tree}"])
    repo = Repository.open(tmp_path / "repo")
    write_image(repo, Checksum(done.stdout.decode().strip()), tmp_path / "image")
    with mounted(tmp_path / "image", repo.objects_dir, tmp_path) as root:
        compare(tree, root)


def test_an_archive_cannot_be_mounted(tree: Path, tmp_path: Path) -> None:
    repo = Repository.init(tmp_path / "repo", Mode.ARCHIVE)
    checksum = commit_directory(repo, tree / "bin", timestamp_s=0)
    with pytest.raises(Unsupported, match="archive"):
        write_image(repo, checksum, tmp_path / "image")


def test_a_missing_object_is_named(tree: Path, tmp_path: Path) -> None:
    checksum = commit(tmp_path / "repo", tree / "bin")
    repo = Repository.open(tmp_path / "repo")
    lost = next(repo.objects_dir.glob("*/*.file"))
    lost.unlink()
    with pytest.raises(NotFound, match=lost.parent.name + lost.stem):
        write_image(repo, checksum, tmp_path / "image")
    assert not (tmp_path / "image").exists()
