"""Pulls from and pushes to Debian's docker-registry, beside skopeo and podman."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.compat.registry.conftest import Machine, Registry
from tests.fixtures.busybox import put_busybox
from tests.unit.image.makers import Layout

from wherry.core.digest import Digest
from wherry.core.proc import run
from wherry.image.registry.client import RegistryClient
from wherry.image.registry.hosts import Hosts
from wherry.image.registry.uploading import Upload, Uploader

Start = Callable[..., Registry]
Make = Callable[[str], Machine]


def fill(registry: Registry, layout: Layout, *flags: str) -> None:
    plain = ("-q", "--dest-tls-verify=false", *flags)
    registry.skopeo("copy", *plain, f"oci:{layout.path}:one", "REGISTRY/team/app:1")
    registry.skopeo("copy", *plain, "--all", f"oci:{layout.path}:both", "REGISTRY/team/app:both")


def raw_digest(registry: Registry, name: str, *flags: str) -> str:
    raw = registry.skopeo("inspect", "--raw", "--tls-verify=false", *flags, f"REGISTRY/{name}")
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def test_pull_and_push_keep_the_digest(start_registry: Start, machine: Make, layout: Layout) -> None:
    registry, wherry = start_registry(), machine("w")
    fill(registry, layout)
    name = f"{registry.domain}/team/app:1"
    assert "2 layers, 0 there already" in wherry("image", "pull", "--keep-layers", name)
    (pulled,) = json.loads(wherry("image", "pull", "--json", name))
    assert pulled["digest"] == layout.manifests[1]["digest"] == raw_digest(registry, "team/app:1")
    assert not pulled["new"]
    other = start_registry()
    pushed = json.loads(wherry("image", "push", "--json", name, f"{other.domain}/copy/app:2"))
    assert pushed == {"reference": f"{other.domain}/copy/app:2", "digest": pulled["digest"], "as_it_came": True}
    assert raw_digest(other, "copy/app:2") == pulled["digest"]
    wherry("image", "push", name, f"{registry.domain}/elsewhere:1")
    assert raw_digest(registry, "elsewhere:1") == pulled["digest"]


def test_platforms(start_registry: Start, machine: Make, layout: Layout) -> None:
    registry, wherry = start_registry(), machine("w")
    fill(registry, layout)
    name = f"{registry.domain}/team/app:both"
    index = raw_digest(registry, "team/app:both")
    wherry("image", "pull", "--platform", "linux/arm64", f"{registry.domain}/team/app@{index}")
    (found,) = json.loads(wherry("image", "ls", "--json"))
    assert found["platform"].startswith("linux/arm64")
    assert "there are: linux/amd64, linux/arm64" in wherry("image", "pull", "--platform", "riscv64", name, status=3)


def test_all_platforms(start_registry: Start, machine: Make, layout: Layout, tmp_path: Path) -> None:
    registry, wherry, other = start_registry(), machine("w"), start_registry()
    fill(registry, layout)
    name = f"{registry.domain}/team/app:both"
    index = raw_digest(registry, "team/app:both")
    pulled = json.loads(wherry("image", "pull", "--all-platforms", "--keep-layers", "--json", name))
    assert [item["platform"] for item in pulled] == ["linux/amd64", "linux/arm64"]
    assert not any(item["new"] for item in json.loads(wherry("image", "pull", "--all-platforms", "--json", name)))
    pushed = json.loads(wherry("image", "push", "--json", name, f"{other.domain}/copy:both"))
    assert pushed == {"reference": f"{other.domain}/copy:both", "digest": index, "as_it_came": True}
    plain = ("-q", "--src-tls-verify=false", "--all")
    other.skopeo("copy", *plain, "REGISTRY/copy:both", f"oci:{tmp_path}/back:both")
    found = json.loads((tmp_path / "back/index.json").read_text())
    assert [item["digest"] for item in found["manifests"]] == [index]
    wherry("image", "push", "--platform", "arm64", name, f"{other.domain}/copy:arm")
    assert raw_digest(other, "copy:arm") == pulled[1]["digest"]
    assert "not here for linux/s390x" in wherry("image", "push", "--platform", "s390x", name, status=3)


def test_all_platforms_without_their_layers(start_registry: Start, machine: Make, layout: Layout) -> None:
    registry, wherry = start_registry(), machine("w")
    fill(registry, layout)
    name = f"{registry.domain}/team/app:both"
    wherry("image", "pull", "--all-platforms", name)
    pushed = json.loads(wherry("image", "push", "--json", name, f"{registry.domain}/new:both"))
    assert not pushed["as_it_came"]
    assert raw_digest(registry, "new:both") == pushed["digest"]
    shown = json.loads(registry.skopeo("inspect", "--raw", "--tls-verify=false", "REGISTRY/new:both"))
    assert [item["platform"]["architecture"] for item in shown["manifests"]] == ["amd64", "arm64"]
    config = registry.skopeo("inspect", "--config", "--tls-verify=false", "--override-arch=arm64", "REGISTRY/new:both")
    assert json.loads(config)["architecture"] == "arm64"


def test_chunks(start_registry: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.image.registry.uploading.CHUNK_BYTES", 1_000_000)
    registry = start_registry()
    data = os.urandom(3_500_000)
    digest = Digest("sha256:" + hashlib.sha256(data).hexdigest())
    client = RegistryClient(Hosts().find(registry.domain))
    upload = Upload(digest=digest, size=len(data), open=lambda at: io.BytesIO(data[at:]), told=lambda sent: None)
    for repository, sent in (("a/b", True), ("a/b", False), ("c", False)):
        assert Uploader(client, repository, mount_from=["a/b"]).send(upload) == sent
    with client.open("GET", f"c/blobs/{digest}") as response:
        assert response.read_all() == data
    client.close()


def test_an_image_that_was_made_here(start_registry: Start, machine: Make, layout: Layout, tmp_path: Path) -> None:
    registry, wherry = start_registry(), machine("w")
    name = f"{registry.domain}/made:1"
    wherry("image", "import", f"oci:{layout.path}:one", "--name", name)
    digests = {
        compress: json.loads(wherry("image", "push", "--json", "--compress", compress, name))["digest"]
        for compress in ("none", "gzip", "zstd")
    }
    assert len(set(digests.values())) == 3
    for compress, digest in digests.items():
        folder = tmp_path / compress
        registry.skopeo("copy", "-q", "--src-tls-verify=false", f"REGISTRY/made@{digest}", f"oci:{folder}:x")
        if compress == "zstd":  # umoci knows none
            data = b"".join(path.read_bytes() for path in (folder / "blobs/sha256").iterdir())
            assert b"\x28\xb5\x2f\xfd" in data
            continue
        run(["umoci", "unpack", "--image", f"{folder}:x", f"{folder}-bundle"])
        assert (tmp_path / f"{compress}-bundle/rootfs/bin/app").read_text() == "amd64" * 1000
    assert json.loads(wherry("image", "push", "--json", name))["digest"] == digests["gzip"]


@pytest.mark.parametrize("flags", [("--dest-compress-format", "zstd", "--dest-compress"), ("-f", "v2s2")])
def test_other_formats(start_registry: Start, machine: Make, layout: Layout, flags: tuple[str, ...]) -> None:
    registry, wherry = start_registry(), machine("w")
    fill_flags = ("-q", "--dest-tls-verify=false", *flags)
    registry.skopeo("copy", *fill_flags, f"oci:{layout.path}:one", "REGISTRY/app:1")
    wherry("image", "pull", f"{registry.domain}/app:1")
    (found,) = json.loads(wherry("image", "ls", "--json"))
    assert found["digest"] == raw_digest(registry, "app:1")


def test_passwords(start_registry: Start, machine: Make, layout: Layout, tmp_path: Path) -> None:
    htpasswd = tmp_path / "htpasswd"
    line = run(["openssl", "passwd", "-apr1", "x"])  # docker-registry takes bcrypt alone
    assert line.stdout
    bcrypt = "$2y$05$KrTyWTiKXzvdMgUVkbtCF.CrhxPlmtOBZ9VQrmNTVQmbVQ8cY9fSG"
    htpasswd.write_text(f"robot:{bcrypt}\n")
    registry = start_registry(more=f"auth: {{htpasswd: {{realm: x, path: {htpasswd}}}}}\n")
    wherry = machine("w")
    name = f"{registry.domain}/app:1"
    assert "wants to know who you are" in wherry("image", "pull", name, status=10)
    login = ("login", "-u", "robot", "--password-stdin", registry.domain)
    assert "is wrong" in wherry(*login, stdin=b"no\n", status=10)


def test_an_authority_of_its_own(start_registry: Start, machine: Make, layout: Layout, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=registry", "-days", "2"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ]
    )
    registry = start_registry(http=f", tls: {{certificate: {certificate}, key: {key}}}")
    wherry = machine("w")
    fill(registry, layout)
    name = f"{registry.domain}/team/app:1"
    assert "TLS failed" in wherry("image", "pull", name, status=8)
    wherry("image", "pull", "--ca", str(certificate), name)
    folder = tmp_path / "certs"
    folder.mkdir()
    (folder / "bad.crt").write_text("nonsense")
    assert "no certificates in PEM" in wherry("image", "tags", "--cert-dir", str(folder), name, status=5)
    (folder / "bad.crt").unlink()
    (folder / "own.crt").write_bytes(certificate.read_bytes())
    wherry("image", "tags", "--cert-dir", str(folder), name)
    (wherry.root / "registries.yaml").write_text(f"registries:\n  '{registry.domain}': {{ca: {certificate}}}\n")
    wherry("image", "pull", "--keep-layers", name)
    wherry("image", "push", name, f"{registry.domain}/again:1")
    (wherry.root / "registries.yaml").write_text(f"registries:\n  '{registry.domain}': {{insecure: true}}\n")
    assert wherry("image", "tags", f"{registry.domain}/again") == "1\n"


def test_all_tags_and_what_is_not_there(start_registry: Start, machine: Make, layout: Layout) -> None:
    registry, wherry = start_registry(), machine("w")
    fill(registry, layout)
    wherry("image", "pull", "--all-tags", f"{registry.domain}/team/app")
    assert {item["tag"] for item in json.loads(wherry("image", "ls", "--json"))} == {"1", "both"}
    assert "MANIFEST_UNKNOWN" in wherry("image", "pull", f"{registry.domain}/team/app:none", status=3)
    assert "NAME_UNKNOWN" in wherry("image", "tags", f"{registry.domain}/none", status=3)
    assert "Connection refused" in wherry("image", "pull", "127.0.0.1:1/x:1", status=8)


def test_podman_takes_what_was_pushed(start_registry: Start, machine: Make, layout: Layout, podman: list[str]) -> None:
    registry, wherry = start_registry(), machine("w")
    wherry("image", "import", f"oci:{layout.path}:one", "--name", f"{registry.domain}/made:1")
    wherry("image", "push", f"{registry.domain}/made:1")
    run([*podman, "pull", "-q", "--tls-verify=false", f"{registry.domain}/made:1"])
    said = run([*podman, "image", "inspect", f"{registry.domain}/made:1"])
    assert json.loads(said.stdout)[0]["Architecture"] == "amd64"


def test_run_pulls_what_is_missing(start_registry: Start, machine: Make, tmp_path: Path) -> None:
    registry, wherry = start_registry(), machine("w")
    tree = tmp_path / "tree"
    put_busybox(tree, ("true", "echo"))
    name = f"{registry.domain}/busybox:1"
    other = machine("other")
    other("image", "import", str(tree), "--name", name)
    other("image", "push", name)
    run_it = ("run", "--rm", "--network", "none")
    assert "it cannot be pulled" in wherry(*run_it, "127.0.0.1:1/x:1", "true", status=125)
    assert "no such image" in wherry(*run_it, "--pull", "never", name, "true", status=125)
    assert wherry(*run_it, name, "echo", "pulled") == "pulled\n"
    assert wherry(*run_it, "--pull", "always", name, "echo", "again") == "again\n"


def test_compose_pulls(start_registry: Start, machine: Make, tmp_path: Path) -> None:
    registry, wherry = start_registry(), machine("w")
    tree = tmp_path / "tree"
    put_busybox(tree, ("true", "echo"))
    name, other = f"{registry.domain}/busybox:1", machine("other")
    other("image", "import", str(tree), "--name", name)
    other("image", "push", name)
    project = tmp_path / "shop"
    project.mkdir()
    base = f"{{image: '{name}', network_mode: none, command: [echo, pulled]}}"
    (project / "compose.yaml").write_text(
        f"services:\n  one: {base}\n  two: {base}\n  not: {{image: '{registry.domain}/gone:1', profiles: [more]}}\n"
    )
    compose = ("compose", "--project-directory", str(project))
    failed = wherry(*compose, "create", "--pull", "never", status=3)
    assert "no image" in failed
    assert "Pulling" not in failed
    assert wherry(*compose, "run", "--rm", "-T", "one") == "pulled\n"
    wherry("image", "rm", name)
    wherry(*compose, "pull", "-q")
    (found,) = json.loads(wherry("image", "ls", "--json"))
    assert found["reference"] == name
    with_more = (*compose, "--profile", "more", "pull")
    assert "services.not: image" in wherry(*with_more, status=3)
    wherry(*with_more, "--ignore-pull-failures")
    wherry(*compose, "down")
