"""``logs`` of a container, and ``logs -f``: woken by the kernel when its log or its life has changed."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from wherry.core.errors import Unsupported
from wherry.engine import state
from wherry.engine.lifewatch import LifeWatch
from wherry.engine.logs import read_logs
from wherry.linux import inotify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry.engine.logs import LogEntry
    from wherry.engine.state import Paths


def read_logs_of(
    paths: Paths, container_id: str, *, follow: bool, tail: int | None, since_s: float | None
) -> Iterator[LogEntry]:
    """Gives a container's log; arguments as of `read_logs`.

    Raises:
        Unsupported: its log driver keeps nothing.
    """
    config = state.read_config(paths, container_id)
    if config.spec.log.driver == "none":
        raise Unsupported(
            f"container {config.name} keeps no log: it was made with --log-driver none",
            hint=f"see what it prints from now on with `wherry attach {config.name}`",
        )
    folder = f"{paths.container(container_id)}/log"
    if not follow:
        return read_logs(folder, tail=tail, since_s=since_s)
    return _follow(paths, container_id, folder, tail=tail, since_s=since_s)


def _follow(
    paths: Paths, container_id: str, folder: str, *, tail: int | None, since_s: float | None
) -> Iterator[LogEntry]:
    poller = select.poll()
    with LifeWatch(paths, container_id) as life:
        fd = inotify.inotify_init1()
        try:
            mask = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO
            inotify.inotify_add_watch(fd, folder, mask)
            poller.register(fd, select.POLLIN)
            if life.fileno() >= 0:
                poller.register(life.fileno(), select.POLLIN)

            def wait() -> None:
                for ready, _ in poller.poll(life.timeout_ms()):
                    if ready == fd:
                        inotify.drain(fd)
                    else:
                        life.told()

            yield from read_logs(
                folder,
                follow=True,
                tail=tail,
                since_s=since_s,
                alive=lambda: state.is_kept(paths, container_id),
                wait=wait,
            )
        finally:
            os.close(fd)
