"""Manifests that are attached to images, and the lists of them."""

from __future__ import annotations

import json

import pytest

from wherry.core.digest import Digest
from wherry.core.errors import IntegrityError, InvalidInput
from wherry.image import referrers
from wherry.image.mediatypes import MANIFEST_TYPE
from wherry.image.referrers import Descriptor

SUBJECT = Descriptor(
    media_type=MANIFEST_TYPE, digest=Digest("sha256:" + "ab" * 32), size=7, annotations={"not": "copied"}
)
SPDX = "application/spdx+json"


def test_an_attachment() -> None:
    made = referrers.attachment(SUBJECT, b"{}x", media_type=SPDX, title="a.json", created="2024-01-02T03:04:05Z")
    assert made == referrers.attachment(
        SUBJECT, b"{}x", media_type=SPDX, title="a.json", created="2024-01-02T03:04:05Z"
    )
    document = json.loads(made.manifest)
    assert document["artifactType"] == SPDX
    assert document["subject"] == {"mediaType": MANIFEST_TYPE, "digest": SUBJECT.digest, "size": 7}
    # image-spec 1.1, manifest.md: the descriptor of the empty value
    assert document["config"] == {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "size": 2,
    }
    assert {item["digest"] for item in (document["config"], *document["layers"])} == set(made.blobs)
    assert referrers.subject_of(made.manifest) == SUBJECT.digest
    referrers.check(made.manifest, made.descriptor, SUBJECT.digest)
    with pytest.raises(IntegrityError):
        referrers.check(made.manifest + b" ", made.descriptor, SUBJECT.digest)
    with pytest.raises(InvalidInput, match="not attached to"):
        referrers.check(made.manifest, made.descriptor, made.descriptor.digest)
    for bad in ("", "spdx", "a/b/c", "a b/c", "text/plain\n"):
        with pytest.raises(InvalidInput, match="not a media type"):
            referrers.attachment(SUBJECT, b"", media_type=bad)


def test_the_fallback_tag_and_its_index() -> None:
    assert referrers.fallback_tag(SUBJECT.digest) == "sha256-" + "ab" * 32
    one = referrers.attachment(SUBJECT, b"1", media_type=SPDX).descriptor
    two = referrers.attachment(SUBJECT, b"2", media_type="text/plain", more={"k": "v"}).descriptor
    index = referrers.with_referrer(referrers.with_referrer(None, one), two)
    assert referrers.with_referrer(index, two) == index
    assert referrers.parse_referrers(index) == (one, two)
    assert referrers.parse_referrers(index, artifact_type="text/plain") == (two,)
    assert referrers.parse_referrers(referrers.without_referrer(index, one.digest)) == (two,)
    foreign = json.dumps(json.loads(index) | {"annotations": {"stays": "here"}}).encode()
    assert json.loads(referrers.with_referrer(foreign, one))["annotations"] == {"stays": "here"}


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[]", b"{}", b'{"manifests": 1}', b'{"manifests": [1]}', b'{"manifests": [{}]}',
        b'{"manifests": [{"mediaType": "a/b", "digest": "sha256:xyz", "size": 1}]}',
        b'{"manifests": [{"mediaType": "a/b", "digest": "sha256:' + b"a" * 64 + b'", "size": -1}]}',
        b'{"manifests": [{"mediaType": "a/b", "digest": "sha256:' + b"a" * 64 + b'", "size": 1, "annotations": [1]}]}',
        b'{"manifests": [' + b"{}," * 10_000 + b"{}]}",
    ],
)  # fmt: skip
def test_malformed_lists(raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        referrers.parse_referrers(raw, where="registry")


def test_manifests_without_a_subject() -> None:
    assert referrers.subject_of(b"{}") is None
    for raw in (b"1", b'{"subject": 1}', b'{"subject": {}}'):
        with pytest.raises(InvalidInput):
            referrers.subject_of(raw)
