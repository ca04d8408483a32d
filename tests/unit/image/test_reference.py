"""Names of images: docker's grammar and normalisation, and their ref names in the store."""

from __future__ import annotations

import pytest

from wherry.core.errors import InvalidInput
from wherry.image.reference import Reference

HEX = "ab" * 32


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("nginx:1.2", "docker.io/library/nginx:1.2", "nginx:1.2"),
        ("team/app", "docker.io/team/app:latest", "team/app:latest"),
        ("library/nginx:1", "docker.io/library/nginx:1", "nginx:1"),
        ("docker.io/nginx:1", "docker.io/library/nginx:1", "nginx:1"),
        ("index.docker.io/library/nginx:1", "docker.io/library/nginx:1", "nginx:1"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
        ("Host/app:2", "Host/app:2", "Host/app:2"),
        ("[::1]:5000/a/b__c/d-e.f:T_1", "[::1]:5000/a/b__c/d-e.f:T_1", "[::1]:5000/a/b__c/d-e.f:T_1"),
        (f"debian@sha256:{HEX}", f"docker.io/library/debian@sha256:{HEX}", f"debian@sha256:{HEX}"),
        (f"debian:12@sha256:{HEX}", f"docker.io/library/debian:12@sha256:{HEX}", f"debian:12@sha256:{HEX}"),
        ("a/library/b", "docker.io/a/library/b:latest", "a/library/b:latest"),
    ],
)
def test_normalised(text: str, full: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == full
    assert reference.familiar == familiar
    assert Reference.parse(familiar) == Reference.parse(full) == reference


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "a:", "A", "a/B", "-a", "a-", "a..b", "a___b", "a/", "/a", "a//b", "a b", "a:b:c", "a@", "a@sha256:12",
        "a@sha512:" + HEX, "a:" + "t" * 129, HEX, "x" * 256, "a/" + "b" * 250, "../a", "./a", "a/../b", "http://a/b",
        "a:.b", "[::1/a", "a\n", "a:b\n", "é", f"a@sha256:{HEX}@sha256:{HEX}",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Reference.parse(text)


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("nginx:1.2", "image/docker.io/library/nginx_3A1.2"),
        ("localhost:5000/a_b:c_d", "image/localhost_3A5000/a_5Fb_3Ac_5Fd"),
        (f"[::1]/a@sha256:{HEX}", f"image/_5B_3A_3A1_5D/a_40sha256_3A{HEX}"),
    ],
)
def test_ref_names(text: str, ref: str) -> None:
    reference = Reference.parse(text)
    assert reference.ref == ref
    assert Reference.from_ref(ref) == reference


@pytest.mark.parametrize("ref", ["heads/main", "image/", "image/nginx", "image/docker.io/a:b", "docker.io/a_3Ab"])
def test_other_refs_are_no_images(ref: str) -> None:
    with pytest.raises(InvalidInput, match="not the ref of an image"):
        Reference.from_ref(ref)
