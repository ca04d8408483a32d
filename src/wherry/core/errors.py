"""Every error that Wherry raises on purpose, and the exit code that each one has.

The tree, with the exit status of the command that ends with it::

    WherryError            1   anything without a class of its own
    ├── UsageError         2   the command line is wrong (as click's own)
    ├── NotFound           3   no such image, container, ref, object, device ...
    ├── Conflict           4   it exists already, is in use, or is in the wrong state
    │   └── Locked         4   another process holds the lock
    ├── InvalidInput       5   a file or a message is malformed; names the place in it
    ├── IntegrityError     6   bytes do not have the digest that they should have
    ├── TrustError         7   a signature is missing, wrong, or by an unknown key
    ├── NetworkError       8   the other side cannot be reached or answers nonsense
    │   └── HttpError      8   the other side answered with an error status
    ├── NoSpace            9   the disk is full, or would be
    ├── NotPermitted      10   the kernel or the other side says no
    ├── Unsupported       11   this kernel, machine or version of Wherry cannot do it
    ├── Timeout           12   it did not happen in time
    ├── ToolError         13   a program that Wherry called has failed
    ├── Unhealthy         14   the revision was tried and rolled back
    └── CannotInvoke     126   a container's command is not a program that can be run
        └── CommandNotFound  127   it is not there at all

``wherry run``, ``create`` and ``exec`` end as docker's do instead: the container's own status, 125 when a flag is
wrong or the engine failed, 126 when the command cannot be invoked, 127 when it is not there. 128+N is death by
signal N.

A message says what happened, where, and what to do next; it has one line. The command line prints it as
``wherry: WHAT: WHERE; HINT``.
"""

from __future__ import annotations


class WherryError(Exception):
    """Something went wrong that a person can understand.

    Args:
        what: what happened, in lower case, without a full stop.
        where: the file, URL, key or object that it happened to.
        hint: what to do next.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = None if where is None else str(where)
        self.hint = hint

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.what}: {self.where}"
        return text if self.hint is None else f"{text}; {self.hint}"


class UsageError(WherryError):
    """The command line is wrong."""

    exit_code = 2


class NotFound(WherryError):
    """What was named does not exist."""

    exit_code = 3


class Conflict(WherryError):
    """It exists already, is in use, or is in a state that does not allow this."""

    exit_code = 4


class Locked(Conflict):
    """Another process holds the lock."""


class InvalidInput(WherryError):
    """A file or a message is malformed."""

    exit_code = 5


class IntegrityError(WherryError):
    """Bytes do not have the digest that they should have."""

    exit_code = 6


class TrustError(WherryError):
    """A signature is missing, wrong, or made by a key that is not trusted."""

    exit_code = 7


class NetworkError(WherryError):
    """The other side cannot be reached, broke off, or answers nonsense."""

    exit_code = 8


class HttpError(NetworkError):
    """The other side answered with an error status.

    Args:
        status: the HTTP status code.
        detail: what the other side said, if it did.
    """

    def __init__(
        self, what: str, *, status: int, detail: str = "", where: object = None, hint: str | None = None
    ) -> None:
        super().__init__(what, where=where, hint=hint)
        self.status = status
        self.detail = detail


class NoSpace(WherryError):
    """The disk is full, or would be."""

    exit_code = 9


class NotPermitted(WherryError):
    """The kernel or the other side says no."""

    exit_code = 10


class Unsupported(WherryError):
    """This kernel, machine or version of Wherry cannot do it."""

    exit_code = 11


class Timeout(WherryError):
    """It did not happen in time."""

    exit_code = 12


class ToolError(WherryError):
    """A program that Wherry called has failed."""

    exit_code = 13


class Unhealthy(WherryError):
    """A revision was tried, found unhealthy and rolled back."""

    exit_code = 14


class CannotInvoke(WherryError):
    """A container's command is there, but it is not a program that can be run."""

    exit_code = 126


class CommandNotFound(CannotInvoke):
    """A container's command is not in the container."""

    exit_code = 127


def all_errors() -> list[type[WherryError]]:
    """Returns every class of the tree, in the order in which it is drawn.

    What a package derives for itself, and catches itself, has its parent's exit code and is not part of it.
    """
    found: list[type[WherryError]] = []
    pending: list[type[WherryError]] = [WherryError]
    while pending:
        cls = pending.pop(0)
        found.append(cls)
        pending = [*(sub for sub in cls.__subclasses__() if sub.__module__ == __name__), *pending]
    return found
