"""SBOMs attached to an image in Debian's docker-registry, which has no referrers API: the tag is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from tests.compat.registry.conftest import Machine, Registry
from tests.unit.image.makers import Layout

Start = Callable[..., Registry]
Make = Callable[[str], Machine]


def test_attach_list_and_fetch(start_registry: Start, machine: Make, layout: Layout, tmp_path: Path) -> None:
    registry, wherry = start_registry(), machine("w")
    registry.skopeo("copy", "-q", "--dest-tls-verify=false", f"oci:{layout.path}:one", "REGISTRY/team/app:1")
    name = f"{registry.domain}/team/app:1"
    assert wherry("image", "referrers", name).split() == ["DIGEST", "TYPE", "MANIFEST"]
    wherry("image", "pull", name)
    written = tmp_path / "out.spdx.json"
    sbom = ("image", "sbom", name, "--format", "spdx")
    first = wherry(*sbom, "--attach", name, "-o", str(written)).strip()
    assert wherry(*sbom, "--attach", name).strip() == first  # the same image: the same artifact
    other = tmp_path / "other.cdx.json"
    other.write_text("{}")
    second = wherry("image", "attach", name, str(other)).strip()
    assert "give --type" in wherry("image", "attach", name, str(registry.log), status=2)

    listed = json.loads(wherry("image", "referrers", name, "--json"))
    assert [item["digest"] for item in listed] == [first, second]
    assert [item["artifactType"] for item in listed] == ["application/spdx+json", "application/vnd.cyclonedx+json"]
    fetched = tmp_path / "fetched"
    wherry("image", "referrers", name, "--type", "application/spdx+json", "-o", str(fetched))
    assert fetched.read_bytes() == written.read_bytes()
    assert "2 are attached" in wherry("image", "referrers", name, "-o", str(fetched), status=2)

    # what another client sees
    raw = registry.skopeo("inspect", "--raw", "--tls-verify=false", "REGISTRY/team/app:1")
    subject = "sha256:" + hashlib.sha256(raw).hexdigest()
    tag = subject.replace(":", "-")
    index = json.loads(registry.skopeo("inspect", "--raw", "--tls-verify=false", f"REGISTRY/team/app:{tag}"))
    assert [item["digest"] for item in index["manifests"]] == [first, second]
    manifest = json.loads(registry.skopeo("inspect", "--raw", "--tls-verify=false", f"REGISTRY/team/app@{first}"))
    assert manifest["subject"]["digest"] == subject
    assert manifest["subject"]["size"] == len(raw)
