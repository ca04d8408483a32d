"""``pause`` and ``unpause``: every process of a container stopped by its freezer, whatever it does.

The marker ``c/<id>/paused`` says that somebody wants it so. It is made before the processes are stopped and removed
after they run again, so that after a kill in between `unpause` still helps.
"""

from __future__ import annotations

import os

from wherry.core.errors import Conflict, WherryError
from wherry.engine import state
from wherry.engine.events import emit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from wherry.engine.info import ContainerInfo
    from wherry.engine.state import Paths
    from wherry.runtime.cgroup import Cgroup

MARKER = "paused"


def is_paused(paths: Paths, container_id: str) -> bool:
    """Tells whether a container is paused."""
    return os.path.exists(f"{paths.run_dir(container_id)}/{MARKER}")


def pause(paths: Paths, info: ContainerInfo) -> None:
    """Stops every process of a container until `unpause`.

    Raises:
        Conflict: it does not run, or is paused already.
    """
    with state.container_lock(paths, info.id):
        if not info.pid or not state.is_kept(paths, info.id):
            raise Conflict(f"container {info.name} is not running")
        if is_paused(paths, info.id):
            raise Conflict(f"container {info.name} is already paused")
        group = _cgroup(paths, info.id)
        marker = f"{paths.run_dir(info.id)}/{MARKER}"
        os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        try:
            group.freeze()
        except BaseException:
            group.thaw()
            os.unlink(marker)
            raise
    emit(paths, "pause", actor_id=info.id, name=info.name, attributes={**info.labels, "image": info.image})


def unpause(paths: Paths, info: ContainerInfo) -> None:
    """Lets a container's processes run on.

    Raises:
        Conflict: it is not paused.
    """
    if not thaw(paths, info.id):
        raise Conflict(f"container {info.name} is not paused")
    emit(paths, "unpause", actor_id=info.id, name=info.name, attributes={**info.labels, "image": info.image})


def thaw(paths: Paths, container_id: str) -> bool:
    """Lets a container run on that is paused, so that a signal can reach it; tells whether it was.

    Docker does the same before ``stop``, ``kill`` and ``rm -f``.
    """
    if not is_paused(paths, container_id):
        return False
    try:
        _cgroup(paths, container_id).thaw()
    except (WherryError, FileNotFoundError):
        pass  # it has ended meanwhile
    try:
        os.unlink(f"{paths.run_dir(container_id)}/{MARKER}")
    except FileNotFoundError:
        pass
    return True


class frozen:  # noqa: N801 a context manager, read as a word
    """Keeps a container frozen while the block runs; nothing happens to one that does not run, or is paused."""

    def __init__(self, paths: Paths, info: ContainerInfo, *, wanted: bool = True) -> None:
        runs = wanted and info.pid and not is_paused(paths, info.id)
        group = _cgroup(paths, info.id) if runs else None
        # without root there may be no groups, and so no freezer
        self._group = group if group is not None and group.groups else None

    def __enter__(self) -> None:
        if self._group is not None:
            try:
                self._group.freeze()
            except BaseException:
                self._group.thaw()
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._group is not None:
            self._group.thaw()


def _cgroup(paths: Paths, container_id: str) -> Cgroup:
    from wherry.runtime.state import load_state

    return load_state(f"{paths.run_dir(container_id)}/runtime").cgroup
