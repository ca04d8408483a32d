"""Every board that SkiffOS ships, through Buildroot's own defconfig: what passed, and what did not take, by its reason.

As a program it prints the table: ``python -m tests.compat.buildroot_builder.survey SKIFFOS BUILDROOT FOLDER``.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wherry.build.boards import Board
from wherry.build.builder import Inputs
from wherry.build.buildroot import staging
from wherry.build.buildroot.builder import REPORT_FILE, Build
from wherry.build.contributions import gather
from wherry.build.fragments import Merged, merge
from wherry.build.layers import Layer, Layers, find_layers
from wherry.build.place import StepPlace
from wherry.build.resolving import resolve
from wherry.core.errors import WherryError
from wherry.spec.architecture import architecture

NO_BOARDS = frozenset({"apps", "core", "driver", "skiff", "util"})
"""SkiffOS' namespaces of layers that go onto any board."""
CORE = "skiff/core"
ARCHITECTURES = {
    "BR2_x86_64": "amd64",
    "BR2_i386": "i386",
    "BR2_aarch64": "arm64",
    "BR2_arm": "armhf",
    "BR2_riscv": "riscv64",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """How a board fared."""

    board: str
    architecture: str
    asked: int
    untaken: list[dict[str, Any]]
    config: dict[str, str]
    """Of the symbols that Wherry sets itself, what came of them."""
    expected: dict[str, str | None]
    error: str = ""


def boards(layers: Layers) -> list[str]:
    """Returns the boards of a tree of SkiffOS layers."""
    return [
        layer.name
        for layer in layers
        if layer.name.partition("/")[0] not in NO_BOARDS and not layer.name.endswith("/common")
    ]


def architecture_of(chain: list[Layer]) -> str:
    """Returns the architecture that a chain chooses: of a choice the last one; SkiffOS' base has x86_64."""
    merged: Merged = merge(chain, "buildroot")
    chosen = [setting.symbol for setting in merged.settings() if setting.symbol in ARCHITECTURES]
    wanted = [symbol for symbol in chosen if merged.history[symbol][-1].value == "y"]
    return ARCHITECTURES[wanted[-1]] if wanted else "amd64"


def survey(skiffos: Path, buildroot: Path, folder: Path, names: Iterable[str] | None = None) -> Iterator[Surveyed]:
    """Configures boards one after the other.

    Args:
        skiffos: a checkout.
        buildroot: a tree.
        folder: for the work, which is slow but for the first one; not there yet.
        names: which boards; None is all.
    """
    layers = find_layers([skiffos / "configs"])
    for name in ("workspace", "scratch", "kept", "downloads", "bundle"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for board in names or boards(layers):
        chain = resolve(layers, [board, CORE])
        yield _one(board, chain, skiffos, buildroot, folder)


def _one(board: str, chain: list[Layer], skiffos: Path, buildroot: Path, folder: Path) -> Surveyed:
    found = architecture_of(chain)
    build = Build.of(
        Inputs(
            name="survey",
            workspace=folder / "workspace",
            contributions=gather(chain),
            board=Board(),
            architecture=architecture(found),
            options={"path": str(buildroot), "base": [str(skiffos / "configs-base/pre")]},
            offline=True,
        )
    )
    for name in ("layers", "output"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    staging.put(build.staged, folder / "layers")
    settings = build.staged.defconfig.settings
    asked = len(build.staged.defconfig.asked.history)
    own = {item.symbol: item.value for item in settings if item.layer == "wherry"}
    # the scratch folder stays: Buildroot's own ``conf`` is compiled once
    with open(folder / "log", "wb") as log:
        place = StepPlace(
            output=folder / "output",
            scratch=folder / "scratch",
            kept=folder / "kept",
            downloads=folder / "downloads",
            bundle=folder / "bundle",
            log=log,
            inputs={"buildroot": buildroot, "layers": folder / "layers"},
        )
        try:
            build.configure(place)
        except WherryError as error:
            return Surveyed(
                board=board, architecture=found, asked=asked, untaken=[], config={}, expected=own, error=str(error)
            )
    lines = (folder / "output/config").read_text().splitlines()
    config = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return Surveyed(
        board=board,
        architecture=found,
        asked=asked,
        untaken=json.loads((folder / "output" / REPORT_FILE).read_text()),
        config={symbol: value for symbol, value in config.items() if symbol in own},
        expected=own,
    )


def main(skiffos: str, buildroot: str, folder: str) -> None:
    """Prints the table."""
    every: list[Surveyed] = []
    for found in survey(Path(skiffos), Path(buildroot), Path(folder)):
        every.append(found)
        print(
            f"{found.board:24} {found.architecture:8} {found.asked:4} asked {len(found.untaken):3} not {found.error}",
            flush=True,
        )
    untaken = [item for found in every for item in found.untaken]
    print(f"{sum(not found.error for found in every)} of {len(every)} boards pass")
    print(f"{len(untaken)} of {sum(found.asked for found in every)} symbols did not take")
    for why, number in Counter(item["why"] for item in untaken).most_common():
        print(f"{number:6} {why}")
    for (symbol, reason), number in Counter((item["symbol"], item["reason"]) for item in untaken).most_common(40):
        print(f"{number:6} {symbol}: {reason}")


if __name__ == "__main__":
    main(*sys.argv[1:])
