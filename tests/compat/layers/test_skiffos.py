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
