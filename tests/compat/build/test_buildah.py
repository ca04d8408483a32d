"""The same Dockerfiles built by buildah and here give the same files, modes, owners and settings."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.build.conftest import Place, make_tree

from wherry.core.proc import run

HEAD = "FROM localhost/busybox:1\n"
CORPUS = {
    "copies": "COPY a /x/y/a\nCOPY a b /many/\nCOPY dir /whole/\nCOPY dir/ /whole2\nCOPY * /all/\n"
    "COPY dir/l* /links/\n",
    "owners": "COPY --chown=app a /1\nCOPY --chown=app:other a /2\nCOPY --chown=5 a /3\nCOPY --chmod=711 a /4\n"
    "COPY --chown=1000:5 dir /d\n",
    "workdirs": "WORKDIR /a\nWORKDIR b\nRUN pwd > pwd\nCOPY a .\nCOPY a ./c/\nWORKDIR /etc\n",
    "runs": 'ENV A="x y" B=${C:-d}\nRUN echo "$A|$B" > /o && mkdir -p /p/q && chmod 700 /p && ln -s /o /p/l\n'
    "RUN rm -rf /etc/group && touch /etc/new\nUSER app\nRUN id -u > /tmp/id || true\n",
    "settings": 'CMD ["a", "b"]\nENTRYPOINT ["/bin/sh"]\nLABEL l="v w" m=n\nEXPOSE 80 90/udp\nVOLUME ["/v"]\n'
    "STOPSIGNAL SIGHUP\nUSER app:other\nWORKDIR /w\n",
    "replaced": "RUN mkdir /d && touch /d/a /d/b\nCOPY dir /d\nCOPY a /d/in\nRUN ln -s /d /to\nCOPY b /to/\n",
    "stages": "RUN echo 1 > /one\nFROM localhost/busybox:1\nCOPY --from=0 /one /two\nARG X=y\nRUN echo $X > /x\n",
}

LEFT_BY_BUILDAH = {"dev", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "run", "run/.containerenv", "sys"}
"""Where it mounts things for a RUN."""


@pytest.fixture
def buildah(tmp_path: Path) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory(prefix="buildah-") as run_root:
        yield ["buildah", f"--root={tmp_path}/buildah", f"--runroot={run_root}", "--storage-driver=vfs"]
    shutil.rmtree(tmp_path / "buildah", ignore_errors=True)


@pytest.mark.parametrize("name", CORPUS)
def test_the_same_outcome(tmp_path: Path, buildah: list[str], name: str) -> None:
    place = Place(tmp_path)
    place.write({"a": "a", "b": "b", "dir/x": "x", "dir/sub/y": "y"})
    os.symlink("x", place.context / "dir/l")
    os.chmod(place.context / "b", 0o755)
    place("image", "tag", "busybox:1", "localhost/busybox:1")
    place.build(HEAD + CORPUS[name])
    tree = tmp_path / "tree.tar"
    run(["tar", "-C", str(make_tree(tmp_path / "base")), "--owner=0", "--group=0", "-cf", str(tree), "."])
    base = tmp_path / "Base"
    base.write_text(f"FROM scratch\nADD {tree.name} /\n")
    flags = ["bud", "-q", "--isolation", "chroot", "--ulimit", "nofile=1024:1024"]
    run([*buildah, *flags, "-t", "localhost/busybox:1", "-f", str(base), str(tmp_path)])
    run([*buildah, *flags, "-t", "localhost/theirs:1", str(place.context)])
    theirs = _settings(json.loads(run([*buildah, "inspect", "--type", "image", "localhost/theirs:1"]).stdout)["OCIv1"])
    ours = _settings({"config": json.loads(place("image", "inspect", "app:1"))[0]["Config"]})
    assert ours == theirs
    archive = tmp_path / "theirs"
    run([*buildah, "push", "-q", "localhost/theirs:1", f"oci:{archive}:x"])
    place("image", "import", f"oci:{archive}:x", "--name", "theirs:1")
    left = {name: fact for name, fact in place.files("theirs:1").items() if name not in LEFT_BY_BUILDAH}
    assert place.files("app:1") == left


def _settings(document: dict[str, dict[str, object]]) -> dict[str, object]:
    config = dict(document["config"])
    labels = dict(config.get("Labels") or {})  # type: ignore[call-overload]
    labels.pop("io.buildah.version", None)
    config["Labels"] = labels or None
    if config.get("WorkingDir") == "/":
        config.pop("WorkingDir")
    return {key: value for key, value in config.items() if value}
