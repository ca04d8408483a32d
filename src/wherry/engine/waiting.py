"""``wait`` by docker's conditions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from wherry.core.errors import NotFound
from wherry.engine import state

if TYPE_CHECKING:
    from wherry.engine.engine import Engine


def wait_for(engine: Engine, container: str, condition: str) -> int:
    """Waits for a container, and returns its exit status.

    Args:
        engine: of the container.
        container: id, beginning of one, or name.
        condition: ``not-running``: it has ended, also long ago; ``next-exit``: it ends, after it was started if need
            be; ``removed``: it is gone.
    """
    container_id = state.find(engine.paths, container)
    if condition == "not-running":
        return engine.wait(container_id)
    folder = str(engine.paths.container(container_id))
    if condition == "next-exit":
        _until(engine, container_id, lambda: state.is_kept(engine.paths, container_id) or not _is_there(folder))
        return engine.wait(container_id)
    status = 0
    while _is_there(folder):
        try:
            status = engine.wait(container_id) if state.is_kept(engine.paths, container_id) else status
            known = engine.inspect(container_id).exit_code
            status = known if known is not None else status
        except NotFound:
            break
        _until(engine, container_id, lambda: state.is_kept(engine.paths, container_id) or not _is_there(folder))
    return status


def _is_there(folder: str) -> bool:
    return os.path.exists(folder)


def _until(engine: Engine, container_id: str, test: object) -> None:
    """Waits until a test is true; looks when something has happened to the container's folders."""
    import select

    from wherry.linux import inotify

    assert callable(test)  # noqa: S101 for the type checker
    fd = inotify.inotify_init1()
    try:
        mask = inotify.IN_CREATE | inotify.IN_DELETE | inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO | inotify.IN_MODIFY
        os.makedirs(engine.paths.running, exist_ok=True)
        for folder in (engine.paths.containers, engine.paths.running):
            inotify.inotify_add_watch(fd, folder, mask)
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        while not test():
            poller.poll(1000)  # what happens inside a run folder is not seen by its parent's watch
            inotify.drain(fd)
    finally:
        os.close(fd)
