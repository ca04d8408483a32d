"""The store that images come from, opened when it must be: a start that finds all in place need not."""

from __future__ import annotations

import os

from wherry.core.errors import NotFound
from wherry.engine import imagecache, platforms, rootfile
from wherry.engine.spec import BareSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.engine.spec import ContainerSpec, ImageSettings
    from wherry.engine.state import Paths
    from wherry.store.repository import Repository


class ImageStore:
    """A repository by its folder.

    Args:
        path: the folder; a repository is known to be there.
        repo: the repository, when it is open already.
    """

    def __init__(self, path: str | os.PathLike[str], repo: Repository | None = None) -> None:
        self.path = os.fspath(path)
        self._repo = repo

    @property
    def repo(self) -> Repository:
        """The repository, opened now if it is not open yet.

        Raises:
            Unsupported: it is of another version or mode than this program knows.
        """
        if self._repo is None:
            from pathlib import Path

            from wherry.store.repository import Repository

            self._repo = Repository.open(Path(self.path))
        return self._repo


def image_store(given: Repository | ImageStore | None) -> ImageStore | None:
    """Returns a repository, or what stands for one, as an image store."""
    return given if given is None or isinstance(given, ImageStore) else ImageStore(given.path, given)


def look_up(paths: Paths, store: ImageStore | None, spec: ContainerSpec) -> tuple[ImageSettings, str, str]:
    """Finds what a container is to be made from, and makes what is mounted of it.

    Args:
        paths: of the engine root.
        store: where images come from.
        spec: the request.

    Returns:
        What the image says about running it; its reference, or the root directory; its commit, or "".

    Raises:
        NotFound: there is no such image.
    """
    if spec.rootfs:
        return BareSettings(platform=rootfile.check(spec.rootfs, direct=spec.rootfs_direct)), spec.rootfs, ""
    if store is None:
        raise NotFound(f"no image {spec.image!r}: there is no store", hint="`wherry pull` brings one")
    found = imagecache.find(store.path, paths.images, spec.image)
    if found is not None and (not spec.platform or platforms.fits(found.settings.platform, spec.platform)):
        return found.settings, found.reference, found.commit
    from wherry.engine.rootfs import prepare_image
    from wherry.image.catalog import Images

    images = Images(store.repo)
    record = images.get(spec.image)
    if spec.platform and not platforms.fits(record.config.platform, spec.platform):
        record = next(
            (item for item in images.variants(record) if platforms.fits(item.config.platform, spec.platform)), record
        )
    prepare_image(paths, store, record.commit)
    imagecache.remember(paths.images, record.commit, record.config)
    return record.config, str(record.reference), record.commit
