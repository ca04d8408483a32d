"""What a build with Buildroot takes from the layers, in one folder: the layers themselves, and what is made of them.

::

    chain/NS/NAME/              each layer's own folders, files 0644 or 0755
    external/                   an external tree of Buildroot's, which plain Buildroot can be given, too
      external.desc external.mk Config.in
      configs/wherry_defconfig
      busybox.config kernel.config uboot.config     fragments
      users pre_build.sh post_build.sh hooks.env bin/date
    dropins/PATH/NAME.json      JSON drop-ins, merged
    asked.json                  of every symbol of Buildroot's which layer asked for it
    parts.json                  digests of what changes how packages are built
    notes.txt                   what a person should know

In the copies, the drop-ins of a file are one file, in the last layer that has any, and empty objects in the others:
hooks of SkiffOS' layers walk the chain backwards, so that with them the first layer would win. So it is the same in
any direction.

Text that is generated names no place of this machine.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from wherry.build.buildroot import scripts
from wherry.build.buildroot.defconfig import SCRIPTS, Defconfig, make, version_of
from wherry.build.buildroot.output import KEEP
from wherry.build.buildroot.places import DEFCONFIG, Places, staged
from wherry.build.contributions import digest_of
from wherry.build.dropins import FOLDER, Combined, combine_all, files_of
from wherry.build.fragments import KINDS as FRAGMENT_KINDS
from wherry.build.fragments import ROOT_WORD, Merged, Setting, fragments_of
from wherry.build.fragments import read as read_fragment
from wherry.build.hookenv import environment
from wherry.build.layers import KINDS, Layer
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput
from wherry.core.jsonio import compact, loads, pretty

if TYPE_CHECKING:
    from wherry.build.buildroot.options import Options
    from wherry.build.contributions import Contributions, Part
    from wherry.spec.architecture import Architecture

OWN_EXTERNAL = "WHERRY"
MERGED_DROPIN = "wherry.json"
BUILDING = ("buildroot_ext", "buildroot_patches", "kernel_patches", "uboot_patches")
"""Kinds whose files change how packages are built."""
_OF_THE_ROOT = ("hooks", "root_overlay", "users")
_ROOTED = re.compile(rf"{ROOT_WORD}/+([A-Za-z0-9_]+)")
MAX_DESC_BYTES = 64 * 1024
_NAME = re.compile(rb"^name: +(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """What is put into the folder."""

    chain: tuple[Layer, ...]
    texts: Mapping[str, str] = field(default_factory=dict)
    """Path below the folder -> text."""
    dropins: tuple[Combined, ...] = ()
    defconfig: Defconfig = field(default_factory=Defconfig)


def plan(
    chain: Sequence[Layer],
    contributions: Contributions,
    architecture: Architecture,
    places: Places,
    options: Options,
    *,
    name: str,
) -> Staging:
    """Returns what is made of a chain.

    Args:
        chain: the layers in their order.
        contributions: what they contribute.
        architecture: of the host.
        places: where things are when Buildroot runs.
        options: the user's.
        name: the workspace's.

    Raises:
        InvalidInput: layers do not go together, or say what cannot be written down.
        Unsupported: no way to build for the architecture.
    """
    external_names(contributions)
    defconfig = make(chain, contributions, architecture, places, options)
    hooks = {file: contributions.hooks.get(word, ()) for word, (_, file) in SCRIPTS.items()}
    variables = environment(chain, places.for_hooks(), workspace=name, version=version_of(options))
    made = scripts.files(hooks, chain, places.for_hooks(), variables)
    names = " ".join(layer.name for layer in chain)
    made |= {
        "external.desc": f"name: {OWN_EXTERNAL}\ndesc: {names}\n",
        "external.mk": KEEP,
        "Config.in": "# What layers bring is in their own external trees.\n",
        DEFCONFIG: defconfig.text(),
        **{f"{kind}.config": merged.text() for kind, merged in defconfig.tools.items()},
    }
    if contributions.users:
        made["users"] = "".join(f"{line.text}\n" for line in contributions.users)
    dropins = tuple(combine_all(chain))
    texts = {f"external/{path}": text for path, text in made.items()}
    texts |= {f"dropins/{found.name}": pretty(found.value) + "\n" for found in dropins}
    texts["asked.json"] = compact(_document(defconfig.asked)).decode()
    texts["parts.json"] = compact({layer.name: _parts(layer) for layer in chain}).decode()
    texts["notes.txt"] = "".join(f"{line}\n" for line in defconfig.notes)
    return Staging(chain=tuple(chain), texts=texts, dropins=dropins, defconfig=defconfig)


def external_names(contributions: Contributions) -> dict[str, Part]:
    """Returns the external trees by the names that Buildroot knows them by.

    Raises:
        InvalidInput: one has no name, or two have the same: Buildroot would refuse them.
    """
    found: dict[str, Part] = {}
    for part in contributions.externals:
        path = part.path / "external.desc"
        with open(path, "rb") as file:
            said = _NAME.search(file.read(MAX_DESC_BYTES))
        name = said[1].decode(errors="replace").strip() if said else ""
        if not name or not name.replace("_", "").isalnum() or not name.isascii():
            raise InvalidInput(f"not a name of an external tree: {name!r}", where=path, hint="a line `name: WORD`")
        if name in found or name == OWN_EXTERNAL:
            other = found[name].layer if name in found else "Wherry itself"
            raise InvalidInput(f"external tree {name!r} is there twice", where=path, hint=f"{other} has it, too")
        found[name] = part
    return found


def _document(asked: Merged) -> list[dict[str, object]]:
    return [
        {"symbol": item.symbol, "value": item.value, "layer": item.layer, "path": item.path, "line": item.line}
        for item in asked.settings()
    ]


def read_asked(path: Path) -> Merged:
    """Returns what ``asked.json`` holds."""
    return Merged(history={item["symbol"]: [Setting(**item)] for item in loads(path.read_bytes(), where=path)})


def _parts(layer: Layer) -> dict[str, str]:
    kinds = {*BUILDING, *(_named(layer) - set(_OF_THE_ROOT))}
    return {kind: digest_of(layer.path / kind) for kind in sorted(kinds) if (layer.path / kind).is_dir()}


def _named(layer: Layer) -> set[str]:
    """Returns the kinds of a layer's folders that its own fragments name files in: a toolchain in its resources."""
    texts = [read_fragment(path) for kind in FRAGMENT_KINDS for path in fragments_of(layer, kind)]
    return {kind for text in texts for kind in _ROOTED.findall(text)}


def put(staging: Staging, folder: Path) -> None:
    """Fills an empty folder.

    Raises:
        InvalidInput: a layer holds what is neither a file, a folder nor a link.
    """
    for layer in staging.chain:
        for kind in KINDS:
            if (layer.path / kind).is_dir():
                copy_tree(layer.path / kind, folder / staged(layer.name) / kind)
        (folder / staged(layer.name)).mkdir(parents=True, exist_ok=True)
        _executable(folder / staged(layer.name) / "hooks")
    for combined in staging.dropins:
        _one_dropin(staging.chain, combined, folder)
    for name, text in staging.texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        path.chmod(0o755 if scripts.is_program(PurePath(name)) else 0o644)


def copy_tree(source: Path, target: Path, *, without: frozenset[str] = frozenset()) -> None:
    """Copies a folder: files are 0644 or 0755, links stay links.

    Args:
        source: the folder.
        target: a folder that is not there yet.
        without: names in `source` itself that are left out.

    Raises:
        InvalidInput: something in it is neither a file, a folder nor a link.
    """
    try:
        os.makedirs(target)
        with os.scandir(source) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                place = target / entry.name
                if entry.name in without:
                    continue
                if entry.is_symlink():
                    os.symlink(os.readlink(entry.path), place)
                elif entry.is_dir():
                    copy_tree(Path(entry.path), place)
                elif entry.is_file():
                    shutil.copyfile(entry.path, place)
                    mode = stat.S_IMODE(entry.stat().st_mode)
                    os.chmod(place, 0o755 if mode & 0o111 else 0o644)
                else:
                    raise InvalidInput("neither a file, a folder nor a link", where=entry.path)
    except OSError as error:
        raise map_os_error(error, "cannot copy", where=source) from error


def _executable(hooks: Path) -> None:
    for path in hooks.iterdir() if hooks.is_dir() else ():
        if path.suffix == ".sh" and not path.is_symlink():
            path.chmod(0o755)


def _one_dropin(chain: Sequence[Layer], combined: Combined, folder: Path) -> None:
    for layer in chain:
        place = folder / staged(layer.name) / FOLDER / f"{combined.name}.d"
        if not place.is_dir():
            continue
        for path in files_of(layer, combined.name):
            (place / path.name).unlink()
        # an empty object in the others: hooks that find the folder expect a file in it
        value = combined.value if layer.name == combined.layers[-1] else {}
        (place / MERGED_DROPIN).write_text(pretty(value) + "\n", encoding="utf-8")
