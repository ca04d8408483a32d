"""Which files a project has, and the reading of one: found, parsed, put into long forms, ``extends`` followed.

Source: compose-spec, "03-compose-file.md", "05-services.md" (extends).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from wherry.core.errors import NotFound
from wherry.engine.compose import readers as read
from wherry.engine.compose import schema
from wherry.engine.compose.merge import merge, plain
from wherry.engine.compose.readers import OVERRIDE, RESET, TAGS, Context, Override, Reset
from wherry.revision.yamldoc import MAX_YAML_BYTES, Value, did_you_mean, read_yaml

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
MAX_SERVICES = 1000
MAX_EXTENDS = 32
STANDARD_INPUT = "-"


def find_files(cwd: str) -> list[str]:
    """Returns the files of the project that a directory is in: the nearest above it, and an override beside it.

    Raises:
        NotFound: there is none.
    """
    folder = os.path.abspath(cwd)
    while True:
        base = next((name for name in NAMES if os.path.isfile(os.path.join(folder, name))), None)
        if base is not None:
            stems = ("docker-compose.",) if base.startswith("docker-compose.") else ("compose.",)
            over = [name for name in OVERRIDES if name.startswith(stems)]
            beside = [name for name in over if os.path.isfile(os.path.join(folder, name))][:1]
            return [os.path.join(folder, name) for name in (base, *beside)]
        parent = os.path.dirname(folder)
        if parent == folder:
            raise NotFound("no compose.yaml here or in a directory above", where=cwd, hint="name one with -f")
        folder = parent


def read_bytes(path: str) -> bytes:
    """Returns what a Compose file holds; ``-`` is standard input.

    Raises:
        NotFound: it cannot be read.
    """
    try:
        with open(0 if path == STANDARD_INPUT else path, "rb", closefd=path != STANDARD_INPUT) as file:
            return file.read(MAX_YAML_BYTES + 1)
    except OSError as error:
        raise NotFound("cannot read the Compose file", where=path, hint=error.strerror) from error


class Files:
    """Reads the Compose files of a project, each file once.

    Args:
        variables: for those in the files.
        unset: told of each variable that is not there.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._roots: dict[str, Value | None] = {}
        self.places = context.places
        self.obsolete: list[str] = []
        """Files with a ``version``."""

    def root(self, path: str) -> Value | None:
        """Returns a parsed file; None when it is empty."""
        if path not in self._roots:
            shown = "standard input" if path == STANDARD_INPUT else _shown(path)
            self._roots[path] = read_yaml(read_bytes(path), shown, tags=TAGS)
        return self._roots[path]

    def name(self, path: str) -> str:
        """Returns the project's name that a file gives; "" without."""
        root = self.root(path)
        if root is None or not root.is_map:
            return ""
        value = next((value for key, _, value in root.entries() if key == "name"), None)
        return "" if value is None or value.is_null else read.word(value, self._context)

    def model(self, path: str, *, base: str, before: Mapping[str, Any]) -> dict[str, Any]:
        """Returns one file in long forms, laid over those before it.

        Args:
            path: of the file.
            base: where its relative paths begin.
            before: what the files before come to.

        Raises:
            InvalidInput: something in it is unknown, refused or malformed; with its place.
        """
        context = self._context.below(base)
        root = self.root(path)
        if root is None:
            return dict(before)
        found: dict[str, Any] = {}
        for key, place, value in root.entries():
            if key.startswith("x-") or key == "name":
                continue
            if key in schema.TOP_REFUSED:
                raise place.wrong("Wherry does not support this key", hint=schema.TOP_REFUSED[key])
            if key not in schema.TOP_KEYS:
                raise place.wrong("unknown key", hint=did_you_mean(key, schema.TOP_KEYS))
            if key == "version":
                self.obsolete.append(path)
            elif value.is_null:
                continue
            elif key == "services":
                found[key] = self._services(path, value, context, before.get("services", {}))
            elif key == "include":
                found[key] = self._includes(value, context)
            else:
                found[key] = schema.TOP[key](value, context)
        return merge(before, found)

    def _services(self, path: str, value: Value, context: Context, before: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, place, service in value.entries():
            if key.startswith("x-"):
                continue
            _check_service_name(key, place)
            self.places[service.path] = place.place
            if service.tag == RESET:
                found[key] = Reset()
                continue
            made = self._service(path, key, service, context, before, ())
            found[key] = Override(made) if service.tag == OVERRIDE else made
        if len(found) > MAX_SERVICES:
            raise value.wrong(f"more than {MAX_SERVICES} services")
        return found

    def _service(
        self,
        path: str,
        name: str,
        value: Value,
        context: Context,
        before: Mapping[str, Any],
        trail: tuple[tuple[str, str], ...],
    ) -> dict[str, Any]:
        """Reads one service, with what it extends below it."""
        if value.is_null:
            return {}
        extends = None
        for key, _, one in value.entries():
            if key == "extends" and not one.is_null:
                extends = one
        readers: dict[str, read.Reader] = {**schema.SERVICE, "extends": lambda _value, _context: None}
        own: dict[str, Any] = read.fields(readers, schema.SERVICE_REFUSED)(value, context)
        own.pop("extends", None)
        if extends is None:
            return own
        trail = (*trail, (path, name))
        given = {"service": read.word(extends, context)} if extends.is_scalar else schema.EXTENDS(extends, context)
        other, file = given["service"], given.get("file", path)
        if (file, other) in trail or len(trail) > MAX_EXTENDS:
            circle = " -> ".join(step for _, step in (*trail, (file, other)))
            raise extends.wrong(f"services extend each other: {circle}", hint="break the circle")
        if file != path:
            context = context.below(os.path.dirname(file))
        base = self._extended(file, other, extends, context, before if file == path else {}, trail)
        return merge(base, own)

    def _extended(
        self,
        file: str,
        name: str,
        extends: Value,
        context: Context,
        before: Mapping[str, Any],
        trail: tuple[tuple[str, str], ...],
    ) -> dict[str, Any]:
        root = self.root(file)
        services = _entry(root, "services")
        found = _entry(services, name)
        if found is None:
            if name in before:
                return dict(before[name])
            known = frozenset(key for key, _, _ in services.entries()) if services is not None else frozenset()
            raise extends.wrong(
                f"no service {name[:60]!r} in {_shown(file)}", hint=did_you_mean(name, known) if known else None
            )
        made: dict[str, Any] = plain(self._service(file, name, found, context, before, trail))
        return made

    @staticmethod
    def _includes(value: Value, context: Context) -> list[dict[str, Any]]:
        found = []
        for item in value.items():
            given = {"path": [read.path(item, context)]} if item.is_scalar else schema.INCLUDE(item, context)
            found.append({**given, "place": item.place})
        return found


def _entry(value: Value | None, name: str) -> Value | None:
    if value is None or not value.is_map:
        return None
    return next((one for key, _, one in value.entries() if key == name), None)


def _check_service_name(name: str, place: Value) -> None:
    fine = name.isascii() and name[:1].isalnum() and all(char.isalnum() or char in "_.-" for char in name)
    if not fine or len(name) > 63:
        raise place.wrong(
            f"not a service's name: {name[:80]!r}", hint="letters, digits, - _ and . only, a letter or digit first"
        )


def _shown(path: str) -> str:
    """Returns a path as a person would write it from here."""
    try:
        near = os.path.relpath(path)
    except (OSError, ValueError):
        return path
    return path if near.startswith("..") else near


def check_readable(paths: Iterable[str]) -> None:
    """Refuses files that are not there, all of them at once.

    Raises:
        NotFound: names the first that is not there.
    """
    for path in paths:
        if path != STANDARD_INPUT and not os.path.isfile(path):
            raise NotFound("no such Compose file", where=path)
