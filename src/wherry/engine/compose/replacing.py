"""A container in another's place: so done that a kill between any two steps leaves what can be finished.

::

    make the new one, under a name of its own, with the old one's anonymous volumes as its mounts
    ──▶ stop the old ──▶ hand the volumes over ──▶ remove the old ──▶ give the new one its name

The new one has the old one's id in its label. `finish` does all but the first step, and does it again without harm:
whoever meets such a container, an ``up`` after a kill above all, calls it first. Nothing is lost with ``down`` in
between either, as that removes both, and the volumes go with whichever has them.
"""

from __future__ import annotations

from wherry.core import trace
from wherry.core.errors import NotFound
from wherry.core.value import replace
from wherry.engine import state
from wherry.engine.compose import labels
from wherry.engine.compose.project import Member
from wherry.engine.engine import Engine
from wherry.engine.info import ContainerInfo
from wherry.engine.spec import ContainerSpec, normal_path
from wherry.engine.updating import rename, write_config
from wherry.spec.container import Mount, MountType


def make(engine: Engine, old: ContainerInfo, spec: ContainerSpec, *, renew_volumes: bool = False) -> ContainerInfo:
    """Makes a container that is to take another's place.

    Args:
        engine: of both.
        old: the one that goes.
        spec: of the new one, with the name that it is to have.
        renew_volumes: whether it gets anonymous volumes of its own.
    """
    taken = {normal_path(mount.target) for mount in spec.mounts if mount.source or mount.type != MountType.VOLUME}
    kept: list[Mount] = []
    if not renew_volumes:
        own = set(old.config.anonymous_volumes)
        kept = [mount for mount in old.config.mounts if mount.source in own and normal_path(mount.target) not in taken]
    places = {normal_path(mount.target) for mount in kept}
    spec = replace(
        spec,
        name=f"{old.id[:12]}_{spec.name}"[:128],
        mounts=(*(mount for mount in spec.mounts if normal_path(mount.target) not in places), *kept),
        labels={**spec.labels, labels.REPLACES: old.id},
    )
    made = engine.create(spec)
    trace.reach("compose.replace.made")
    return made


def finish(engine: Engine, new: ContainerInfo, name: str, *, timeout_s: float | None = None) -> ContainerInfo:
    """Puts a container that `make` made in its place; may be called again after it was cut short.

    Args:
        engine: of both.
        new: the container.
        name: that it is to have.
        timeout_s: for the old one to stop; None takes its own.

    Returns:
        The container as it is now.
    """
    paths = engine.paths
    old_id = new.labels.get(labels.REPLACES, "")
    try:
        old = state.read_config(paths, old_id)
    except NotFound:
        old = None
    if old is not None:
        engine.stop(old_id, timeout_s)
        trace.reach("compose.replace.stopped")
        wanted = {mount.source for mount in new.config.mounts}
        moved = tuple(volume for volume in old.anonymous_volumes if volume in wanted)
        if moved:
            with state.container_lock(paths, new.id):
                mine = state.read_config(paths, new.id)
                volumes = (*(item for item in mine.anonymous_volumes if item not in moved), *moved)
                write_config(paths, replace(mine, anonymous_volumes=volumes))
            trace.reach("compose.replace.volumes-taken")
            with state.container_lock(paths, old_id):
                theirs = state.read_config(paths, old_id)
                left = tuple(item for item in theirs.anonymous_volumes if item not in moved)
                write_config(paths, replace(theirs, anonymous_volumes=left))
        trace.reach("compose.replace.volumes-given")
        engine.remove(old_id, force=True)
        trace.reach("compose.replace.removed")
    if new.name != name:
        rename(paths, new.id, name)
        trace.reach("compose.replace.renamed")
    with state.container_lock(paths, new.id):
        config = state.read_config(paths, new.id)
        kept = {key: value for key, value in config.labels.items() if key != labels.REPLACES}
        asked = {key: value for key, value in config.spec.labels.items() if key != labels.REPLACES}
        write_config(paths, replace(config, labels=kept, spec=replace(config.spec, labels=asked)))
    return engine.inspect(new.id)


def repair(engine: Engine, found: list[Member], name_of: dict[str, str]) -> bool:
    """Finishes what an earlier command began and did not end.

    Args:
        engine: of the containers.
        found: those of the project.
        name_of: the name that each container is to have, by its id.

    Returns:
        Whether there was anything.
    """
    cut_short = [member for member in found if member.replaces]
    for member in cut_short:
        finish(engine, member.info, name_of[member.info.id])
    return bool(cut_short)
