"""erofs-utils read what the writer wrote."""

from __future__ import annotations

import stat
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from tests.fixtures.examples import examples
from tests.property.composefs.trees import trees

from wherry.core.proc import run
from wherry.store.mount.erofs import Inode, build

DIRECTORY = stat.S_IFDIR | 0o755


@given(trees)
@settings(max_examples=examples(10, 500), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fsck_finds_nothing(tmp_path: Path, tree: Inode) -> None:
    image = tmp_path / "image"
    image.write_bytes(build(tree))
    run(["fsck.erofs", str(image)])


def test_dump_shows_the_same(tmp_path: Path) -> None:
    many = {f"file-{number:05}".encode(): Inode(mode=stat.S_IFREG | 0o600, uid=7, gid=8) for number in range(3000)}
    tree = Inode(
        mode=DIRECTORY,
        uid=0,
        gid=0,
        children={
            b"large": Inode(mode=stat.S_IFREG | 0o4755, uid=70000, gid=3, size=5 << 30),
            b"many": Inode(mode=DIRECTORY, uid=0, gid=0, children=many),
        },
    )
    image = tmp_path / "image"
    image.write_bytes(build(tree))
    run(["fsck.erofs", str(image)])
    shown = run(["dump.erofs", "--path=/large", str(image)]).stdout.decode()
    assert f"Size: {5 << 30} " in shown
    assert "Uid: 70000 " in shown
    assert "Access: 0755/rwxr-xr-x" in shown  # it does not print the set-uid bit
    listed = run(["dump.erofs", "--ls", "--path=/many", str(image)]).stdout.decode()
    assert listed.count("file-") == 3000
