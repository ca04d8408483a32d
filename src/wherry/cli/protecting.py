"""A further process by ``wherry runtime exec`` begins with an interpreter that nobody in the container can write to.

That takes executing the program anew (``linux/readonly.py``), so it is done before anything else is loaded.
``start.py`` asks for it with a file of modules of its own (``warm.py``); the command asks again, for those who come
another way.
Budget: 3 ms before the second interpreter.
"""

from __future__ import annotations

import os

_MARK = "WHERRY_READ_ONLY_INTERPRETER"
"""In the environment of a command that has tried to execute itself again, so that it tries once."""


def protect_interpreter() -> None:
    """Keeps the host's interpreter from a root in a container that is root over it, as far as this user can."""
    if os.environ.pop(_MARK, "") or os.geteuid() != 0:
        return
    from wherry.linux.readonly import execute_read_only, is_read_only

    if not is_read_only():
        execute_read_only({**os.environ, _MARK: "1"})
