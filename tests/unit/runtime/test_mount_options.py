"""Each option of a mount once, and what it becomes; contradictions; maps of ids."""

from __future__ import annotations

from typing import Any

import pytest

from wherry.core.errors import InvalidInput
from wherry.linux import x
from wherry.linux.idmap import map_text
from wherry.linux.mount import MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE
from wherry.runtime.mountoptions import IdMap, Options, id_map, parse_options
from wherry.runtime.spec import IdMapping

ATIME = x.MOUNT_ATTR__ATIME
ATTRIBUTES: list[tuple[str, int, int]] = [
    ("ro", x.MOUNT_ATTR_RDONLY, 0),
    ("rw", 0, x.MOUNT_ATTR_RDONLY),
    ("nosuid", x.MOUNT_ATTR_NOSUID, 0),
    ("suid", 0, x.MOUNT_ATTR_NOSUID),
    ("nodev", x.MOUNT_ATTR_NODEV, 0),
    ("dev", 0, x.MOUNT_ATTR_NODEV),
    ("noexec", x.MOUNT_ATTR_NOEXEC, 0),
    ("exec", 0, x.MOUNT_ATTR_NOEXEC),
    ("nodiratime", x.MOUNT_ATTR_NODIRATIME, 0),
    ("diratime", 0, x.MOUNT_ATTR_NODIRATIME),
    ("nosymfollow", x.MOUNT_ATTR_NOSYMFOLLOW, 0),
    ("symfollow", 0, x.MOUNT_ATTR_NOSYMFOLLOW),
    ("noatime", x.MOUNT_ATTR_NOATIME, ATIME),
    ("atime", 0, ATIME),
    ("relatime", 0, ATIME),
    ("norelatime", 0, ATIME),
    ("strictatime", x.MOUNT_ATTR_STRICTATIME, ATIME),
    ("nostrictatime", 0, ATIME),
]
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("defaults", {}),
    ("silent", {}),
    ("loud", {}),
    ("z", {}),
    ("Z", {}),
    ("bind", {"bind": True}),
    ("rbind", {"bind": True, "recursive": True}),
    ("remount", {"remount": True}),
    ("sync", {"superblock": ("sync",)}),
    ("async", {"superblock": ("async",)}),
    ("dirsync", {"superblock": ("dirsync",)}),
    ("nodirsync", {}),
    ("mand", {"superblock": ("mand",)}),
    ("nomand", {"superblock": ("nomand",)}),
    ("lazytime", {"superblock": ("lazytime",)}),
    ("nolazytime", {"superblock": ("nolazytime",)}),
    ("iversion", {"iversion": True}),
    ("noiversion", {}),
    ("private", {"propagation": MS_PRIVATE}),
    ("rprivate", {"propagation": MS_PRIVATE | MS_REC}),
    ("shared", {"propagation": MS_SHARED}),
    ("rshared", {"propagation": MS_SHARED | MS_REC}),
    ("slave", {"propagation": MS_SLAVE}),
    ("rslave", {"propagation": MS_SLAVE | MS_REC}),
    ("unbindable", {"propagation": MS_UNBINDABLE}),
    ("runbindable", {"propagation": MS_UNBINDABLE | MS_REC}),
    ("idmap", {"idmap": ""}),
    ("ridmap", {"idmap": "", "idmap_recursive": True}),
    ("idmap=uids=0-1-2;gids=0-1-2", {"idmap": "uids=0-1-2;gids=0-1-2"}),
    ("tmpcopyup", {"copy_up": True}),
    ("copy-symlink", {"copy_symlink": True}),
    ("src-nofollow", {"follow_source": False}),
    ("dest-nofollow", {"follow_target": False}),
    ("size=64k", {"data": ("size=64k",)}),
    ("newinstance", {"data": ("newinstance",)}),
    ("r", {"data": ("r",)}),
]


@pytest.mark.parametrize(("word", "attr_set", "attr_clr"), ATTRIBUTES)
def test_attributes_and_their_recursive_forms(word: str, attr_set: int, attr_clr: int) -> None:
    assert parse_options((word,)) == Options(attr_set=attr_set, attr_clr=attr_clr)
    assert parse_options((f"r{word}",)) == Options(all_set=attr_set, all_clr=attr_clr)


@pytest.mark.parametrize(("word", "becomes"), OTHERS)
def test_other_options(word: str, becomes: dict[str, Any]) -> None:
    assert parse_options((word,)) == Options(**becomes)


def test_the_later_of_two_counts() -> None:
    assert parse_options(("ro", "rw")) == parse_options(("rw",))
    assert parse_options(("rw", "ro")) == parse_options(("ro",))
    assert parse_options(("noatime", "strictatime")) == parse_options(("strictatime",))
    assert parse_options(("strictatime", "relatime")) == parse_options(("relatime",))
    assert parse_options(("sync", "async")).superblock == ("async",)
    assert parse_options(("rbind", "bind")).recursive is False
    assert parse_options(("shared", "rprivate")).propagation == MS_PRIVATE | MS_REC


CONTAINER = (
    IdMapping(container_id=0, host_id=100000, size=1000),
    IdMapping(container_id=1000, host_id=5000, size=10),
)


def maps(*words: str, own: tuple[IdMapping, ...] = (), container: tuple[IdMapping, ...] = CONTAINER) -> IdMap | None:
    return id_map(parse_options(words), own, own, container, container, "mounts: /x")


def test_maps_of_ids() -> None:
    assert maps("rbind") is None
    own = IdMapping(container_id=0, host_id=7, size=3)
    assert maps(own=(own,)) == IdMap(uids=((0, 7, 3),), gids=((0, 7, 3),))
    assert maps("ridmap") == IdMap(
        uids=((0, 100000, 1000), (1000, 5000, 10)), gids=((0, 100000, 1000), (1000, 5000, 10)), recursive=True
    )
    assert maps("idmap=uids=0-1-10#10-11-10;gids=0-100-10") == IdMap(
        uids=((0, 1, 10), (10, 11, 10)), gids=((0, 100, 10),)
    )
    assert maps("idmap=uids=@0-3-5;gids=@8-1002-2") == IdMap(uids=((0, 100003, 5),), gids=((8, 5002, 2),))
    assert map_text(((0, 1, 10), (10, 11, 10))) == b"0 1 10\n10 11 10\n"


@pytest.mark.parametrize(
    "words",
    [
        "idmap=uids=0-1-10",
        "idmap=uids=0-1-10;uids=0-1-10",
        "idmap=uids=0-1;gids=0-1-1",
        "idmap=uids=0--1-1;gids=0-1-1",
        "idmap=uids=0-1-0;gids=0-1-1",
        "idmap=uids=0-4294967290-10;gids=0-1-1",
        "idmap=uids=@0-999-2;gids=0-1-1",
        "idmap=pids=0-1-1;gids=0-1-1",
        "idmap=" + "uids=" + "#".join(f"{number}-{number}-1" for number in range(341)) + ";gids=0-0-1",
    ],
)
def test_maps_that_are_none(words: str) -> None:
    with pytest.raises(InvalidInput):
        maps(words)


def test_a_map_of_a_container_without_one() -> None:
    with pytest.raises(InvalidInput, match="needs maps"):
        maps("idmap", container=())
