"""``prune``: what nobody needs any more, by docker's rules, and how many bytes went with it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.errors import Conflict, NotFound, UsageError
from wherry.core.units import parse_duration_ms
from wherry.core.value import Value
from wherry.engine import volumes
from wherry.engine.disk import tree_bytes
from wherry.engine.events import emit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.engine.engine import Engine
    from wherry.engine.state import Paths


class Removed(Value):
    """What went."""

    names: tuple[str, ...] = ()
    freed_bytes: int = 0


class Filters(Value):
    """Which things may go."""

    until_s: float | None = None
    """Those that were made before, in seconds since 1970."""
    labels: tuple[str, ...] = ()
    """``KEY`` or ``KEY=VALUE``, all of them."""
    without_labels: tuple[str, ...] = ()
    everything: bool = False
    """Volumes: also those that have a name (``all=1``)."""

    @classmethod
    def parse(cls, items: Iterable[str]) -> Filters:
        """Reads ``until=24h``, ``label=KEY=VALUE``, ``label!=KEY``, ``all=true``.

        Raises:
            UsageError: it is none of them.
        """
        until_s: float | None = None
        labels: list[str] = []
        without: list[str] = []
        everything = False
        for item in items:
            key, equals, value = item.partition("=")
            if key == "until" and equals:
                until_s = _until(value)
            elif key == "label" and value:
                labels.append(value)
            elif key == "label!" and value:
                without.append(value)
            elif key == "all" and value.lower() in ("1", "true", "0", "false"):
                everything = value.lower() in ("1", "true")
            else:
                raise UsageError(f"--filter: {item!r} is not supported", hint="use until=, label= or label!=")
        return cls(until_s=until_s, labels=tuple(labels), without_labels=tuple(without), everything=everything)

    def fits(self, labels: Mapping[str, str], created_s: float) -> bool:
        """Tells whether something may go."""
        if self.until_s is not None and created_s >= self.until_s:
            return False
        return all(has_label(labels, item) for item in self.labels) and not any(
            has_label(labels, item) for item in self.without_labels
        )


def has_label(labels: Mapping[str, str], wanted: str) -> bool:
    """Tells whether labels have ``KEY`` or ``KEY=VALUE``."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def _until(text: str) -> float:
    from wherry.core.errors import InvalidInput
    from wherry.engine.logs import parse_time

    try:
        return time.time() - parse_duration_ms(text) / 1000
    except InvalidInput:
        pass
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return parse_time(text)
    except ValueError:
        raise UsageError(f"--filter: until: not a time: {text!r}", hint="write it as 24h or 2026-01-31") from None


def prune_containers(engine: Engine, filters: Filters) -> Removed:
    """Removes all containers that do not run."""
    names: list[str] = []
    freed = 0
    for info in engine.list():
        if info.status not in ("created", "exited") or not filters.fits(info.labels, info.created_s):
            continue
        size = tree_bytes(engine.paths.container(info.id))
        try:
            engine.remove(info.id)
        except (NotFound, Conflict):
            continue  # it was started, or removed, just now
        names.append(info.id)
        freed += size
    emit(engine.paths, "prune", type="container", attributes={"reclaimed": freed})
    return Removed(names=tuple(names), freed_bytes=freed)


def prune_volumes(engine: Engine, filters: Filters, *, everything: bool = False) -> Removed:
    """Removes the volumes that no container has: the anonymous ones, or all of them."""
    engine.paths.make()
    names: list[str] = []
    freed = 0
    for name in engine.list_volumes():
        try:
            volume = volumes.read_volume(engine.paths, name)
            if not (everything or filters.everything or volume.anonymous):
                continue
            if not filters.fits(volume.labels, volume.created_s):
                continue
            size = tree_bytes(f"{engine.paths.volumes}/{name}")
            volumes.remove_volume(engine.paths, name)
        except (NotFound, Conflict):
            continue
        names.append(name)
        freed += size
    emit(engine.paths, "prune", type="volume", attributes={"reclaimed": freed})
    return Removed(names=tuple(names), freed_bytes=freed)


def prune_networks(paths: Paths, filters: Filters) -> Removed:
    """Removes the networks that no container is on; the default one stays."""
    from wherry.engine.net import connections, registry

    names: list[str] = []
    for item in registry.every(paths)[1:]:
        if not filters.fits(item.labels, item.created_s):
            continue
        try:
            connections.remove(paths, item.name)
        except (NotFound, Conflict):
            continue
        names.append(item.name)
    emit(paths, "prune", type="network", attributes={"reclaimed": 0})
    return Removed(names=tuple(names))


def prune_images(engine: Engine, filters: Filters, *, everything: bool = False) -> Removed:
    """Removes the images that have no name, and with `everything` those that no container is made from.

    An image that is mounted, or that a deployment on this machine keeps, stays in any case.
    """
    from wherry.engine import imageuse
    from wherry.engine.build.session import sweep
    from wherry.image.catalog import CONFIG_KEY, Images
    from wherry.image.indexrefs import PLATFORM_PREFIX

    repo = engine.repo
    if repo is None:
        return Removed()
    sweep(engine, repo)
    used = imageuse.users_of(engine, repo)
    names: list[str] = []
    doomed: set[Checksum] = set()
    catalogue = Images(repo)
    for record in catalogue.list() if everything else ():
        commits = {item.commit for item in catalogue.variants(record)}
        if not commits.isdisjoint(used) or not filters.fits(record.config.labels, record.created_s):
            continue
        name = record.reference.familiar
        catalogue.remove(str(record.reference))
        names.append(name)
        doomed |= commits
    engine.paths.make()
    before = tree_bytes(engine.paths.images)
    engine.gc_images(keep={*repo.refs("image").values(), *repo.refs(PLATFORM_PREFIX).values()})
    freed = before - tree_bytes(engine.paths.images)
    for commit in imageuse.nameless(repo, {*used, *doomed}):
        metadata = repo.load_commit(commit).metadata
        if CONFIG_KEY not in metadata:
            doomed.add(commit)  # the tree of layers
            continue
        record = catalogue.record_of(commit)
        if filters.fits(record.config.labels, record.created_s):
            names.append(f"sha256:{commit}")
            doomed.add(commit)
    freed += imageuse.free(repo, doomed, used, parts_too=True)
    emit(engine.paths, "prune", type="image", attributes={"reclaimed": freed})
    return Removed(names=tuple(names), freed_bytes=freed)
