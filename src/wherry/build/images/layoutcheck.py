"""What is wrong with a layout, found before anything is made: each error names the layer, its file and the key."""

from __future__ import annotations

import re
from itertools import pairwise

from wherry.build.images.compression import CHOICES, NONE
from wherry.build.images.layout import (
    BOOT,
    BOOT_ENTRIES,
    IMAGE,
    ROOT,
    Content,
    Filesystem,
    Image,
    Kind,
    Layout,
    Partition,
    Table,
)
from wherry.build.images.partitiontypes import gpt_type, mbr_type
from wherry.core.errors import InvalidInput
from wherry.spec.architecture import ARCHITECTURES

SECTOR_BYTES = 512
MIB = 1024 * 1024
MAX_MBR_PARTITIONS = 4
MAX_GPT_PARTITIONS = 128
MIN_FAT_BYTES = 512 * 1024
MIN_EXT4_BYTES = 2 * MIB
"""Below it, there is no room for a journal."""
MIN_CLUSTER_BYTES, MAX_CLUSTER_BYTES = 4096, MIB
"""Of EROFS' physical clusters, where its blocks are pages of 4 KiB."""
MAX_DISK_BYTES = 64 * 1024 * 1024 * MIB
LABEL_CHARS = {Filesystem.FAT: 11, Filesystem.EXT4: 16, Filesystem.RAW: 36}
"""What the file systems, and GPT, have room for."""
GPT_ATTRIBUTES = {
    "required": "RequiredPartition",
    "no-block-io": "NoBlockIOProtocol",
    "legacy-boot": "LegacyBIOSBootable",
}
GPT_BITS = {"read-only": "60", "no-auto": "63"}
"""Of the Discoverable Partitions Specification."""
MBR_ATTRIBUTES = ("active",)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_LABEL = re.compile(r"[A-Za-z0-9 _.,:!#$%&'()*+/;<=>?@^`{|}~-]*\Z")
_FAT_LABEL = re.compile(r"[A-Za-z0-9 _!#$%&'()@^`{}~-]*\Z")
_OF_DISK = ("table", "partitions", "raw", "size")
_OF_TREE = ("source", "below", "compression", "level")
_KEYS = {
    Kind.DISK: _OF_DISK,
    Kind.EROFS: (*_OF_TREE, "cluster"),
    Kind.SQUASHFS: _OF_TREE,
    Kind.EXT4: ("source", "below", "size", "label"),
    Kind.INITRAMFS: _OF_TREE,
    Kind.OCI: ("source", "below"),
    Kind.TAR: _OF_TREE,
    Kind.WSL: ("source", "below", "level"),
}
"""The keys that each kind of image has besides ``kind``."""
_DEFAULT = Image(kind=Kind.DISK)


def check(layout: Layout) -> None:
    """Looks at a whole layout.

    Raises:
        InvalidInput: something is wrong.
    """
    for name, image in layout.images.items():
        if not _NAME.match(name):
            raise InvalidInput(
                f"not a name of an image: {name[:60]!r}", where=layout.where(name), hint="letters, digits"
            )
        _check_keys(layout, name, image)
        if image.kind is Kind.DISK:
            _Disk(layout, name, image).check()
        else:
            _check_tree(layout, name, image)
    for name in layout.images:
        layout.needed(name)


def _check_keys(layout: Layout, name: str, image: Image) -> None:
    for key in ("source", "below", "compression", "level", "cluster", "size", "label", "table", "partitions", "raw"):
        if key not in _KEYS[image.kind] and getattr(image, key) != getattr(_DEFAULT, key):
            shown = "from" if key == "source" else key
            raise InvalidInput(f"an image of kind {image.kind} has no {shown!r}", where=layout.where(name, shown))


def _check_tree(layout: Layout, name: str, image: Image) -> None:
    if image.source not in (ROOT, BOOT):
        raise _unknown_source(image.source, layout.where(name, "from"), f"{ROOT} or {BOOT}")
    check_path(image.below, layout.where(name, "below"))
    choices = CHOICES.get(image.kind)
    if choices and image.compression and image.compression not in choices:
        raise InvalidInput(
            f"{image.kind} has no compression {image.compression[:60]!r}",
            where=layout.where(name, "compression"),
            hint=f"there are {', '.join(choices)}",
        )
    if image.level is not None:
        word = image.compression or next(iter(choices or {"": 0}))
        best = (choices or {}).get(word, 0)
        if not 1 <= image.level <= best:
            hint = f"1 to {best}" if best else f"{word or image.kind} has no levels"
            raise InvalidInput(f"no level {image.level}", where=layout.where(name, "level"), hint=hint)
    if image.cluster:
        _check_cluster(layout, name, image)
    if image.kind is Kind.EXT4:
        _check_label(image.label, Filesystem.EXT4, layout.where(name, "label"))
        size = layout.size(image.size, name, "size")
        if image.size and size < MIN_EXT4_BYTES:
            raise _too_small(size, MIN_EXT4_BYTES, layout.where(name, "size"))


def _check_cluster(layout: Layout, name: str, image: Image) -> None:
    where = layout.where(name, "cluster")
    if image.compression == NONE:
        raise InvalidInput("a cluster of what is not compressed", where=where)
    size = layout.size(image.cluster, name, "cluster")
    if size & (size - 1) or not MIN_CLUSTER_BYTES <= size <= MAX_CLUSTER_BYTES:
        raise InvalidInput(f"no cluster of {size} bytes", where=where, hint="4KiB, 8KiB, 16KiB ... to 1MiB")


class _Disk:
    """One disk, while it is looked at."""

    def __init__(self, layout: Layout, name: str, image: Image) -> None:
        self.layout = layout
        self.name = name
        self.image = image

    def where(self, *keys: str) -> str:
        """Returns where a key of this disk was said."""
        return self.layout.where(self.name, *keys)

    def check(self) -> None:
        """Looks at all of it."""
        ordered = self.image.ordered()
        most = MAX_MBR_PARTITIONS if self.image.table is Table.MBR else MAX_GPT_PARTITIONS
        if len(ordered) > most:
            raise InvalidInput(f"{self.image.table} has room for {most} partitions", where=self.where("partitions"))
        for name, partition in ordered:
            self._partition(name, partition, last=name == ordered[-1][0])
        self._areas()
        self._sizes()

    def _partition(self, name: str, partition: Partition, *, last: bool) -> None:
        at = ("partitions", name)
        if not _NAME.match(name):
            raise InvalidInput(
                f"not a name of a partition: {name[:60]!r}", where=self.where(*at), hint="letters, digits"
            )
        if self.image.table is Table.MBR:
            mbr_type(partition.type, where=self.where(*at, "type"))
        else:
            gpt_type(partition.type, next(iter(ARCHITECTURES.values())), where=self.where(*at, "type"))
        if partition.type == "esp" and partition.filesystem is not Filesystem.FAT:
            raise InvalidInput(
                "UEFI reads FAT alone from an ESP", where=self.where(*at, "filesystem"), hint="write fat"
            )
        _check_label(partition.label, partition.filesystem, self.where(*at, "label"))
        if partition.grow and not last:
            where = self.where(*at, "grow")
            raise InvalidInput("a partition that is not the last one cannot grow", where=where, hint="raise its order")
        known = MBR_ATTRIBUTES if self.image.table is Table.MBR else (*GPT_ATTRIBUTES, *GPT_BITS)
        for word in partition.attributes:
            if word not in known:
                raise InvalidInput(
                    f"no attribute {word[:60]!r}", where=self.where(*at, "attributes"), hint=f"{', '.join(known)}"
                )
        self._size_of(name, partition)
        for content in partition.content:
            self._content(name, partition, content)

    def _size_of(self, name: str, partition: Partition) -> None:
        where = self.where("partitions", name, "size")
        size = self.layout.size(partition.size, self.name, "partitions", name, "size")
        if not partition.size:
            if not partition.content:
                raise InvalidInput("a partition without content needs a size", where=self.where("partitions", name))
            return
        least = {Filesystem.FAT: MIN_FAT_BYTES, Filesystem.EXT4: MIN_EXT4_BYTES, Filesystem.RAW: SECTOR_BYTES}
        if size < least[partition.filesystem]:
            raise _too_small(size, least[partition.filesystem], where)
        if size % SECTOR_BYTES:
            raise InvalidInput(f"not a multiple of {SECTOR_BYTES}: {partition.size}", where=where)

    def _content(self, name: str, partition: Partition, content: Content) -> None:
        where = self.where("partitions", name, "content")
        source = content.source
        if source not in (ROOT, BOOT, BOOT_ENTRIES) and not source.startswith(IMAGE):
            raise _unknown_source(source, where, f"{ROOT}, {BOOT}, {BOOT_ENTRIES} or {IMAGE}NAME")
        check_path(content.below, where)
        check_path(content.to, where)
        if partition.filesystem is Filesystem.RAW:
            if len(partition.content) > 1:
                raise InvalidInput("a raw partition has one content", where=where, hint="say which filesystem it has")
            if content.to or not (source.startswith(IMAGE) or (source == BOOT and content.below)):
                hint = f"from {IMAGE}NAME, or from {BOOT} with below: the file"
                raise InvalidInput("a raw partition takes the bytes of one image or file", where=where, hint=hint)
        if source.startswith(IMAGE):
            inner = self.layout.images.get(source.removeprefix(IMAGE))
            if inner is not None and inner.kind is Kind.DISK:
                raise InvalidInput("a disk within a disk", where=where)
            if content.below:
                raise InvalidInput("an image has nothing below", where=where, hint="leave `below` out")
        if source == BOOT_ENTRIES and (content.below or content.to):
            raise InvalidInput(
                "boot entries are where the firmware looks for them", where=where, hint="no below, no to"
            )
        if source == ROOT and partition.filesystem is Filesystem.FAT and not content.below:
            raise InvalidInput("FAT knows neither owners nor links: not a place for a root", where=where)

    def _areas(self) -> None:
        spans = []
        for name, area in self.image.raw.items():
            at = ("raw", name)
            if not _NAME.match(name):
                raise InvalidInput(f"not a name of a raw area: {name[:60]!r}", where=self.where(*at))
            check_path(area.file, self.where(*at, "file"))
            if not area.file:
                raise InvalidInput("must name a file below boot/", where=self.where(*at, "file"))
            offset = self.layout.size(area.offset, self.name, *at, "offset")
            size = self.layout.size(area.size, self.name, *at, "size")
            where = self.where(*at, "offset")
            if offset % SECTOR_BYTES:
                raise InvalidInput(f"not a multiple of {SECTOR_BYTES}: {area.offset}", where=where)
            if area.size and not size:
                raise _too_small(size, 1, self.where(*at, "size"))
            first = first_free_byte(self.image.table, len(self.image.partitions))
            if offset < first:
                hint = f"the first free byte is {first}" + ("" if self.image.table is Table.MBR else "; or table: mbr")
                raise InvalidInput("a raw area over the partition table", where=where, hint=hint)
            spans.append((offset, offset + max(size, SECTOR_BYTES), ("raw", name)))
        for name, partition in self.image.ordered():
            at = ("partitions", name)
            offset = self.layout.size(partition.offset, self.name, *at, "offset")
            if not partition.offset:
                continue
            if offset % SECTOR_BYTES or offset < first_free_byte(self.image.table, len(self.image.partitions)):
                hint = f"a multiple of {SECTOR_BYTES} behind the table"
                raise InvalidInput(f"no place for a partition: {partition.offset}", where=self.where(*at), hint=hint)
            size = self.layout.size(partition.size, self.name, *at, "size")
            spans.append((offset, offset + max(size, SECTOR_BYTES), at))
        for (_, end, first_at), (start, _, second_at) in pairwise(sorted(spans)):
            if start < end:
                hint = f"{first_at[1]} ends at byte {end}, {second_at[1]} begins at {start}"
                raise InvalidInput(f"overlaps {first_at[1]!r}", where=self.where(*second_at), hint=hint)

    def _sizes(self) -> None:
        size = self.layout.size(self.image.size, self.name, "size")
        if not self.image.size:
            return
        if size % SECTOR_BYTES or size > MAX_DISK_BYTES:
            hint = f"a multiple of {SECTOR_BYTES}, of at most 64 TiB"
            raise InvalidInput(f"not a size of a disk: {self.image.size}", where=self.where("size"), hint=hint)
        known = sum(
            self.layout.size(each.size, self.name, "partitions", key, "size") for key, each in self.image.ordered()
        )
        least = max(known + MIB * (1 + (self.image.table is Table.GPT)), 2 * MIB)
        if size < least:
            raise _too_small(size, least, self.where("size"))


def first_free_byte(table: Table, partitions: int) -> int:
    """Returns where a raw area may begin at the earliest: after an MBR, or the smallest GPT for so many partitions."""
    if table is Table.MBR:
        return SECTOR_BYTES
    entries_per_sector = 4
    return SECTOR_BYTES * (2 + max(1, -(-partitions // entries_per_sector)))


def check_path(text: str, where: str) -> None:
    """Checks a path below a tree.

    Raises:
        InvalidInput: it leads out of it, or is not written in the one way.
    """
    parts = text.split("/")
    if text and (any(part in ("", ".", "..") for part in parts) or not text.isprintable()):
        raise InvalidInput(f"not a path below a folder: {text[:80]!r}", where=where, hint="as usr/lib/modules")


def _check_label(text: str, filesystem: Filesystem, where: str) -> None:
    most = LABEL_CHARS[filesystem]
    pattern = _FAT_LABEL if filesystem is Filesystem.FAT else _LABEL
    if len(text) > most or not pattern.match(text):
        raise InvalidInput(f"not a label: {text[:60]!r}", where=where, hint=f"at most {most} plain characters")


def _unknown_source(source: str, where: str, known: str) -> InvalidInput:
    what = f"no source {source[:60]!r}" if source else "key 'from' is missing"
    return InvalidInput(what, where=where, hint=f"there are {known}")


def _too_small(size: int, least: int, where: str) -> InvalidInput:
    return InvalidInput(f"too small: {size} bytes", where=where, hint=f"at least {least}")
