"""The views of objects, for who makes a delta: taken apart once, and held in files that are mapped into memory."""

from __future__ import annotations

import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput
from wherry.store.delta import payload
from wherry.store.delta.encoders import MAX_ENCODER_BYTES
from wherry.store.delta.payload import Found, Recipe
from wherry.store.delta.recompress import recognise
from wherry.store.format.objects import Mode

if TYPE_CHECKING:
    from wherry.store.repository import Repository

_KEPT_BYTES = 24 * 1024 * 1024
_KEPT_FILES = 200
_SMALL_BYTES = 1024 * 1024
_COPY_BYTES = 1024 * 1024


class Views:
    """Gives the views of file objects.

    Args:
        repo: where they are.
        scratch: a folder for temporary files.
        allowed: the encoders that new objects may need.
        encoder_bytes: how much memory such an encoder may take.
    """

    def __init__(
        self, repo: Repository, scratch: Path, allowed: Sequence[str], encoder_bytes: int = MAX_ENCODER_BYTES
    ) -> None:
        self._repo = repo
        self._scratch = scratch
        self._allowed = tuple(allowed)
        self._encoder_bytes = encoder_bytes
        self._recipes: dict[Checksum, Recipe] = {}
        self._lock = threading.RLock()
        self._kept: OrderedDict[Checksum, memoryview] = OrderedDict()
        self._kept_bytes = 0

    def recipe(self, checksum: Checksum) -> Recipe:
        """Returns the recipe of an object that was taken apart."""
        return self._recipes.get(checksum, ())

    def take_apart(self, checksum: Checksum, *, again: bool) -> Recipe:
        """Finds the payloads of an object.

        Args:
            checksum: which.
            again: whether it must be possible to put it together again; what cannot be is left alone.
        """
        if checksum in self._recipes and not again:
            return self._recipes[checksum]
        content = self._content(checksum)
        found = payload.find(content)
        if again:
            found = self._known(content, found)
        recipe = payload.recipe_of(found, len(content))
        if recipe:
            path = self._path(checksum)
            with open(path, "wb") as file:
                file.writelines(payload.expand(recipe, BytesIO(content), where=checksum))
            with self._lock:
                self._forget(checksum)
        self._recipes[checksum] = recipe
        return recipe

    def view(self, checksum: Checksum) -> memoryview:
        """Returns the view of an object, as far as it was taken apart."""
        with self._lock:
            found = self._kept.get(checksum)
            if found is not None:
                self._kept.move_to_end(checksum)
                return found
        data = _mapped(self._path(checksum)) if self.recipe(checksum) else self._content(checksum)
        with self._lock:
            if checksum not in self._kept:
                self._kept[checksum] = data
                self._kept_bytes += len(data)
            while len(self._kept) > _KEPT_FILES or (self._kept_bytes > _KEPT_BYTES and len(self._kept) > 1):
                self._kept_bytes -= len(self._kept.popitem(last=False)[1])
        return data

    def _forget(self, checksum: Checksum) -> None:
        found = self._kept.pop(checksum, None)
        if found is not None:
            self._kept_bytes -= len(found)

    def _path(self, checksum: Checksum) -> Path:
        return self._scratch / checksum

    def _known(self, content: memoryview, found: list[Found]) -> list[Found]:
        """Returns the payloads whose encoder is known."""
        known = []
        for item in found:

            def plain(item: Found = item) -> Iterator[bytes]:
                recipe = payload.recipe_of([item], item.end)
                return payload.expand(recipe[-1:], BytesIO(content[item.begin : item.end]), where="a payload")

            better = recognise(
                content[item.begin : item.end], item, plain, self._allowed, max_bytes=self._encoder_bytes
            )
            if better is not None:
                known.append(better)
        return known

    def _content(self, checksum: Checksum) -> memoryview:
        """Returns the content of a file object."""
        _, file = self._repo.load_file(checksum)
        if file is None:
            raise InvalidInput("a symbolic link has no content", where=checksum)
        with file:
            first = file.read(_SMALL_BYTES)
            while first and len(first) < _SMALL_BYTES and (more := file.read(_SMALL_BYTES - len(first))):
                first += more
            if len(first) < _SMALL_BYTES:
                return memoryview(first)
            if self._repo.mode is not Mode.ARCHIVE:
                return _map(file.fileno())
            path = self._scratch / f"{checksum}.content"
            if not path.exists():
                temporary = self._scratch / f"{checksum}.{threading.get_ident()}"
                with open(temporary, "wb") as out:
                    out.write(first)
                    while piece := file.read(_COPY_BYTES):
                        out.write(piece)
                os.replace(temporary, path)
        return _mapped(path)


def _mapped(path: Path) -> memoryview:
    with open(path, "rb") as file:
        return _map(file.fileno())


def _map(fd: int) -> memoryview:
    return memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_READ) if os.fstat(fd).st_size else b"")
