"""Layers are found by their names, the first search path's counts, and what is wrong is said with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.build.support import made, write

from wherry.build.checking import Level, check
from wherry.build.layers import Layer, find_layers, split_names
from wherry.core.errors import InvalidInput, NotFound


def test_names_deep_and_with_dashes(tmp_path: Path) -> None:
    found = made(tmp_path, {"a/b": "", "a/b-c.d_e": "", "site/hall/kiosk": "", "Pi/4": "", "pi/4": ""})
    (tmp_path / "empty/layer").mkdir(parents=True)
    (tmp_path / "a/b/resources/deep/metadata").mkdir(parents=True)
    found = find_layers([tmp_path])
    names = [layer.name for layer in found]
    assert names == ["Pi/4", "a/b", "a/b-c.d_e", "empty/layer", "pi/4", "site/hall/kiosk"]


def test_the_first_path_counts_for_a_name(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1", {"a/b": "", "a/c": ""}), write(tmp_path / "2", {"a/b": "x/y", "a/d": ""})
    found = find_layers([one, two, one])
    assert found.get("a/b").path == one / "a/b"
    assert [str(layer.path.relative_to(tmp_path)) for layer in found.shadowed] == ["2/a/b"]
    assert len(found) == 3


def test_metadata(tmp_path: Path) -> None:
    layer = Layer(name="a/b", path=write(tmp_path, {"a/b": "x/y, z/w\nq/r x/y"}) / "a/b")
    assert layer.dependencies == ("x/y", "z/w", "q/r")
    assert (layer.description, layer.listed, layer.build_target) == ("a/b it is", True, "")
    (layer.path / "metadata/unlisted").touch()
    (layer.path / "metadata/buildtarget").write_text(" all legal-info\n")
    (layer.path / "metadata/commands").write_text("flash Write it, to a card\nalone\n")
    assert not layer.commands
    (layer.path / "extensions").mkdir()
    (command,) = layer.commands
    assert (command.name, command.description) == ("flash", "Write it, to a card")
    assert (layer.listed, layer.build_target) == (False, "all legal-info")
    assert layer.kinds == ("extensions", "metadata")


def test_what_is_no_layer(tmp_path: Path) -> None:
    found = made(tmp_path, {"pi/4": "", "skiff/core": ""})
    with pytest.raises(NotFound, match="did you mean 'skiff/core'"):
        found.get("skiff/cre")
    with pytest.raises(NotFound, match="did you mean 'pi/4'"):
        found.get("Pi/4")
    for name in ("", "pi", "/pi", "pi/", "pi//4", "../x", "pi/..", "a/b c", "a/ü"):
        with pytest.raises(InvalidInput, match="not a layer's name"):
            found.get(name)
    with pytest.raises(NotFound, match="no such folder of layers"):
        find_layers([tmp_path / "none"])


def test_metadata_that_is_no_text(tmp_path: Path) -> None:
    layer = Layer(name="a/b", path=write(tmp_path, {"a/b": "x/../y"}) / "a/b")
    with pytest.raises(InvalidInput, match="metadata/dependencies"):
        _ = layer.dependencies
    (layer.path / "metadata/description").write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match="UTF-8"):
        _ = layer.description
    (layer.path / "metadata/description").write_bytes(b"x" * 70_000)
    with pytest.raises(InvalidInput, match="more than"):
        _ = layer.description


def test_words_with_commas_and_spaces() -> None:
    assert split_names(["a/b, c/d", " e/f\n"]) == ["a/b", "c/d", "e/f"]


def findings(top: Path) -> list[tuple[Level, str, str]]:
    layers = find_layers([top])
    return [(item.level, item.where.removeprefix(f"{top}/"), item.what) for item in check(layers, layers)]


def test_a_good_layer_has_no_findings(tmp_path: Path) -> None:
    write(tmp_path, {"a/b": "a/c", "a/c": ""})
    kernel = tmp_path / "a/b/kernel"
    kernel.mkdir()
    (kernel / "x").write_text(
        '# note\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="a \\"b\\""\nCONFIG_D=0x10\nCONFIG_E=\n'
    )
    hook = tmp_path / "a/b/hooks"
    hook.mkdir()
    (hook / "pre.sh").write_text("#!/bin/sh\n")
    (hook / "pre.sh").chmod(0o755)
    assert findings(tmp_path) == []


def test_what_is_found(tmp_path: Path) -> None:
    write(tmp_path, {"a/b": "a/none", "c/1": "c/2", "c/2": "c/1", "c/3": "c/1"})
    layer = tmp_path / "a/b"
    for name in ("kernal", "kernel", "hooks", "buildroot_ext", ".git"):
        (layer / name).mkdir()
    (layer / "kernel/x").write_text('CONFIG_A\n  CONFIG_B=y\nCONFIG_C="open\n')
    (layer / "hooks/post.sh").write_text("#!/bin/sh\n")
    (layer / "hooks/during.sh").write_text("#!/bin/sh\n")
    (layer / "buildroot_ext/external.desc").touch()
    (layer / "metadata/commands").write_text("run Run it\n")
    (layer / "metadata/depends").touch()
    (layer / "metadata/description").unlink()
    found = findings(tmp_path)
    assert {where: level for level, where, _ in found if where.startswith("a/b/")} == {
        "a/b/metadata/description": "warning",
        "a/b/kernal": "warning",
        "a/b/metadata/depends": "warning",
        "a/b/extensions/Makefile": "warning",
        "a/b/buildroot_ext/Config.in": "error",
        "a/b/buildroot_ext/external.mk": "error",
        "a/b/hooks/during.sh": "warning",
        "a/b/hooks/post.sh": "warning",
        "a/b/kernel/x:1": "error",
        "a/b/kernel/x:2": "warning",
        "a/b/kernel/x:3": "error",
    }
    assert ("error", "a/b -> a/none", "no layer 'a/none'") in found
    assert [what for _, _, what in found if "each other" in what] == ["layers depend on each other: c/1 -> c/2 -> c/1"]
