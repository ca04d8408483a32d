"""What the endpoint shows of the store: repositories, their tags, manifests and blobs. Nothing is changed here.

Names in the store have a domain, names in an endpoint's paths have none of their own. So a repository's name is looked
up as ``localhost/NAME`` (where pushes go) first, then as docker would complete it: ``debian`` is
``docker.io/library/debian``, ``quay.io/a/b`` is itself. A port is written with ``_`` in place of the colon:
``registry.example_5000/app``. Lists show each image once, as short as docker shows it.

Every request looks at the refs anew, so what another process pulls or removes shows at once. What costs something, the
config of a commit and the digest of its layer, is remembered by commit, which never changes.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from wherry.core.digest import Checksum, Digest
from wherry.core.errors import InvalidInput
from wherry.image.artifacts import ARTIFACT_PREFIX, ArtifactRecord, blobs_named, list_artifacts, referrer, subject_of
from wherry.image.catalog import ImageRecord, Images
from wherry.image.indexes import find_index
from wherry.image.indexrefs import index_ref, member_refs
from wherry.image.kept import KeptBlobs
from wherry.image.outgoing import OutgoingImage, as_it_came, manifest_type, outgoing
from wherry.image.outgoingindex import assemble_index
from wherry.image.packed import parse_object
from wherry.image.reference import REF_PREFIX, Reference
from wherry.image.serving.routes import is_name
from wherry.store import refs

if TYPE_CHECKING:
    from wherry.core.digest import Ref
    from wherry.store.repository import Repository

PUSH_DOMAIN = "localhost"
MAX_REMEMBERED = 1000
"""Images whose configs and digests are in memory."""

_PORT = re.compile(r"_(\d{1,5})\Z")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownManifest:
    """A manifest or an index."""

    raw: bytes
    media_type: str
    digest: Digest
    main: ShownManifest | None = None
    """Of an index: the manifest for those who take none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownBlob:
    """A config or a layer."""

    size: int
    media_type: str
    open: Callable[[int], BinaryIO]
    """Opens it from an offset on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownImage:
    """An image under one of its names."""

    reference: Reference
    record: ImageRecord
    leaving: OutgoingImage

    @property
    def manifest(self) -> ShownManifest:
        """Its manifest."""
        leaving = self.leaving
        return ShownManifest(raw=leaving.manifest, media_type=leaving.media_type, digest=leaving.digest)


class Shelf:
    """The images of one repository, as an endpoint shows them. Several threads may ask at once."""

    def __init__(self, repo: Repository) -> None:
        self.repo = repo
        self.kept = KeptBlobs(repo)
        self._images = Images(repo)
        self._records: OrderedDict[Checksum, ImageRecord] = OrderedDict()
        self._made: OrderedDict[Checksum, OutgoingImage] = OrderedDict()
        self._lock = threading.Lock()
        self._measuring = threading.Lock()

    # --- names

    def repositories(self, name: str) -> tuple[str, ...]:
        """Returns what a name may mean in the store, the likeliest first."""
        found = [pushed_repository(name)]
        if name.partition("/")[0] != PUSH_DOMAIN:
            first, slash, rest = name.partition("/")
            try:
                found.append(Reference.parse(_PORT.sub(r":\1", first) + slash + rest if slash else name).repository)
            except InvalidInput:
                pass
        return tuple(dict.fromkeys(found))

    def names(self) -> list[str]:
        """Returns the names of all repositories, sorted."""
        found = set()
        for ref in self.repo.refs():
            if ref.startswith((REF_PREFIX, f"{ARTIFACT_PREFIX}/")):
                found.add(_shown_name(_reference_of(ref)))
        return sorted(name for name in found if is_name(name))

    def tags(self, name: str) -> list[str] | None:
        """Returns the tags of a repository, sorted; None when there is none of that name."""
        wanted = self.repositories(name)
        found: set[str] = set()
        known = False
        for ref in self.repo.refs():
            if ref.startswith((REF_PREFIX, f"{ARTIFACT_PREFIX}/")):
                reference = _reference_of(ref)
                if reference.repository in wanted:
                    known = True
                    found.update({reference.tag} if reference.tag else ())
        return sorted(found) if known else None

    # --- manifests

    def manifest(self, name: str, *, tag: str = "", digest: Digest | None = None) -> ShownManifest | None:
        """Returns a manifest or an index, by tag or by digest."""
        if digest is not None:
            return next((item for item in self.manifests(name) if item.digest == digest), None)
        for repository in self.repositories(name):
            reference = Reference.parse(f"{repository}:{tag}")
            commit = refs.read_ref(self.repo.path, reference.ref)
            if commit is not None:
                return self.shown(reference, commit)
            for artifact in list_artifacts(self.repo, [repository]):
                if artifact.reference == reference:
                    return _artifact(artifact)
        return None

    def shown(self, reference: Reference, commit: Checksum) -> ShownManifest:
        """Returns what a name of an image leads to: its index, where it has one, or its manifest."""
        return self._index(reference) or self._image(reference, commit).manifest

    def manifests(self, name: str) -> Iterator[ShownManifest]:
        """Gives every manifest and index of a repository."""
        repositories = self.repositories(name)
        for artifact in list_artifacts(self.repo, repositories):
            yield _artifact(artifact)
        for reference in self.references(name):
            index = self._index(reference)
            if index is not None:
                yield index
        for image in self.images(name):
            yield image.manifest

    def references(self, name: str) -> dict[Reference, Checksum]:
        """Returns the images of a repository, by their names with tag or digest."""
        wanted = self.repositories(name)
        found = {_reference_of(ref): commit for ref, commit in self.repo.refs("image").items()}
        return {reference: commit for reference, commit in found.items() if reference.repository in wanted}

    def images(self, name: str) -> Iterator[ShownImage]:
        """Gives every image of a repository, those for other platforms too."""
        for reference, commit in self.references(name).items():
            yield self._image(reference, commit)
            for other in member_refs(self.repo, reference).values():
                yield self._image(reference, other)

    def referrers(self, name: str, digest: Digest) -> list[dict[str, Any]]:
        """Returns what refers to a manifest, as descriptors, each once."""
        found: dict[Digest, dict[str, Any]] = {}
        for shown in self.manifests(name):
            manifest = parse_object(shown.raw, where=shown.digest)
            if shown.digest not in found and subject_of(manifest) == digest:
                found[shown.digest] = referrer(shown.raw, manifest)
        return list(found.values())

    # --- blobs

    def blob(self, name: str, digest: Digest) -> ShownBlob | None:
        """Returns a blob that a manifest of the repository names."""
        for image in self.images(name):
            leaving = image.leaving
            if leaving.config_digest == digest:
                return small_blob(leaving.config, leaving.config_type)
            for layer in leaving.layers:
                if layer.digest == digest:
                    return ShownBlob(size=layer.size, media_type=layer.media_type, open=layer.open)
        for artifact in list_artifacts(self.repo, self.repositories(name)):
            named = blobs_named(parse_object(artifact.manifest, where=artifact.reference), where=artifact.reference)
            if digest in named and self.kept.has(digest):
                return kept_blob(self.kept, digest, named[digest][1])
        return None

    # --- what is remembered

    def _image(self, reference: Reference, commit: Checksum) -> ShownImage:
        record = self._recall(self._records, commit)
        if record is None:
            record = self._remember(self._records, commit, self._images.record_of(commit))
        leaving = as_it_came(record, self.kept) or self._recall(self._made, commit)
        if leaving is None:
            with self._measuring:  # one at a time: it reads the whole image
                leaving = self._recall(self._made, commit)
                if leaving is None:
                    leaving = self._remember(self._made, commit, outgoing(self.repo, record))
        return ShownImage(reference=reference, record=replace(record, reference=reference), leaving=leaving)

    def _index(self, reference: Reference) -> ShownManifest | None:
        if refs.read_ref(self.repo.path, index_ref(reference)) is None:
            return None
        index = find_index(self.repo, reference)
        if index is None:
            return None
        members = [self._image(reference, member.commit) for member in index.members]
        also = {item.digest for item in list_artifacts(self.repo, [reference.repository])}
        found = assemble_index(index, [member.leaving for member in members], also)
        current = refs.read_ref(self.repo.path, reference.ref)
        main = next((member for member in members if member.record.commit == current), members[0])
        return ShownManifest(raw=found.manifest, media_type=found.media_type, digest=found.digest, main=main.manifest)

    def _recall(self, memory: OrderedDict[Checksum, _Value], commit: Checksum) -> _Value | None:
        with self._lock:
            found = memory.get(commit)
            if found is not None:
                memory.move_to_end(commit)
            return found

    def _remember(self, memory: OrderedDict[Checksum, _Value], commit: Checksum, value: _Value) -> _Value:
        with self._lock:
            memory[commit] = value
            if len(memory) > MAX_REMEMBERED:
                memory.popitem(last=False)
        return value


def pushed_repository(name: str) -> str:
    """Returns what is pushed as `name` is called in the store."""
    return f"{PUSH_DOMAIN}/{name.removeprefix(f'{PUSH_DOMAIN}/')}"


def small_blob(data: bytes, media_type: str) -> ShownBlob:
    """Returns bytes as a blob."""
    import io

    return ShownBlob(size=len(data), media_type=media_type, open=lambda offset: io.BytesIO(data[offset:]))


def kept_blob(kept: KeptBlobs, digest: Digest, media_type: str = "application/octet-stream") -> ShownBlob:
    """Returns a kept blob as one that is shown.

    Raises:
        NotFound: it is not kept.
    """

    def opened(offset: int) -> BinaryIO:
        file = kept.open(digest)
        file.seek(offset)
        return file

    return ShownBlob(size=kept.size(digest), media_type=media_type, open=opened)


def _artifact(artifact: ArtifactRecord) -> ShownManifest:
    media_type = manifest_type(parse_object(artifact.manifest, where=artifact.reference))
    return ShownManifest(raw=artifact.manifest, media_type=media_type, digest=artifact.digest)


def _reference_of(ref: Ref) -> Reference:
    return Reference.from_ref(REF_PREFIX + ref.partition("/")[2])


def _shown_name(reference: Reference) -> str:
    if reference.domain == PUSH_DOMAIN:
        return reference.path
    first, _, rest = reference.familiar_repository.partition("/")
    return f"{first.replace(':', '_')}/{rest}" if rest else first
