"""Images are, byte for byte, what the real ``mkcomposefs`` writes for the same tree."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.compat.composefs.conftest import Tool
from tests.compat.composefs.dump import Node, directory, regular, to_dump, to_image

from wherry.store.format.objects import DirMeta, Mode
from wherry.store.mount import verity
from wherry.store.mount.composefs import digest_of_tree, image_of_tree
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_directory
from wherry.store.tree.walk import walk

Compare = Callable[[Node], int]
DIGEST = bytes(range(32))


@pytest.fixture
def same(tmp_path: Path, mkcomposefs: Tool) -> Compare:
    """Has both make an image, compares them, and returns how long they are."""

    def compare(tree: Node) -> int:
        (tmp_path / "dump").write_bytes(to_dump(tree))
        mkcomposefs("--from-file", tmp_path / "dump", tmp_path / "theirs")
        theirs, ours = (tmp_path / "theirs").read_bytes(), to_image(tree)
        if ours != theirs:
            (tmp_path / "ours").write_bytes(ours)
            first = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
            pytest.fail(f"lengths {len(ours)} and {len(theirs)}, first difference at {first}, kept in {tmp_path}")
        return len(ours)

    return compare


def link(length: int, **rest: object) -> Node:
    return Node(**{"mode": stat.S_IFLNK | 0o777, "target": b"t" * length} | rest)  # type: ignore[arg-type]


def test_an_empty_tree(same: Compare) -> None:
    assert same(directory({})) == 16384


def test_contents_elsewhere(same: Compare) -> None:
    same(
        directory(
            {
                b"plain": regular(size=10, payload=b"aa/plain"),
                b"digest": regular(size=10, payload=b"aa/digest", digest=DIGEST),
                b"again": regular(size=10, payload=b"aa/plain", mode=stat.S_IFREG | 0o4755),
                b"same-path": regular(size=10),
                b"empty": regular(),
            }
        )
    )


@pytest.mark.parametrize(
    "size",
    [1, 2, 4095, 4096, 4097, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**43, 2**43 + 1, 2**50, 2**52, 2**52 + 1, 2**53],
)
def test_sizes(same: Compare, size: int) -> None:
    same(directory({name: regular(size=size, payload=b"aa/" + name) for name in (b"a", b"b", b"c")}))


@pytest.mark.parametrize("size", [1, 63, 64, 65, 2047, 2048, 2049, 4095, 4096, 4097, 5000])
def test_contents_in_the_image(same: Compare, size: int) -> None:
    same(directory({b"%d" % number: regular(size=size, content=os.urandom(size)) for number in range(5)}))


@pytest.mark.parametrize("length", [1, 100, 2048, 2049, 3000, 4000, 4032, 4063, 4064, 4065, 4095])
def test_links(same: Compare, length: int) -> None:
    attributes = {b"user.a": b"x"}
    same(directory({b"%d" % number: link(length, xattrs=attributes if number % 2 else {}) for number in range(5)}))


def test_every_type(same: Compare) -> None:
    same(
        directory(
            {
                b"char": Node(mode=stat.S_IFCHR | 0o600, rdev=0x501),
                b"block": Node(mode=stat.S_IFBLK | 0o660, rdev=0xFFF00001, gid=6),
                b"fifo": Node(mode=stat.S_IFIFO | 0o600),
                b"socket": Node(mode=stat.S_IFSOCK | 0o777),
                b"link": link(4),
                b"file": regular(mode=stat.S_IFREG | 0o7777),
                b"folder": directory({b"empty": directory({}, mode=stat.S_IFDIR | 0o1777)}),
            }
        )
    )


def test_whiteouts(same: Compare) -> None:
    """They raise the format's version, and mark their folder."""
    whiteout = Node(mode=stat.S_IFCHR | 0o600, uid=5, size=3, xattrs={b"trusted.overlay.opaque": b"y"})
    folder = directory({b"gone": whiteout}, xattrs={b"trusted.overlay.opaque": b"y", b"user.overlay.opaque": b"x"})
    same(directory({b"folder": folder, b"00": regular(), b"fe": directory({}), b"0g": regular()}))
    same(directory({b"gone": whiteout}, uid=70000, xattrs={b"security.selinux": b"label", b"trusted.overlay.a": b"b"}))


def test_hard_links(same: Compare) -> None:
    def further(path: bytes) -> Node:
        return Node(mode=stat.S_IFREG | 0o644, hard_link=path)

    same(
        directory(
            {
                b"a": regular(size=10, payload=b"aa/a", links=4),
                b"b": further(b"/a"),
                b"d": directory({b"a": further(b"/a"), b"to": regular(size=3, content=b"abc", links=2)}),
                b"e": further(b"/d/to"),
                b"many": regular(links=65535),
                b"more": regular(links=65536),
                b"z": further(b"/a"),
            }
        )
    )


def test_times(same: Compare) -> None:
    same(directory({b"a": regular(), b"b": regular(mtime=(0, 1)), b"c": regular(mtime=(2**33, 999_999_999))}))
    same(directory({b"a": regular(mtime=(7, 8)), b"b": directory({b"c": link(5)}, mtime=(7, 8))}, mtime=(7, 8)))
    same(directory({b"before": regular(mtime=(-3, 7)), b"a": regular()}, mtime=(4, 0)))


def test_owners(same: Compare) -> None:
    owners = [(0, 0), (65535, 65535), (65536, 0), (0, 65536), (2**32 - 2, 2**32 - 2)]
    same(directory({b"%d" % uid + b"-%d" % gid: regular(uid=uid, gid=gid) for uid, gid in owners}))


@pytest.mark.parametrize(
    "names",
    [
        [b"user.a", b"user.b", b"user.longer", b"trusted.t", b"security.capability", b"security.selinux"],
        [b"trusted.overlay.opaque", b"trusted.overlay.overlay.opaque", b"trusted.overlay.metacopy", b"user.overlay.x"],
        [
            b"system.posix_acl_access",
            b"system.posix_acl_default",
            b"system.nfs4_acl",
            b"btrfs.compression",
            b"lustre.a",
        ],
        [b"user." + b"n" * 250, b"security." + b"n" * 246, b"trusted.overlay." + b"n" * 239],
    ],
)
def test_attributes(same: Compare, names: list[bytes]) -> None:
    """Of one's own, shared, of other lengths under one name, empty, odd."""
    values = [b"", b"1", b"=", b"\0\xff binary \n", b"v" * 1000]
    children = {
        b"%d" % number: regular(size=5, payload=b"aa", xattrs=dict.fromkeys(names[number % 3 :], value))
        for number, value in enumerate(values * 2)
    }
    children[b"own"] = regular(xattrs={names[0]: b"own" * 3000})
    same(directory(children, xattrs={names[1]: b"1"}))


@pytest.mark.parametrize("count", [127, 128, 129, 300])
def test_more_shared_attributes_than_an_inode_can_name(same: Compare, count: int) -> None:
    attributes = {b"user.%04d" % number: b"v" * (number % 7) for number in range(count)}
    same(directory({b"a": regular(xattrs=attributes), b"b": regular(xattrs=dict(list(attributes.items())[::2]))}))


@pytest.mark.parametrize(
    ("count", "width"), [(79, 39), (80, 39), (81, 39), (100, 8), (300, 255), (5000, 12), (20000, 20)]
)
def test_large_folders(same: Compare, count: int, width: int) -> None:
    same(directory({b"folder": directory({b"%0*d" % (width, number): regular() for number in range(count)})}))


def test_many_subfolders(same: Compare) -> None:
    same(directory({b"d": directory({b"%d" % number: directory({}) for number in range(65600)})}))


def test_random_trees(same: Compare) -> None:
    chance = random.Random(5)
    for _ in range(40):
        same(random_tree(chance, 0))


@pytest.mark.deep
def test_many_random_trees(same: Compare) -> None:
    chance = random.Random()
    for _ in range(2000):
        same(random_tree(chance, 0))


def random_tree(chance: random.Random, depth: int) -> Node:
    children: dict[bytes, Node] = {}
    for _ in range(chance.randrange(12)):
        length = chance.choice([1, 2, 3, 8, 40, 255])
        name = bytes(chance.choice(b"abcXYZ+.-_0123456789\x80\xff") for _ in range(length))
        if name not in (b".", b".."):
            children[name] = random_node(chance, depth)
    return directory(children, **random_common(chance))


def random_node(chance: random.Random, depth: int) -> Node:
    common = random_common(chance)
    kind = chance.choice("ffffllddicw" if depth < 5 else "ffllicw")
    if kind == "f":
        sizes = [0, 1, 100, 5000, 2**32, 2**43 + 1, 2**47]
        digest = chance.choice([b"", chance.randbytes(32)])
        return regular(size=chance.choice(sizes), payload=b"aa/%d" % chance.randrange(10), digest=digest, **common)
    if kind == "l":
        return link(chance.choice([1, 5, 60, 1000, 2040, 2100, 3000, 3900, 4000, 4050, 4095]), **common)
    if kind == "i":
        size = chance.choice([1, 64, 500, 2048, 2049, 4000, 4096, 5000])
        return regular(size=size, content=chance.randbytes(size), **common)
    if kind == "c":
        device = chance.choice([stat.S_IFCHR, stat.S_IFBLK])
        return Node(mode=device | 0o600, rdev=chance.randrange(1, 2**32), **common)  # type: ignore[arg-type]
    if kind == "w":
        return Node(mode=stat.S_IFCHR, **common)  # type: ignore[arg-type]
    return random_tree(chance, depth + 1)


def random_common(chance: random.Random) -> dict[str, object]:
    prefixes = [b"user.", b"trusted.", b"security.", b"trusted.overlay.", b"trusted.overlay.overlay."]
    rests = [b"a", b"b", b"cap", b"longer-name-of-an-attribute"]
    values = [b"", b"1", b"x" * 100, b"y" * 3000, chance.randbytes(5)]
    count = chance.choice([0, 0, 0, 1, 2, 5])
    return {
        "uid": chance.choice([0, 0, 1000, 65535, 65536]),
        "gid": chance.choice([0, 0, 70000]),
        "mtime": chance.choice([(0, 0)] * 8 + [(5, 5), (2**33, 9)]),
        "xattrs": {chance.choice(prefixes) + chance.choice(rests): chance.choice(values) for _ in range(count)},
    }


# --- commits


def make_tree(top: Path) -> None:
    (top / "usr/bin").mkdir(parents=True)
    (top / "usr/bin/tool").write_bytes(b"\x7fELF" + bytes(range(256)) * 5000)
    (top / "usr/bin/tool").chmod(0o4755)
    (top / "usr/bin/link").symlink_to("tool")
    (top / "usr/empty").touch()
    (top / "usr/small").write_text("small")
    os.setxattr(top / "usr/small", "user.a", b"b")
    os.setxattr(top / "usr/bin", "trusted.overlay.opaque", b"y")
    (top / "00").mkdir()
    (top / "many").mkdir()
    for number in range(400):
        (top / f"many/file-{number}").write_bytes(bytes(number * 40))
    os.chown(top / "many/file-3", 70000, 1)


def dump_commit(repo: Repository, commit: str, *, digests: bool, top_folders: bool) -> bytes:
    """Writes a commit's tree down as `Node` objects, without the code that is tested."""
    root = directory({})
    for path, found in walk(repo, repo.resolve(commit)):
        if isinstance(found, DirMeta):
            node = Node(mode=found.mode, uid=found.uid, gid=found.gid, xattrs=dict(found.xattrs))
        else:
            checksum, header = found
            node = Node(mode=header.mode, uid=header.uid, gid=header.gid, xattrs=dict(header.xattrs))
            node.target = header.symlink_target.encode()
            content = repo.load_file(checksum)[1]
            if content is not None:
                with content:
                    data = content.read()
                node.size = len(data)
                node.payload = f"{checksum[:2]}/{checksum[2:]}.file".encode() if data else b""
                node.digest = verity.digest_pieces((data,)) if digests and data else b""
        if not path:
            root = node
            continue
        parent = root
        *above, name = path.split("/")
        for part in above:
            parent = parent.children[part.encode()]
        parent.children[name.encode()] = node
    for folder in (b"usr", b"etc", b"boot", b"var", b"sysroot") if top_folders else ():
        root.children.setdefault(folder, directory({}))
    return to_dump(root)


@pytest.mark.parametrize("mode", [Mode.BARE_USER, Mode.BARE, Mode.ARCHIVE])
@pytest.mark.parametrize("whole", [False, True])
def test_a_commit(tmp_path: Path, mkcomposefs: Tool, mode: Mode, whole: bool) -> None:
    make_tree(tmp_path / "tree")
    repo = Repository.init(tmp_path / "repo", mode)
    commit = commit_directory(repo, tmp_path / "tree", timestamp_s=0)
    (tmp_path / "dump").write_bytes(dump_commit(repo, commit, digests=whole, top_folders=whole))
    printed = mkcomposefs("--from-file", "--print-digest", tmp_path / "dump", tmp_path / "theirs")
    found = repo.load_commit(commit)
    ours = image_of_tree(repo, found.tree, found.meta, digests=whole, top_folders=whole)
    assert ours == (tmp_path / "theirs").read_bytes()
    if whole:
        assert digest_of_tree(repo, found.tree, found.meta).hex() == printed.decode().strip()


def test_the_digests_of_contents(tmp_path: Path, mkcomposefs: Tool, composefs_info: Tool) -> None:
    """A folder that mkcomposefs reads itself has the digests that Wherry computes."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for size in (65, 4095, 4096, 4097, 128 * 4096, 128 * 4096 + 1, 129 * 4096, 5_000_000):
        (tree / str(size)).write_bytes(random.Random(size).randbytes(size))
    mkcomposefs("--use-epoch", tree, tmp_path / "image")
    lines = composefs_info("dump", tmp_path / "image").decode().splitlines()
    found = {fields[0]: fields[10] for fields in map(str.split, lines) if fields[10] != "-"}
    assert len(found) == 8
    for name, digest in found.items():
        with open(tree / name[1:], "rb", buffering=0) as file:
            assert verity.digest_file(file).hex() == digest
