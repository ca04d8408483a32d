"""Changes of a container that is there: its name, its limits, its restart policy.

``config.json`` is replaced durably under the container's lock. Who supervises the container reads it again when it is
told; where nobody is there to be told, the change holds from the next run on. Limits of a container that runs are
first written to its control groups, so that what the kernel refuses changes nothing on disk.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from wherry.core import jsonio
from wherry.core.durable import fsync_dir, write_file
from wherry.core.errors import Conflict, InvalidInput, WherryError
from wherry.core.value import replace
from wherry.engine import state
from wherry.engine.events import emit
from wherry.spec.codec import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wherry.engine.info import ContainerInfo
    from wherry.engine.spec import ContainerConfig
    from wherry.engine.state import Paths


def write_config(paths: Paths, config: ContainerConfig) -> None:
    """Replaces a container's config durably; the caller holds the container's lock."""
    path = f"{paths.container(config.id)}/config.json"
    write_file(path, jsonio.pretty(encode(config)).encode(), mode=0o600)


def rename(paths: Paths, container: str, name: str) -> None:
    """Gives a container another name; it may run.

    A power cut in between leaves it with one of the two names, never with none: the new one is made first.

    Raises:
        Conflict: the name is taken, or is its own.
        InvalidInput: it is no name.
    """
    from wherry.engine.network import Network
    from wherry.engine.spec import check

    container_id = state.find(paths, container)
    with paths.engine_lock(), state.container_lock(paths, container_id):
        config = state.read_config(paths, container_id)
        if not name:
            raise InvalidInput("a container's name is not empty")
        spec = replace(config.spec, name=name)
        check(spec)
        holder = state.name_holder(paths, name)
        if holder == container_id:
            raise Conflict(f"container {container_id[:12]} has the name {name!r} already")
        if holder is not None:
            raise Conflict(f"the name {name!r} is taken by container {holder[:12]}", hint="choose another one")
        new = f"{paths.names}/{name}"
        state.unlink(new)
        os.symlink(container_id, new)
        fsync_dir(paths.names)
        write_config(paths, replace(config, name=name, spec=spec))
        state.unlink(f"{paths.names}/{config.name}")
        fsync_dir(paths.names)
        Network(paths).rename(container_id, config.name, name)
    emit(
        paths,
        "rename",
        actor_id=container_id,
        name=name,
        attributes={**config.labels, "image": config.image, "oldName": f"/{config.name}"},
    )


def update(paths: Paths, info: ContainerInfo, *, resources: Mapping[str, Any], restart: Any = None) -> ContainerConfig:
    """Changes a container's limits and restart policy.

    Args:
        paths: of the engine root.
        info: the container.
        resources: fields of ``spec.container.Resources`` with their new values.
        restart: a new ``RestartPolicy``; None leaves the one that it has.

    Raises:
        Conflict: it removes itself at its end, which a restart policy contradicts; or it is gone.
        InvalidInput: the limits contradict each other.
    """
    with state.container_lock(paths, info.id):
        config = state.read_config(paths, info.id)
        spec = replace(config.spec, resources=replace(config.spec.resources, **resources))
        if restart is not None:
            if spec.rm and restart.name != "no":
                raise Conflict(f"container {info.name} removes itself at its end, so it cannot be restarted")
            spec = replace(spec, restart=restart)
        from wherry.engine.spec import check, check_cpus

        check(spec)
        if "milli_cpus" in resources:
            check_cpus(spec.resources, os.cpu_count() or 1)
        config = replace(config, spec=spec)
        if resources and info.pid and state.is_kept(paths, info.id):
            _apply(paths, info.id, config)
        write_config(paths, config)
    _tell(paths, info)
    emit(paths, "update", actor_id=info.id, name=info.name, attributes={**config.labels, "image": config.image})
    return config


def _apply(paths: Paths, container_id: str, config: ContainerConfig) -> None:
    """Writes the limits of a config to the control groups of the container that runs."""
    from wherry.engine import bundle, limits
    from wherry.runtime.state import load_state, save

    folder = bundle.runtime_dir(paths, container_id)
    runtime = load_state(folder)
    try:
        runtime.cgroup.update(replace(limits.resources(config.spec), devices=()))
        save(folder, runtime)  # a limit may have needed one more group
    except OSError as error:
        raise WherryError(
            f"the kernel refuses the limits: {os.strerror(error.errno or 0)}", where=error.filename
        ) from error


def _tell(paths: Paths, info: ContainerInfo) -> None:
    """Tells whoever supervises the container that its config is another one; nobody need be there."""
    from wherry.engine import control

    if info.pid:
        control.tell_changed(paths, info.id)
