"""Partition tables: written by sfdisk into a file, every id given.

Source: sfdisk(8), "Input formats"; UEFI 2.10, 5.3 "GUID Partition Table"; UAPI.2 for the bits of attributes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.build.images.geometry import ENTRIES_OFFSET, ENTRY_BYTES, Geometry
from wherry.build.images.layout import Table
from wherry.build.images.layoutcheck import GPT_ATTRIBUTES, GPT_BITS, MIB, SECTOR_BYTES
from wherry.build.images.partitiontypes import gpt_type, mbr_type

if TYPE_CHECKING:
    from wherry.build.images.layout import Layout
    from wherry.build.images.product import Product

SFDISK = ("sfdisk", "--quiet", "--wipe", "never", "--wipe-partitions", "never", "--no-reread", "--no-tell-kernel")
_GROWS_BIT = "59"
"""Of the Discoverable Partitions Specification: the file system shall be grown to the partition."""


def script(layout: Layout, name: str, product: Product, geometry: Geometry) -> str:
    """Returns what sfdisk is told of a disk."""
    image = layout.image(name)
    if image.table is Table.MBR:
        lines = ["label: dos", f"label-id: 0x{product.number(name, 'disk'):08x}", "unit: sectors", ""]
    else:
        entries_end = -(-(ENTRIES_OFFSET + geometry.entries * ENTRY_BYTES) // SECTOR_BYTES)
        starts = [span.offset // SECTOR_BYTES for span in geometry.partitions]
        first = min([MIB // SECTOR_BYTES, *starts])
        lines = ["label: gpt", f"label-id: {product.uuid(name, 'disk')}", "unit: sectors"]
        lines += [f"table-length: {geometry.entries}", f"first-lba: {max(first, entries_end)}", ""]
    for number, span in enumerate(geometry.partitions, 1):
        partition = image.partitions[span.name]
        fields = [f"start={span.offset // SECTOR_BYTES}", f"size={-(-span.size // SECTOR_BYTES)}"]
        if image.table is Table.MBR:
            fields.append(f"type={mbr_type(partition.type)}")
            fields += ["bootable"] if "active" in partition.attributes else []
        else:
            words = [GPT_ATTRIBUTES.get(word) or f"GUID:{GPT_BITS[word]}" for word in partition.attributes]
            words += [f"GUID:{_GROWS_BIT}"] if partition.grow else []
            fields.append(f"type={gpt_type(partition.type, product.architecture)}")
            fields.append(f"uuid={partition_id(layout, name, product, span.name)}")
            fields.append(f'name="{partition.label or span.name}"')
            fields += [f'attrs="{",".join(words)}"'] if words else []
        lines.append(f"{number} : {', '.join(fields)}")
    return "\n".join(lines) + "\n"


def partition_id(layout: Layout, name: str, product: Product, partition: str) -> str:
    """Returns what the kernel takes for ``PARTUUID=``."""
    image = layout.image(name)
    if image.table is Table.GPT:
        return str(product.uuid(name, "partition", partition))
    number = [key for key, _ in image.ordered()].index(partition) + 1
    return f"{product.number(name, 'disk'):08x}-{number:02x}"
