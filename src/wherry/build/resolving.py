"""From the layers that somebody asks for to the chain that is built: each after all that it depends on.

`resolve` is a stable topological sort: layers stand in the order in which they were asked for, each dependency right
before the first that needs it, unless it was asked for before. A circle, an unknown name and a malformed one are errors
that tell the way that leads there.

`skiffos_order` is what SkiffOS makes of the same words, which is no topological sort: a dependency that stands later in
the list already is not moved. It is there so that a build can be moved without a change, and then be looked at.

Source: SkiffOS, scripts/enumerate_configs.sh (August 2026), by what it does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from wherry.core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from wherry.build.layers import Layer, Layers

_SKIFFOS_NAME = re.compile(r"[A-Za-z0-9]{1,100}/")
_SKIFFOS_LAYER = re.compile(r"[A-Za-z0-9/\\_]+\Z")
_SKIFFOS_DEPENDENCIES = re.compile(r"[,\\ A-Za-z0-9_/]*\Z")


def resolve(layers: Layers, names: Sequence[str]) -> list[Layer]:
    """Returns the chain of layers.

    Args:
        layers: those that there are.
        names: those that are wanted, in this order.

    Raises:
        NotFound: there is no such layer; says through which others it is asked for.
        InvalidInput: a name is malformed, or layers depend on each other in a circle.
    """
    done: dict[str, Layer] = {}
    for name in names:
        _visit(layers, name, done)
    return list(done.values())


def _visit(layers: Layers, first: str, done: dict[str, Layer]) -> None:
    # without recursion: a chain may be as long as there are layers
    trail: dict[str, tuple[Layer, list[str]]] = {}

    def enter(name: str) -> None:
        where = " -> ".join([*trail, name]) if trail else None
        found = layers.get(name, where=where)
        trail[name] = (found, list(reversed(found.dependencies)))

    if first in done:
        return
    enter(first)
    while trail:
        name = next(reversed(trail))
        layer, left = trail[name]
        if not left:
            done[name] = layer
            del trail[name]
            continue
        other = left.pop()
        if other in trail:
            circle = [*list(trail)[list(trail).index(other) :], other]
            raise InvalidInput(
                f"layers depend on each other: {' -> '.join(circle)}",
                where=layer.path / "metadata/dependencies",
                hint="break the circle",
            )
        if other not in done:
            enter(other)


def skiffos_order(layers: Layers, names: Sequence[str], note: Callable[[str], None]) -> list[Layer]:
    """Returns the chain that SkiffOS' own scripts make, bit for bit; names are as they were asked for, in any case.

    Args:
        layers: those that there are.
        names: those that are wanted.
        note: told of what SkiffOS leaves out with a message.

    Raises:
        NotFound: a layer is unknown to SkiffOS, too.
    """
    paths: dict[str, Layer] = {}
    for known in layers:
        if known.name.count("/") == 1 and _SKIFFOS_LAYER.match(known.name):
            paths.setdefault(_variable(known.name), known)
    chain = list(names)
    again = True
    while again:
        again = False
        final: list[str] = []
        for name in chain:
            if not _SKIFFOS_NAME.match(name):
                note(f"{name}: not category/name, left out")
                continue
            if name in final:
                continue
            layer = paths.get(_variable(name))
            if layer is None:
                raise NotFound(f"no layer {name!r}", hint="SkiffOS has two words of letters, digits and _ in a name")
            text = layer.metadata("dependencies") or ""
            if not _SKIFFOS_DEPENDENCIES.match(text):
                note(f"{name}: malformed dependencies, left out")
                continue
            depends = text.replace(",", " ").split()
            fine = True
            for other in depends:
                if not _SKIFFOS_NAME.match(other):
                    note(f"{name}: malformed dependency {other!r}, left out")
                    fine = False
                elif other not in chain:
                    final.append(other)
                    again = True
            if fine:
                final.append(name)
        chain = final
    return [replace(paths[_variable(name)], name=name) for name in chain]


def _variable(name: str) -> str:
    """Returns the end of the variable that SkiffOS knows a layer by: ``a/b_c`` and ``A_B/c`` have the same."""
    return name.upper().replace("/", "_")
