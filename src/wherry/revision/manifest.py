"""``wherry.yaml``: what a project is called, what it is for, and when a device may call it healthy.

Unknown keys are refused with their line, so that a policy that is misspelt is never silently the default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from wherry.core.errors import InvalidInput
from wherry.revision import values
from wherry.revision.yamldoc import Value, read_yaml
from wherry.spec.revision import HealthPolicy

FILE_NAME = "wherry.yaml"
_TARGET = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A whole ``wherry.yaml``."""

    name: str
    target: str = ""
    health: HealthPolicy = field(default_factory=HealthPolicy)


def parse_manifest(data: bytes, where: object = FILE_NAME) -> Manifest:
    """Parses ``wherry.yaml``.

    Args:
        data: the bytes of the file.
        where: its name, for errors.

    Raises:
        InvalidInput: it is not YAML, a key is unknown, ``name`` is missing, or a value is wrong.
    """
    root = read_yaml(data, where)
    if root is None:
        raise InvalidInput("name is missing", where=where, hint="begin with `name: my-device`")
    keys = root.fields(frozenset({"name", "target", "health"}), {"host": "", "update": ""})
    if "name" not in keys:
        raise root.wrong("name is missing", hint="begin with `name: my-device`")
    target = ""
    if "target" in keys and not keys["target"].is_null:
        target = values.text(keys["target"])
        if target and not _TARGET.match(target):
            raise keys["target"].wrong(f"not a target: {target[:80]!r}", hint="write it as amd64 or rpi4-arm64")
    health = _health(keys["health"]) if "health" in keys and not keys["health"].is_null else HealthPolicy()
    return Manifest(name=values.name(keys["name"]), target=target, health=health)


def _health(value: Value) -> HealthPolicy:
    keys = value.fields(frozenset({"timeout", "stable", "require_hub"}))
    base = HealthPolicy()
    policy = HealthPolicy(
        timeout_ms=values.duration_ms(keys["timeout"]) if "timeout" in keys else base.timeout_ms,
        stable_ms=values.duration_ms(keys["stable"], least=0) if "stable" in keys else base.stable_ms,
        require_hub=keys["require_hub"].boolean() if "require_hub" in keys else base.require_hub,
    )
    if policy.stable_ms >= policy.timeout_ms:
        raise value.wrong("stable must be shorter than timeout")
    return policy
