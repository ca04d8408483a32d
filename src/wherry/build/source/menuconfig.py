"""``menuconfig`` of the kernel and of busybox, whose edits come back as a fragment of the workspace.

The menu runs on the user's terminal, in the sandbox of the step that configures. The fragment is tried before it is
saved: laid over those of the layers, and completed by the tool, it gives the edited configuration
(`kconfig.delta_fragment`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wherry.build import kconfig
from wherry.build.buildroot.menuconfig import Edit, Terminal
from wherry.build.source import builder, busybox, kernel
from wherry.build.source.options import UML, options_of
from wherry.build.source.tools import target_of
from wherry.core.errors import Unsupported

if TYPE_CHECKING:
    from wherry.build.builder import Inputs
    from wherry.build.source.kernel import Configured
    from wherry.build.steps import Place

STEPS = {"busybox": busybox.STEP, "kernel": kernel.CONFIG_STEP}
"""Kinds of fragments -> the step that configures by them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedEdit(Edit):
    """What a person changed, tried."""

    delta: kconfig.Config = field(default_factory=dict)

    def changes(self) -> dict[str, str | None]:
        """Returns the settings that were changed, as a fragment sets them."""
        return dict(self.delta)


def check_kind(kind: str) -> None:
    """Refuses what this builder does not configure.

    Raises:
        Unsupported: says what there is.
    """
    if kind not in STEPS:
        raise Unsupported(f"no menuconfig of {kind!r}", hint=f"there are {', '.join(STEPS)}")


def edit(inputs: Inputs, place: Place, kind: str, terminal: Terminal) -> Edit:
    """Runs ``menuconfig`` on the terminal; returns what was changed.

    Args:
        inputs: what the host is made of.
        place: of the step in `STEPS`.
        kind: one of `STEPS`.
        terminal: runs a program there.

    Raises:
        Unsupported: there is no such kind.
        ToolError: it failed, or ended without being left in the usual way.
    """
    check_kind(kind)
    found = _configured(inputs, place, kind)
    before = kconfig.read(found.config)
    folder = ["-C", str(found.cwd)] if found.cwd is not None else []
    terminal([*found.make, *folder, "menuconfig"], found.env)
    after = kconfig.read(found.config)
    text = kconfig.delta_fragment(before, after, found.with_settings, asked=found.asked.history.keys())
    return TriedEdit(kind=kind, before=before, after=after, asked=found.asked, delta=kconfig.parse(text))


def _configured(inputs: Inputs, place: Place, kind: str) -> Configured:
    options = options_of(inputs)
    target = target_of(inputs.architecture, uml=options.arch == UML)
    asked = inputs.contributions.fragments[kind]
    if kind == "kernel":
        return kernel.configured(place, builder.kernel_recipe(inputs, options, target), options.kernel.base, asked)
    return busybox.configured(place, builder.busybox_recipe(inputs, options, target), options.busybox.base, asked)
