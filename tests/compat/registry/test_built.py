"""What is built is pushed: skopeo finds every platform of it in docker-registry, with the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.compat.registry.conftest import Machine, Registry

DOCKERFILE = b"FROM scratch\nARG TARGETARCH\nCOPY <<E /f\n$TARGETARCH\nE\n"


def test_built_and_pushed(
    machine: Callable[[str], Machine], start_registry: Callable[[str, str], Registry], tmp_path: Path
) -> None:
    registry, builder = start_registry("", ""), machine("builder")
    both = ("--platform", "linux/amd64,linux/arm64")
    builder("build", *both, "-t", f"{registry.domain}/app:1", "--push", "-", stdin=DOCKERFILE)
    index = json.loads(registry.skopeo("inspect", "--raw", "--tls-verify=false", "REGISTRY/app:1"))
    assert [item["platform"]["architecture"] for item in index["manifests"]] == ["amd64", "arm64"]
    builder("build", "-o", f"type=registry,name={registry.domain}/other:2", "-", stdin=DOCKERFILE)
    registry.skopeo("copy", "-q", "--src-tls-verify=false", "REGISTRY/other:2", f"oci:{tmp_path}/copied:x")
    other = machine("other")
    other("image", "import", f"oci:{tmp_path}/copied:x", "--name", "copied:1")
    other("image", "export", "copied:1", "-o", str(tmp_path / "f.tar"))
    assert b"amd64\n" in (tmp_path / "f.tar").read_bytes()
    assert "needs a name" in builder("build", "--push", "-", stdin=DOCKERFILE, status=2)
