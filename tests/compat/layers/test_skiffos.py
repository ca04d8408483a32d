"""SkiffOS' own layers and its own script: the same chains, bit for bit, where somebody has brought its tree.

``WHERRY_SKIFFOS`` is the folder of a checkout.
"""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from wherry.build.checking import Level, check
from wherry.build.fragments import fragments_of, merge, parse
from wherry.build.layers import Layers, find_layers
from wherry.build.resolving import resolve, skiffos_order
from wherry.core.errors import WherryError

CHAINS = 60
SCRIPT = """
cd "$1/configs"
. ../scripts/enumerate_configs.sh >/dev/null
echo "$SKIFF_CONFIG"
"""


@pytest.fixture(scope="module")
def skiffos() -> Path:
    folder = os.environ.get("WHERRY_SKIFFOS", "")
    if not folder:
        pytest.skip("WHERRY_SKIFFOS names no checkout of SkiffOS")
    return Path(folder)


@pytest.fixture(scope="module")
def layers(skiffos: Path) -> Layers:
    return find_layers([skiffos / "configs"])


def theirs(skiffos: Path, names: list[str]) -> list[str]:
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "SKIFF_CONFIG": ",".join(names)}
    done = subprocess.run(
        ["bash", "-c", SCRIPT, "bash", str(skiffos)], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip().split(",")


def test_every_layer_loads(layers: Layers) -> None:
    assert len(layers) >= 131
    for layer in layers:
        assert all(other in layers.by_name for other in layer.dependencies)
        resolve(layers, [layer.name])
    findings = [item for item in check(layers, layers) if item.level is Level.ERROR]
    assert {item.where.rpartition("/")[2] for item in findings} <= {"wifi:19"}, "two lines that are no line at all"


def test_its_own_order(skiffos: Path, layers: Layers) -> None:
    every = sorted(layers.by_name)
    chosen = random.Random(1)
    asked = [[name] for name in chosen.sample(every, 30)]
    asked += [chosen.sample(every, chosen.randint(2, 5)) for _ in range(CHAINS - len(asked))]
    asked.append(["core/gentoo", "skiff/core"])
    for names in asked:
        try:
            ours = [layer.name for layer in skiffos_order(layers, names, print)]
        except WherryError as error:
            raise AssertionError(names) from error
        assert ours == theirs(skiffos, names), names


@pytest.mark.parametrize(
    "names", [["virt/qemu", "skiff/core"], ["pi/4", "core/gentoo"], ["bananapi/m1"], ["odroid/xu4"]]
)
def test_the_kernels_own_script_merges_the_same(
    skiffos: Path, layers: Layers, names: list[str], tmp_path: Path
) -> None:
    chain = resolve(layers, names)
    files = [path for layer in chain for path in fragments_of(layer, "kernel")]
    (tmp_path / "base").touch()
    script = [str(skiffos / "scripts/merge_config.sh"), "-O", str(tmp_path), "-m", "-r", str(tmp_path / "base")]
    subprocess.run([*script, *map(str, files)], cwd=tmp_path, capture_output=True, check=True)
    theirs = {item[1]: item[2] for item in parse((tmp_path / ".config").read_text()) if isinstance(item, tuple)}
    ours = {setting.symbol: setting.value for setting in merge(chain, "kernel").settings()}
    ours = {symbol: value and value.replace(str(skiffos), "SKIFF") for symbol, value in ours.items()}
    assert {symbol: ours.get(symbol) for symbol in ours if "SKIFF" not in (ours[symbol] or "")} == {
        symbol: value for symbol, value in theirs.items() if "SKIFF" not in (value or "")
    }
