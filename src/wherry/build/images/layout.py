"""The layout of images: what ``image/layout.yaml`` of the layers of a chain says, merged key by key (RFC 7396).

::

    images:
      root:    {kind: erofs, from: root}
      modules: {kind: squashfs, from: root, below: usr/lib/modules}
      disk:
        kind: disk
        table: gpt
        partitions:
          esp:     {order: 10, type: esp, filesystem: fat, size: 256MiB, content: [{from: boot-entries}]}
          root:    {order: 20, type: root, content: [{from: "image:root"}]}
          persist: {order: 30, filesystem: ext4, size: 64MiB, label: persist, grow: true}
        raw:
          u-boot: {file: firmware/u-boot-sunxi-with-spl.bin, offset: 8KiB}

Partitions and raw areas are mappings by name, so that a later layer can change one key of one of them, or take it away
with null. This module reads values, and `layoutcheck.py` says what is wrong with them; neither looks at the host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from wherry.build.yamlfiles import merge_patch, read_mapping
from wherry.core.errors import InvalidInput, NotFound
from wherry.core.units import parse_size
from wherry.spec.codec import decode

if TYPE_CHECKING:
    from wherry.build.layers import Layer

FILE = "image/layout.yaml"
ROOT, BOOT, BOOT_ENTRIES, IMAGE = "root", "boot", "boot-entries", "image:"
"""What content can be from: the host's tree, what it boots by, what its boot loader reads, another image."""

_RENAMED = {"from": "source"}
"""Keys of the file that are no names in Python -> the fields."""


class Kind(StrEnum):
    """What an image is."""

    DISK = "disk"
    EROFS = "erofs"
    SQUASHFS = "squashfs"
    EXT4 = "ext4"
    INITRAMFS = "initramfs"
    """A cpio archive, as the kernel unpacks it into memory."""
    OCI = "oci"
    """An archive with an image for container engines; docker's tools read it, too."""
    TAR = "tar"
    WSL = "wsl"
    """What the Windows Subsystem for Linux imports."""


class Table(StrEnum):
    """How a disk says where its partitions are."""

    GPT = "gpt"
    MBR = "mbr"


class Filesystem(StrEnum):
    """What is in a partition."""

    RAW = "raw"
    """The bytes of one file or image, as they are; nothing where there is no content."""
    FAT = "fat"
    EXT4 = "ext4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Something that goes into a partition."""

    source: str
    """The key ``from``: ``root``, ``boot``, ``boot-entries`` or ``image:NAME``."""
    below: str = ""
    """The folder, or file, of the source that is meant; "" for all of it."""
    to: str = ""
    """Where it is put in the partition: a folder; of an image or a file, a file's name; "" for the top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One partition."""

    order: int = 0
    type: str = "linux"
    """A word of `partitiontypes.py`, or a GUID; of an MBR also two hex digits."""
    filesystem: Filesystem = Filesystem.RAW
    size: str = ""
    """"" for what its content needs."""
    offset: str = ""
    """Where on the disk it begins; "" for the next free mebibyte."""
    label: str = ""
    """Of file system and partition; "" for none, and the partition's name."""
    content: tuple[Content, ...] = ()
    grow: bool = False
    """Whether it takes the rest of the disk at the first boot."""
    attributes: tuple[str, ...] = ()
    """Of GPT: ``required``, ``no-block-io``, ``legacy-boot``, ``read-only``, ``no-auto``; of an MBR: ``active``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawArea:
    """Bytes at an offset of the disk, where a board's ROM looks for its boot loader."""

    file: str
    """Below the host's ``boot/``."""
    offset: str
    size: str = ""
    """The most that the file may have; "" for no limit but the next area's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image."""

    kind: Kind
    source: str = ""
    """The key ``from``: the tree of archives and file systems, ``root`` or ``boot``."""
    below: str = ""
    """The folder of that tree which is the image's own root."""
    compression: str = ""
    """"" for the kind's usual one."""
    level: int | None = None
    cluster: str = ""
    """Of an EROFS: how much is compressed as one piece; "" for the usual."""
    size: str = ""
    """Of a disk or an ext4; "" for what is needed."""
    label: str = ""
    table: Table = Table.GPT
    partitions: Mapping[str, Partition] = field(default_factory=dict)
    raw: Mapping[str, RawArea] = field(default_factory=dict)

    def ordered(self) -> list[tuple[str, Partition]]:
        """Returns the partitions by their `order`, then as they are written."""
        return sorted(self.partitions.items(), key=lambda item: item[1].order)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """All images of a host."""

    images: Mapping[str, Image] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    """Each key, as ``images.disk.partitions.esp.size`` -> the layer and file that said it last."""

    def image(self, name: str) -> Image:
        """Returns an image.

        Raises:
            NotFound: there is none of that name; says which there are.
        """
        found = self.images.get(name)
        if found is None:
            raise NotFound(f"no image {name[:60]!r} in the layout", hint=f"there are: {', '.join(self.images) or '-'}")
        return found

    def where(self, *keys: str) -> str:
        """Returns where a key was said, for errors: the layer, its file and the key."""
        path = ".".join(("images", *keys))
        known = path
        while known and known not in self.origins:
            known = known.rpartition(".")[0]
        return f"{self.origins[known]}: {path}" if known else path

    def size(self, text: str, *keys: str) -> int:
        """Returns the bytes that a size of the layout means; 0 for "".

        Raises:
            InvalidInput: it is none.
        """
        return parse_size(text, where=self.where(*keys)) if text else 0

    def needed(self, name: str) -> list[str]:
        """Returns the images that one is made of, in the order in which they must be made, and itself last.

        Raises:
            InvalidInput: one needs itself, or another that is not there.
        """
        done: dict[str, None] = {}
        self._need(name, (), done)
        return list(done)

    def _need(self, name: str, trail: tuple[str, ...], done: dict[str, None]) -> None:
        if name in trail:
            circle = " -> ".join([*trail[trail.index(name) :], name])
            raise InvalidInput(f"images are made of each other: {circle}", where=self.where(trail[-1]))
        for keys, other in images_in(self.image(name)):
            if other not in self.images:
                known = ", ".join(each for each in self.images if each != name) or "none"
                where = self.where(name, *keys)
                raise InvalidInput(f"no image {other[:60]!r}", where=where, hint=f"there are: {known}")
            if other not in done:
                self._need(other, (*trail, name), done)
        done[name] = None


def images_in(image: Image) -> Iterator[tuple[tuple[str, ...], str]]:
    """Gives the names of the images that one has parts of, with the keys that say so."""
    for name, partition in image.ordered():
        for content in partition.content:
            if content.source.startswith(IMAGE):
                yield ("partitions", name, "content"), content.source.removeprefix(IMAGE)


def layout_of(chain: Sequence[Layer]) -> Layout:
    """Returns the layout of a chain of layers; one without images where no layer says anything.

    Raises:
        InvalidInput: a file is malformed, or what all of them say together makes no sense; names the layer, the file
            and the key.
    """
    from wherry.build.images.layoutcheck import check

    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in chain:
        path = layer.path / FILE
        if path.is_file():
            said = read_mapping(path)
            where = f"{layer.name}: {path}"
            _note(said, "", where, origins)
            merged = merge_patch(merged, said)
            _decoded(merged, where)  # so that an error names the file that brought it
    layout = Layout(images=_decoded(merged, None), origins=origins)
    check(layout)
    return layout


def parse_layout(document: Mapping[str, Any], *, where: object = None) -> Layout:
    """Returns the layout that one document, as of JSON, says.

    Raises:
        InvalidInput: it is malformed or makes no sense.
    """
    from wherry.build.images.layoutcheck import check

    origins: dict[str, str] = {}
    if where is not None:
        _note(document, "", str(where), origins)
    layout = Layout(images=_decoded(document, where), origins=origins)
    check(layout)
    return layout


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    images: Mapping[str, Image] = field(default_factory=dict)


def _decoded(document: Any, where: object) -> Mapping[str, Image]:
    return decode(_Document, _renamed(document, (), where), where=where).images


def _renamed(value: Any, keys: tuple[str, ...], where: object) -> Any:
    """Returns a value with the keys of the file as the fields are called."""
    if isinstance(value, list):
        return [_renamed(item, (*keys, str(index)), where) for index, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    # there, keys are names that people give
    free = len(keys) == 1 or (len(keys) == 3 and keys[-1] in ("partitions", "raw"))
    result = {}
    for key, item in value.items():
        if not free and key in _RENAMED.values():
            raise InvalidInput(f"{'.'.join(keys)}: unknown key {key!r}", where=where)
        if not free and key in _RENAMED and not isinstance(item, str):
            raise InvalidInput(f"{'.'.join(keys)}.{key}: must be text", where=where)
        result[key if free else _RENAMED.get(key, key)] = _renamed(item, (*keys, key), where)
    return result


def _note(said: Any, path: str, where: str, origins: dict[str, str]) -> None:
    """Writes down who said what, for errors that are found when all is merged."""
    if path:
        origins[path] = where
    if isinstance(said, Mapping):
        for key, item in said.items():
            _note(item, f"{path}.{key}" if path else str(key), where, origins)
