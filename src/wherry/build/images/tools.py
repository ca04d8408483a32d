"""How the tools that make file systems are called: with the one time, no time zone, and errors that say what to do."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.errors import NoSpace, ToolError

if TYPE_CHECKING:
    from wherry.build.images.product import Product
    from wherry.build.steps import Place

MAX_SHOWN_ARGUMENTS = 30
"""In an error: the other names of thousands of files help nobody."""
_FULL = ("No space left on device", "Disk quota exceeded")


def run_tool(
    place: Place,
    product: Product,
    args: Sequence[str | Path],
    *,
    out: Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    readable: Sequence[Path] = (),
) -> None:
    """Runs a tool that writes an image.

    Args:
        place: where.
        product: what it is made of, which the tool may read.
        args: the program and its arguments.
        out: the file that it writes; its folder is writable.
        env: more variables.
        stdin: its input.
        readable: more that it may read.

    Raises:
        NoSpace: this machine's disk is full.
        ToolError: it failed.
    """
    host = [path for path in (product.root, product.boot) if path is not None]
    variables = {"TZ": "UTC", "LC_ALL": "C", "SOURCE_DATE_EPOCH": str(product.epoch), **(env or {})}
    try:
        place.run(
            [str(arg) for arg in args], env=variables, stdin=stdin, readable=(*host, *readable), writable=(out.parent,)
        )
    except ToolError as error:
        if any(words in told(error) for words in _FULL):
            hint = "free some space, then try again"
            raise NoSpace("cannot make an image: no space left", where=out.parent, hint=hint) from error
        if len(args) > MAX_SHOWN_ARGUMENTS:
            error.where = f"{shlex.join([str(arg) for arg in args[:MAX_SHOWN_ARGUMENTS]])} ..."
        raise


def told(error: ToolError) -> str:
    """Returns all that is known of what a tool said before it failed."""
    return "\n".join([str(error), *getattr(error, "tail", ())])
