"""What is said to the kernel, and what its list of mounts says: without mounting anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wherry.core.errors import InvalidInput, NotFound
from wherry.linux import erofs
from wherry.store.config import Config
from wherry.store.format.objects import Mode
from wherry.store.mount import mounting, seen
from wherry.store.mount.composefs import write_image
from wherry.store.mount.mounting import DataLayer, Plan, escape_path, lowerdir_options
from wherry.store.mount.overlay_tree import escape, with_redirect
from wherry.store.mount.seen import mounts
from wherry.store.mount.trees import Verity, configured_verity
from wherry.store.repository import Repository

COMMIT = "ab" * 32
LINES = f"""22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 22 0:50 / /mnt/a\\040b\\134c ro,nosuid,relatime shared:1 - overlay wherry:{COMMIT} ro,lowerdir=/tmp/x::/repo/objects
41 22 0:51 / /mnt/rw rw - overlay wherry:{COMMIT} rw,lowerdir=/tmp/x::/repo/objects,upperdir=/u
42 22 0:52 / /mnt/other rw - overlay wherry:short rw
43 22 0:53 / /mnt/foreign rw - overlay overlay rw
broken
"""


def test_the_list_of_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_text(LINES)
    monkeypatch.setattr(seen, "MOUNTINFO", tmp_path / "mountinfo")
    found = mounts()
    assert [(str(seen.target), seen.read_only, seen.commit) for seen in found] == [
        ("/mnt/a b\\c", True, COMMIT),
        ("/mnt/rw", False, COMMIT),
    ]
    with pytest.raises(NotFound):
        mounting.unmount(tmp_path)


def test_options() -> None:
    new = lowerdir_options(Path("/tmp/a:b"), Path("/repo,1/objects"))
    assert new == "lowerdir=/tmp/a\\:b::/repo\\,1/objects,metacopy=on,redirect_dir=on"
    old = lowerdir_options(Path("/e"), Path("/o"), layer=DataLayer.LOWER)
    assert old == "lowerdir=/e:/o,metacopy=on,redirect_dir=on"
    assert escape_path(Path("/a\\b")) == "/a\\\\b"


def test_a_plan_tells_whether_it_can_be_written_to() -> None:
    plan = Plan(commit=COMMIT, image=Path("i"), objects=Path("o"), target=Path("t"))  # type: ignore[arg-type]
    assert plan.read_only
    with pytest.raises(NotFound, match="no such folder"):
        mounting.mount(plan)


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(InvalidInput, match="not an EROFS image"):
        erofs.mount_image(tmp_path / "short", tmp_path)


@pytest.mark.parametrize(
    ("text", "verity"),
    [
        ("", Verity.NO),
        ("fsverity=yes", Verity.REQUIRE),
        ("fsverity=maybe", Verity.MAYBE),
        ("fsverity=no", Verity.NO),
        ("composefs=yes", Verity.MAYBE),
        ("composefs=maybe", Verity.MAYBE),
        ("composefs=yes\nfsverity=no", Verity.NO),
    ],
)
def test_the_config(text: str, verity: Verity) -> None:
    assert configured_verity(Config(f"[ex-integrity]\n{text}\n")) is verity


def test_attributes_of_overlayfs_are_shown_not_obeyed() -> None:
    assert escape(((b"trusted.overlay.opaque", b"y"), (b"security.a", b"1"))) == (
        (b"security.a", b"1"),
        (b"trusted.overlay.overlay.opaque", b"y"),
    )
    assert with_redirect((), b"aa/b", bytes(32))[0] == (b"trusted.overlay.metacopy", b"\0\x24\0\x01" + bytes(32))


def test_an_archive_has_no_image(tmp_path: Path) -> None:
    from wherry.core.digest import Checksum
    from wherry.core.errors import Unsupported

    repo = Repository.init(tmp_path / "repo", Mode.ARCHIVE)
    with pytest.raises(Unsupported, match="archive") as caught:
        write_image(repo, Checksum(COMMIT), tmp_path / "image")
    assert re.search("bare-user", caught.value.hint or "")
