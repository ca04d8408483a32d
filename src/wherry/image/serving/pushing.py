"""The answers of an endpoint that is pushed to: blobs arrive and wait; a manifest makes an image of them, in the store.

An image is unpacked into the store, checked layer by layer, and its compressed layers are kept, so that it leaves with
the digest that it came with. What is no image (a signature, an SBOM) is kept as it is. All that is pushed is called
``localhost/...`` in the store: nobody who may push can take the place of an image that came from elsewhere.

Source: OCI distribution-spec 1.1, "Push", "Content Management".
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

from wherry.core.digest import Digest
from wherry.core.errors import IntegrityError, InvalidInput, NotFound, Unsupported
from wherry.image.artifacts import artifact_ref, blobs_named, list_artifacts, record_artifact, subject_of
from wherry.image.catalog import ImageRecord, Images
from wherry.image.indexes import record_index
from wherry.image.layout import CONFIG_TYPES, read_image
from wherry.image.outgoing import digest_of_bytes, manifest_type
from wherry.image.packed import field, parse_object
from wherry.image.recording import record_image
from wherry.image.reference import Reference
from wherry.image.serving.messages import Answer, Code, Refused, Request
from wherry.image.serving.reading import Reading
from wherry.image.serving.routes import Route, parse_digest
from wherry.image.serving.shelf import PUSH_DOMAIN, Shelf, ShownBlob, kept_blob, pushed_repository
from wherry.image.serving.uploads import Upload, Uploads
from wherry.image.unpacking import Unpacker
from wherry.store.tree.tar import DEFAULT_LIMITS, Limits

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_INDEX_MEMBERS = 512
"""Manifests that an index may name."""
MAX_UNPACKING = 2
"""Images that are unpacked at once; others wait."""

_LAYER = re.compile(r"(image\.layer\.(v1|nondistributable\.v1)\.tar|image\.rootfs\.(foreign\.)?diff\.tar)")
_CONTENT_RANGE = re.compile(r"(?:bytes )?(\d{1,18})-(\d{1,18})(?:/.*)?\Z")


@dataclass(frozen=True, slots=True)
class _PushedBlobs:
    """The blobs that a manifest may name, as files of an image layout."""

    pushing: Pushing
    name: str

    def _find(self, name: str) -> ShownBlob:
        found = self.pushing.find(self.name, Digest(f"sha256:{name.rpartition('/')[2]}"))
        if found is None:
            raise NotFound("a blob that the manifest names was not pushed", where=name)
        return found

    def open(self, name: str, /) -> BinaryIO:
        return self._find(name).open(0)

    def size(self, name: str, /) -> int:
        return self._find(name).size

    def has(self, name: str, /) -> bool:
        return self.pushing.find(self.name, Digest(f"sha256:{name.rpartition('/')[2]}")) is not None


class Pushing:
    """Takes blobs and manifests, and removes what was pushed.

    Args:
        shelf: what is there.
        uploads: what is on its way.
        limits: how much an image may be, unpacked.
    """

    def __init__(self, shelf: Shelf, uploads: Uploads, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self._shelf, self._uploads, self._limits = shelf, uploads, limits
        self._repo = shelf.repo
        self._reading = Reading(shelf)
        self._unpacking = threading.BoundedSemaphore(MAX_UNPACKING)

    # --- blobs

    def find(self, name: str, digest: Digest) -> ShownBlob | None:
        """Returns a blob that a manifest pushed to `name` may name.

        Blobs that wait are shown under every name, and when a manifest takes one over, who was told that it is there
        must find it still: so all that is kept will do.
        """
        for pool in (self._uploads.staged, self._shelf.kept):
            try:
                return kept_blob(pool, digest)
            except NotFound:
                continue  # or taken over just now
        return self._shelf.blob(name, digest)

    def begin(self, request: Request, route: Route) -> Answer:
        """POST: begins an upload; takes a blob that another repository has, or one that comes at once."""
        if mounted := request.query.get("mount"):
            digest = parse_digest(mounted)
            if self._mount(request.query.get("from", ""), digest):
                return self._created(route.name, digest)
        identifier = self._uploads.begin(route.name)
        if request.query.get("digest") and not mounted:
            return self.finish(request, Route(kind=route.kind, name=route.name, upload=identifier))
        return self._accepted(route.name, identifier, 0)

    def _mount(self, source: str, digest: Digest) -> bool:
        """Makes a blob of another repository one that waits for a manifest here."""
        if self._uploads.staged.has(digest):
            return True
        found = self._shelf.blob(source, digest) if source else None
        if found is None:
            return False
        with found.open(0) as file:
            self._uploads.staged.keep(file, digest)
        return True

    def append(self, request: Request, route: Route) -> Answer:
        """PATCH: adds to an upload."""
        with self._uploads.working_on(route.name, route.upload) as upload:
            self._take(request, upload)
            return self._accepted(route.name, route.upload, upload.size)

    def finish(self, request: Request, route: Route) -> Answer:
        """PUT: ends an upload."""
        text = request.query.get("digest")
        if not text:
            raise Refused(Code.DIGEST_INVALID, "the digest is missing")
        digest = parse_digest(text)
        with self._uploads.working_on(route.name, route.upload) as upload:
            self._take(request, upload)
            self._uploads.finish(upload, digest)
        return self._created(route.name, digest)

    def _take(self, request: Request, upload: Upload) -> None:
        told = request.headers.get("content-range")
        length = request.headers.get("content-length")
        if told is not None:
            match = _CONTENT_RANGE.match(told)
            right = match is not None and int(match[1]) == upload.size
            if match is not None and length is not None:
                right = right and int(match[2]) + 1 - int(match[1]) == int(length)
            if not right:
                raise Refused(
                    Code.BLOB_UPLOAD_INVALID,
                    f"the next byte is {upload.size}",
                    detail=told[:80],
                    headers=_progress(upload.size),
                )
        if request.body is not None:
            self._uploads.append(upload, request.body)

    def progress(self, route: Route) -> Answer:
        """GET: how far an upload has come."""
        with self._uploads.working_on(route.name, route.upload) as upload:
            return Answer(status=204, headers=self._where(route.name, route.upload, upload.size))

    def cancel(self, route: Route) -> Answer:
        """DELETE of an upload."""
        with self._uploads.working_on(route.name, route.upload) as upload:
            self._uploads.discard(upload)
        return Answer(status=204)

    def remove_blob(self, route: Route) -> Answer:
        """DELETE of a blob that no manifest names; others go with their manifests."""
        digest = route.blob
        if self._uploads.staged.has(digest):
            self._uploads.staged.path(digest).unlink(missing_ok=True)
            return Answer(status=202)
        if self._shelf.blob(route.name, digest) is None:
            raise Refused(Code.BLOB_UNKNOWN, "there is no such blob in the repository", detail=digest)
        raise Refused(Code.UNSUPPORTED, "a manifest names this blob; it goes with that")

    def read_blob(self, request: Request, route: Route) -> Answer:
        """GET and HEAD of a blob, also of one that waits for its manifest."""
        digest = route.blob
        try:
            waiting = kept_blob(self._uploads.staged, digest)
        except NotFound:
            waiting = None
        return self._reading.blob(request, route, waiting)

    def _created(self, name: str, digest: Digest) -> Answer:
        headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
        return Answer(status=201, headers=headers)

    def _accepted(self, name: str, identifier: str, size: int) -> Answer:
        return Answer(status=202, headers=self._where(name, identifier, size))

    def _where(self, name: str, identifier: str, size: int) -> dict[str, str]:
        location = f"/v2/{name}/blobs/uploads/{identifier}"
        return {"Location": location, "Docker-Upload-UUID": identifier, **_progress(size)}

    # --- manifests

    def manifest(self, request: Request, route: Route) -> Answer:
        """PUT of a manifest: makes an image, an index or an artifact of what was pushed before."""
        raw = request.read_body(MAX_MANIFEST_BYTES)
        digest = digest_of_bytes(raw)
        if route.digest not in (None, digest):
            raise Refused(
                Code.DIGEST_INVALID,
                "the manifest has another digest",
                detail={"expected": route.digest, "got": digest},
            )
        where = f"{route.name}@{digest}"
        try:
            document = parse_object(raw, where=where)
            self._check_type(request, document)
            end = f":{route.tag}" if route.tag else f"@{digest}"
            reference = Reference.parse(pushed_repository(route.name) + end)
            if "manifests" in document:
                self._take_index(route, reference, raw, document)
            elif _is_image(document):
                self._take_image(route, reference, raw, digest)
            else:
                self._take_artifact(route, reference, raw, document)
        except (InvalidInput, IntegrityError, Unsupported) as error:
            raise Refused(Code.MANIFEST_INVALID, str(error)) from error
        headers = {"Location": f"/v2/{route.name}/manifests/{digest}", "Docker-Content-Digest": digest}
        if subject := subject_of(document):
            headers["OCI-Subject"] = subject
        return Answer(status=201, headers=headers)

    def _check_type(self, request: Request, document: dict[str, Any]) -> None:
        if document.get("schemaVersion") != 2:
            raise Refused(Code.MANIFEST_INVALID, "not a manifest of schema version 2")
        told = request.headers.get("content-type", "").partition(";")[0].strip()
        if told and "mediaType" in document and told != manifest_type(document):
            raise Refused(Code.MANIFEST_INVALID, f"sent as {told[:80]}, but it says {manifest_type(document)[:80]}")

    def _need(self, name: str, digest: Digest, size: int) -> None:
        found = self.find(name, digest)
        if found is None:
            raise Refused(
                Code.MANIFEST_BLOB_UNKNOWN, "the manifest names a blob that was not pushed", detail={"digest": digest}
            )
        if found.size != size:
            raise Refused(
                Code.MANIFEST_INVALID, f"a blob has {found.size} bytes instead of {size}", detail={"digest": digest}
            )

    def _keep(self, name: str, digest: Digest) -> None:
        """Keeps a blob for as long as its manifest is there."""
        kept, staged = self._shelf.kept, self._uploads.staged
        if kept.has(digest):
            staged.path(digest).unlink(missing_ok=True)
        elif staged.has(digest):
            kept.adopt(staged, digest)
        elif (found := self._shelf.blob(name, digest)) is not None:
            with found.open(0) as file:
                kept.keep(file, digest)

    def _take_image(self, route: Route, reference: Reference, raw: bytes, digest: Digest) -> None:
        where = f"{route.name}@{digest}"
        named = blobs_named(parse_object(raw, where=where), where=where)
        for blob, (size, _) in named.items():
            self._need(route.name, blob, size)
        packed = read_image(_PushedBlobs(self, route.name), raw, digest, where=where)
        with self._unpacking, self._repo.transaction():
            unpacker = Unpacker(repo=self._repo, limits=self._limits)
            unpacked = unpacker.unpack(packed, where=where)
            pairs = zip(packed.layers, unpacked.config.diff_ids, strict=True)
            for layer, diff_id in islice(pairs, unpacked.reused_layers):
                unpacker.check(layer, diff_id)  # not unpacked, as its tree is known, but others will get these bytes
            record_image(
                self._repo,
                reference,
                tree=unpacked.tree,
                meta=unpacked.meta,
                size_bytes=unpacked.size_bytes,
                config=unpacked.config,
                digest=digest,
                manifest=raw,
            )
            self._replace_artifact(reference)
        for layer in packed.layers:
            if layer.digest is not None:
                self._keep(route.name, layer.digest)

    def _take_artifact(self, route: Route, reference: Reference, raw: bytes, document: dict[str, Any]) -> None:
        named = blobs_named(document, where=reference)
        for blob, (size, _) in named.items():
            self._need(route.name, blob, size)
        with self._repo.transaction() as transaction:
            for name in {reference, _by_digest(reference, raw)}:
                record_artifact(self._repo, name, raw)
            transaction.set_ref(reference.ref, None)  # an image that had this tag
        for blob in named:
            self._keep(route.name, blob)

    def _take_index(self, route: Route, reference: Reference, raw: bytes, document: dict[str, Any]) -> None:
        items = field(document, "manifests", list, where=reference)
        if len(items) > MAX_INDEX_MEMBERS:
            raise InvalidInput(f"an index of more than {MAX_INDEX_MEMBERS} manifests", where=reference)
        known: dict[str, ImageRecord] = {image.leaving.digest: image.record for image in self._shelf.images(route.name)}
        others = {item.digest for item in self._shelf.manifests(route.name)}
        members: list[ImageRecord] = []
        for item in items:
            digest = parse_digest(field(item, "digest", str, where=reference))
            if digest in known:
                members.append(known[digest])
            elif digest not in others:
                raise Refused(
                    Code.MANIFEST_BLOB_UNKNOWN,
                    "the index names a manifest that was not pushed",
                    detail={"digest": digest},
                )
        platforms = {member.platform for member in members}
        if not members or len(platforms) != len(members):
            self._take_artifact(route, reference, raw, document)
            return
        with self._repo.transaction() as transaction:
            record_index(self._repo, reference, members, raw)
            for member in members:
                if member.reference.tag is None and member.reference.domain == PUSH_DOMAIN:
                    transaction.set_ref(member.reference.ref, None)  # it goes with the index from now on
            self._replace_artifact(reference)

    def _replace_artifact(self, reference: Reference) -> None:
        with self._repo.transaction() as transaction:
            transaction.set_ref(artifact_ref(reference), None)

    # --- removing

    def remove_manifest(self, route: Route) -> Answer:
        """DELETE of a tag, or of a manifest with all its tags; only of what was pushed."""
        repository = pushed_repository(route.name)
        images = Images(self._repo)
        artifacts = {
            item.reference
            for item in list_artifacts(self._repo, [repository])
            if (item.digest == route.digest if route.digest else item.reference.tag == route.tag)
        }
        doomed = {
            reference
            for reference, commit in self._shelf.references(route.name).items()
            if reference.repository == repository
            and (
                self._shelf.shown(reference, commit).digest == route.digest
                if route.digest
                else reference.tag == route.tag
            )
        }
        if not doomed and not artifacts:
            if self._shelf.manifest(route.name, tag=route.tag, digest=route.digest) is not None:
                raise Refused(Code.DENIED, "only what was pushed here can be removed here, and an index as a whole")
            raise self._reading.unknown_manifest(route)
        for reference in doomed:
            images.remove(str(reference))
        with self._repo.transaction() as transaction:
            for reference in artifacts:
                transaction.set_ref(artifact_ref(reference), None)
        return Answer(status=202)


def _by_digest(reference: Reference, raw: bytes) -> Reference:
    return Reference(domain=reference.domain, path=reference.path, digest=digest_of_bytes(raw))


def _is_image(document: dict[str, Any]) -> bool:
    """Tells whether a manifest is an image that can be unpacked; what else there is, is kept as it is."""
    config, layers = document.get("config"), document.get("layers")
    if not isinstance(config, dict) or config.get("mediaType") not in CONFIG_TYPES or not isinstance(layers, list):
        return False
    if document.get("artifactType") is not None:
        return False
    kinds = [str(layer.get("mediaType")) if isinstance(layer, dict) else "" for layer in layers]
    return all(_LAYER.search(kind) for kind in kinds)


def _progress(size: int) -> dict[str, str]:
    return {"Range": f"0-{max(0, size - 1)}"}
