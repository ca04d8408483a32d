"""The folder that Buildroot is given: copies of layers, hooks that run as in SkiffOS, drop-ins that are right."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest
from tests.unit.build.buildroot.support import build

from wherry.build.buildroot import staging
from wherry.build.buildroot.builder import Build
from wherry.build.buildroot.places import Places
from wherry.core.errors import InvalidInput

HOOK = """#!/bin/bash
set -eo pipefail
echo "$SKIFF_CURRENT_CONF_NAME $(basename "$SKIFF_CURRENT_CONF_DIR") $# $1" >>"$SKIFF_BUILDROOT_DIR/output/images/said"
[ "$PWD" = "$BUILDROOT_DIR" ]
"""
WALK = """#!/bin/bash
set -eo pipefail
config_paths=( ${SKIFF_CONFIG_PATH} )
for (( idx=${#config_paths[@]}-1 ; idx>=0 ; idx-- )) ; do
    for fragment in "${config_paths[idx]}"/resources/docker/daemon.json.d/*.json; do
        if [ -d "$(dirname "$fragment")" ]; then cat "$fragment" >>"$SKIFF_BUILDROOT_DIR/merged"; fi
    done
done
cp "$WHERRY_DROPINS/docker/daemon.json" "$SKIFF_BUILDROOT_DIR/whole"
"""


def put(made: Build, top: Path) -> Path:
    """Puts a build's layers where its sandbox would see them; returns Buildroot's output folder."""
    folder = made.places.layers
    folder.mkdir(parents=True)
    staging.put(made.staged, folder)
    output = made.places.output
    (output / "images").mkdir(parents=True)
    (output / "output").symlink_to(output)
    return output


def at(top: Path, files: dict[str, str]) -> Build:
    """Returns a build whose places are below a folder of the test."""
    made = build(top, files)
    return Build.of(made.inputs, Places(top=top / "build"))


def run(made: Build, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(made.places.external / script), *words],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": "86400"},
    )


def test_hooks_run_in_the_order_of_the_chain(tmp_path: Path) -> None:
    made = at(tmp_path, {f"{name}/hooks/pre.sh": HOOK for name in ("pi/4", "site/group/kiosk", "skiff/core")})
    output = put(made, tmp_path)
    done = run(made, "pre_build.sh", "/target dir")
    assert done.returncode == 0, done.stderr
    assert (output / "images/said").read_text().splitlines() == [
        "skiff/core core 1 /target dir",
        "pi/4 4 1 /target dir",
        "site/group/kiosk kiosk 1 /target dir",
    ]
    assert done.stdout.splitlines()[0] == ">>> layer skiff/core hooks/pre.sh"


def test_a_hook_that_fails_ends_it(tmp_path: Path) -> None:
    made = at(tmp_path, {"skiff/core/hooks/post.sh": "#!/bin/sh\nexit 3\n", "pi/4/hooks/post.sh": HOOK})
    output = put(made, tmp_path)
    done = run(made, "post_build.sh")
    assert done.returncode == 3
    assert done.stdout.splitlines() == [">>> layer skiff/core hooks/post.sh"]
    assert not (output / "images/said").exists()


def test_the_time_of_a_build(tmp_path: Path) -> None:
    hook = '#!/bin/sh\nfor w in "" +%s -Iseconds "-d @5 +%s" -R; do date $w; done\n'
    made = at(tmp_path, {"skiff/core/hooks/pre.sh": hook})
    put(made, tmp_path)
    said = run(made, "pre_build.sh").stdout.splitlines()[1:]
    assert said[1:] == ["86400", "1970-01-02T00:00:00+00:00", "5", "Fri, 02 Jan 1970 00:00:00 +0000"]
    assert said[0].startswith("Fri Jan")
    assert "1970" in said[0]


def test_a_walk_backwards_gets_the_right_drop_in(tmp_path: Path) -> None:
    made = at(
        tmp_path,
        {
            "skiff/core/hooks/pre.sh": WALK,
            "skiff/core/resources/docker/daemon.json.d/x.json": '{"storage-driver": "first", "a": 1}',
            "pi/4/resources/docker/daemon.json.d/x.json": '{"storage-driver": "last"}',
        },
    )
    output = put(made, tmp_path)
    done = run(made, "pre_build.sh")
    assert done.returncode == 0, done.stderr
    expected = {"storage-driver": "last", "a": 1}
    # walked backwards, one after the other, as SkiffOS' hooks do; a folder without a file in it would end them
    assert (output / "merged").read_text() == json.dumps(expected, indent=2) + "\n{}\n"
    assert json.loads((output / "whole").read_text()) == expected


def test_copies(tmp_path: Path) -> None:
    made = at(tmp_path, {"pi/4/hooks/pre.sh": HOOK, "pi/4/scripts/x": "", "pi/4/README": "", "pi/4/.git/x": ""})
    source = tmp_path / "layers/pi/4"
    os.symlink("x", source / "scripts/link")
    (source / "scripts/x").chmod(0o700)
    put(made, tmp_path)
    copy = made.places.layers / "chain/pi/4"
    assert sorted(path.name for path in copy.iterdir()) == ["hooks", "metadata", "scripts"]
    assert os.readlink(copy / "scripts/link") == "x"
    assert (copy / "scripts/x").stat().st_mode & 0o777 == 0o755
    assert (copy / "hooks/pre.sh").stat().st_mode & 0o777 == 0o755, "a hook is a program, whatever its mode"


def test_what_cannot_be_copied(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(source)  # a path of a socket is short
        server.bind("socket")
        os.chdir(here)
        with pytest.raises(InvalidInput, match="neither a file"):
            staging.copy_tree(source, tmp_path / "target")


def test_who_asked_is_read_back(tmp_path: Path) -> None:
    made = at(tmp_path, {"pi/4/buildroot/a": "BR2_A=y\n# BR2_B is not set\n"})
    put(made, tmp_path)
    asked = staging.read_asked(made.places.layers / "asked.json")
    assert [(item.symbol, item.value, item.where) for item in asked.settings()] == [
        ("BR2_A", "y", "pi/4: buildroot/a:1"),
        ("BR2_B", None, "pi/4: buildroot/a:2"),
    ]
