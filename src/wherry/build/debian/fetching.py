"""The step ``fetch``: every package of the lock into the downloads that all builds share, each checked by its digest.

::

    DOWNLOADS/deb/
      .lock                  held while something is fetched
      sha256/HEX             a package; what is there counts only by its digest, which is checked each time
      sha256/.HEX.part       the beginning of one; a later run goes on from there
    OUTPUT/NAME_VERSION_ARCHITECTURE.deb    links to those of this host

A file that is on no mirror any more, and a file with another digest, are errors that say what to do; so is a mirror
that is down. Which mirror has a file is not known: they are asked in turn, first the one that had the last file of its
kind.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import quote

from wherry.build.debian.apt import machine_settings
from wherry.core.durable import make_dirs, map_os_error
from wherry.core.errors import HttpError, IntegrityError, InvalidInput, NetworkError, NotFound, WherryError
from wherry.core.lock import file_lock
from wherry.core.transfer import NoRange, Transfer, Transfers, TransferSettings

if TYPE_CHECKING:
    from wherry.build.debian.sources import Source
    from wherry.build.steps import Place

PARALLEL = 6
TRIES = 3
"""Of one file on one mirror, where the link breaks."""
_GONE = (403, 404, 410)
_PROXY = re.compile(r'Acquire::(https?)::Proxy "([^"]+)";\Z')
_TASK = "fetching packages"


class Wanted(Protocol):
    """A file that is fetched: a package, or a part of a source."""

    @property
    def name(self) -> str:
        """What people know it by."""

    @property
    def version(self) -> str:
        """Its version."""

    @property
    def size(self) -> int:
        """In bytes."""

    @property
    def sha256(self) -> str:
        """64 hex digits."""

    @property
    def path(self) -> str:
        """Below a mirror."""

    @property
    def file_name(self) -> str:
        """Of the link to it."""


def fetch(place: Place, packages: Sequence[Wanted], sources: Sequence[Source], *, offline: bool = False) -> None:
    """Brings packages here, and links them into the step's result.

    Args:
        place: the step's.
        packages: which.
        sources: repositories that may have them.
        offline: whether nothing may be fetched.

    Raises:
        NotFound: a package is on no mirror any more, or is not here while nothing may be fetched.
        IntegrityError: every mirror has another file of that name.
        NetworkError: the mirrors cannot be reached.
        NoSpace: the disk is full; what has come so far stays.
    """
    folder = place.downloads / "deb/sha256"
    make_dirs(folder)
    wanted = {package.sha256: package for package in packages}
    with file_lock(place.downloads / "deb/.lock", what="the downloads of packages"):
        missing = [package for digest, package in wanted.items() if not _is_whole(folder / digest, package)]
        if missing and offline:
            raise NotFound(
                f"{len(missing)} packages are not here, and nothing may be fetched: {_names(missing)}",
                hint="leave out --offline",
            )
        if missing:
            total = sum(package.size for package in missing)
            place.say(f"fetching {len(missing)} packages of {len(wanted)}, {total} bytes")
            _Fetch(place, folder, missing, sources).run()
    for package in packages:
        link(folder / package.sha256, place.output / package.file_name)


def link(source: Path, target: Path) -> None:
    """Gives a file one more name, or copies it where that cannot be."""
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise map_os_error(error, "cannot copy a package", where=target) from error


def _is_whole(path: Path, package: Wanted) -> bool:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == package.size and hashlib.file_digest(file, "sha256").hexdigest() == package.sha256:
                return True
    except FileNotFoundError:
        return False
    except OSError as error:
        raise map_os_error(error, "cannot read a package", where=path) from error
    path.unlink()  # damaged on the disk: it is fetched again
    return False


@dataclass(slots=True)
class _Job:
    """A package on its way."""

    package: Wanted
    path: Path
    """Its file while it comes."""
    left: deque[str]
    """Mirrors that were not asked yet."""
    tries: int = 0
    errors: list[WherryError] = field(default_factory=list)
    file: BinaryIO | None = None
    hash: hashlib._Hash = field(default_factory=hashlib.sha256)
    size: int = 0
    """Of what is here."""


class _Fetch:
    def __init__(self, place: Place, folder: Path, packages: Sequence[Wanted], sources: Sequence[Source]) -> None:
        self._place = place
        self._folder = folder
        self._mirrors = list(dict.fromkeys(uri.rstrip("/") for source in sources for uri in source.uris))
        self._jobs = [_Job(package, folder / f".{package.sha256}.part", deque()) for package in packages]
        self._best: dict[str, str] = {}
        self._total = sum(package.size for package in packages)
        self._failed: list[_Job] = []

    def run(self) -> None:
        settings = TransferSettings(proxies=_proxies(self._place), files=True)
        transfers = Transfers(settings, parallel=PARALLEL)
        try:
            waiting = deque(sorted(self._jobs, key=lambda job: -job.package.size))
            while waiting or transfers.active:
                while waiting and transfers.room > 0:
                    self._begin(waiting.popleft(), transfers)
                for done in transfers.wait():
                    self._ended(done, transfers)
                self._tell()
        finally:
            transfers.close()
            for job in self._jobs:
                if job.file is not None:
                    with suppress(OSError):  # a full disk has been told already
                        job.file.close()
        if self._failed:
            raise self._why(self._failed)

    def _begin(self, job: _Job, transfers: Transfers) -> None:
        best = self._best.get(_kind(job.package))
        job.left = deque(sorted(self._mirrors, key=lambda mirror: mirror != best))
        try:
            job.file = open(job.path, "a+b")  # noqa: SIM115 closed when it is whole, and by `run`
            job.file.seek(0)
            while piece := job.file.read(1024 * 1024):
                job.hash.update(piece)
                job.size += len(piece)
        except OSError as error:
            raise map_os_error(error, "cannot write a package", where=job.path) from error
        if job.size >= job.package.size:
            if job.size == job.package.size and job.hash.hexdigest() == job.package.sha256:
                self._finish(job)
                return
            self._restart(job)
        self._ask(job, transfers)

    def _ask(self, job: _Job, transfers: Transfers) -> None:
        if not job.left:
            self._failed.append(job)
            return

        def take(data: bytes) -> None:
            if job.file is None:
                raise RuntimeError("a package came after its end")
            try:
                job.file.write(data)
            except OSError as error:
                raise map_os_error(error, "cannot write a package", where=job.path) from error
            job.hash.update(data)
            job.size += len(data)

        url = f"{job.left[0]}/{quote(job.package.path, safe='/%:+~')}"
        if url.startswith("file:/") and not url.startswith("file://"):
            url = "file://" + url.removeprefix("file:")
        transfers.start(Transfer(url, max_bytes=job.package.size - job.size, offset=job.size, take=take, key=job))

    def _ended(self, done: Transfer, transfers: Transfers) -> None:
        job: _Job = done.key
        error = done.error
        if error is None and job.size == job.package.size:
            if job.hash.hexdigest() == job.package.sha256:
                self._best[_kind(job.package)] = job.left[0]
                self._finish(job)
                return
            error = IntegrityError("the mirror has another file of this name", where=job.package.path)
        elif error is None:
            error = NetworkError("the mirror's file is shorter than the lock says", where=job.package.path)
        if isinstance(error, InvalidInput):  # the body is longer than what is left of the package
            error = IntegrityError("the mirror's file is longer than the lock says", where=job.package.path)
        if not isinstance(error, NetworkError | NotFound | IntegrityError):
            raise error  # a full disk, and what is wrong here
        self._place.say(f"{job.package.name}: {error}")
        broken = isinstance(error, NetworkError) and not isinstance(error, HttpError | NoRange)
        if not broken:
            self._restart(job)
        job.tries += 1
        again = broken or done.offset > 0  # what was here may be of another file, or the server knows no ranges
        if not again or job.tries >= TRIES:
            job.errors.append(error)
            job.left.popleft()
            job.tries = 0
        self._ask(job, transfers)

    def _restart(self, job: _Job) -> None:
        if job.file is not None:
            job.file.truncate(0)
        job.hash, job.size = hashlib.sha256(), 0

    def _finish(self, job: _Job) -> None:
        if job.file is None:
            return
        try:
            job.file.flush()
            os.fsync(job.file.fileno())
            job.file.close()
            job.file = None
            os.replace(job.path, self._folder / job.package.sha256)
        except OSError as error:
            raise map_os_error(error, "cannot write a package", where=job.path) from error

    def _tell(self) -> None:
        self._place.progress.update(_TASK, sum(job.size for job in self._jobs), self._total, unit="B")

    def _why(self, failed: Sequence[_Job]) -> WherryError:
        names = _names([job.package for job in failed])
        every = [error for job in failed for error in job.errors]
        if not self._mirrors:
            return NotFound("there is no mirror", hint="name one in host.yaml, `debian: {mirrors: [...]}`")
        if any(isinstance(error, IntegrityError) for error in every) and all(
            isinstance(error, IntegrityError | NotFound | HttpError) for error in every
        ):
            return IntegrityError(
                f"no mirror has the file that the lock names: {names}",
                hint="somebody changed the lock or the mirror; `wherry host lock` takes what there is now",
            )
        if all(isinstance(error, NotFound) or _is_gone(error) for error in every):
            return NotFound(
                f"gone from every mirror: {names}",
                hint="`wherry host lock` takes the versions that there are now; "
                "or add a mirror that keeps old ones: `debian: {mirrors: [...]}`",
            )
        last = next(error for error in every if not (isinstance(error, NotFound) or _is_gone(error)))
        return NetworkError(
            f"cannot fetch {names}: {last.what}", where=last.where, hint="run it again: it goes on where it stopped"
        )


def _is_gone(error: WherryError) -> bool:
    return isinstance(error, HttpError) and error.status in _GONE


def _kind(package: Wanted) -> str:
    """Returns the first folders of a path: archives of one distribution differ in them (``pool/updates``)."""
    return "/".join(package.path.split("/")[:2])


def _names(packages: Sequence[Wanted]) -> str:
    shown = [f"{one.name} {one.version}" for one in packages[:6]]
    return ", ".join(shown) + (f" and {len(packages) - 6} more" if len(packages) > 6 else "")


def _proxies(place: Place) -> tuple[tuple[str, str], ...]:
    matches = [_PROXY.match(line) for line in machine_settings(place)]
    found: Mapping[str, str] = {match[1]: match[2] for match in matches if match and match[2] != "DIRECT"}
    return tuple(found.items())
