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
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.build import kconfig, kconfig_tree
from wherry.build.source.kernel import CONFIG_FILE, REPORT_FILE, report
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


def compile_busybox(place: Place, recipe: Recipe, base: str, asked: Merged) -> None:
    """Fills the step ``busybox``.

    Raises:
        ToolError: it does not compile.
    """
    tree = place.scratch / TREE
    place.run(["cp", "-a", f"{place.inputs[SOURCE_STEP] / TREE}/.", str(tree)])
    flags = f"{recipe.cflags} -ffile-prefix-map={tree}/=".strip()
    make = ["make", f"-j{recipe.jobs}", f"CROSS_COMPILE={recipe.target.cross}", f"EXTRA_CFLAGS={flags}"]
    env = {"KCONFIG_NOTIMESTAMP": "1"}
    place.run([*make, base], cwd=tree, env=env, stdin=ANSWERS)
    config = tree / ".config"
    config.write_text(kconfig.serialize(kconfig.merged_over(kconfig.read(config), asked)))
    place.run([*make, "oldconfig"], cwd=tree, env=env, stdin=ANSWERS)
    untaken = kconfig.compare(asked, kconfig.read(config))
    if untaken:
        untaken = kconfig_tree.explained(place, kconfig_tree.busybox(tree), config, untaken)
    report(place, "busybox", asked, untaken)
    shutil.copyfile(config, place.output / CONFIG_FILE)
    _compile(place, make, tree, env)


def _compile(place: Place, make: list[str], tree: Path, env: dict[str, str]) -> None:
    place.progress.update("compiling busybox", 0, None)
    place.run([*make, "busybox"], cwd=tree, env=env)
    place.run([*make, "busybox.links"], cwd=tree, env=env)
    shutil.copy2(tree / PROGRAM, place.output / PROGRAM)
    (place.output / PROGRAM).chmod(0o755)
    shutil.copyfile(tree / LINKS, place.output / LINKS)
