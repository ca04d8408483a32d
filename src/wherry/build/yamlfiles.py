"""The YAML files of layers and workspaces, as JSON values: read strictly, and merged where layers say the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wherry.core.durable import map_os_error
from wherry.revision.yamldoc import MAX_YAML_BYTES, Value, read_yaml

if TYPE_CHECKING:
    from pathlib import Path


def read_mapping(path: Path) -> dict[str, Any]:
    """Returns what a file says, as JSON values; whole numbers, truth values and null as such, all else as text.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is no mapping in strict YAML; says the line.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_YAML_BYTES + 1)
    except OSError as error:
        raise map_os_error(error, "cannot read", where=path) from error
    document = read_yaml(data, path)
    if document is None or document.is_null:
        return {}
    if not document.is_map:
        raise document.wrong("must be a mapping")
    return {key: _plain(item) for key, _, item in document.entries()}


def _plain(value: Value) -> Any:
    if value.is_null:
        return None
    if value.is_list:
        return [_plain(item) for item in value.items()]
    if value.is_map:
        return {key: _plain(item) for key, _, item in value.entries()}
    tag = value.node.tag.rpartition(":")[2]
    if tag == "int":
        return _whole(value)
    if tag == "bool":
        return value.boolean()
    return value.raw()


def _whole(value: Value) -> int | str:
    """Returns a whole number in decimal; text where YAML 1.1 means one and nobody else does (``0755``, ``1:30``)."""
    text = value.raw()
    bare = text.removeprefix("-")
    return int(text) if bare.isdecimal() and (bare == "0" or not bare.startswith("0")) else text


def merge_patch(target: Any, patch: Any) -> Any:
    """Returns a value with a patch over it: mappings key by key, null takes a key away, all else as a whole.

    Source: RFC 7396.
    """
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, item in patch.items():
        if item is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), item)
    return merged
