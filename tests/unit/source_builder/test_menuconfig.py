"""What a person changes in a menu comes back as a fragment that gives it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tests.fixtures.place import plain_place
from tests.unit.kconfig.support import fragments, olddefconfig, tree
from tests.unit.source_builder.support import LAYER, inputs, write

from wherry.build import kconfig
from wherry.build.buildroot.menuconfig import save
from wherry.build.source import menuconfig
from wherry.build.source.kernel import Configured
from wherry.core.errors import Unsupported

TREE = 'config A\n\tbool "a"\n\tselect B\nconfig B\n\tbool "b"\nconfig C\n\tbool "c"\n'


def test_an_edit_is_tried_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "layers", LAYER)
    asked = fragments(tmp_path / "asked", "CONFIG_A=y\n")
    kconf = tree(tmp_path, TREE)
    config = tmp_path / ".config"

    def complete() -> None:
        config.write_text(kconfig.serialize(olddefconfig(kconf, tmp_path, kconfig.read(config))))

    found = Configured(config=config, base={}, asked=asked, make=["make", "O=o"], complete=complete, cwd=tmp_path)
    found.with_settings({})
    assert kconfig.read(config) == {"CONFIG_A": "y", "CONFIG_B": "y", "CONFIG_C": None}
    monkeypatch.setattr(menuconfig, "_configured", lambda inputs, place, kind: found)
    called: list[Sequence[str]] = []

    def terminal(args: Sequence[str], env: Mapping[str, str]) -> None:
        called.append(args)
        # A goes, and B, which was on because of A, stays on
        config.write_text("# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=y\n")

    edit = menuconfig.edit(inputs(tmp_path), plain_place(tmp_path), "kernel", terminal)
    assert called == [["make", "O=o", "-C", str(tmp_path), "menuconfig"]]
    path = save(tmp_path / "overrides", edit)
    assert path == tmp_path / "overrides/kernel/zz-menuconfig"
    assert kconfig.parse(path.read_text()) == {"CONFIG_A": None, "CONFIG_B": "y", "CONFIG_C": "y"}


def test_what_is_not_configured_here_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "layers", LAYER)
    with pytest.raises(Unsupported, match="uboot"):
        menuconfig.edit(inputs(tmp_path), plain_place(tmp_path), "uboot", lambda args, env: None)
