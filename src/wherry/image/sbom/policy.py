"""Which components a policy forbids: patterns on licences, decided by what an expression means.

Of ``A AND B`` both count; of ``A OR B`` one that is allowed is enough, since whoever passes the image on may choose it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from wherry.image.sbom.licences import parse
from wherry.image.sbom.model import Component, Inventory

UNKNOWN = "unknown"
"""The pattern for components whose licence is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """A component that a policy forbids."""

    component: Component
    licences: tuple[str, ...]
    """Those that a pattern fits, sorted."""


def check(inventory: Inventory, patterns: Iterable[str]) -> tuple[Denial, ...]:
    """Returns what is denied.

    Args:
        inventory: of the image.
        patterns: like ``GPL-3.0*``, case ignored; ``unknown``; a ``LicenseRef-`` may be left out before a name.
    """
    lower = tuple(pattern.lower() for pattern in patterns)
    found = []
    for component in inventory.components:
        denied: tuple[str, ...]
        if not component.licence:
            denied = (UNKNOWN,) if any(fnmatchcase(UNKNOWN, pattern) for pattern in lower) else ()
        else:
            denied = tuple(sorted(_denied(parse(component.licence), lower)))
        if denied:
            found.append(Denial(component=component, licences=denied))
    return tuple(found)


def licences_of(licence: str) -> tuple[str, ...]:
    """Returns the single licences of an expression, with their exceptions, sorted."""
    return tuple(sorted(_leaves(parse(licence)))) if licence else ()


def _leaves(node: Any) -> set[str]:
    if not hasattr(node, "args") or not node.args or not hasattr(node, "operator"):
        return {str(node.render())}
    return {leaf for below in node.args for leaf in _leaves(below)}


def _denied(node: Any, patterns: tuple[str, ...]) -> set[str]:
    """Returns the licences because of which an expression is forbidden; none when it is not."""
    if not hasattr(node, "args") or not node.args or not hasattr(node, "operator"):
        name = str(node.render())
        names = {name.lower(), name.lower().removeprefix("licenseref-"), name.lower().partition(" with ")[0]}
        return {name} if any(fnmatchcase(one, pattern) for one in names for pattern in patterns) else set()
    below = [_denied(child, patterns) for child in node.args]
    if node.operator.strip().upper() == "OR" and not all(below):
        return set()
    return set().union(*below)
