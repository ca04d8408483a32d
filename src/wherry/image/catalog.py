"""The images in a repository: one commit each, named by a ref below ``image/``, its config in the commit's metadata.

::

    refs/heads/image/docker.io/library/nginx_3A1.2      see reference.py; for further platforms indexes.py
    commit metadata   see recording.py
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from wherry.core.digest import Checksum, Digest, Ref, checksum_of, is_checksum, parse_digest
from wherry.core.errors import Conflict, InvalidInput, NotFound
from wherry.image.config import ImageConfig, parse_config
from wherry.image.indexrefs import beside_refs, member_refs
from wherry.image.platforms import Platform, choose
from wherry.image.reference import REF_PREFIX, Reference
from wherry.store.format.objects import ObjectType
from wherry.store.repository import Repository

CONFIG_KEY = "wherry.image.config"
DIGEST_KEY = "wherry.image.digest"
MANIFEST_KEY = "wherry.image.manifest"
REFERENCE_KEY = "wherry.image.reference"
SIZE_KEY = "wherry.image.size"

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})\Z")
_HINT = "`wherry image ls` shows what is there; `wherry pull`, `build` and `import` bring more"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """One image in a repository."""

    reference: Reference
    commit: Checksum
    digest: Digest
    """Of the OCI manifest; of what stands for it where the source had none."""
    config: ImageConfig
    size_bytes: int
    """Of all files of its tree, however many images share them."""
    created_s: int
    manifest: bytes = field(default=b"", repr=False)
    """The OCI or docker manifest, byte for byte; empty where the source had none."""

    @property
    def platform(self) -> Platform:
        """What it is for, by its config."""
        config = self.config
        return Platform(os=config.os, architecture=config.architecture, variant=config.variant)

    @property
    def identifier(self) -> Digest:
        """The digest of its config: docker's image ID."""
        return self.config.digest


def _identity(record: ImageRecord) -> tuple[Digest, Digest]:
    """Returns what names of one image have in common: images of trees have the config of another at times."""
    return record.identifier, record.digest


class Images:
    """The images of one repository."""

    def __init__(self, repo: Repository) -> None:
        self.repo = repo

    def list(self) -> tuple[ImageRecord, ...]:
        """Returns all images, sorted by name."""
        found = (self._record(commit, ref) for ref, commit in self._refs().items())
        return tuple(sorted(found, key=lambda record: str(record.reference)))

    def get(self, name: str, *, platform: Platform | None = None) -> ImageRecord:
        """Returns one image.

        Args:
            name: a reference; a commit, an image ID or a manifest's digest, or the first four digits or more of one.
            platform: which one of several of a name; None: the one that the name leads to.

        Raises:
            NotFound: there is none, or not for this platform.
            Conflict: several images begin with these digits.
            InvalidInput: it is neither a reference nor an identifier.
        """
        found = self._by_reference(name) or self._by_identifier(name)
        if found is None:
            raise NotFound(f"no such image: {name[:300]}", hint=self._near(name))
        return found if platform is None else self.for_platform(found, platform)

    def for_platform(self, record: ImageRecord, platform: Platform) -> ImageRecord:
        """Returns what an image's name stands for on a platform; an image that does not say what it is for is it.

        Raises:
            NotFound: it is not here for that platform.
        """
        if not record.config.architecture:
            return record
        offered = self.variants(record)
        index = choose(platform, [item.platform for item in offered])
        if index is None:
            known = ", ".join(sorted({item.config.platform for item in offered}))
            raise NotFound(
                f"the image is not here for {platform}", where=record.reference.familiar, hint=f"it is for {known}"
            )
        return offered[index]

    def variants(self, record: ImageRecord) -> tuple[ImageRecord, ...]:
        """Returns an image, and those for other platforms that have its name."""
        others = member_refs(self.repo, record.reference).values()
        return record, *(replace(self._record(commit, None), reference=record.reference) for commit in others)

    def record_of(self, commit: Checksum) -> ImageRecord:
        """Returns the image that a commit is, whether a ref names it or not.

        Raises:
            NotFound: there is no such commit.
            InvalidInput: it is no image.
        """
        return self._record(commit, None)

    def is_name(self, name: str) -> bool:
        """Tells whether a text is the name of an image here, and not the digits of one."""
        return self._by_reference(name) is not None

    def same(self, one: ImageRecord, other: ImageRecord) -> bool:
        """Tells whether two names mean one image."""
        return one.commit == other.commit or _identity(one) == _identity(other)

    def names_of(self, record: ImageRecord) -> tuple[Reference, ...]:
        """Returns all names that an image has here, sorted."""
        return tuple(item.reference for item in self.list() if self.same(item, record))

    def remove(self, name: str) -> tuple[Reference, ...]:
        """Takes an image's name away; by an ID or a digest, all its names. Its objects stay until the store is pruned.

        Returns:
            The names that are gone.

        Raises:
            NotFound: there is no such image.
        """
        record = self.get(name)
        refs = self._refs()
        if refs.get(record.reference.ref) == record.commit and self._by_reference(name) is not None:
            doomed = [record.reference.ref]
        elif record.commit.startswith(name):
            doomed = [ref for ref, commit in refs.items() if commit == record.commit]
        else:
            doomed = [reference.ref for reference in self.names_of(record)]
        if not doomed:
            raise NotFound("the image has no name here to take away", where=name)
        beside = [ref for gone in doomed for ref in beside_refs(self.repo, Reference.from_ref(gone))]
        with self.repo.transaction() as transaction:
            for ref in (*doomed, *beside):
                transaction.set_ref(ref, None)
        return tuple(Reference.from_ref(ref) for ref in doomed)

    def _refs(self) -> dict[Ref, Checksum]:
        return self.repo.refs(REF_PREFIX.rstrip("/"))

    def _by_reference(self, name: str) -> ImageRecord | None:
        try:
            reference = Reference.parse(name)
        except InvalidInput:
            if _ID.match(name):
                return None
            raise
        refs = self._refs()
        if reference.ref in refs:
            return self._record(refs[reference.ref], reference.ref)
        if reference.digest is None:
            return None
        for ref, commit in refs.items():
            record = self._record(commit, ref)
            if record.digest == reference.digest and record.reference.repository == reference.repository:
                return record
        return None

    def _by_identifier(self, name: str) -> ImageRecord | None:
        match = _ID.match(name)
        if match is None:
            return None
        digits = match[1]
        found: dict[Checksum, ImageRecord] = {}
        for record in self.list():
            names = (checksum_of(record.identifier), checksum_of(record.digest), record.commit)
            if any(known.startswith(digits) for known in names):
                found.setdefault(record.commit, record)
        if len({_identity(record) for record in found.values()}) > 1:
            images = ", ".join(record.reference.familiar for record in found.values())
            raise Conflict(f"several images begin with {digits}", where=images, hint="give more digits, or the name")
        if found:
            return next(iter(found.values()))
        if is_checksum(digits) and self.repo.has(ObjectType.COMMIT, Checksum(digits)):
            return self._record(Checksum(digits), None)
        return None

    def _near(self, name: str) -> str:
        from difflib import get_close_matches

        known = [Reference.from_ref(ref).familiar for ref in self._refs()]
        near = get_close_matches(name, known, n=1)
        return f"did you mean {near[0]}?" if near else _HINT

    def _record(self, commit: Checksum, ref: Ref | None) -> ImageRecord:
        metadata = self.repo.load_commit(commit).metadata
        config, digest, name = (metadata.get(key) for key in (CONFIG_KEY, DIGEST_KEY, REFERENCE_KEY))
        size, manifest = metadata.get(SIZE_KEY, 0), metadata.get(MANIFEST_KEY, "")
        if not (
            isinstance(config, str)
            and isinstance(digest, str)
            and isinstance(name, str)
            and isinstance(size, int)
            and isinstance(manifest, str)
        ):
            raise InvalidInput("the commit is no image: its metadata says nothing of one", where=ref or commit)
        parsed = parse_config(config.encode(), where=f"config of {ref or commit}")
        return ImageRecord(
            reference=Reference.from_ref(ref) if ref else Reference.parse(name),
            commit=commit,
            digest=parse_digest(digest, where=ref or commit),
            config=parsed,
            size_bytes=size,
            created_s=parsed.created_s,
            manifest=manifest.encode(),
        )
