"""``ostree.composefs.digest.v0`` is what an ostree with composefs computes.

Debian's ostree is built without it, so the values are those that OSTree's own test expects (tests/test-composefs.sh of
2026.4), of the tree that its library of tests makes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tests.compat.composefs.conftest import Tool

from wherry.core.digest import Checksum
from wherry.core.errors import IntegrityError
from wherry.store.format.objects import Mode
from wherry.store.format.variant import Variant
from wherry.store.mount.composefs import DIGEST_KEY, checkout_image, digest_of_tree
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_directory

DIGEST = "be956966c70970ea23b1a8043bca58cfb0d011d490a35a7817b36d04c0210954"
IMAGE_SHA256 = "031fab2c7f390b752a820146dc89f6880e5739cba7490f64024e0c7d11aad7c9"
IMAGE_SHA256_WITHOUT_DIGESTS = "78f873a76ccfea3ad7c86312ba0e06f8e0bca54ab4912b23871b31caafe59c24"
COW = (
    "/baz/cow 4 100644 1 0 0 0 0.0 f6/a517d53831a40cff3886a965c70d57aa50797a8e5ea965b2c49cc575a6ff51.file - "
    "ebaa23af194a798df610e5fe2bd10725c9c4a3a56a6b62d4d0ee551d4fc4be27"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The tree of upstream's ``setup_test_repository``, without its whiteouts."""
    top = tmp_path / "files"
    contents = {
        "firstfile": "first",
        "baz/cow": "moo",
        "baz/cowro": "mooro",
        "baz/saucer": "alien",
        "baz/deeper/ohyeah": "hi",
        "baz/deeper/ohyeahx": "hix",
        "baz/another/y": "x",
        "baz/sub1/duplicate_a": "SAME_CONTENT",
        "baz/sub1/duplicate_b": "SAME_CONTENT",
        "baz/sub2/duplicate_c": "SAME_CONTENT",
    }
    for name, text in contents.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
        path.chmod(0o644)
    (top / "baz/cowro").chmod(0o600)
    (top / "baz/deeper/ohyeahx").chmod(0o755)
    (top / "somelink").symlink_to("nosuchfile")
    (top / "baz/alink").symlink_to("nonexistent")
    for folder in (top, *(path for path in top.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    return top


def commit(repo: Repository, tree: Path, digest: bytes | None = None) -> Checksum:
    metadata = {} if digest is None else {DIGEST_KEY: Variant("ay", digest)}
    return commit_directory(repo, tree, timestamp_s=0, canonical_permissions=True, metadata=metadata)


@pytest.mark.parametrize("mode", [Mode.BARE_USER, Mode.ARCHIVE, Mode.BARE_USER_ONLY])
def test_upstreams_values(tree: Path, tmp_path: Path, composefs_info: Tool, mode: Mode) -> None:
    repo = Repository.init(tmp_path / "repo", mode)
    found = repo.load_commit(commit(repo, tree))
    assert digest_of_tree(repo, found.tree, found.meta).hex() == DIGEST
    right = commit(repo, tree, bytes.fromhex(DIGEST))
    image = tmp_path / "image"
    assert checkout_image(repo, right, image).hex() == DIGEST
    assert hashlib.sha256(image.read_bytes()).hexdigest() == IMAGE_SHA256
    assert COW in composefs_info("dump", image).decode().splitlines()
    checkout_image(repo, right, image, digests=False)
    assert hashlib.sha256(image.read_bytes()).hexdigest() == IMAGE_SHA256_WITHOUT_DIGESTS


def test_a_wrong_digest(tree: Path, tmp_path: Path) -> None:
    repo = Repository.init(tmp_path / "repo", Mode.BARE_USER)
    wrong = commit(repo, tree, bytes(32))
    with pytest.raises(IntegrityError, match=f"{DIGEST}.* doesn't match expected digest \\(0000"):
        checkout_image(repo, wrong, tmp_path / "image")
    assert not (tmp_path / "image").exists()
    checkout_image(repo, wrong, tmp_path / "image", digests=False)
    with pytest.raises(IntegrityError, match="wrong size"):
        checkout_image(repo, commit(repo, tree, b"short"), tmp_path / "image")
