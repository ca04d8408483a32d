"""A workspace: the folder of one host that is built, with what a person wrote, what was built, and what is kept.

::

    my-device/
      host.yaml          what is to be built (`HostFile`); a person's, kept in git
      overrides/         a layer of this workspace alone, after all others: any kind of contribution
      *.lock             what builders have pinned
      output/            what the last build made
        host.json        the record (`spec/host_record.py`)
        images/  boot/   images; kernel, initramfs, device trees
        provenance.json
      .wherry/           kept between builds; may be removed at any time but for the time that it takes to build anew
        store/           the roots, as commits; `host/NAME` is the last
        logs/ kept/ sandbox/ failed/ steps.json     see `executing.py`
        lock             held by whoever builds

An ``overrides/`` beside the workspaces, in the folder that they are in, is a layer of all of them, before their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wherry.build.builder import BuilderName
from wherry.build.layers import KINDS, Layer, check_name, split_names
from wherry.build.yamlfiles import read_mapping
from wherry.core.durable import make_dirs, map_os_error, write_file
from wherry.core.errors import Conflict, InvalidInput, NotFound, UsageError
from wherry.spec.architecture import architecture
from wherry.spec.codec import decode

FILE = "host.yaml"
OVERRIDES = "overrides"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
DEFAULT_EPOCH = 1577836800
"""2020-01-01: what files are dated where nobody says otherwise, late enough for certificates and make(1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFile:
    """What ``host.yaml`` says."""

    target: tuple[str, ...] = ()
    """Names of layers: a board, and what runs on it."""
    builder: BuilderName | None = None
    """None: what the layers say."""
    architecture: str = ""
    """Debian's name; "": the board's."""
    layers_path: tuple[str, ...] = ()
    """Where layers are, besides the built-in ones; relative to the workspace."""
    command_line: tuple[str, ...] = ()
    """More words for the kernel."""
    epoch: int = DEFAULT_EPOCH
    """Seconds since 1970 that files in images are dated (SOURCE_DATE_EPOCH)."""
    images: tuple[str, ...] = ()
    """The images to make; none: all of the layout."""
    debian: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    buildroot: Mapping[str, Any] = field(default_factory=dict)
    licences: Mapping[str, Any] = field(default_factory=dict)
    """What may not get into the host: see docs/reference/legal-info.md."""

    def options(self, builder: BuilderName) -> Mapping[str, Any]:
        """Returns a builder's own section."""
        return {
            BuilderName.DEBIAN: self.debian,
            BuilderName.SOURCE: self.source,
            BuilderName.BUILDROOT: self.buildroot,
        }[builder]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """One workspace."""

    path: Path

    @property
    def name(self) -> str:
        """The host's name: its folder's."""
        return self.path.name

    @property
    def work(self) -> Path:
        """What is kept between builds."""
        return self.path / ".wherry"

    @property
    def output(self) -> Path:
        """What the last build made."""
        return self.path / "output"

    def read(self) -> HostFile:
        """Returns what its ``host.yaml`` says.

        Raises:
            NotFound: there is none.
            InvalidInput: it is malformed; names the key.
        """
        path = self.path / FILE
        value = read_mapping(path)
        for key in ("target", "layers_path", "command_line", "images"):
            if isinstance(value.get(key), str):
                value[key] = split_names([value[key]])
        found = decode(HostFile, value, where=path)
        for name in found.target:
            check_name(name, where=f"{path}: target")
        if found.architecture:
            architecture(found.architecture, where=f"{path}: architecture")
        if not 0 <= found.epoch < 1 << 32:
            raise InvalidInput("epoch: must be seconds since 1970, before 2106", where=path)
        return found

    def overrides(self) -> list[Layer]:
        """Returns the layers that come after all others: of the folder that it is in, then its own."""
        found = []
        for name, folder in (
            (OVERRIDES, self.path.parent / OVERRIDES),
            (f"{OVERRIDES}/{self.name}", self.path / OVERRIDES),
        ):
            if any((folder / kind).is_dir() for kind in KINDS):
                found.append(Layer(name=name, path=folder))
        return found

    def layers_paths(self, host: HostFile) -> list[Path]:
        """Returns where its layers are, absolute.

        Raises:
            NotFound: one of the places is not there.
        """
        found = [(self.path / text).resolve() for text in host.layers_path]
        for path in found:
            if not path.is_dir():
                raise NotFound("no such folder of layers", where=f"{self.path / FILE}: layers_path: {path}")
        return found


def check_workspace_name(name: str) -> None:
    """Refuses what cannot be a host's name.

    Raises:
        InvalidInput: says what one looks like.
    """
    if not _NAME.match(name):
        raise InvalidInput(
            f"not a name for a host: {name[:80]!r}",
            hint="small letters, digits, . _ and -, at most 63: my-device",
        )


def open_workspace(path: Path) -> Workspace:
    """Returns the workspace in a folder.

    Raises:
        NotFound: there is none.
    """
    if not (path / FILE).is_file():
        raise NotFound("no workspace there", where=path, hint="`wherry host new NAME --target LAYERS` makes one")
    return Workspace(path=path.resolve())


def find_workspaces(folder: Path) -> list[Workspace]:
    """Returns the workspaces in a folder, by name."""
    try:
        names = sorted(entry.name for entry in folder.iterdir() if (entry / FILE).is_file())
    except OSError as error:
        raise map_os_error(error, "cannot look for workspaces", where=folder) from error
    return [Workspace(path=(folder / name).resolve()) for name in names]


def the_workspace(folder: Path) -> Workspace:
    """Returns the workspace that is meant where none is named: this folder, or the only one in it.

    Raises:
        UsageError: there is none, or there are several.
    """
    if (folder / FILE).is_file():
        return Workspace(path=folder.resolve())
    found = find_workspaces(folder)
    if not found:
        raise UsageError(
            "which workspace?", hint="there is none here: `wherry host new NAME --target LAYERS` makes one"
        )
    if len(found) > 1:
        raise UsageError("which workspace?", hint=f"there are {', '.join(each.name for each in found)}")
    return found[0]


def new_workspace(path: Path, settings: Mapping[str, str | tuple[str, ...]]) -> Workspace:
    """Makes a workspace.

    Args:
        path: its folder, which must not be there, or be empty.
        settings: keys of ``host.yaml``, in their order.

    Raises:
        Conflict: something is there already.
        InvalidInput: the name cannot be a host's.
    """
    check_workspace_name(path.name)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise Conflict("there is something already", where=path, hint="name another folder")
    make_dirs(path / OVERRIDES)
    write_file(path / ".gitignore", b"/.wherry/\n/output/\n")
    lines = ["# What this host is made of: docs/reference/host.md tells every key.\n"]
    lines += [f"{key}: {_yaml(value)}\n" for key, value in settings.items() if value]
    write_file(path / FILE, "".join(lines).encode())
    return Workspace(path=path.resolve())


def change_settings(workspace: Workspace, settings: Mapping[str, str | tuple[str, ...]]) -> None:
    """Changes keys of ``host.yaml`` where they stand, and adds those that are missing; the rest stays as it is written.

    Args:
        workspace: where.
        settings: the keys with their new values; an empty one takes the key away.

    Raises:
        InvalidInput: a key's value is written over several lines, which only a person can change.
    """
    path = workspace.path / FILE
    lines = path.read_text().splitlines(keepends=True)
    for key, value in settings.items():
        places = [number for number, line in enumerate(lines) if line.startswith(f"{key}:")]
        new = [f"{key}: {_yaml(value)}\n"] if value else []
        if not places:
            lines += new
            continue
        below = lines[places[0] + 1] if places[0] + 1 < len(lines) else ""
        if below[:1] in (" ", "\t", "-"):
            raise InvalidInput(f"{key}: is written over several lines", where=path, hint="change it with an editor")
        lines[places[0] : places[0] + 1] = new
    write_file(path, "".join(lines).encode())


def _yaml(value: str | tuple[str, ...]) -> str:
    import yaml

    plain = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("...").strip()
