"""Locks of workspaces: what a builder has pinned by digest, made anew when a person says so.

A builder that pins something has a module ``locking`` with ``has_lock(inputs)`` and ``update_lock(inputs, place)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.build.builder import BuilderName
from wherry.build.steps import Place, Plan, Step
from wherry.core.errors import Unsupported

if TYPE_CHECKING:
    from wherry.build.executing import Execution
    from wherry.build.hosts import Host

_LOCKING = {BuilderName.DEBIAN: "wherry.build.debian.locking", BuilderName.SOURCE: "wherry.build.source.locking"}
STEP = "lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a new lock is beside the one before; each entry a name with its version."""

    path: Path
    new: bool
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        """Tells whether anything is different."""
        return self.new or bool(self.added or self.removed or self.changed)


def needs_lock(host: Host) -> bool:
    """Tells whether a host's builder pins something, and has not yet."""
    module = _LOCKING.get(host.builder.name)
    return module is not None and not import_module(module).has_lock(host.inputs)


def make_lock(host: Host, execution: Execution) -> Changes:
    """Makes a host's lock anew.

    Args:
        host: whose.
        execution: gives the step its place.

    Raises:
        Unsupported: the builder pins nothing.
        StepFailed: it could not be made; says which layer and line wants what.
    """
    module = _LOCKING.get(host.builder.name)
    if module is None:
        hint = "Buildroot's own tree says what is built: keep its commit"
        raise Unsupported(f"the builder {host.builder.name} has no lock", hint=hint)
    update: Callable[..., Any] = import_module(module).update_lock
    found: list[Any] = []

    def work(place: Place) -> None:
        found.append(update(host.inputs, place))

    step = Step(name=STEP, what="find the newest versions", work=work, network=True, kept=False, makes_roots=True)
    execution.take(Plan(steps=(step,)), [STEP])
    changes = found[0]
    return Changes(
        path=changes.path,
        new=changes.new,
        added=_texts(changes.added),
        removed=_texts(changes.removed),
        changed=tuple((_text(old), _text(new)) for old, new in changes.changed),
    )


def _texts(items: Sequence[Any]) -> tuple[str, ...]:
    return tuple(_text(item) for item in items)


def _text(item: Any) -> str:
    return item if isinstance(item, str) else f"{item.name} {item.version}"
