"""``menuconfig`` of Buildroot and of the tools that it builds, whose edits come back as a fragment.

The program runs on the user's terminal in Buildroot's output folder. What was changed in it is written to
``overrides/KIND/zz-menuconfig`` of the workspace, over what an earlier edit left there: the folder is a layer of the
workspace's, and the last of its files, so these edits count before all else. Another edit that goes back to what the
layers say takes the setting out of the file, and an empty file goes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build import kconfig
from wherry.build.buildroot.output import CONFIGURED, config_of, tool_trees
from wherry.build.buildroot.places import OUTPUT
from wherry.build.buildroot.targets import prepare
from wherry.core.durable import make_dirs, remove_file, write_file
from wherry.core.errors import NotFound, Unsupported

if TYPE_CHECKING:
    from wherry.build.buildroot.builder import Build
    from wherry.build.fragments import Merged
    from wherry.build.steps import Place

FRAGMENT = "zz-menuconfig"
TARGETS = {
    "buildroot": "menuconfig",
    "busybox": "busybox-menuconfig",
    "kernel": "linux-menuconfig",
    "uboot": "uboot-menuconfig",
}
"""Kinds of fragments -> Buildroot's target."""
ASKED = {"busybox": "BR2_PACKAGE_BUSYBOX", "kernel": "BR2_LINUX_KERNEL", "uboot": "BR2_TARGET_UBOOT"}
"""Kinds -> the symbol of Buildroot that says whether the host has it."""
HEAD = "# Edits in menuconfig; a later edit is laid over them.\n"

Terminal = Callable[[Sequence[str], Mapping[str, str]], None]
"""Runs a program on the user's terminal, in the sandbox of the step ``build``: its arguments, and its environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What a person changed."""

    kind: str
    before: kconfig.Config
    after: kconfig.Config
    asked: Merged
    """What fragments asked for, an earlier edit with them."""

    def changes(self) -> dict[str, str | None]:
        """Returns the settings that were changed, as a fragment sets them."""
        text = kconfig.diff_fragment(self.before, self.after, asked=self.asked.history.keys())
        return kconfig.parse(text)


def edit(build: Build, place: Place, kind: str, terminal: Terminal) -> Edit:
    """Runs ``menuconfig`` on the terminal; returns what was changed.

    Args:
        build: the host's.
        place: of its step ``build``.
        kind: one of `TARGETS`.
        terminal: runs a program there.

    Raises:
        Unsupported: there is no such kind.
        NotFound: the host has no such tool.
        ToolError: it failed, or ended without being left in the usual way.
    """
    if kind not in TARGETS:
        raise Unsupported(f"no menuconfig of {kind!r}", hint=f"there are {', '.join(TARGETS)}")
    prepare(build, place)
    args = build.make.args(TARGETS[kind])
    environment = {**build.make.environment(), "TERM": "linux"}
    if kind == "buildroot":
        path = place.kept / OUTPUT / ".config"
        before = kconfig.read(path)
        terminal(args, environment)
        asked = build.staged.defconfig.asked
    else:
        tree = tool_trees(place, build.make).get(kind)
        if tree is None or build_config(place).get(ASKED[kind]) != "y":
            raise NotFound(f"this host is built without {kind}", hint="its layers do not ask for it")
        # first the configuration as the layers have it, so that there is one to compare with; it wants no compiler
        build.make.run(place, str(tree / CONFIGURED), asked=build.staged.defconfig.asked)
        path = config_of(place, build.make, tree)
        before = kconfig.read(path)
        terminal(args, environment)
        asked = build.staged.defconfig.tools.get(kind) or _nothing()
    return Edit(kind=kind, before=before, after=kconfig.read(path), asked=asked)


def build_config(place: Place) -> kconfig.Config:
    """Returns the whole configuration of Buildroot."""
    return kconfig.read(place.kept / OUTPUT / ".config")


def _nothing() -> Merged:
    from wherry.build.fragments import Merged

    return Merged()


def save(overrides: Path, found: Edit) -> Path | None:
    """Writes an edit to the workspace's overrides, over an earlier one.

    Args:
        overrides: the workspace's folder of overrides.
        found: the edit.

    Returns:
        The file; None where nothing differs from what the layers say.
    """
    path = overrides / found.kind / FRAGMENT
    earlier = kconfig.read(path) if path.is_file() else {}
    whole = {**earlier, **found.changes()}
    kept = {symbol: value for symbol, value in whole.items() if not _as_layers_say(found.asked, symbol, value)}
    if not kept:
        if path.is_file():
            remove_file(path)
        return None
    make_dirs(path.parent)
    write_file(path, (HEAD + kconfig.serialize(kept)).encode())
    return path


def _as_layers_say(asked: Merged, symbol: str, value: str | None) -> bool:
    """Tells whether the layers without the workspace's edits ask for the same."""
    every = [item for item in asked.history.get(symbol, ()) if not item.path.endswith(f"/{FRAGMENT}")]
    return bool(every) and kconfig.same(every[-1].value, value)
