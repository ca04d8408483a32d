"""Buildroot's output folder, which stays from one build to the next, and what is taken from it.

Buildroot builds a package once, and looks not at whether what it depends on has changed since. So that what stays does
not change the result, the folder is emptied where packages would be built in another way: with another configuration,
other patches, external trees or files that the configuration names, or another Buildroot. (``incremental: true``
leaves it as it is, as one is used to from Buildroot.)

Overlays and hooks change the root and the images in place. So what packages installed there is put aside before that,
by `KEEP` in the external tree that is generated, and every build begins with it: what an overlay or a hook of an
earlier build left there is gone, and no package is installed again.

Fragments for the kernel, busybox and U-Boot are copied only where they have changed, since Buildroot goes by their
times.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build import kconfig
from wherry.build.buildroot.places import CONFIG, FRAGMENTS, LAYERS, OUTPUT
from wherry.build.fragments import KINDS as FRAGMENT_KINDS
from wherry.core.jsonio import pretty

if TYPE_CHECKING:
    from wherry.build.buildroot.making import Make
    from wherry.build.fragments import Merged
    from wherry.build.steps import Place

IMAGES = "images"
STATE = "built-of"
"""In the folder that stays: the digest of all that changes how packages are built."""
ASIDE = "wherry"
"""In the output folder: what packages installed."""
KEEP = """\
# What packages installed, before overlays and hooks change it: the next build begins with that.
define WHERRY_KEEP
\t$(Q)rm -rf $(BASE_DIR)/wherry $(BASE_DIR)/wherry.new
\t$(Q)mkdir -p $(BASE_DIR)/wherry.new $(BINARIES_DIR)
\t$(Q)cp -a --reflink=auto $(TARGET_DIR) $(BASE_DIR)/wherry.new/target
\t$(Q)cp -a --reflink=auto $(BINARIES_DIR) $(BASE_DIR)/wherry.new/images
\t$(Q)mv $(BASE_DIR)/wherry.new $(BASE_DIR)/wherry
endef
TARGET_FINALIZE_HOOKS := WHERRY_KEEP $(TARGET_FINALIZE_HOOKS)
"""
"""For ``external.mk``. A build that is cut off in it has changed nothing in the root yet."""
BY_HOOKS = ("extra_images",)
"""Folders of the output that only layers' hooks make."""
MIXED = "mixed"
"""The state of a folder whose packages were built of several configurations."""
TREES = {"kernel": "LINUX_DIR", "busybox": "BUSYBOX_DIR", "uboot": "UBOOT_DIR"}
"""Where the tools' own configurations are, by Buildroot's variables."""
NAMES = {"kernel": "linux-*", "busybox": "busybox-*", "uboot": "uboot-*"}
"""The names of their folders; those of other packages have no such stamp:"""
CONFIGURED = ".stamp_kconfig_fixup_done"
"""What Buildroot leaves in a tree whose configuration is whole."""
LISTS = ("build/build-time.log", "build/packages-file-list.txt")


def begin(place: Place, *, tree: str, incremental: bool) -> None:
    """Prepares the output folder for this configuration.

    Args:
        place: a step's, which needs the tree, the layers and the configuration.
        tree: digest of the tree of Buildroot.
        incremental: whether packages are left as they were built.
    """
    folder = place.kept / OUTPUT
    state = state_of(place, tree)
    known = place.kept / STATE
    before = known.read_text() if known.is_file() else MIXED
    if folder.is_dir() and before != state:
        if incremental:
            state = MIXED
        else:
            place.say("packages would be built in another way: the output folder is emptied")
            shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    if not (folder / "output").is_symlink():
        (folder / "output").symlink_to(".")  # layers of SkiffOS know it by this name, too
    _begin_anew(place, folder)
    _put_fragments(place)
    config = (place.inputs[CONFIG] / "config").read_bytes()
    if not (folder / ".config").is_file() or (folder / ".config").read_bytes() != config:
        (folder / ".config").write_bytes(config)
    known.write_text(state)


def state_of(place: Place, tree: str) -> str:
    """Returns what names all that changes how packages are built: 64 hex digits."""
    whole = hashlib.sha256(tree.encode())
    whole.update((place.inputs[CONFIG] / "config").read_bytes())
    whole.update((place.inputs[LAYERS] / "parts.json").read_bytes())
    return whole.hexdigest()


def _begin_anew(place: Place, folder: Path) -> None:
    for name in BY_HOOKS:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
    if not (folder / ASIDE).is_dir():
        return  # no root was ever finished
    for name in ("target", IMAGES):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        place.run(["cp", "-a", "--reflink=auto", str(folder / ASIDE / name), str(folder / name)])


def _put_fragments(place: Place) -> None:
    target = place.kept / FRAGMENTS
    target.mkdir(exist_ok=True)
    found = fragment_files(place.inputs[LAYERS])
    for path in target.iterdir():
        if path.name.removesuffix(".config") not in found:
            path.unlink()
    for kind, path in found.items():
        copy = target / f"{kind}.config"
        if not copy.is_file() or copy.read_bytes() != path.read_bytes():
            shutil.copyfile(path, copy)


def take(place: Place, tools: Mapping[str, Merged]) -> None:
    """Takes from the output folder what other steps and people need.

    ::

        images/  config  kernel.config busybox.config uboot.config  build-time.log packages-file-list.txt
        untaken.json    what was asked of the kernel, busybox and U-Boot and did not take
    """
    folder = place.kept / OUTPUT
    if (folder / IMAGES).is_dir():
        # hard links would let a later build change what was kept
        place.run(["cp", "-a", "--reflink=auto", str(folder / IMAGES), str(place.output / IMAGES)])
    shutil.copyfile(place.inputs[CONFIG] / "config", place.output / "config")
    for name in LISTS:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, place.output / Path(name).name)
    untaken: list[kconfig.Untaken] = []
    for kind, path in tool_configs(place).items():
        shutil.copyfile(path, place.output / f"{kind}.config")
        if kind in tools:
            untaken += kconfig.compare(tools[kind], kconfig.read(path))
    for item in untaken:
        place.warn(f"did not take: {item.text()}")
    (place.output / "untaken.json").write_text(pretty([item.as_json() for item in untaken]) + "\n", encoding="utf-8")


def tool_trees(place: Place, make: Make) -> dict[str, Path]:
    """Returns where the kernel, busybox and U-Boot are built, as the sandbox sees it, by their kinds."""
    said = make.read(place, "printvars", f"VARS={' '.join(TREES.values())}", "QUOTED_VARS=")
    values = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    found = {kind: values.get(name, "").strip("'\"") for kind, name in TREES.items()}
    return {kind: Path(text) for kind, text in found.items() if text}


def tool_configs(place: Place) -> dict[str, Path]:
    """Returns the whole configurations of the kernel, busybox and U-Boot that were built, by their kinds.

    They are looked for, as to ask Buildroot takes longer than all else of a build in which little has changed.
    """
    found: dict[str, Path] = {}
    for kind, names in NAMES.items():
        stamps = (place.kept / OUTPUT / "build").glob(f"{names}/{CONFIGURED}")
        trees = [stamp.parent for stamp in sorted(stamps, key=lambda stamp: stamp.stat().st_mtime)]
        if trees and (trees[-1] / ".config").is_file():
            found[kind] = trees[-1] / ".config"
    return found


def config_of(place: Place, make: Make, tree: Path) -> Path:
    """Returns the configuration in a tree of a tool, on this machine."""
    return place.kept / tree.relative_to(make.places.top / "kept") / ".config"


def fragment_files(layers: Path) -> dict[str, Path]:
    """Returns the fragments for other tools in such a folder, by their kinds."""
    found = {kind: layers / "external" / f"{kind}.config" for kind in FRAGMENT_KINDS}
    return {kind: path for kind, path in found.items() if path.is_file()}
