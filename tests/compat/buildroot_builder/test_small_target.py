"""A small target that the real Buildroot builds, offline, from what Debian has (`offline.py`).

``WHERRY_BUILDROOT`` is the folder of a checkout. Some minutes of work, so it is for the deep run.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from tests.compat.buildroot_builder import offline

from wherry.build.boards import Board
from wherry.build.builder import Inputs
from wherry.build.buildroot.builder import BuildrootBuilder
from wherry.build.buildroot.figures import owners, times
from wherry.build.contributions import gather
from wherry.build.executing import Execution, Result
from wherry.build.layers import find_layers
from wherry.build.resolving import resolve
from wherry.core.errors import NotFound
from wherry.spec.architecture import architecture

HOOK = """#!/bin/bash
set -eu
date +%Y >"$1/etc/built"
echo "$SKIFF_CURRENT_CONF_NAME $PWD" >>"$SKIFF_BUILDROOT_DIR/output/target/etc/built"
cp "$WHERRY_DROPINS/site/motd.json" "$1/etc/motd.json"
"""
FILES = {
    "root_overlay/etc/motd": "small\n",
    "users/people": "app 1000 app 1000 * /home/app /bin/sh - An app\n",
    "busybox/less": "# CONFIG_HTTPD is not set\n",
    "hooks/pre.sh": HOOK,
    "resources/site/motd.json.d/a.json": '{"a": 1}',
}


@pytest.fixture(scope="module")
def buildroot() -> Path:
    folder = os.environ.get("WHERRY_BUILDROOT", "")
    if not folder:
        pytest.skip("WHERRY_BUILDROOT names no checkout of Buildroot")
    if os.geteuid() != 0:
        pytest.skip("owners of files want root")
    missing = [program for program in ("rsync", "unzip", "cpio", "file", "bc") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"Buildroot wants {', '.join(missing)}")
    return Path(folder)


def take(buildroot: Path, top: Path, cache: str = "cache") -> dict[str, Result]:
    """Builds the target; returns the results."""
    chain = resolve(find_layers([top / "layers"]), ["offline/small"])
    workspace = top / "workspace"
    workspace.mkdir(exist_ok=True)
    inputs = Inputs(
        name="small",
        workspace=workspace,
        contributions=gather(chain),
        board=Board(),
        architecture=architecture("amd64"),
        options={"path": str(buildroot), "downloads": str(top / "downloads"), "jobs": 2},
        epoch=1577836800,
        offline=True,
    )
    run = Execution(cache=top / cache, work=workspace / ".wherry", epoch=inputs.epoch)
    return run.take(BuildrootBuilder().plan(inputs), ["root", "boot"])


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_built_offline(buildroot: Path, tmp_path: Path) -> None:
    offline.layer(tmp_path / "layers/offline/small", FILES)
    try:
        offline.put_busybox(buildroot, tmp_path / "downloads")
    except NotFound as error:
        pytest.skip(str(error))
    results = take(buildroot, tmp_path)

    root = results["root"].path / "root"
    status = (root / "bin/busybox").stat()
    assert stat.S_IMODE(status.st_mode) == 0o4755, "as Buildroot's table of permissions has it"
    assert (status.st_uid, status.st_gid) == (0, 0)
    assert (root / "etc/motd").read_text() == "small\n"
    assert "app:x:1000:1000" in (root / "etc/passwd").read_text()
    assert (root / "home/app").stat().st_uid == 1000
    assert (root / "etc/built").read_text() == "2020\noffline/small /build/kept/output\n"
    assert '"a": 1' in (root / "etc/motd.json").read_text()
    assert "# CONFIG_HTTPD is not set" in (results["build"].path / "busybox.config").read_text()
    assert not (root / "usr/sbin/httpd").is_symlink()
    assert next(figure.package for figure in times(results["build"].path / "build-time.log")) == "busybox"
    assert owners(results["build"].path / "packages-file-list.txt")["bin/busybox"] == "busybox"

    # another overlay: nothing is compiled again, and what was there before is gone
    layer = tmp_path / "layers/offline/small"
    (layer / "root_overlay/etc/motd").unlink()
    (layer / "root_overlay/etc/other").write_text("other\n")
    (layer / "hooks/pre.sh").write_text("#!/bin/sh\n")
    again = take(buildroot, tmp_path)
    root = again["root"].path / "root"
    assert "CC      " not in (tmp_path / "workspace/.wherry/logs/build.log").read_text()
    assert sorted(name for name in ("motd", "other", "built") if (root / "etc" / name).exists()) == ["other"]

    # and back again, built from nothing: the same tar, byte for byte
    for name, text in FILES.items():
        (layer / name).write_text(text)
    (layer / "root_overlay/etc/other").unlink()
    shutil.rmtree(tmp_path / "workspace")
    anew = take(buildroot, tmp_path, cache="another")
    tars = [result["build"].path / "images/rootfs.tar" for result in (results, anew)]
    assert tars[0].read_bytes() == tars[1].read_bytes()


@pytest.mark.deep
@pytest.mark.timeout(600)
def test_a_missing_source_is_told_before_anything_is_built(buildroot: Path, tmp_path: Path) -> None:
    from wherry.build.executing import StepFailed

    offline.layer(tmp_path / "layers/offline/small", {})
    (tmp_path / "downloads").mkdir()
    with pytest.raises(StepFailed, match="package busybox failed") as caught:
        take(buildroot, tmp_path)
    assert caught.value.step.name == "fetch"
    assert "BR2_PACKAGE_BUSYBOX of offline/small: buildroot/config" in str(caught.value)
