"""Bringing an image into the store: from a root tree, a root tar, an OCI layout or a ``docker save`` archive.

An image becomes one commit of its flattened tree (``catalog.py`` says what stands in its metadata). The same source
gives the same commit, on any machine and in any repository: the time is the image's own or 0, the tree is sorted,
and nothing of the importing machine goes in. All of it is one transaction: after an error nothing is there.

====================  =====================================================================================
source                the digest that names it
====================  =====================================================================================
OCI layout            of the platform's manifest
``docker save``       of the config (docker's image ID), as there is no manifest
root tar              of the config made here, which names the digest of the uncompressed archive
root tree             of config, dirtree and dirmeta together
====================  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from wherry.core.digest import short
from wherry.core.errors import InvalidInput, NotFound, UsageError
from wherry.core.progress import QUIET, Progress
from wherry.image import dockersave, layout, remote
from wherry.image.blobs import ArchiveBlobs, Blobs, DirectoryBlobs
from wherry.image.catalog import ImageRecord
from wherry.image.config import ImageConfig
from wherry.image.dockersave import is_docker_archive
from wherry.image.kept import KeptBlobs
from wherry.image.layout import is_layout, read_layout
from wherry.image.packed import LayerBlob, PackedImage
from wherry.image.platforms import Platform
from wherry.image.recognise import recognise
from wherry.image.recording import record_image
from wherry.image.reference import Reference
from wherry.image.remote import Machine
from wherry.image.roots import Content, Place, Roots
from wherry.image.systems import AS_FOUND, Choice
from wherry.image.unpacking import Unpacker
from wherry.store.repository import Repository
from wherry.store.tree.tar import DEFAULT_LIMITS, Limits


def import_image(
    repo: Repository,
    source: str,
    *,
    name: str | None = None,
    changes: Sequence[str] = (),
    platform: str | None = None,
    keep_layers: bool = False,
    disk: Choice = AS_FOUND,
    machine: Machine | None = None,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress = QUIET,
    note: Callable[[str], None] = lambda text: None,
) -> ImageRecord:
    """Imports an image and names it.

    Args:
        repo: where it goes.
        source: a directory or a file, recognised by what is in it; or ``oci:DIR[:TAG]``, ``oci-archive:FILE[:TAG]``,
            ``docker-archive:FILE[:NAME]``, ``dir:DIR``, ``tar:FILE``, ``disk:FILE``, ``ssh://...``.
        name: the reference that it gets; None: the one that the source gives it.
        changes: ``CMD ["x"]``, ``ENV A=b`` ..., done to the config; see ``changes.py``.
        platform: which one to take where there are several, such as ``linux/arm64``; None: this machine's.
        keep_layers: whether compressed layers are kept as they are, so that the image can be pushed again unchanged.
        disk: which system of a disk image is meant, and how it is read.
        machine: how the machine of ``ssh://...`` is reached; None: as its address says.
        limits: how much to take.
        progress: is told how many bytes, or files, have been read.
        note: is told what was left out.

    Returns:
        The image; its ref is set and durable.

    Raises:
        NotFound: there is no such source, or no such image in it.
        InvalidInput: it is malformed, or `name` is.
        IntegrityError: something has not the digest that it should have, or is cut short.
        UsageError: no name was given and the source has none.
    """
    reference = Reference.parse(name) if name is not None else None
    work = _Import(
        repo=repo,
        changes=changes,
        wanted=Platform.parse(platform) if platform else Platform.of_this_machine(),
        explicit=platform is not None,
        limits=limits,
        progress=progress,
        note=note,
        keep=KeptBlobs(repo) if keep_layers else None,
        disk=disk,
    )
    with repo.transaction():
        content = work.read(source, machine)
        if reference is None:
            reference = _own_name(content.names, source)
        return work.record(reference, content)


def load_images(
    repo: Repository,
    path: Path,
    *,
    platform: str | None = None,
    keep_layers: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress = QUIET,
    note: Callable[[str], None] = lambda text: None,
) -> list[ImageRecord]:
    """Brings all images of an archive or a layout in, each under all its names, in one transaction.

    An image that has none is called ``localhost/loaded:`` and digits of its ID.

    Args:
        repo: where they go.
        path: what ``docker save`` writes, or an OCI layout or its archive.
        platform: which one to take of each where there are several; None: this machine's.
        keep_layers: whether compressed layers are kept as they are.
        limits: how much to take.
        progress: is told how many bytes have been read.
        note: is told what was left out.

    Raises:
        NotFound: there is no such file, no image in it, or none for the platform.
        InvalidInput: it is malformed, or of another kind.
        IntegrityError: something has not the digest that it should have, or is cut short.
    """
    if not path.exists():
        raise NotFound("no such file or directory", where=path)
    work = _Import(
        repo=repo,
        changes=(),
        wanted=Platform.parse(platform) if platform else Platform.of_this_machine(),
        explicit=platform is not None,
        limits=limits,
        progress=progress,
        note=note,
        keep=KeptBlobs(repo) if keep_layers else None,
    )
    with repo.transaction():
        return work.load(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Import:
    repo: Repository
    changes: Sequence[str]
    wanted: Platform
    explicit: bool
    limits: Limits
    progress: Progress
    note: Callable[[str], None]
    keep: KeptBlobs | None
    disk: Choice = AS_FOUND

    def read(self, source: str, machine: Machine | None = None) -> Content:
        """Finds out what `source` is, and writes its tree."""
        if source.startswith(remote.SCHEME):
            return self._machine(machine or Machine.parse(source), source)
        kind, path, choice = recognise(source, self.limits)
        if kind == "dir":
            return self._roots().from_directories([Place(path=path)])
        if kind == "tar":
            return self._root_tar(path)
        if kind == "disk":
            return self._system(path)
        with self._blobs(path) as blobs:
            if kind == "oci" or (kind != "docker-archive" and is_layout(blobs)):
                packed = read_layout(blobs, tag=choice, platform=self.wanted, where=path)
            elif is_docker_archive(blobs):
                packed = dockersave.read_docker_archive(blobs, name=choice, where=path)
            else:
                raise InvalidInput("neither an image layout nor a docker archive", where=path)
            return self._layers(packed, path)

    def load(self, path: Path) -> list[ImageRecord]:
        """Writes all images of an archive."""
        with self._blobs(path) as blobs:
            if is_layout(blobs):
                found = layout.read_all(blobs, platform=self.wanted, where=path)
            elif is_docker_archive(blobs):
                found = dockersave.read_all(blobs, where=path)
            else:
                raise InvalidInput(
                    "neither an image layout nor a docker archive",
                    where=path,
                    hint="`wherry image import --name NAME` takes root trees and root tars",
                )
            return [record for packed in found for record in self._named(self._layers(packed, path))]

    def _named(self, content: Content) -> list[ImageRecord]:
        names = [_loaded_name(name) for name in content.names]
        if not names:
            names = [Reference.parse(f"localhost/loaded:{short(content.config.digest)}")]
        return [self.record(name, content) for name in dict.fromkeys(names)]

    def record(self, reference: Reference, content: Content) -> ImageRecord:
        """Makes the commit."""
        return record_image(
            self.repo,
            reference,
            tree=content.tree,
            meta=content.meta,
            size_bytes=content.size_bytes,
            config=content.config,
            digest=content.digest,
            manifest=content.manifest,
        )

    @contextmanager
    def _blobs(self, path: Path) -> Iterator[Blobs]:
        if path.is_dir():
            yield DirectoryBlobs(path)
            return
        blobs = ArchiveBlobs(path, scratch=self.repo.path / "tmp", limits=self.limits)
        try:
            yield blobs
        finally:
            blobs.close()

    # --- trees

    def _layers(self, packed: PackedImage, path: Path) -> Content:
        unpacker = Unpacker(repo=self.repo, note=self.note, limits=self.limits, progress=self.progress, keep=self.keep)
        found = unpacker.unpack(packed, where=path)
        self._check_platform(found.config)
        changed = self._roots().changed(found.config)
        same = packed.digest is not None and changed is found.config
        return Content(
            tree=found.tree,
            meta=found.meta,
            size_bytes=found.size_bytes,
            config=changed,
            digest=packed.digest if packed.digest is not None and same else changed.digest,
            manifest=packed.manifest if same else b"",
            names=packed.names,
        )

    def _roots(self) -> Roots:
        return Roots(
            repo=self.repo,
            changes=self.changes,
            platform=self.wanted if self.explicit else None,
            limits=self.limits,
            progress=self.progress,
            note=self.note,
        )

    def _root_tar(self, path: Path) -> Content:
        file = path.resolve()
        blobs = DirectoryBlobs(file.parent)
        layer = LayerBlob(blobs=blobs, name=file.name, where=str(path), size=blobs.size(file.name))
        return self._roots().from_tar(layer)

    def _system(self, path: Path) -> Content:
        from wherry.image.disks import opened_disk
        from wherry.image.systems import left_out, opened_system

        scratch = self.repo.path / "tmp"
        choice = replace(self.disk, architecture=self.wanted.architecture if self.explicit else "")
        with (
            opened_disk(path, scratch=scratch, limits=self.limits, progress=self.progress) as disk,
            opened_system(disk, choice, scratch=scratch, note=self.note) as system,
        ):
            content = self._roots().from_directories(system.places, left_out=left_out)
        if system.has_init:
            self.note(
                "a whole system: `wherry run -it IMAGE sh` enters it; docs/how-to/import-a-system.md starts its init"
            )
        return content

    def _machine(self, machine: Machine, url: str) -> Content:
        with remote.files_of(machine, self.note) as stream:
            layer = LayerBlob(blobs=remote.StreamBlobs(stream), name="", where=url)
            return self._roots().from_tar(layer, empty=remote.EMPTIED if machine.path == "/" else ())

    def _check_platform(self, config: ImageConfig) -> None:
        if not config.architecture or (config.os, config.architecture) == (self.wanted.os, self.wanted.architecture):
            return
        if self.explicit:
            raise NotFound(f"the image is for {config.platform}, not for {self.wanted}")
        self.note(f"the image is for {config.platform}; this machine is {self.wanted}")


def _own_name(names: tuple[str, ...], source: str) -> Reference:
    for name in names:
        try:
            reference = Reference.parse(name)
        except InvalidInput:
            continue
        if ":" in name or "/" in name:  # a bare word in a layout is a tag, not a name
            return reference
    raise UsageError("the source does not say what the image is called", where=source, hint="give --name")


def _loaded_name(name: str) -> Reference:
    """Returns what an archive calls an image; a bare word in a layout is a tag, not a name."""
    try:
        return Reference.parse(name if ":" in name or "/" in name else f"localhost/loaded:{name}")
    except InvalidInput as error:
        raise InvalidInput(f"the archive calls an image what is no name: {name[:120]!r}") from error
