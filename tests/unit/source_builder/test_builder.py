"""What a build from source plans, and what changes the keys of its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.source_builder.support import LAYER, SHA256, inputs, pinned, write, write_lock

from wherry.build.source import builder, tools, unpacking
from wherry.build.source.builder import SourceBuilder
from wherry.build.source.options import Origin
from wherry.build.steps import Plan
from wherry.core.errors import InvalidInput, NotFound, Unsupported
from wherry.spec.architecture import architecture


@pytest.fixture(autouse=True)
def _compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of plans need no compilers."""
    monkeypatch.setattr(builder, "check_tools", lambda target: None)
    monkeypatch.setattr(builder, "compiler_digest", lambda target: f"digest of {target.cross}")


def plan(tmp_path: Path, **given: Any) -> Plan:
    return SourceBuilder().plan(inputs(tmp_path, **given))


@pytest.fixture
def top(tmp_path: Path) -> Path:
    write(tmp_path / "layers", LAYER)
    write_lock(tmp_path)
    return tmp_path


def test_only_fetching_has_the_network(top: Path) -> None:
    found = plan(top)
    assert [step.name for step in found.steps] == [
        "sources",
        "busybox-source",
        "kernel-source",
        "kernel-config",
        "kernel",
        "busybox",
        "base",
        "over",
        "root",
        "boot",
    ]
    assert [step.name for step in found.steps if step.network] == ["sources"]
    assert (found.root, found.boot, found.finished) == ("root", "boot", True)
    found.keys()


def changed(one: Plan, other: Plan) -> set[str]:
    before, after = one.keys(), other.keys()
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_a_fragment_changes_what_depends_on_it(top: Path) -> None:
    before = plan(top)
    write(top / "layers", {"a/base/kernel/10": "CONFIG_NET=y\nCONFIG_PCI=y\n"})
    assert changed(before, plan(top)) == {"kernel-config", "kernel", "base", "over", "root", "boot"}


def test_a_place_changes_nothing(top: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("elsewhere")
    write(other / "layers", LAYER)
    write_lock(other)
    assert changed(plan(top), plan(other)) == set()


def test_another_source_changes_what_is_made_of_it(top: Path) -> None:
    before = plan(top)
    write_lock(
        top,
        pinned("kernel", "linux-source-6.1", sha256="cd" * 32),
        pinned("busybox", "busybox", "pool/b/busybox_1.dsc"),
        pinned("busybox", "busybox", "pool/b/busybox_1.tar.xz"),
    )
    assert "kernel" in changed(before, plan(top))


def test_sources_are_shared_by_architectures(top: Path) -> None:
    found = changed(plan(top), plan(top, arch="arm64"))
    assert "kernel" in found
    assert not found & {"sources", "kernel-source", "busybox-source"}


def test_patches_are_part_of_the_source(top: Path) -> None:
    before = plan(top)
    write(top / "layers", {"a/patched/kernel_patches/1.patch": "--- a\n+++ b\n"})
    after = plan(top)
    assert "kernel-source" in changed(before, after)
    assert "busybox-source" not in changed(before, after)
    assert after.step("kernel-source").layer == "a/patched"


def test_libcap_if_asked(top: Path) -> None:
    write_lock(
        top,
        pinned("kernel", "linux-source-6.1"),
        pinned("busybox", "busybox", "pool/b/busybox_1.dsc"),
        pinned("libcap", "libcap2", "pool/l/libcap2_1.dsc"),
    )
    found = plan(top, options={"libcap": True})
    assert "libcap" in found.step("base").needs


def test_what_does_not_fit_is_refused(top: Path) -> None:
    with pytest.raises(Unsupported, match="not for arm64"):
        plan(top, arch="arm64", options={"arch": "um"})
    write(top / "layers", {"a/deb/packages/list": "vim\n"})
    with pytest.raises(InvalidInput, match="builder debian: vim"):
        plan(top)


def test_a_chain_without_a_kernel_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "layers", {"a/base/busybox/10": "CONFIG_ASH=y\n"})
    write_lock(tmp_path)
    with pytest.raises(InvalidInput, match="what kernel shall have"):
        plan(tmp_path)


def test_missing_compilers_are_named_with_their_packages(tmp_path: Path) -> None:
    target = tools.target_of(architecture("arm64"), uml=False)
    with pytest.raises(NotFound) as raised:
        tools.check_tools(target, folders=[str(tmp_path)])
    assert "aarch64-linux-gnu-gcc" in raised.value.what
    assert raised.value.hint is not None
    assert "gcc-aarch64-linux-gnu" in raised.value.hint
    assert "flex" in raised.value.hint


def test_a_missing_library_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "find", lambda name, folders: Path("/usr/bin", name))
    monkeypatch.setattr("os.path.exists", lambda path: not str(path).endswith("libc.a"))
    with pytest.raises(NotFound) as raised:
        tools.check_tools(tools.target_of(architecture("armhf"), uml=False))
    assert raised.value.hint == "apt-get install libc6-dev-armhf-cross"


def test_targets_are_named_as_debian_and_the_kernel_name_them() -> None:
    amd64 = tools.target_of(architecture("amd64"), uml=False)
    assert (amd64.arch, amd64.cross, amd64.gcc_package) == ("x86_64", "x86_64-linux-gnu-", "gcc-x86-64-linux-gnu")
    assert amd64.make_target == "bzImage"
    uml = tools.target_of(architecture("amd64"), uml=True)
    assert uml.make_arguments() == ["ARCH=um", "CROSS_COMPILE=x86_64-linux-gnu-", "SUBARCH=x86_64"]
    assert (uml.image, uml.make_target) == ("linux", "linux")
    assert tools.target_of(architecture("armhf"), uml=False).make_target == "zImage"


def test_another_compiler_has_another_digest(tmp_path: Path) -> None:
    target = tools.target_of(architecture("amd64"), uml=False)
    for name, text in (("one", "1"), ("two", "2")):
        (tmp_path / name).mkdir()
        for tool in ("gcc", "ld"):
            (tmp_path / name / f"{target.cross}{tool}").write_text(text)
    digests = [tools.compiler_digest(target, folders=[str(tmp_path / name)]) for name in ("one", "two")]
    assert digests[0] != digests[1]


def test_patches_in_the_order_of_their_names_bytes(tmp_path: Path) -> None:
    for name in ("b.patch", "B.patch", "a10.patch", "a9.patch", "series", "c.patch.txt"):
        (tmp_path / name).write_text("")
    assert [path.name for path in unpacking.patches_of(tmp_path)] == ["B.patch", "a10.patch", "a9.patch", "b.patch"]


def test_files_are_found_below_the_workspace(tmp_path: Path) -> None:
    def local(url: str) -> Path | None:
        return unpacking.local_path(Origin(url=url, sha256=SHA256), tmp_path)

    assert local("src/linux.tar.xz") == tmp_path / "src/linux.tar.xz"
    assert local("file:/srv/a%20b.tar") == Path("/srv/a b.tar")
    assert local("https://example.org/linux.tar.xz") is None
    with pytest.raises(InvalidInput, match="neither"):
        local("ssh://example.org/x")
