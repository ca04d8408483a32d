"""Layers over layers: whiteouts, links, and names that would leave the image."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.unit.image.makers import (
    device,
    directory,
    file,
    hard_link,
    make_repo,
    make_tar,
    show,
    symlink,
    xattrs,
)

from wherry.core.errors import WherryError
from wherry.image.layers import Flattener
from wherry.store.tree.commit import commit_tree
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.tar import TarReader

ROOT = {"": "755 0:0 dir"}
Member = tuple[tarfile.TarInfo, bytes]


def flatten(path: Path, *layers: list[Member], notes: list[str] | None = None) -> dict[str, str]:
    repo = make_repo(path / "repo")
    flat = Flattener(repo=repo, tree=TreeBuilder(repo), note=(notes if notes is not None else []).append)
    with repo.transaction():
        for number, layer in enumerate(layers):
            where = f"layer {number}"
            flat.apply(TarReader(io.BytesIO(make_tar(*layer)), where=where), where=where)
        tree, meta = flat.tree.write()
        commit = commit_tree(repo, tree, meta, timestamp_s=0)
    return show(repo, commit)


def test_owners_modes_and_attributes_are_kept(tmp_path: Path) -> None:
    layer = [
        directory("./", mode=0o700, uid=1, gid=2),
        directory("./tmp/", mode=0o1777),
        file("./su", "x", mode=0o4755, uid=70000),
        file("./cap", "", pax_headers=xattrs(security__capability="c", security__selinux="s", com__apple="a")),
        file("./acl", "", pax_headers=xattrs(user__a="1", trusted__overlay__opaque="y", trusted__t="t")),
        symlink("./l", "/abs/olute"),
    ]
    assert flatten(tmp_path, layer) == {
        "": "700 1:2 dir",
        "tmp": "1777 0:0 dir",
        "su": "4755 70000:0 'x'",
        "cap": "644 0:0 '' security.capability=b'c'",
        "acl": "644 0:0 '' trusted.t=b't' user.a=b'1'",
        "l": "-> /abs/olute",
    }


@pytest.mark.parametrize(
    ("upper", "left"),
    [
        ([file("d/.wh.a")], {"d", "d/b", "d/s", "d/s/x", "f"}),
        ([file(".wh.d")], {"f"}),
        ([file(".wh.f")], {"d", "d/a", "d/b", "d/s", "d/s/x"}),
        ([file("d/.wh..wh..opq")], {"d", "f"}),
        ([file("d/.wh..wh..opq"), file("d/new")], {"d", "d/new", "f"}),
        ([file("d/new"), file("d/.wh..wh..opq")], {"d", "d/new", "f"}),
        ([file("d/s/new"), file("d/.wh..wh..opq")], {"d", "d/s", "d/s/new", "f"}),
        ([file("d/a", "again"), file("d/.wh.a")], {"d", "d/a", "d/b", "d/s", "d/s/x", "f"}),
        ([directory("d/s"), file("d/.wh.s")], {"d", "d/a", "d/b", "d/s", "f"}),
        ([file(".wh.missing"), file("no/where/.wh.a")], {"d", "d/a", "d/b", "d/s", "d/s/x", "f"}),
        ([file("f/.wh.a"), file("f/x/.wh.b")], {"d", "d/a", "d/b", "d/s", "d/s/x", "f"}),
        ([file("d"), file("d/.wh.a")], {"d", "f"}),
        ([file(".wh..wh.plnk", "x")], {"d", "d/a", "d/b", "d/s", "d/s/x", "f"}),
        ([file("d")], {"d", "f"}),
        ([directory("f")], {"d", "d/a", "d/b", "d/s", "d/s/x", "f"}),
        ([device("f")], {"d", "d/a", "d/b", "d/s", "d/s/x"}),
    ],
)
def test_whiteouts_and_replacements(tmp_path: Path, upper: list[Member], left: set[str]) -> None:
    lower = [file("d/a"), file("d/b"), file("d/s/x"), file("f")]
    found = flatten(tmp_path, lower, upper)
    assert set(found) == left | {""}


def test_a_replaced_file_is_the_new_one(tmp_path: Path) -> None:
    layers = [[file("a", "old")], [file("a", "new", mode=0o600)], [directory("d", mode=0o700)], [directory("d")]]
    assert flatten(tmp_path, *layers) == ROOT | {"a": "600 0:0 'new'", "d": "755 0:0 dir"}


def test_duplicates_in_one_archive(tmp_path: Path) -> None:
    layer = [file("a", "1"), file("a", "2"), directory("d"), symlink("d", "a"), symlink("s", "a"), directory("s")]
    assert flatten(tmp_path, layer) == ROOT | {"a": "644 0:0 '2'", "d": "-> a", "s": "755 0:0 dir"}


def test_hard_links(tmp_path: Path) -> None:
    layers = [
        [file("a", "1"), hard_link("b", "./a"), hard_link("/c/d", "/b"), symlink("s", "a"), hard_link("t", "s")],
        [file("a", "2"), hard_link("e", "c/d")],
    ]
    assert flatten(tmp_path, *layers) == ROOT | {
        "a": "644 0:0 '2'",
        "b": "644 0:0 '1'",
        "c": "755 0:0 dir",
        "c/d": "644 0:0 '1'",
        "e": "644 0:0 '1'",
        "s": "-> a",
        "t": "-> a",
    }


def test_links_on_the_way_are_followed_inside(tmp_path: Path) -> None:
    layers = [
        [directory("usr/lib"), symlink("lib", "usr/lib"), symlink("abs", "/usr"), symlink("up", "../../../usr/lib")],
        [file("lib/a", "1"), file("abs/b", "2"), file("up/c", "3"), file("lib/.wh.none"), hard_link("lib/d", "up/c")],
    ]
    found = flatten(tmp_path, *layers)
    assert {path: text for path, text in found.items() if "dir" not in text} == {
        "lib": "-> usr/lib",
        "abs": "-> /usr",
        "up": "-> ../../../usr/lib",
        "usr/b": "644 0:0 '2'",
        "usr/lib/a": "644 0:0 '1'",
        "usr/lib/c": "644 0:0 '3'",
        "usr/lib/d": "644 0:0 '3'",
    }


def test_a_link_that_leads_out_leads_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    layer = [symlink("x", str(outside)), file("x/evil", "1"), symlink("y", "../" * 30 + str(outside)[1:]), file("y/2")]
    found = flatten(tmp_path, layer)
    assert list(outside.iterdir()) == []
    assert found[str(outside)[1:] + "/evil"] == "644 0:0 '1'"
    assert found[str(outside)[1:] + "/2"] == "644 0:0 ''"


def test_a_whiteout_does_not_follow_the_last_link(tmp_path: Path) -> None:
    found = flatten(tmp_path, [file("d/a"), symlink("l", "d")], [file(".wh.l")])
    assert set(found) == {"", "d", "d/a"}


def test_devices_are_left_out_with_a_note(tmp_path: Path) -> None:
    notes: list[str] = []
    layer = [device("dev/null"), device("dev/sda", tarfile.BLKTYPE), device("pipe", tarfile.FIFOTYPE), file("f")]
    assert set(flatten(tmp_path, layer, notes=notes)) == {"", "f"}
    assert notes == [
        "left out a character device: /dev/null",
        "left out a block device: /dev/sda",
        "left out a fifo: /pipe",
    ]


def test_large_files_are_streamed(tmp_path: Path) -> None:
    found = flatten(tmp_path, [file("large", bytes(9_000_000)), file("after", "x")])
    assert found["large"] == "644 0:0 9000000 bytes"
    assert found["after"] == "644 0:0 'x'"


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        ([file("../x")], "leaves the image"),
        ([file("a/../../x")], "leaves the image"),
        ([file("/../x")], "leaves the image"),
        ([directory("..")], "leaves the image"),
        ([file("a"), hard_link("b", "../a")], "leaves the image"),
        ([file(".")], "root of an image"),
        ([symlink("/", "x")], "root of an image"),
        ([hard_link("a", "missing")], "no file of the image"),
        ([directory("d"), hard_link("a", "d")], "no file of the image"),
        ([directory("d"), hard_link("a", "/")], "hard link to a directory"),
        ([file("a"), hard_link("a", "a")], "to itself"),
        ([file("d/a"), hard_link("d", "d/a")], "below itself"),
        ([file("a"), file("a/b")], "in the way"),
        ([symlink("a", "b"), symlink("b", "a"), file("a/x")], "circles"),
        ([file(".wh.")], "whiteout of no name"),
        ([file(".wh...")], "whiteout of no name"),
        ([file("n" * 256)], "longer than 255"),
        ([symlink("l", "")], "symbolic link"),
        ([file("d/" * 300 + "x")], "more than 250"),
    ],
)
def test_refused(tmp_path: Path, layer: list[Any], what: str) -> None:
    with pytest.raises(WherryError, match=what) as caught:
        flatten(tmp_path, layer)
    assert "layer 0" in str(caught.value)
    assert not list((tmp_path / "repo/objects").glob("*/*"))
