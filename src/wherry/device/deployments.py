"""Revisions laid out on the device, ready to run: written once, named last, never changed.

``deployments/<commit>/revision.json`` is the revision's own document, so that a device can run what it has without
asking its store. ``config/<tree>/etc/...`` is an app's configuration, a lower directory over its image. It is named by
the checksum of its tree and not by the revision, because a container that goes on running through an update keeps its
lower directory. Everything is written under a name that begins with ``.new-`` and renamed when it is durable, so a
name without that is complete.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection
from pathlib import Path

from wherry.core import durable
from wherry.core.digest import Checksum
from wherry.core.errors import NotFound
from wherry.device.apps import config_of
from wherry.device.interfaces import Supply
from wherry.device.paths import DevicePaths
from wherry.device.points import Point, reach
from wherry.spec.container import App
from wherry.spec.revision import FILE_NAME, MAX_REVISION_BYTES, Revision, parse_revision, serialize_revision

_NEW = ".new-"
_ETC = "etc"


class Deployments:
    """The deployments of one device; for the one who holds the device's lock."""

    def __init__(self, paths: DevicePaths) -> None:
        self._paths = paths

    def load(self, revision: Checksum) -> Revision:
        """Returns a revision that is laid out here.

        Raises:
            NotFound: it is not.
            InvalidInput: its document is malformed.
        """
        path = self._paths.deployment(revision) / FILE_NAME
        try:
            with path.open("rb") as file:
                data = file.read(MAX_REVISION_BYTES + 1)
        except FileNotFoundError:
            raise NotFound(f"revision {revision[:12]} is not laid out on this device", where=path) from None
        return parse_revision(data, where=path)

    def config_folder(self, app: App) -> Path | None:
        """Returns where the configuration of an app is laid out; None when it has none."""
        tree = config_of(app)
        return None if tree is None else self._paths.config_tree(tree)

    def stage(self, revision: Checksum, document: Revision, supply: Supply) -> None:
        """Lays a verified revision out; what is there already is kept. Nothing that runs is touched.

        Raises:
            NoSpace: the disk is full.
        """
        for folder in (self._paths.config, self._paths.deployments):
            durable.make_dirs(folder)
        for name, app in sorted(document.apps.items()):
            target = self.config_folder(app)
            if target is not None and not target.exists():
                self._stage_config(revision, name, target, supply)
        target = self._paths.deployment(revision)
        if not target.exists():
            new = _new_folder(self._paths.deployments)
            durable.write_file(new / FILE_NAME, serialize_revision(document))
            _name(new, target)
        reach(Point.STAGE_DEPLOYMENT_NAMED)

    def keep(self, revisions: Collection[Checksum]) -> None:
        """Removes every deployment but `revisions`, and the configuration that none of them has."""
        trees: set[str] = set()
        for revision in revisions:
            for app in self.load(revision).apps.values():
                tree = config_of(app)
                if tree is not None:
                    trees.add(tree)
        _remove_others(self._paths.deployments, set(revisions))
        _remove_others(self._paths.config, trees)

    def _stage_config(self, revision: Checksum, app: str, target: Path, supply: Supply) -> None:
        new = _new_folder(self._paths.config)
        supply.lay_out_config(revision, app, new / _ETC)
        _sync_tree(new)
        reach(Point.STAGE_CONFIG_WRITTEN)
        _name(new, target)
        reach(Point.STAGE_CONFIG_NAMED)


def _new_folder(parent: Path) -> Path:
    path = parent / f"{_NEW}{secrets.token_hex(6)}"
    try:
        path.mkdir(mode=0o755)
    except OSError as error:
        raise durable.map_os_error(error, "cannot make directory", where=path) from error
    return path


def _name(new: Path, target: Path) -> None:
    os.rename(new, target)
    durable.fsync_dir(target.parent)


def _sync_tree(root: Path) -> None:
    for folder, _, files in os.walk(root):
        for name in files:
            path = Path(folder, name)
            if path.is_symlink() or not path.is_file():
                continue
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        durable.fsync_dir(Path(folder))


def _remove_others(folder: Path, names: set[str] | set[Checksum]) -> None:
    try:
        present = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in present:
        if name not in names:
            shutil.rmtree(folder / name)
