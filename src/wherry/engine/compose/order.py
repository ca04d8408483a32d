"""In which order services start: what is waited for comes first; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Circle(Exception):
    """Services wait for each other.

    Args:
        trail: the services, the first one again at the end.
    """

    def __init__(self, trail: tuple[str, ...]) -> None:
        super().__init__(" -> ".join(trail))
        self.trail = trail


def start_order(waits: Mapping[str, Iterable[str]]) -> list[str]:
    """Returns every service after all those that it waits for; alphabetical where that leaves a choice.

    Args:
        waits: service -> what it waits for; names that are no key are left out.

    Raises:
        Circle: there is no such order.
    """
    done: dict[str, None] = {}
    for name in sorted(waits):
        _visit(name, waits, done)
    return list(done)


def _visit(first: str, waits: Mapping[str, Iterable[str]], done: dict[str, None]) -> None:
    # without recursion: a chain of services may be as long as a file allows
    trail: dict[str, list[str]] = {}

    def enter(name: str) -> None:
        trail[name] = sorted((other for other in waits[name] if other in waits), reverse=True)

    if first in done:
        return
    enter(first)
    while trail:
        name = next(reversed(trail))
        left = trail[name]
        if not left:
            done[name] = None
            del trail[name]
            continue
        other = left.pop()
        if other in trail:
            names = list(trail)
            raise Circle((*names[names.index(other) :], other))
        if other not in done:
            enter(other)


def with_dependencies(names: Iterable[str], waits: Mapping[str, Iterable[str]]) -> set[str]:
    """Returns services with all that they wait for, and so on."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in found and name in waits:
            found.add(name)
            pending += waits[name]
    return found
