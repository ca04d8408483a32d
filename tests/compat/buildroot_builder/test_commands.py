"""Commands over a host that the real Buildroot has built: its licences, what took how long, and whose the files are.

``WHERRY_BUILDROOT`` is the folder of a checkout. Some minutes of work, so it is for the deep run.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.compat.buildroot_builder import offline
from tests.compat.buildroot_builder.test_small_target import buildroot

from wherry.core.errors import NotFound

__all__ = ["buildroot"]
pytestmark = [pytest.mark.deep, pytest.mark.timeout(3600)]
FILES = {"root_overlay/etc/motd": "small\n"}


def without_licences(tree: Path, target: Path) -> Path:
    """Copies a tree of Buildroot; the packages that stand in for its tools have no licence to be looked at."""
    shutil.copytree(tree, target, symlinks=True, ignore=shutil.ignore_patterns(".git", "output", "dl"))
    for name in offline.TOOLS:
        makefile = target / "package" / name / f"{name}.mk"
        makefile.write_text(re.sub(r"^\w*_LICENSE_FILES = .*\n", "", makefile.read_text(), flags=re.MULTILINE))
    return target


@pytest.fixture
def wherry(buildroot: Path, tmp_path: Path) -> Callable[..., str]:
    """Calls the command in a folder with the workspace ``small``, which is built."""
    offline.layer(tmp_path / "layers/offline/small", FILES)
    try:
        offline.put_busybox(buildroot, tmp_path / "downloads")
    except NotFound as error:
        pytest.skip(str(error))
    (tmp_path / "small").mkdir()
    (tmp_path / "small/host.yaml").write_text(
        "target: [offline/small]\nbuilder: buildroot\narchitecture: amd64\nlayers_path: [../layers]\nbuildroot:\n"
        f"  path: {without_licences(buildroot, tmp_path / 'buildroot')}\n  downloads: {tmp_path / 'downloads'}\n"
    )
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "WHERRY_BUILD_CACHE": str(tmp_path / "cache")}

    def call(*words: str) -> str:
        command = [sys.executable, "-m", "wherry", f"--root={tmp_path}/root", "host", *words]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    call("build", "small", "--offline")
    return call


def test_licences_times_and_owners(wherry: Callable[..., str], tmp_path: Path) -> None:
    wherry("legal-info", "small", "-o", "legal")
    rows = list(csv.DictReader((tmp_path / "legal/manifest.csv").read_text().splitlines()))
    assert [(row["component"], row["licence"]) for row in rows] == [("busybox", "GPL-2.0-only AND bzip2-1.0.6")]
    texts = [(tmp_path / "legal" / name).read_text() for name in rows[0]["texts"].split()]
    assert any("GNU GENERAL PUBLIC LICENSE" in text for text in texts)

    times = json.loads(wherry("graph", "small", "--kind", "packages", "--json"))
    assert times[0]["package"] == "busybox"
    sizes = {row["name"]: row for row in json.loads(wherry("graph", "small", "--kind", "size", "--json"))}
    busybox = (tmp_path / "cache/results").glob("*/output/root/bin/busybox")
    assert sizes["busybox"]["size_bytes"] >= next(busybox).stat().st_size
    assert sizes["/etc (no package)"]["size_bytes"] >= len("small\n")
    wherry("graph", "small", "--kind", "packages", "-o", "times.svg")
    assert "busybox" in (tmp_path / "times.svg").read_text()
    bill = json.loads(wherry("sbom", "small"))
    assert "busybox" in {component["name"] for component in bill["components"]}
