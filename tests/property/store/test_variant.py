"""GVariant: every value comes back as it was, and no bytes are a crash or have two readings."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from wherry.core.errors import InvalidInput
from wherry.store.format import objects, variant, vtext
from wherry.store.format.variant import Variant

_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "y": st.integers(0, 255),
    "b": st.booleans(),
    "n": st.integers(-(2**15), 2**15 - 1),
    "q": st.integers(0, 2**16 - 1),
    "i": st.integers(-(2**31), 2**31 - 1),
    "u": st.integers(0, 2**32 - 1),
    "x": st.integers(-(2**63), 2**63 - 1),
    "t": st.integers(0, 2**64 - 1),
    "d": st.floats(allow_nan=False),
    "s": _TEXT,
    "ay": st.binary(max_size=300),
}
_TYPES = st.recursive(
    st.sampled_from([*_SCALARS, "v"]),
    lambda inner: st.one_of(
        inner.filter(lambda kind: kind != "y").map(lambda kind: f"a{kind}"),
        inner.map(lambda kind: f"m{kind}"),
        st.lists(inner, max_size=4).map(lambda kinds: f"({''.join(kinds)})"),
        st.tuples(st.sampled_from("ysut"), inner).map(lambda pair: f"a{{{pair[0]}{pair[1]}}}"),
    ),
    max_leaves=6,
)


def values(kind: str) -> st.SearchStrategy[Any]:
    """Returns a strategy for the values of a type."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind == "v":
        return st.sampled_from([*_SCALARS, "as", "(su)", "a{sv}"]).flatmap(
            lambda inner: values(inner).map(lambda value: Variant(inner, value))
        )
    if kind.startswith("a{"):
        key, entry = vtext.split_types(kind[2:-1])
        return st.dictionaries(values(key), values(entry), max_size=4)
    if kind.startswith("a"):
        return st.lists(values(kind[1:]), max_size=4)
    if kind.startswith("m"):
        return st.none() | values(kind[1:]).map(lambda value: (value,))
    return st.tuples(*map(values, vtext.split_types(kind[1:-1])))


@given(_TYPES.flatmap(lambda kind: st.tuples(st.just(kind), values(kind))))
def test_round_trip(case: tuple[str, Any]) -> None:
    kind, value = case
    data = variant.encode(kind, value)
    assert variant.decode(kind, data) == value
    vtext.to_text(kind, value)
    swapped = vtext.byteswapped(kind, value)
    assert vtext.byteswapped(kind, swapped) == value


@given(_TYPES, st.binary(max_size=200))
def test_any_bytes_are_read_in_one_way_or_refused(kind: str, data: bytes) -> None:
    try:
        value = variant.decode(kind, data)
    except InvalidInput:
        return
    if "{" not in kind and "v" not in kind and "d" not in kind:  # of equal keys one is dropped; NaN has many forms
        assert variant.encode(kind, value) == data


@given(_TYPES.flatmap(lambda kind: st.tuples(st.just(kind), values(kind))), st.data())
def test_one_changed_byte_is_never_a_crash(case: tuple[str, Any], data: st.DataObject) -> None:
    kind, value = case
    encoded = bytearray(variant.encode(kind, value))
    if not encoded:
        return
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(encoded)))
    for damaged in (bytes(encoded), bytes(encoded[:cut]), bytes(encoded) + b"\0"):
        try:
            variant.decode(kind, damaged)
        except InvalidInput:
            continue


@given(st.text(max_size=40))
def test_any_type_string_is_a_type_or_is_not(text: str) -> None:
    variant.is_type(text)


@given(st.binary(max_size=400))
def test_hostile_objects(data: bytes) -> None:
    parsers: list[Any] = [
        objects.parse_commit,
        objects.parse_dirtree,
        objects.parse_dirmeta,
        objects.parse_dict,
        objects.parse_archive_head,
        objects.parse_file_meta,
        objects.parse_xattrs,
    ]
    for parse in parsers:
        try:
            parse(data)
        except InvalidInput:
            continue


_PLAIN = st.recursive(
    st.one_of(_TEXT, st.booleans(), st.integers(0, 2**64 - 1), st.binary(max_size=20)),
    lambda inner: st.one_of(
        st.lists(_TEXT, min_size=1, max_size=3),
        st.lists(st.binary(max_size=8), min_size=1, max_size=3),
        st.dictionaries(_TEXT, inner, max_size=3),
    ),
    max_leaves=4,
)


@given(st.dictionaries(_TEXT, _PLAIN, max_size=4))
def test_plain_metadata_round_trip(metadata: dict[str, Any]) -> None:
    assert objects.parse_dict(objects.serialize_dict(metadata)) == metadata
