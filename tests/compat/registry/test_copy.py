"""``image copy`` and ``inspect --remote`` beside skopeo's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.compat.registry.conftest import Machine, Registry
from tests.compat.registry.test_docker_registry import fill, raw_digest
from tests.unit.image.makers import Layout

from wherry.core.proc import run

Start = Callable[..., Registry]
Make = Callable[[str], Machine]


def digest_of(place: str) -> str:
    return "sha256:" + hashlib.sha256(run(["skopeo", "inspect", "--raw", place]).stdout).hexdigest()


@pytest.mark.parametrize(("flags", "tag"), [((), "1"), (("--all-platforms",), "both")])
def test_between_registries(
    start_registry: Start, machine: Make, layout: Layout, flags: tuple[str, ...], tag: str
) -> None:
    one, two, wherry = start_registry(), start_registry(), machine("w")
    fill(one, layout)
    expected = raw_digest(one, f"team/app:{tag}")
    source, target = f"docker://{one.domain}/team/app:{tag}", f"docker://{two.domain}/copy:{tag}"
    assert json.loads(wherry("image", "copy", "--json", *flags, source, target))["digest"] == expected
    assert raw_digest(two, f"copy:{tag}") == expected
    wherry("image", "copy", *flags, source, f"docker://{one.domain}/elsewhere:{tag}")
    assert raw_digest(one, f"elsewhere:{tag}") == expected
    assert not (wherry.root / "store").exists()


def test_one_platform_of_an_index(start_registry: Start, machine: Make, layout: Layout, tmp_path: Path) -> None:
    registry, wherry = start_registry(), machine("w")
    fill(registry, layout)
    name = f"docker://{registry.domain}/team/app:both"
    wherry("image", "copy", "--platform", "linux/arm64", name, f"oci:{tmp_path}/arm:1")
    shown = json.loads(run(["skopeo", "inspect", "--config", f"oci:{tmp_path}/arm:1"]).stdout)
    assert shown["architecture"] == "arm64"
    assert "there are: linux/amd64" in wherry(
        "image", "copy", "--platform", "s390x", name, f"oci:{tmp_path}/x", status=3
    )


def test_layouts_and_archives(start_registry: Start, machine: Make, layout: Layout, tmp_path: Path) -> None:
    registry, wherry = start_registry(), machine("w")
    fill(registry, layout)
    expected = raw_digest(registry, "team/app:1")
    both = raw_digest(registry, "team/app:both")
    name = f"docker://{registry.domain}/team/app"
    places = [f"oci:{tmp_path}/dir:1", f"oci-archive:{tmp_path}/a.tar:1"]
    for place in places:
        wherry("image", "copy", f"{name}:1", place)
        assert digest_of(place) == expected
    wherry("image", "copy", "--all", f"{name}:both", f"oci:{tmp_path}/dir:both")
    assert digest_of(f"oci:{tmp_path}/dir:both") == both
    assert digest_of(f"oci:{tmp_path}/dir:1") == expected
    wherry("image", "copy", f"{name}:1", f"docker-archive:{tmp_path}/d.tar:shop/app:7")
    config = run(["skopeo", "inspect", "--config", "--raw", f"docker-archive:{tmp_path}/d.tar"]).stdout
    assert (
        "sha256:" + hashlib.sha256(config).hexdigest()
        == json.loads(registry.skopeo("inspect", "--raw", "--tls-verify=false", "REGISTRY/team/app:1"))["config"][
            "digest"
        ]
    )
    for number, place in enumerate([*places, f"docker-archive:{tmp_path}/d.tar"]):
        wherry("image", "copy", place, f"docker://{registry.domain}/back:{number}")
        assert raw_digest(registry, f"back:{number}") == expected
    wherry("image", "copy", "--all", f"oci:{tmp_path}/dir:both", f"docker://{registry.domain}/back:both")
    assert raw_digest(registry, "back:both") == both
    wherry("image", "copy", places[0], places[0].replace("dir", "dir"))  # onto itself
    assert digest_of(places[0]) == expected


def test_a_docker_archive_of_skopeos(start_registry: Start, machine: Make, layout: Layout, tmp_path: Path) -> None:
    registry, wherry = start_registry(), machine("w")
    run(["skopeo", "copy", "-q", f"oci:{layout.path}:one", f"docker-archive:{tmp_path}/d.tar:shop/app:7"])
    wherry("image", "copy", f"docker-archive:{tmp_path}/d.tar:shop/app:7", f"docker://{registry.domain}/app:7")
    shown = json.loads(registry.skopeo("inspect", "--config", "--tls-verify=false", "REGISTRY/app:7"))
    original = json.loads(run(["skopeo", "inspect", "--config", f"oci:{layout.path}:one"]).stdout)
    assert shown["rootfs"] == original["rootfs"]
    wherry("pull", f"{registry.domain}/app:7")


def test_inspecting(start_registry: Start, machine: Make, layout: Layout) -> None:
    registry, wherry = start_registry(), machine("w")
    fill(registry, layout)
    name = f"{registry.domain}/team/app:both"
    raw = registry.skopeo("inspect", "--raw", "--tls-verify=false", "REGISTRY/team/app:both")
    assert wherry("image", "inspect", "--raw", name).encode() == raw
    (found,) = json.loads(wherry("image", "inspect", "--remote", "--platform", "linux/arm64", name))
    theirs = json.loads(
        registry.skopeo("inspect", "--tls-verify=false", "--override-arch=arm64", "REGISTRY/team/app:both")
    )
    assert (found["Architecture"], found["Os"]) == (theirs["Architecture"], theirs["Os"])
    assert [layer["digest"] for layer in found["Layers"]] == theirs["Layers"]
    assert found["Platforms"] == ["linux/amd64", "linux/arm64"]
    assert found["RepoDigests"] == [f"{registry.domain}/team/app@sha256:{hashlib.sha256(raw).hexdigest()}"]
    assert wherry("image", "inspect", "--remote", "--format", "{{.Architecture}}", name) == "amd64\n"
    assert "answered 404" in wherry("image", "inspect", "--remote", f"{registry.domain}/gone:1", status=3)
