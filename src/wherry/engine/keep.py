"""Who else has to do with a container's life: who holds its descriptors, and where its output goes besides the log."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from wherry.core.errors import WherryError


class Keep:
    """Who holds a life's descriptors beside itself; this one holds nothing, as in the foreground."""

    def hold(self, fds: Mapping[str, int]) -> None:
        """Holds duplicates, by name."""

    def drop(self, prefix: str) -> None:
        """Closes those whose names begin so."""

    def remember(self, pid: int) -> None:
        """Remembers how a process ends."""

    def forget(self, pid: int) -> None:
        """Need not do so any more."""

    def status(self, pid: int) -> int | None:
        """Returns the wait status of a process that has ended; None when it is not known."""


class Sink:
    """Where output goes besides the log."""

    busy = False
    """Whether it wants no more for now; the container waits."""

    def send(self, stream: str, data: bytes) -> None:
        """Takes what the container wrote to ``stdout`` or ``stderr``; never waits."""

    def take_more(self) -> None:
        """Takes in that the container has room for input again."""

    def finish(self, exit_code: int, failure: WherryError | None) -> None:
        """Takes in that the life is over."""
