"""``run`` and ``create`` of an image that is not there: it is pulled first, as docker does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.core.errors import NotFound, WherryError

if TYPE_CHECKING:
    from wherry.engine.engine import Engine
    from wherry.engine.spec import ContainerSpec


def pull_missing(engine: Engine, spec: ContainerSpec, missing: NotFound) -> None:
    """Pulls the image of a container that could not be made without it.

    Args:
        engine: gets the store, if it had none.
        spec: the request.
        missing: why it could not be made.

    Raises:
        NotFound: `missing`, where it is not the image that is missing.
        WherryError: it cannot be pulled; says that it is not here, either.
    """
    if has_image(engine, spec.image):
        raise missing
    try:
        pull_anew(engine, spec)
    except WherryError as error:
        what = f"{missing.what}, and it cannot be pulled: {error.what}"
        raise type(missing)(what, where=error.where, hint=error.hint) from error


def pull_anew(engine: Engine, spec: ContainerSpec) -> None:
    """Pulls the image of a container, whether it is there or not."""
    pull_image(engine, spec.image, spec.platform)


def pull_image(engine: Engine, name: str, platform: str, *, quiet: bool = False) -> None:
    """Pulls an image into the store of an engine.

    Args:
        engine: gets the store, if it had none.
        name: of the image.
        platform: which one, where there are several; "": this machine's.
        quiet: without progress.
    """
    from wherry.cli.main import find_packages

    find_packages()  # a start by the short way has none
    from wherry.cli.context import Settings
    from wherry.cli.registries import pull_into_store
    from wherry.engine.imagestore import ImageStore
    from wherry.image.reference import Reference

    current = Settings.make(root=engine.paths.root, run_root=engine.paths.run_root, debug=False, quiet=quiet)
    pull_into_store(Reference.parse(name), current, platform=platform)
    engine.store = ImageStore(f"{engine.paths.root}/store")


def has_image(engine: Engine, name: str) -> bool:
    """Tells whether an image is in the store."""
    from wherry.image.catalog import Images

    if engine.store is None:
        return False
    try:
        Images(engine.store.repo).get(name)
    except NotFound:
        return False
    return True
