"""The steps ``kernel-config`` and ``kernel``: a kernel configured by the fragments of layers, and compiled.

::

    kernel-config   config, kconfig-report.json
    kernel          image                   what is booted: bzImage, Image, zImage; a program for user-mode Linux
                    dtb/VENDOR/NAME.dtb     where the board names one
                    modules/lib/modules/    where the configuration has modules

The base is a target of the kernel's own Makefile, ``tinyconfig`` where nobody says another one; the fragments are laid
over it, as merge_config.sh does, and ``olddefconfig`` completes them. What was asked and did not take is told.

The build is out of the source's tree, in a folder that stays, so that the next one compiles what changed only; the
folder is emptied when another source comes. No clock, user, host or place gets into the image.

Source: the kernel's Documentation/kbuild/kbuild.rst, reproducible-builds.rst.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build import kconfig, kconfig_tree
from wherry.build.kconfig import Untaken
from wherry.build.source.unpacking import TREE
from wherry.core.durable import map_os_error
from wherry.core.jsonio import pretty

if TYPE_CHECKING:
    from wherry.build.fragments import Merged
    from wherry.build.source.tools import Target
    from wherry.build.steps import Place

CONFIG_STEP, STEP, SOURCE_STEP = "kernel-config", "kernel", "kernel-source"
CONFIG_FILE = "config"
REPORT_FILE = "kconfig-report.json"
IMAGE = "image"
NAME = "wherry"
"""The user and the host that the kernel says it was compiled by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a kernel is compiled."""

    target: Target
    jobs: int
    epoch: int
    device_tree: str = ""

    def make(self, place: Place, folder: Path) -> list[str]:
        """Returns a call of the kernel's Makefile, up to what is asked of it."""
        tree = place.inputs[SOURCE_STEP] / TREE
        return ["make", "-C", str(tree), f"O={folder}", f"-j{self.jobs}", *self.target.make_arguments()]

    def environment(self, place: Place, folder: Path) -> dict[str, str]:
        """Returns what keeps clock, user, host and places out of the kernel."""
        tree = place.inputs[SOURCE_STEP] / TREE
        moment = time.strftime("%a %b %e %H:%M:%S UTC %Y", time.gmtime(self.epoch))
        return {
            "KBUILD_BUILD_TIMESTAMP": moment,
            "KBUILD_BUILD_USER": NAME,
            "KBUILD_BUILD_HOST": NAME,
            "KBUILD_BUILD_VERSION": "1",
            "KCFLAGS": f"-ffile-prefix-map={tree}/= -ffile-prefix-map={folder}/=",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """A folder in which a tree is configured."""

    config: Path
    """Its ``.config``."""
    base: kconfig.Config
    """What the fragments were laid over."""
    asked: Merged
    make: Sequence[str]
    """A call of the tree's Makefile, up to what is asked of it."""
    complete: Callable[[], None]
    """Lets the tool complete what is in `config`."""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None

    def with_settings(self, settings: kconfig.Config) -> kconfig.Config:
        """Returns what the tool makes of the fragments with more settings over them."""
        whole = kconfig.merged_over(self.base, self.asked)
        for symbol, value in settings.items():
            whole.pop(symbol, None)
            whole[symbol] = value
        self.config.write_text(kconfig.serialize(whole))
        self.complete()
        return kconfig.read(self.config)


def configured(place: Place, recipe: Recipe, base: str, asked: Merged) -> Configured:
    """Returns a folder that is configured by the fragments, and completed.

    Raises:
        ToolError: there is no such base, or the configuration is refused.
    """
    folder = fresh(place, "o")
    config = folder / ".config"
    config.unlink(missing_ok=True)
    make = recipe.make(place, folder)
    env = recipe.environment(place, folder)
    place.run([*make, base], env=env)
    found = Configured(
        config=config,
        base=kconfig.read(config),
        asked=asked,
        make=make,
        complete=lambda: place.run([*make, "olddefconfig"], env=env),
        env=env,
    )
    found.with_settings({})
    return found


def configure(place: Place, recipe: Recipe, base: str, asked: Merged) -> None:
    """Fills the step ``kernel-config``.

    Raises:
        ToolError: there is no such base, or the configuration is refused.
    """
    config = configured(place, recipe, base, asked).config
    shutil.copyfile(config, place.output / CONFIG_FILE)
    untaken = kconfig.compare(asked, kconfig.read(config))
    if untaken:
        untaken = kconfig_tree.explained(place, _tree(place, recipe), place.output / CONFIG_FILE, untaken)
    report(place, "kernel", asked, untaken)


def _tree(place: Place, recipe: Recipe) -> kconfig_tree.Tree:
    target = recipe.target
    source = place.inputs[SOURCE_STEP] / TREE
    version = place.read(["make", "-s", "-C", str(source), "kernelversion"]).strip()
    compiler = place.read([f"{target.cross}gcc", "--version"]).partition("\n")[0]
    return kconfig_tree.linux(source, arch=target.arch, version=version, cross=target.cross, compiler_version=compiler)


def report(place: Place, what: str, asked: Merged, untaken: list[Untaken]) -> None:
    """Tells what did not take: people, and in the result programs."""
    for each in untaken:
        place.warn(f"did not take: {each.text(asked)}")
    count = len(asked.history)
    place.say(f"{what}: {count - len(untaken)} of {count} settings took")
    document = {"asked": count, "untaken": [each.as_json() for each in untaken]}
    (place.output / REPORT_FILE).write_text(pretty({what: document}) + "\n")


def compile_kernel(place: Place, recipe: Recipe) -> None:
    """Fills the step ``kernel``.

    Raises:
        ToolError: it does not compile.
    """
    folder = fresh(place, "o")
    _put(place.inputs[CONFIG_STEP] / CONFIG_FILE, folder / ".config")
    config = kconfig.read(folder / ".config")
    make = recipe.make(place, folder)
    env = recipe.environment(place, folder)
    counted = _Counter(place)
    place.run([*make, recipe.target.make_target], env=env, on_line=counted.line)
    image = folder / recipe.target.image
    if recipe.target.uml:
        place.run([f"{recipe.target.cross}strip", "--strip-all", "-o", str(place.output / IMAGE), str(image)])
    else:
        shutil.copyfile(image, place.output / IMAGE)
    if config.get("CONFIG_MODULES") == "y":
        place.run([*make, "modules"], env=env, on_line=counted.line)
        install = [f"INSTALL_MOD_PATH={place.output / 'modules'}", "INSTALL_MOD_STRIP=1", "modules_install"]
        place.run([*make, *install], env=env)
        for link in (place.output / "modules").glob("lib/modules/*/*"):
            if link.is_symlink():
                link.unlink()  # build and source: places of this machine
    if recipe.device_tree:
        _device_tree(place, recipe, folder, env)


def _device_tree(place: Place, recipe: Recipe, folder: Path, env: Mapping[str, str]) -> None:
    """Compiles the board's device tree; where the kernel has it without its maker's folder, it is found there."""
    top = f"arch/{recipe.target.arch}/boot/dts"
    name = recipe.device_tree
    source = place.inputs[SOURCE_STEP] / TREE / top / Path(name).with_suffix(".dts")
    wanted = name if source.exists() else Path(name).name
    place.run([*recipe.make(place, folder), wanted], env=env)
    target = place.output / "dtb" / name
    target.parent.mkdir(parents=True)
    shutil.copyfile(folder / top / wanted, target)


def fresh(place: Place, name: str) -> Path:
    """Returns a folder that stays from run to run, emptied when the results that it stands on are others."""
    folder = place.kept / name
    stamp = place.kept / f"{name}.of"
    now = "".join(f"{key} {path}\n" for key, path in sorted(place.inputs.items()) if key.endswith("-source"))
    try:
        if not stamp.is_file() or stamp.read_text() != now:
            shutil.rmtree(folder, ignore_errors=True)
            stamp.write_text(now)
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise map_os_error(error, "cannot prepare a folder", where=folder) from error
    return folder


def _put(source: Path, target: Path) -> None:
    """Copies a file unless it is the same, whose time then stays: make looks at it."""
    data = source.read_bytes()
    if not target.exists() or target.read_bytes() != data:
        target.write_bytes(data)
        os.utime(target)


class _Counter:
    """Tells of the files that were compiled."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._done = 0

    def line(self, text: str) -> None:
        if text.lstrip().startswith(("CC ", "AS ", "LD ", "AR ")):
            self._done += 1
            self._place.progress.update("compiling the kernel", self._done, None, unit="files")
