"""RUN for another architecture, by qemu's user emulation, into one index."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.fixtures import foreign
from tests.integration.build.conftest import Place


def test_a_run_for_each_platform(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir()
    place("image", "tag", "busybox:1", "base-amd64:1")
    tree = foreign.busybox("arm64", folder)
    place("image", "import", str(tree), "--name", "base-arm64:1", "--platform", "linux/arm64")
    (inspected,) = json.loads(place("image", "inspect", "base-arm64:1"))
    assert inspected["Architecture"] == "arm64"
    link = tmp_path / "interpreter"
    link.symlink_to(foreign.QEMU["arm64"])
    line = foreign.entry("arm64", interpreter=link, flags="F")
    base = [sys.executable, "-m", "wherry", "--root", str(place.root), "--run-root", f"{place.root}-run"]
    text = "ARG TARGETARCH\nFROM base-$TARGETARCH:1\nARG TARGETPLATFORM\nRUN echo $TARGETPLATFORM > /for\n"
    place.write({"Dockerfile": text})
    build = [*base, "build", "-t", "app:1", "--platform", "linux/amd64,linux/arm64", str(place.context)]
    done = subprocess.run(foreign.registered(build, line), capture_output=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr.decode()
    assert place.files()["for"][3] == "linux/amd64\n"
    shown = place("image", "inspect", "--platform", "linux/arm64", "app:1")
    assert json.loads(shown)[0]["Architecture"] == "arm64"
    again = subprocess.run(foreign.registered(build, line), capture_output=True, check=True, timeout=110)
    assert again.stderr.decode().count("CACHED") == 2, "each platform has its own step"
    run = [*base, "run", "--rm", "--network", "none", "--platform", "linux/arm64", "app:1", "sh", "-c"]
    said = subprocess.run(
        foreign.registered([*run, "read x < /for; echo $x; uname -m"], line),
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert said.stdout.decode() == "linux/arm64\naarch64\n"
