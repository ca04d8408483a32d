"""Disks: whatever is put on them, nothing lies over anything else, and all of it is within the disk."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from wherry.build.images.geometry import ENTRIES_OFFSET, ENTRY_BYTES, arrange
from wherry.build.images.layout import Table, parse_layout
from wherry.build.images.layoutcheck import MIB
from wherry.core.errors import InvalidInput

_SIZES = st.integers(1, 40 * 2048).map(lambda sectors: sectors * 512)
_OFFSETS = st.integers(4, 40 * 2048).map(lambda sectors: sectors * 512)


@given(
    table=st.sampled_from(Table),
    sizes=st.lists(_SIZES, min_size=1, max_size=4),
    areas=st.lists(st.tuples(_OFFSETS, st.integers(1, 3 * MIB)), max_size=4),
)
def test_nothing_overlaps(table: Table, sizes: list[int], areas: list[tuple[int, int]]) -> None:
    document = {
        "images": {
            "disk": {
                "kind": "disk",
                "table": table.value,
                "partitions": {f"p{number}": {"size": str(size)} for number, size in enumerate(sizes)},
                "raw": {f"r{number}": {"file": "f", "offset": str(at)} for number, (at, _) in enumerate(areas)},
            }
        }
    }
    try:
        layout = parse_layout(document)
        found = arrange(
            layout,
            "disk",
            {f"p{number}": size for number, size in enumerate(sizes)},
            {f"r{number}": size for number, (_, size) in enumerate(areas)},
        )
    except InvalidInput as error:
        assert "overlaps" in error.what or "over the partition table" in error.what  # noqa: PT017 nothing else is wrong
        return
    table_end = ENTRIES_OFFSET + found.entries * ENTRY_BYTES if table is Table.GPT else 512
    spans = sorted((*found.partitions, *found.areas), key=lambda span: span.offset)
    assert spans[0].offset >= table_end
    assert all(first.end <= second.offset for first, second in pairwise(spans))
    behind = 512 + found.entries * ENTRY_BYTES if table is Table.GPT else 0
    assert spans[-1].end + behind <= found.size
    assert found.size % MIB == 0
    assert all(span.offset % MIB == 0 for span in found.partitions)
    assert found.entries >= len(sizes) or table is Table.MBR
