"""The keys of ``build`` that have forms of their own: contexts, SSH agents, secrets; each reader returns one form.

Source: compose-spec, "build.md", and the definition `service.build` of its JSON schema.
"""

from __future__ import annotations

from typing import Any

from wherry.engine.compose import readers as read
from wherry.engine.compose.readers import Context, Reader
from wherry.revision.yamldoc import Value

OF_SERVICE = "service:"
"""Begins an additional context that is the image of another service."""
_NO_PATHS = ("git@", "github.com/", OF_SERVICE)


def build(known: dict[str, Reader], refused: dict[str, str]) -> Reader:
    """Returns a reader of ``build``: a context alone, or a mapping.

    Args:
        known: the keys of the mapping.
        refused: those that are not there, and why.
    """
    long = read.fields(known, refused)

    def one(value: Value, reading: Context) -> dict[str, Any]:
        return {"context": context(value, reading)} if value.is_scalar else long(value, reading)

    return one


def context(value: Value, reading: Context) -> str:
    """Returns a build context: an address as it is, a path as an absolute one."""
    found = read.word(value, reading)
    if found == "-":
        raise value.wrong("standard input is no context of a service", hint="name a folder or an address")
    return found if is_address(found) else read.absolute(found, reading)


def is_address(text: str) -> bool:
    """Tells whether a context is fetched, and no path."""
    return "://" in text or text.startswith(_NO_PATHS)


def contexts(value: Value, reading: Context) -> dict[str, Any]:
    """Returns ``additional_contexts``: name -> context."""
    found: dict[str, Any] = {}
    for name, text in read.pairs(value, reading).items():
        if not isinstance(text, str):
            if text is None:
                raise value.wrong(f"{name}: a context is missing", hint="write it as NAME: PATH")
            found[name] = text
        else:
            found[name] = text if is_address(text) else read.absolute(text, reading)
    return found


def agents(value: Value, reading: Context) -> list[str]:
    """Returns ``ssh``: ``ID`` or ``ID=SOCKET`` for each agent."""
    if value.is_map:
        return [
            name if item.is_null else f"{name}={read.path(item, reading)}" for name, _, item in value.entries()
        ]  # fmt: skip
    return [read.word(item, reading) for item in value.items()]


def secret(value: Value, reading: Context) -> dict[str, str]:
    """Returns one entry of ``secrets``: its source, and the id that RUN asks for."""
    if not value.is_map:
        source = read.word(value, reading)
        return {"source": source, "target": source}
    long = read.fields(
        {"source": read.word, "target": read.word},
        dict.fromkeys(("uid", "gid", "mode"), "RUN --mount=type=secret says it"),
        need=("source",),
    )
    made: dict[str, str] = long(value, reading)
    return {"source": made["source"], "target": made.get("target", made["source"])}
