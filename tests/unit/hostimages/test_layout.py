"""Layouts of images: merged over layers, and refused where they make no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wherry.build.images.geometry import arrange
from wherry.build.images.layout import Filesystem, Kind, Layout, Table, layout_of, parse_layout
from wherry.build.layers import Layer
from wherry.core.errors import InvalidInput, NotFound

MIB = 1024 * 1024


def _layer(top: Path, name: str, text: str) -> Layer:
    folder = top / name / "image"
    folder.mkdir(parents=True)
    (folder / "layout.yaml").write_text(text)
    return Layer(name=name, path=top / name)


def _disk(**keys: Any) -> dict[str, Any]:
    return {"images": {"root": {"kind": "erofs", "from": "root"}, "disk": {"kind": "disk", **keys}}}


def test_a_chain_is_merged_key_by_key(tmp_path: Path) -> None:
    base = _layer(
        tmp_path,
        "host/base",
        """
images:
  root: {kind: erofs, from: root}
  disk:
    kind: disk
    partitions:
      esp:     {order: 10, type: esp, filesystem: fat, size: 256MiB, content: [{from: boot-entries}]}
      persist: {order: 30, filesystem: ext4, size: 64MiB, label: persist, grow: true}
""",
    )
    board = _layer(
        tmp_path,
        "board/one",
        """
images:
  disk:
    table: mbr
    partitions:
      esp: {size: 64MiB}
      root: {order: 20, type: root, content: [{from: "image:root"}]}
    raw:
      u-boot: {file: firmware/u-boot.bin, offset: 8KiB}
""",
    )
    layout = layout_of([base, board])
    disk = layout.image("disk")
    assert (disk.kind, disk.table) == (Kind.DISK, Table.MBR)
    assert [name for name, _ in disk.ordered()] == ["esp", "root", "persist"]
    assert disk.partitions["esp"].size == "64MiB"
    assert disk.partitions["esp"].filesystem is Filesystem.FAT
    assert layout.needed("disk") == ["root", "disk"]
    assert layout.where("disk", "partitions", "esp", "size").startswith("board/one: ")
    assert layout.where("disk", "partitions", "esp", "type").startswith("host/base: ")
    assert layout_of([base]).image("disk").table is Table.GPT
    assert layout_of([]) == Layout()


def test_null_takes_a_partition_away(tmp_path: Path) -> None:
    base = _layer(tmp_path, "a/b", "images: {d: {kind: disk, partitions: {x: {size: 1MiB}, y: {size: 1MiB}}}}")
    later = _layer(tmp_path, "c/d", "images: {d: {partitions: {x: null}}}")
    assert [name for name, _ in layout_of([base, later]).image("d").ordered()] == ["y"]


def test_an_error_names_the_layer_that_brought_it(tmp_path: Path) -> None:
    base = _layer(tmp_path, "a/b", "images: {d: {kind: disk, partitions: {x: {size: 1MiB}}}}")
    later = _layer(tmp_path, "c/d", "images: {d: {partitions: {x: {filesystem: ntfs}}}}")
    with pytest.raises(InvalidInput, match=r"filesystem.*raw, fat, ext4.*c/d: .*c/d/image/layout.yaml"):
        layout_of([base, later])
    other = _layer(tmp_path, "e/f", "images: {d: {partitions: {x: {filesystem: fat, size: 4KiB}}}}")
    with pytest.raises(InvalidInput, match=r"too small: 4096 bytes: e/f: .*images.d.partitions.x.size"):
        layout_of([base, other])


_PART = {"size": "8MiB"}
BAD = {
    "unknown key": (_disk(colour="red"), "unknown key 'colour'"),
    "python's own key": (_disk(partitions={"a": {"content": [{"source": "root"}]}}), "unknown key 'source'"),
    "from is no text": (_disk(partitions={"a": {"content": [{"from": ["root"]}]}}), "must be text"),
    "kind": ({"images": {"a": {"kind": "iso"}}}, "kind: must be one of disk, erofs"),
    "no kind": ({"images": {"a": {"from": "root"}}}, "key 'kind' is missing"),
    "name": ({"images": {"../a": {"kind": "oci", "from": "root"}}}, "not a name of an image"),
    "key of another kind": ({"images": {"a": {"kind": "oci", "from": "root", "size": "1MiB"}}}, "has no 'size'"),
    "no source": ({"images": {"a": {"kind": "erofs"}}}, "key 'from' is missing"),
    "source": ({"images": {"a": {"kind": "erofs", "from": "boot-entries"}}}, "no source 'boot-entries'"),
    "below": ({"images": {"a": {"kind": "tar", "from": "root", "below": "../etc"}}}, "not a path below a folder"),
    "absolute": ({"images": {"a": {"kind": "tar", "from": "root", "below": "/etc"}}}, "not a path below a folder"),
    "compression": (
        {"images": {"a": {"kind": "erofs", "from": "root", "compression": "zstd"}}},
        "there are lz4, lz4hc",
    ),
    "odd cluster": ({"images": {"a": {"kind": "erofs", "from": "root", "cluster": "12KiB"}}}, "no cluster of 12288"),
    "small cluster": ({"images": {"a": {"kind": "erofs", "from": "root", "cluster": "2KiB"}}}, "no cluster of 2048"),
    "large cluster": ({"images": {"a": {"kind": "erofs", "from": "root", "cluster": "2MiB"}}}, "no cluster of 2097152"),
    "cluster of nothing": (
        {"images": {"a": {"kind": "erofs", "from": "root", "compression": "none", "cluster": "4KiB"}}},
        "not compressed",
    ),
    "squashfs' cluster": ({"images": {"a": {"kind": "squashfs", "from": "root", "cluster": "4KiB"}}}, "no 'cluster'"),
    "level": ({"images": {"a": {"kind": "tar", "from": "root", "level": 40}}}, "no level 40.*1 to 19"),
    "small ext4": ({"images": {"a": {"kind": "ext4", "from": "root", "size": "64k"}}}, "too small"),
    "partition's name": (_disk(partitions={"a b": _PART}), "not a name of a partition"),
    "partition's type": (_disk(partitions={"a": {**_PART, "type": "zfs"}}), "not a type of partition.*esp, boot"),
    "mbr's type": (_disk(table="mbr", partitions={"a": {**_PART, "type": "zfs"}}), "not a type of an MBR's"),
    "esp": (_disk(partitions={"a": {**_PART, "type": "esp", "filesystem": "ext4"}}), "FAT alone"),
    "no size": (_disk(partitions={"a": {"filesystem": "ext4"}}), "needs a size"),
    "size": (_disk(partitions={"a": {"size": "much"}}), "not a size: 'much': .*"),
    "odd size": (_disk(partitions={"a": {"size": "1000001"}}), "not a multiple of 512"),
    "label": (_disk(partitions={"a": {**_PART, "filesystem": "fat", "label": "much too long"}}), "at most 11"),
    "quote in label": (_disk(partitions={"a": {**_PART, "label": 'a"b'}}), "not a label"),
    "grow": (_disk(partitions={"a": {**_PART, "grow": True}, "b": {**_PART, "order": 2}}), "not the last one"),
    "attribute": (_disk(partitions={"a": {**_PART, "attributes": ["hidden"]}}), "no attribute 'hidden'"),
    "active in gpt": (_disk(partitions={"a": {**_PART, "attributes": ["active"]}}), "no attribute 'active'"),
    "unknown image": (_disk(partitions={"a": {"content": [{"from": "image:rot"}]}}), "no image 'rot'.*there are: root"),
    "itself": (_disk(partitions={"a": {**_PART, "filesystem": "fat", "content": [{"from": "image:disk"}]}}), "a disk"),
    "two raw": (_disk(partitions={"a": {"content": [{"from": "image:root"}, {"from": "image:root"}]}}), "one content"),
    "raw tree": (_disk(partitions={"a": {"content": [{"from": "root"}]}}), "one image or file"),
    "root in fat": (_disk(partitions={"a": {"filesystem": "fat", "content": [{"from": "root"}]}}), "neither owners"),
    "entries to": (
        _disk(partitions={"a": {"filesystem": "fat", "content": [{"from": "boot-entries", "to": "x"}]}}),
        "boot entries are where",
    ),
    "five of mbr": (_disk(table="mbr", partitions=dict.fromkeys("abcde", _PART)), "room for 4"),
    "raw over table": (_disk(raw={"u": {"file": "a", "offset": "1KiB"}}), "over the partition table.*1536"),
    "raw over header": (_disk(raw={"u": {"file": "a", "offset": "512"}}), "over the partition table"),
    "raw over mbr": (_disk(table="mbr", raw={"u": {"file": "a", "offset": "0"}}), "the first free byte is 512"),
    "raw unaligned": (_disk(raw={"u": {"file": "a", "offset": "8193"}}), "not a multiple"),
    "raw without file": (_disk(raw={"u": {"file": "", "offset": "8KiB"}}), "must name a file"),
    "raw over raw": (
        _disk(raw={"u": {"file": "a", "offset": "8KiB", "size": "64KiB"}, "v": {"file": "b", "offset": "40KiB"}}),
        "overlaps 'u'.*u ends at byte 73728, v begins at 40960",
    ),
    "partition over raw": (
        _disk(raw={"u": {"file": "a", "offset": "2MiB"}}, partitions={"p": {"size": "4MiB", "offset": "1MiB"}}),
        "overlaps 'p'",
    ),
    "partition over partition": (
        _disk(partitions={"p": {"size": "4MiB", "offset": "1MiB"}, "q": {"size": "1MiB", "offset": "2MiB"}}),
        "overlaps 'p'",
    ),
    "partition over table": (_disk(partitions={"p": {"size": "4MiB", "offset": "512"}}), "no place for a partition"),
    "small disk": (_disk(size="8MiB", partitions={"a": {"size": "8MiB"}}), "too small: 8388608 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_makes_no_sense_is_refused(name: str) -> None:
    document, message = BAD[name]
    with pytest.raises(InvalidInput, match=message):
        parse_layout(document, where="layers/x")


def test_a_name_may_be_a_key_elsewhere() -> None:
    document = {"images": {"raw": {"kind": "disk", "partitions": {"from": _PART, "source": _PART}}}}
    assert set(parse_layout(document).image("raw").partitions) == {"from", "source"}


def test_an_image_that_is_not_there() -> None:
    with pytest.raises(NotFound, match=r"no image 'rot'.*there are: root, disk"):
        parse_layout(_disk()).image("rot")


def test_partitions_go_around_raw_areas() -> None:
    document = _disk(
        raw={"spl": {"file": "a", "offset": "8KiB"}, "u-boot": {"file": "b", "offset": "8MiB"}},
        partitions={
            "boot": {"size": "8MiB"},
            "small": {"size": "1MiB", "order": 1},
            "root": {"size": "2MiB", "order": 2},
        },
    )
    layout = parse_layout(document)
    found = arrange(
        layout,
        "disk",
        {"boot": 8 * MIB, "small": MIB, "root": 2 * MIB},
        {"spl": 40_000, "u-boot": 1_000_000},
    )
    assert [(span.name, span.offset // MIB) for span in found.partitions] == [("boot", 9), ("small", 17), ("root", 18)]
    assert found.entries == 56  # what fits before byte 8192
    assert found.size == 21 * MIB


def test_a_table_of_the_usual_length() -> None:
    layout = parse_layout(_disk(partitions={"a": {"size": "1MiB"}}))
    found = arrange(layout, "disk", {"a": MIB}, {})
    assert (found.entries, found.size, found.partitions[0].offset) == (128, 3 * MIB, MIB)


def test_what_overlaps_by_its_real_size_is_refused() -> None:
    raw = {"a": {"file": "a", "offset": "8KiB"}, "b": {"file": "b", "offset": "64KiB"}}
    layout = parse_layout(_disk(raw=raw, partitions={"p": {"size": "1MiB", "offset": "1MiB"}}))
    with pytest.raises(InvalidInput, match=r"overlaps raw area 'a'.*images.disk.raw.b"):
        arrange(layout, "disk", {"p": MIB}, {"a": 60_000, "b": 10})
    with pytest.raises(InvalidInput, match=r"overlaps raw area 'b'.*images.disk.partitions.p"):
        arrange(layout, "disk", {"p": MIB}, {"a": 10, "b": MIB})


def test_a_disk_that_is_too_small_for_what_it_turns_out_to_hold() -> None:
    layout = parse_layout(_disk(size="8MiB", partitions={"a": {"content": [{"from": "image:root"}]}}))
    with pytest.raises(InvalidInput, match=r"the disk is too small.*it needs"):
        arrange(layout, "disk", {"a": 7 * MIB}, {})
