"""``inspect``: all about what a name means: a container, an image, a volume or a network."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from wherry.cli.container_run import open_engine
from wherry.cli.context import settings
from wherry.core.errors import NotFound, WherryError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.engine.engine import Engine


def inspect_each(names: Iterable[str], *, form: str | None, size: bool = False, kind: str | None = None) -> int:
    """Prints what is known of each name; returns the status of the last failure, or 0.

    Args:
        names: as they were typed.
        form: None and ``json`` print JSON; otherwise a Go template.
        size: count what containers have written.
        kind: ``container``, ``image``, ``volume`` or ``network``; None: the first of these that there is.
    """
    from wherry.cli.template import Template
    from wherry.core.jsonio import pretty

    template = Template(form) if form and form != "json" else None
    engine = open_engine(settings(), with_store=kind != "container" or size)
    found: list[dict[str, Any]] = []
    status = 0
    for name in names:
        try:
            document = _document(engine, name, kind, size=size)
            if template is not None:
                print(template.render(document))
            found.append(document)
        except WherryError as error:
            if settings().debug:
                raise
            print(f"wherry: {error}", file=sys.stderr)
            status = error.exit_code
    if template is None:
        print(pretty(found))
    return status


def _document(engine: Engine, name: str, kind: str | None, *, size: bool) -> dict[str, Any]:
    readers = {"container": _container, "image": _image, "volume": _volume, "network": _network}
    for word, read in readers.items():
        if kind not in (None, word):
            continue
        try:
            return read(engine, name, size)
        except NotFound:
            if kind is not None:
                raise
        except WherryError:
            if kind is not None or word == "container":
                raise
    raise NotFound(f"no container, image, volume or network {name!r}", hint="`wherry ps -a` lists containers")


def _container(engine: Engine, name: str, size: bool) -> dict[str, Any]:
    from wherry.cli.container_list import full
    from wherry.cli.docker_shape import inspected

    info = engine.inspect(name)
    document = {**inspected(engine.paths, info), **full(info)}
    if size:
        from wherry.engine.disk import image_bytes, written_bytes

        document["SizeRw"] = written_bytes(engine.paths, info.id)
        document["SizeRootFs"] = document["SizeRw"] + image_bytes(engine.repo, info.commit)
    return document


def _image(engine: Engine, name: str, size: bool) -> dict[str, Any]:
    from wherry.cli.image_inspect import image_document
    from wherry.image.catalog import Images

    if engine.repo is None:
        raise NotFound(f"no such image: {name}")
    catalogue = Images(engine.repo)
    return image_document(catalogue, catalogue.get(name))


def _volume(engine: Engine, name: str, size: bool) -> dict[str, Any]:
    from wherry.cli.volume import document
    from wherry.engine.volumes import read_volume

    return document(engine.paths, read_volume(engine.paths, name))


def _network(engine: Engine, name: str, size: bool) -> dict[str, Any]:
    from wherry.cli.network import document
    from wherry.engine.net import registry

    return document(engine.paths, registry.find(engine.paths, name))
