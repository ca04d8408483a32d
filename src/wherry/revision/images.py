"""Where the images of a project come from: this machine's store, else what the newest revision pins.

A name is looked up anew at every commit, so that importing an image again under its name is enough to update an app.
A name that this machine does not have keeps the pin of the newest revision, when that pins the same name: a clone
can thus be changed without all its images being imported again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum, Digest
from wherry.core.errors import IntegrityError, InvalidInput, NotFound
from wherry.image.reference import Reference
from wherry.revision.compose import Service
from wherry.revision.resolve import ImagePin
from wherry.spec.revision import Revision
from wherry.store.format.objects import ObjectType

if TYPE_CHECKING:
    from wherry.image.catalog import ImageRecord
    from wherry.store.pull.pull import PullStats
    from wherry.store.repository import Repository

_UNKNOWN = ImagePin(commit=Checksum(""), digest=Digest(""))


class ImageSource:
    """Looks images up for one command.

    Args:
        repo: the project's own store.
        machine_store: this machine's store, which need not exist.
        pinned: the newest revision; None when there is none.
    """

    def __init__(self, repo: Repository, machine_store: Path, pinned: Revision | None) -> None:
        self._repo = repo
        self._machine_path = machine_store
        self._machine: Repository | None = None
        self._pins = {app.image.reference: app.image for app in pinned.apps.values()} if pinned else {}
        self._known: dict[str, ImagePin | None] = {}

    def find(self, service: Service) -> ImagePin:
        """Returns what a service's image is here and now.

        Raises:
            NotFound: neither this machine nor the newest revision has it; names the line of ``compose.yaml``.
            InvalidInput: it is not the name of an image.
            IntegrityError: the name says another digest than the image has.
        """
        found = self._lookup(service)
        if found is None:
            raise NotFound(
                f"no image {service.image!r} on this machine",
                where=service.image_where,
                hint=f"import it: wherry image import FILE --name {service.image}",
            )
        return found

    def find_or_unknown(self, service: Service) -> ImagePin:
        """Returns what a service's image is, or a pin to nothing when nobody knows; for showing only."""
        return self._lookup(service) or _UNKNOWN

    def fetch(self, commits: Iterable[Checksum]) -> PullStats | None:
        """Takes the commits that the project's store lacks over from this machine's, by hard links where it can.

        Raises:
            NoSpace: the disk is full.
        """
        missing = [commit for commit in commits if not self._here(commit)]
        if not missing:
            return None
        from wherry.store.pull.pull import pull_local

        return pull_local(self._repo, self._open_machine(), missing)

    def _here(self, commit: Checksum) -> bool:
        return self._repo.has(ObjectType.COMMIT, commit) and not self._repo.is_partial(commit)

    def _lookup(self, service: Service) -> ImagePin | None:
        if service.image not in self._known:
            self._known[service.image] = self._look(service)
        return self._known[service.image]

    def _look(self, service: Service) -> ImagePin | None:
        try:
            reference = Reference.parse(service.image)
        except InvalidInput as error:
            raise InvalidInput(error.what, where=service.image_where, hint=error.hint) from error
        from wherry.image.catalog import Images

        record: ImageRecord | None = None
        try:
            record = Images(self._open_machine()).get(service.image)
            if record.reference.repository != reference.repository:  # it took the name for the digits of an image ID
                record = None
        except NotFound:
            record = None
        if record is None:
            pin = self._pins.get(service.image)
            if pin is not None and self._here(Checksum(pin.commit)):
                record = Images(self._repo).record_of(Checksum(pin.commit))
        if record is None:
            return None
        if reference.digest is not None and record.digest != reference.digest:
            raise IntegrityError(
                f"the image has another digest than its name says: {record.digest}", where=service.image_where
            )
        check = record.config.healthcheck
        return ImagePin(commit=record.commit, digest=record.digest, healthcheck=check.test if check else ())

    def _open_machine(self) -> Repository:
        if self._machine is None:
            from wherry.store.repository import Repository

            self._machine = Repository.open(self._machine_path)
        return self._machine
