"""The step ``busybox``: configured by the fragments of layers, and compiled.

::

    busybox              the program, stripped
    busybox.links        the names that it goes by, one in a line: /bin/sh
    config, kconfig-report.json

Its Kconfig is an old one: it has no ``olddefconfig``, so its questions are answered by empty lines, and it wants its
generated files in the source's tree, so it is compiled in a copy.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.build import kconfig, kconfig_tree
from wherry.build.source.kernel import CONFIG_FILE, REPORT_FILE, Configured, report
from wherry.build.source.unpacking import TREE

if TYPE_CHECKING:
    from pathlib import Path

    from wherry.build.fragments import Merged
    from wherry.build.source.tools import Target
    from wherry.build.steps import Place

STEP, SOURCE_STEP = "busybox", "busybox-source"
PROGRAM, LINKS = "busybox", "busybox.links"
ANSWERS = b"\n" * 10_000
"""To all that it may ask."""

__all__ = ["CONFIG_FILE", "REPORT_FILE", "Recipe", "compile_busybox"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How busybox is compiled."""

    target: Target
    jobs: int
    cflags: str = ""


def configured(place: Place, recipe: Recipe, base: str, asked: Merged) -> Configured:
    """Returns a copy of the tree, in the place's scratch, that is configured by the fragments.

    Raises:
        ToolError: there is no such base, or the configuration is refused.
    """
    tree = place.scratch / TREE
    place.run(["cp", "-a", f"{place.inputs[SOURCE_STEP] / TREE}/.", str(tree)])
    flags = f"{recipe.cflags} -ffile-prefix-map={tree}/=".strip()
    make = ["make", f"-j{recipe.jobs}", f"CROSS_COMPILE={recipe.target.cross}", f"EXTRA_CFLAGS={flags}"]
    env = {"KCONFIG_NOTIMESTAMP": "1"}
    place.run([*make, base], cwd=tree, env=env, stdin=ANSWERS)
    found = Configured(
        config=tree / ".config",
        base=kconfig.read(tree / ".config"),
        asked=asked,
        make=make,
        complete=lambda: place.run([*make, "oldconfig"], cwd=tree, env=env, stdin=ANSWERS),
        env=env,
        cwd=tree,
    )
    found.with_settings({})
    return found


def compile_busybox(place: Place, recipe: Recipe, base: str, asked: Merged) -> None:
    """Fills the step ``busybox``.

    Raises:
        ToolError: it does not compile.
    """
    found = configured(place, recipe, base, asked)
    tree = found.config.parent
    untaken = kconfig.compare(asked, kconfig.read(found.config))
    if untaken:
        untaken = kconfig_tree.explained(place, kconfig_tree.busybox(tree), found.config, untaken)
    report(place, "busybox", asked, untaken)
    shutil.copyfile(found.config, place.output / CONFIG_FILE)
    _compile(place, found.make, tree, found.env)


def _compile(place: Place, make: Sequence[str], tree: Path, env: Mapping[str, str]) -> None:
    place.progress.update("compiling busybox", 0, None)
    place.run([*make, "busybox"], cwd=tree, env=env)
    place.run([*make, "busybox.links"], cwd=tree, env=env)
    shutil.copy2(tree / PROGRAM, place.output / PROGRAM)
    (place.output / PROGRAM).chmod(0o755)
    shutil.copyfile(tree / LINKS, place.output / LINKS)
