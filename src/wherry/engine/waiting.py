"""``wait`` by docker's conditions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from wherry.core.errors import NotFound
from wherry.engine import state
from wherry.engine.lifewatch import LifeWatch

if TYPE_CHECKING:
    from collections.abc import Callable

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
    folder = engine.paths.container(container_id)
    before = state.read_last(engine.paths, container_id)

    def has_begun() -> bool:
        """Tells whether it runs, is gone, or has run and ended since we came."""
        if state.is_kept(engine.paths, container_id) or not os.path.exists(folder):
            return True
        last = state.read_last(engine.paths, container_id)
        return last is not None and (before is None or last.started_s != before.started_s)

    if condition == "next-exit":
        _until(engine, container_id, has_begun)
        return engine.wait(container_id)
    status = 0 if before is None or before.exit_code is None else before.exit_code
    while os.path.exists(folder):
        try:
            if state.is_kept(engine.paths, container_id):
                status = engine.wait(container_id)
            known = engine.inspect(container_id).exit_code
            status = known if known is not None else status
        except NotFound:
            break
        _until(engine, container_id, lambda: state.is_kept(engine.paths, container_id) or not os.path.exists(folder))
    return status


def _until(engine: Engine, container_id: str, test: Callable[[], bool]) -> None:
    """Waits until a test is true; looks when something has happened to the container's folders."""
    os.makedirs(engine.paths.running, exist_ok=True)
    with LifeWatch(engine.paths, container_id, folders=True) as watch:
        while not test():
            watch.wait()
            watch.renew()
