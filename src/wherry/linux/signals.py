"""Signals without the standard module's enumerations, which cost more than a whole container at a cold start."""

from __future__ import annotations

from wherry.core.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import (
        SIG_BLOCK,
        SIG_DFL,
        SIG_IGN,
        SIG_SETMASK,
        SIGCHLD,
        SIGCONT,
        SIGKILL,
        SIGSTOP,
        SIGTERM,
        SIGWINCH,
        pthread_sigmask,
        set_wakeup_fd,
        signal,
        valid_signals,
    )
else:
    from _signal import (
        SIG_BLOCK,
        SIG_DFL,
        SIG_IGN,
        SIG_SETMASK,
        SIGCHLD,
        SIGCONT,
        SIGKILL,
        SIGSTOP,
        SIGTERM,
        SIGWINCH,
        pthread_sigmask,
        set_wakeup_fd,
        signal,
        valid_signals,
    )

__all__ = [
    "SIGCHLD",
    "SIGCONT",
    "SIGKILL",
    "SIGSTOP",
    "SIGTERM",
    "SIGWINCH",
    "SIG_BLOCK",
    "SIG_DFL",
    "SIG_IGN",
    "SIG_SETMASK",
    "number_of",
    "pthread_sigmask",
    "set_wakeup_fd",
    "signal",
    "valid_signals",
]

_MAX_SIGNAL = 64
_REAL_TIME = {"RTMIN": 34, "RTMAX": 64}
"""Of the C library, which keeps 32 and 33 to itself."""


def number_of(word: str) -> int:
    """Returns the number of a signal by its name, with or without ``SIG``, in any case, or by its number.

    Raises:
        InvalidInput: there is none of that name.
    """
    if word.isascii() and word.isdigit() and len(word) <= 2 and int(word) <= _MAX_SIGNAL:
        return int(word)
    name = word.upper().removeprefix("SIG")
    for base, first in _REAL_TIME.items():
        if name == base:
            return first
        sign, rest = name.removeprefix(base)[:1], name.removeprefix(base)[1:]
        if name.startswith(base) and sign in "+-" and rest.isdigit() and len(rest) <= 2:
            number = first + (int(rest) if sign == "+" else -int(rest))
            if _REAL_TIME["RTMIN"] <= number <= _REAL_TIME["RTMAX"]:
                return number
    import _signal  # type: ignore[import-not-found]  # the standard module costs too much here

    found = getattr(_signal, f"SIG{name}", None)
    if name.startswith("_") or not isinstance(found, int):
        raise InvalidInput(f"no signal is called {word!r}", hint="see `kill -l` for the names")
    return found
