"""What is built is pushed: skopeo finds every platform of it in docker-registry, with the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.compat.registry.conftest import Machine, Registry
from tests.fixtures.busybox import put_busybox

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


LAYERED = """\
FROM scratch
COPY big gone /
COPY app /app
ENV A=1
"""


def layers(registry: Registry, name: str) -> list[str]:
    manifest = json.loads(registry.skopeo("inspect", "--raw", "--tls-verify=false", f"REGISTRY/{name}"))
    return [item["digest"] for item in manifest["layers"]]


def test_a_next_version_sends_its_new_layers_alone_and_ids_are_the_same(
    machine: Callable[[str], Machine], start_registry: Callable[[str, str], Registry], tmp_path: Path
) -> None:
    registry, builder, other = start_registry("", ""), machine("builder"), machine("other")
    context = tmp_path / "context"
    context.mkdir()
    for name, text in (("big", "b" * 100_000), ("gone", "x"), ("app", "one"), ("Dockerfile", LAYERED)):
        (context / name).write_text(text)
    base, app, more = (f"{registry.domain}/{name}" for name in ("app:1", "app:2", "more:1"))
    built = builder("build", "-t", base, "--push", str(context)).split()[-1]
    first = layers(registry, "app:1")
    assert len(first) == 2
    inspected = json.loads(registry.skopeo("inspect", "--config", "--raw", "--tls-verify=false", "REGISTRY/app:1"))
    assert [step.get("empty_layer", False) for step in inspected["history"]] == [False, False, True]
    (context / "app").write_text("two")
    builder("build", "-t", app, "--push", str(context))
    second = layers(registry, "app:2")
    assert second[0] == first[0]
    assert second[1] != first[1]

    assert registry.domain in other("pull", base)
    pulled = json.loads(other("image", "inspect", base))[0]
    assert pulled["Id"] == built, "docker's image ID: that of the config, which no push changes"
    told = other("pull", "--json", app)
    assert json.loads(told)[0]["reused_layers"] == 1
    (context / "Dockerfile").write_text(f"FROM {base}\nCOPY app /new\n")
    (context / "big").unlink()
    other("build", "-t", more, "--push", str(context))
    third = layers(registry, "more:1")
    assert third[:2] == first, "the layers below go as they do in the image below"
    assert len(third) == 3


STEPS = """\
FROM busybox:1
RUN cat /proc/sys/kernel/random/uuid >/first
RUN :
COPY app /app
RUN cat /proc/sys/kernel/random/uuid /app >/second
"""


def test_another_machine_need_not_run_what_the_image_tells(
    machine: Callable[[str], Machine], start_registry: Callable[[str, str], Registry], tmp_path: Path
) -> None:
    registry, context = start_registry("", ""), tmp_path / "context"
    put_busybox(tmp_path / "tree", ("sh", "cat"))
    context.mkdir()
    (context / "app").write_text("one")
    (context / "Dockerfile").write_text(STEPS)
    name = f"{registry.domain}/app:1"

    def build(who: Machine, *flags: str) -> dict[str, str]:
        who("image", "import", str(tmp_path / "tree"), "--name", "busybox:1")
        who("build", "-q", "-t", name, *flags, str(context))
        return {file: who("run", "--rm", name, "cat", f"/{file}") for file in ("first", "second")}

    first, second, third = machine("first"), machine("second"), machine("third")
    cached = ("--cache-from", name, "--cache-to", "type=inline", "--push")
    made = build(first, *cached)
    assert build(second, *cached) == made, "nothing was run"
    (context / "app").write_text("two")
    after = build(third, *cached)
    assert after["first"] == made["first"]
    assert after["second"] != made["second"], "what follows a change is run"
    assert build(second)["second"] != after["second"], "what an image tells counts for the build that names it"
    assert "only type=inline" in first("build", "--cache-to", "type=local,dest=x", str(context), status=2)


def test_a_cache_that_may_not_be_read_is_no_failure(
    machine: Callable[[str], Machine], start_registry: Callable[[str, str], Registry], tmp_path: Path
) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("ann:$2y$05$" + "a" * 53 + "\n")
    registry = start_registry("", f"auth: {{htpasswd: {{realm: r, path: {passwords}}}}}\n")
    builder = machine("builder")
    assert builder("build", "-t", "app:1", "--cache-from", f"{registry.domain}/app:1", "-", stdin=DOCKERFILE)
    builder("image", "inspect", "app:1")
