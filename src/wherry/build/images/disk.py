"""Disks: partitions made one by one as files, then put where they belong, with the table and the board's raw areas.

Neither loop devices nor mounts; the file has holes where nothing is.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.bootloaders.choosing import boot_files
from wherry.build.bootloaders.entry import Files, entry_of
from wherry.build.images import ext4, fat
from wherry.build.images.contents import copy_sparse
from wherry.build.images.filling import collect, lay_out, tree_of
from wherry.build.images.geometry import Geometry, arrange
from wherry.build.images.layout import BOOT, BOOT_ENTRIES, IMAGE, ROOT, Filesystem, Table
from wherry.build.images.layoutcheck import MIB
from wherry.build.images.tables import SFDISK, partition_id, script
from wherry.build.images.tools import run_tool
from wherry.build.images.trees import within
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from wherry.build.images.layout import Layout, Partition
    from wherry.build.images.product import Product
    from wherry.build.images.trees import Entry
    from wherry.build.steps import Place

_ROOT_WORDS = ("root=", "wherry.root=")
"""With one of these, the host says itself where its root is."""
_PLACEHOLDER = re.compile(r"\{(partuuid|uuid):([^{}]*)\}")


def make_disk(
    place: Place,
    scratch: Path,
    product: Product,
    layout: Layout,
    name: str,
    made: Mapping[str, Path],
    out: Path,
) -> None:
    """Makes a disk in a file that is not there yet.

    Args:
        place: where tools run.
        scratch: a folder below the place's, for parts of the disk.
        product: the host.
        layout: all images.
        name: of the disk.
        made: the images that it has parts of, by their names.
        out: the file.

    Raises:
        InvalidInput: something does not fit; names the layer and the key.
        NotFound: the host has not what the layout names.
        NoSpace: this machine's disk is full.
    """
    disk = _Disk(place, scratch, product, layout, name, made)
    parts = {key: disk.plan(key, partition) for key, partition in disk.image.ordered()}
    areas = {key: disk.area(key) for key in disk.image.raw}
    sizes = {key: part.size for key, part in parts.items()}
    geometry = arrange(layout, name, sizes, {key: path.stat().st_size for key, path in areas.items()})
    try:
        with open(out, "xb") as file:
            os.truncate(file.fileno(), geometry.size)
            table = script(layout, name, product, geometry).encode()
            run_tool(place, product, [*SFDISK, out], out=out, stdin=table)
            for span in geometry.areas:
                copy_sparse(areas[span.name], file.fileno(), span.offset)
            for number, span in enumerate(geometry.partitions, 1):
                place.progress.update(f"partitions of {name}", number, len(geometry.partitions), unit="partitions")
                content = disk.make(parts[span.name], geometry)
                if content is not None:
                    copy_sparse(content, file.fileno(), span.offset)
    except OSError as error:
        raise map_os_error(error, "cannot write a disk", where=out) from error


class _Part:
    """A partition, before it is made."""

    def __init__(self, key: str, partition: Partition) -> None:
        self.key = key
        self.partition = partition
        self.size = 0
        self.entries: list[Entry] = []
        self.file: Path | None = None
        """Of a raw one: the bytes."""
        self.tree: Path | None = None
        """Of an ext4: a folder that has all of it already."""


class _Disk:
    """A disk, while it is made."""

    def __init__(
        self, place: Place, scratch: Path, product: Product, layout: Layout, name: str, made: Mapping[str, Path]
    ) -> None:
        self.place = place
        self.scratch = scratch
        self.product = product
        self.layout = layout
        self.name = name
        self.made = made
        self.image = layout.image(name)

    def where(self, *keys: str) -> str:
        """Returns where a key was said."""
        return self.layout.where(self.name, *keys)

    def plan(self, key: str, partition: Partition) -> _Part:
        """Finds out what is in a partition, and how large it is."""
        part = _Part(key, partition)
        size = self.layout.size(partition.size, self.name, "partitions", key, "size")
        where = self.where("partitions", key, "content")
        if partition.filesystem is Filesystem.RAW:
            part.file = self._raw(partition, where)
            need = part.file.stat().st_size if part.file is not None else 0
            if size and need > size:
                size_where = self.where("partitions", key, "size")
                raise InvalidInput("the content does not fit", where=size_where, hint=f"{need} bytes into {size}")
            part.size = size or _whole(need)
            return part
        part.entries = collect(self.product, partition.content, self.made, self._boot_files(partition), where)
        if [(each.source, each.to) for each in partition.content] == [(ROOT, "")]:
            part.tree = within(tree_of(self.product, ROOT, where), partition.content[0].below)
        estimate = fat.size_for if partition.filesystem is Filesystem.FAT else ext4.size_for
        part.size = size or estimate(part.entries)
        return part

    def area(self, key: str) -> Path:
        """Returns the file of a raw area."""
        wanted = self.image.raw[key]
        where = self.where("raw", key, "file")
        path = within(tree_of(self.product, BOOT, where), wanted.file)
        if not path.is_file() or not path.stat().st_size:
            raise InvalidInput("not a file with bytes for a raw area", where=where, hint=str(path))
        size = path.stat().st_size
        most = self.layout.size(wanted.size, self.name, "raw", key, "size")
        if most and size > most:
            where = self.where("raw", key, "size")
            raise InvalidInput("the file does not fit into its area", where=where, hint=f"{size} bytes into {most}")
        return path

    def make(self, part: _Part, geometry: Geometry) -> Path | None:
        """Makes the bytes of a partition; None where it has none."""
        if part.partition.filesystem is Filesystem.RAW:
            return part.file
        scratch = self.scratch / f"partition-{part.key}"
        scratch.mkdir()
        out = scratch / "image"
        where = self.where("partitions", part.key)
        if part.partition.filesystem is Filesystem.FAT:
            wanted = fat.Fat(
                name=(self.name, "filesystem", part.key),
                size=part.size,
                where=where,
                offset=geometry.partition(part.key).offset,
                label=part.partition.label,
                entries=part.entries,
            )
            images = tuple({path.parent for path in self.made.values()})
            fat.make_fat(self.place, scratch, self.product, wanted, out, readable=images)
            return out
        tree = part.tree
        if tree is None and part.entries:
            tree = scratch / "tree"
            tree.mkdir(mode=0o755)
            tree.chmod(0o755)
            lay_out(part.entries, tree)
        asked = ext4.Ext4(
            name=(self.name, part.key),
            size=part.size,
            where=where,
            label=part.partition.label,
            tree=tree,
            files=len(part.entries),
            grows=part.partition.grow,
        )
        ext4.make_ext4(self.place, scratch, self.product, asked, out)
        if tree is not None and part.tree is None:
            shutil.rmtree(tree)
        return out

    def _raw(self, partition: Partition, where: str) -> Path | None:
        if not partition.content:
            return None
        content = partition.content[0]
        if content.source.startswith(IMAGE):
            return self.made[content.source.removeprefix(IMAGE)]
        path = within(tree_of(self.product, content.source, where), content.below)
        if not path.is_file():
            raise InvalidInput("not a file whose bytes a partition could have", where=where, hint=str(path))
        return path

    def _boot_files(self, partition: Partition) -> Files:
        where = self.where("partitions")
        if not any(content.source == BOOT_ENTRIES for content in partition.content):
            return {}
        entry = entry_of(
            tree_of(self.product, BOOT, where),
            name=self.product.name,
            architecture=self.product.architecture,
            board=self.product.board,
            command_line=self.product.command_line,
            version=self.product.version,
            tries=self.product.tries,
            epoch=self.product.epoch,
        )
        words = tuple(_PLACEHOLDER.sub(self._identifier, word) for word in entry.command_line)
        roots = [key for key, each in self.image.ordered() if each.type == "root" and each.content]
        if roots and not any(word.startswith(_ROOT_WORDS) for word in words):
            words = (*words, f"root=PARTUUID={partition_id(self.layout, self.name, self.product, roots[0])}")
        if self.image.table is Table.GPT and any(each.grow for each in self.image.partitions.values()):
            # power may fail between two sectors of the table that is written when a partition grows: this makes the
            # kernel take the copy then (Documentation/admin-guide/kernel-parameters.txt)
            words = tuple(dict.fromkeys((*words, "gpt")))
        return boot_files(replace(entry, command_line=words))

    def _identifier(self, match: re.Match[str]) -> str:
        """Returns what stands for ``{partuuid:NAME}`` or ``{uuid:NAME}``."""
        kind, name = match.groups()
        partition = self.image.partitions.get(name)
        if partition is None:
            known = ", ".join(self.image.partitions)
            where = self.where("partitions")
            raise InvalidInput(f"no partition {name[:60]!r} for {match[0]}", where=where, hint=f"there are {known}")
        if kind == "partuuid":
            return partition_id(self.layout, self.name, self.product, name)
        if partition.filesystem is Filesystem.FAT:
            number = f"{self.product.number(self.name, 'filesystem', name):08X}"
            return f"{number[:4]}-{number[4:]}"
        if partition.filesystem is Filesystem.EXT4:
            return str(self.product.uuid(self.name, name, "filesystem"))
        if partition.content and partition.content[0].source.startswith(IMAGE):
            return str(self.product.uuid(partition.content[0].source.removeprefix(IMAGE), "filesystem"))
        raise InvalidInput(f"partition {name!r} has no file system", where=self.where("partitions", name))


def _whole(size: int) -> int:
    """Returns a size in whole mebibytes; one at least."""
    return max(MIB, -(-size // MIB) * MIB)
