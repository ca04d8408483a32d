"""How one Compose file is laid over another, by the specification's rules; pure.

Both sides are in the long form that ``schema.py`` makes. Source: compose-spec, "13-merge.md".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wherry.engine.compose.readers import Override, Reset

_REPLACED = frozenset({"command", "entrypoint", "test"})
_UNIQUE: dict[str, tuple[str, ...]] = {
    "ports": ("host_ip", "target", "published", "protocol"),
    "volumes": ("target",),
    "devices": ("target",),
    "secrets": ("target",),
    "configs": ("target",),
    "env_file": ("path",),
    "config": ("subnet",),
    "device_read_bps": ("path",),
    "device_write_bps": ("path",),
    "device_read_iops": ("path",),
    "device_write_iops": ("path",),
    "weight_device": ("path",),
}
_WHOLE = frozenset({"ulimits", "extra_hosts"})
"""Mappings whose values are taken as they are."""


def merge(base: Mapping[str, Any], over: Mapping[str, Any], *, whole: bool = False) -> dict[str, Any]:
    """Returns `base` with `over` laid over it.

    Args:
        base: of the files before; nothing in it is changed.
        over: may hold `Reset` and `Override`.
        whole: take the values of `over` as they are.
    """
    result = dict(base)
    for key, new in over.items():
        if isinstance(new, Reset):
            result.pop(key, None)
        elif isinstance(new, Override):
            result[key] = plain(new.value)
        elif key not in result or whole:
            result[key] = plain(new)
        else:
            result[key] = _merged(key, result[key], new)
    return result


def _merged(key: str, old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        if key == "logging" and old.get("driver", "") != new.get("driver", old.get("driver", "")):
            return plain(new)
        return merge(old, new, whole=key in _WHOLE)
    if isinstance(old, list) and isinstance(new, list) and key not in _REPLACED:
        return _joined(old, new, _UNIQUE.get(key, ()))
    return plain(new)


def _joined(old: list[Any], new: list[Any], unique: tuple[str, ...]) -> list[Any]:
    if not unique:
        return [*old, *(item for item in new if item not in old)]
    found: dict[Any, Any] = {}
    for item in (*old, *new):
        key = tuple(item.get(name) for name in unique)
        # what stands in both is one; a mount of another kind takes the place of the old one
        same = key in found and found[key].get("type") == item.get("type")
        found[key] = {**found[key], **item} if same else item
    return list(found.values())


def plain(value: Any) -> Any:
    """Returns a value without the marks of ``!reset`` and ``!override``."""
    if isinstance(value, Override):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if not isinstance(item, Reset)}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
