"""The commands of how-to pages, run in their order as a reader would, with the real ``ostree`` beside Wherry."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from wherry.core.proc import run

_PAGES = Path(__file__).parents[3] / "docs/how-to"
_BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def test_adopt_an_ostree_repository(tmp_path: Path) -> None:
    for name, text in (
        ("rootfs/etc/motd", "hello\n"),
        ("rootfs/usr/lib/app", "app 1\n" * 9000),
        ("changed/usr/lib/app", "app 2\n"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    run(["ostree", "init", "--repo=repo", "--mode=archive"], cwd=tmp_path)
    run(["ostree", "commit", "--repo=repo", "-b", "os/main", "-s", "made by ostree", "rootfs"], cwd=tmp_path)
    blocks = _BLOCK.findall((_PAGES / "adopt-an-ostree-repository.md").read_text())
    assert len(blocks) == 7
    script = "set -eux\n" + "".join(blocks)
    search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run(["bash", "-c", script], cwd=tmp_path, env={**os.environ, "PATH": search}, timeout_s=120)
    log = run(["ostree", "log", "--repo=device", "origin:os/main"], cwd=tmp_path).stdout.decode()
    assert "a change" in log
