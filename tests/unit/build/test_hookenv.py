"""The environment of layers' scripts: SkiffOS' variables, overrides among them, quoted as a shell wants it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from wherry.build.hookenv import HookPlaces, environment, of_layer, script, variable
from wherry.build.layers import Layer
from wherry.core.errors import InvalidInput


def layers(top: Path, *names: str) -> list[Layer]:
    return [Layer(name=name, path=top / name) for name in names]


def places(top: str = "/layers") -> HookPlaces:
    return HookPlaces(
        output=Path("/out"),
        generated=Path("/made"),
        dropins=Path("/dropins"),
        tree=Path(top),
        layer=lambda layer: Path(top, layer.name),
    )


def test_what_skiffos_layers_rely_on(tmp_path: Path) -> None:
    chain = layers(tmp_path, "virt/qemu", "skiff/core", "overrides/site")
    made = environment(chain, places(), workspace="kiosk", version="1.2", commit="abc", known=layers(tmp_path, "pi/4"))
    assert made["SKIFF_CONFIG"] == "virt/qemu,skiff/core,overrides/site"
    # hooks look for resources of the chain here: overrides are seen, and come last
    assert made["SKIFF_CONFIG_PATH"] == "/layers/virt/qemu /layers/skiff/core /layers/overrides/site"
    assert made["SKIFF_CONFIG_FULL"] == "VIRT_QEMU SKIFF_CORE OVERRIDES_SITE"
    assert (made["SKIFF_CONFIG_PATH_PI_4"], made["SKIFF_CONFIG_NAME_PI_4"]) == ("/layers/pi/4", "pi/4")
    for name in ("SKIFF_BUILDROOT_DIR", "BUILDROOT_DIR", "SKIFF_WORKSPACE_DIR", "WORKSPACE_DIR"):
        assert made[name] == "/out"
    assert (made["SKIFF_VERSION"], made["SKIFF_VERSION_COMMIT"], made["SKIFF_WORKSPACE"]) == ("1.2", "abc", "kiosk")
    assert (made["WHERRY_DROPINS"], made["SKIFF_FINAL_CONFIG_DIR"]) == ("/dropins", "/made")
    assert str(tmp_path) not in "".join(made.values())
    assert of_layer(chain[0], places()) == {
        "SKIFF_CURRENT_CONF_DIR": "/layers/virt/qemu",
        "SKIFF_CURRENT_CONF_NAME": "virt/qemu",
        "SKIFF_CURRENT_CONF_NAME_FULL": "SKIFF_CONFIG_PATH_VIRT_QEMU",
        "WHERRY_LAYER": "virt/qemu",
    }


def test_a_layer_of_the_chain_counts_before_another_of_its_variable(tmp_path: Path) -> None:
    chain = layers(tmp_path, "a/b-c")
    made = environment(chain, places(), workspace="w", known=layers(tmp_path, "a/b_c"))
    assert made["SKIFF_CONFIG_NAME_A_B_C"] == "a/b-c"
    assert variable("a/group/b-c.d") == "A_GROUP_B_C_D"


@pytest.mark.parametrize(
    "value", ["a b", "$(touch x)", "`id`", "a'b\"c", "two\nlines", "\\", "", "größe", "-n", "$HOME"]
)
def test_a_shell_reads_back_what_was_meant(value: str) -> None:
    text = script({"A": value}) + 'printf %s "$A"'
    done = subprocess.run(["bash", "-c", text], capture_output=True, check=True, env={"PATH": "/usr/bin:/bin"})
    assert done.stdout.decode() == value


@pytest.mark.parametrize("name", ["A B", "", "1A", "A=1", "a-b", "A\n"])
def test_what_is_no_variable(name: str) -> None:
    with pytest.raises(InvalidInput, match="not a variable"):
        script({name: "x"})


def test_a_folder_with_a_space(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="space in its name"):
        environment(layers(tmp_path, "a/b"), places("/my layers"), workspace="w")
