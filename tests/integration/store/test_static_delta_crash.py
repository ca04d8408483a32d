"""Killed while a delta is made or applied: nothing half made is left that counts, and the same command does it then."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

WHERRY = str(Path(".venv/bin/wherry").resolve())


def wherry(*args: str | Path, kill: str = "") -> str:
    """Runs ``wherry store``; it must end well, or be killed at a point."""
    environment = {**os.environ, **({"WHERRY_TRACE": f"{kill}=kill"} if kill else {})}
    done = subprocess.run([WHERRY, "store", *args], capture_output=True, check=False, env=environment)
    assert done.returncode == (-9 if kill else 0), done.stderr.decode()
    return done.stdout.decode(errors="replace")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    base = tmp_path_factory.mktemp("served")
    repo, tree = base / "repo", base / "tree"
    tree.mkdir()
    noise = random.Random(3).randbytes(60_000)
    (tree / "file").write_bytes(noise)
    wherry("init", f"--repo={repo}", "--mode=archive")
    first = wherry("commit", f"--repo={repo}", "-b", "os", tree).strip()
    (tree / "file").write_bytes(noise[:30_000] + b"new" + noise[30_000:])
    (tree / "more").write_bytes(noise[::-1])
    second = wherry("commit", f"--repo={repo}", "-b", "os", tree).strip()
    return repo, first, second


@pytest.mark.parametrize("point", ["store.delta.part.named", "store.delta.generated"])
def test_killed_while_made(served: tuple[Path, str, str], point: str) -> None:
    repo, first, second = served
    args = ("static-delta", "generate", f"--repo={repo}", f"--from={first}", f"--to={second}")
    wherry(*args, kill=point)
    listed = wherry("static-delta", "list", f"--repo={repo}")
    assert (f"{first}-{second}" in listed) == (point == "store.delta.generated")
    wherry(*args)
    assert not list((repo / "deltas").rglob(".part-*"))
    wherry("static-delta", "show", f"--repo={repo}", f"{first}-{second}")
    wherry("static-delta", "delete", f"--repo={repo}", f"{first}-{second}")


@pytest.mark.parametrize(
    "point",
    ["store.delta.object", "store.delta.part", "store.transaction.staged", "store.transaction.publishing",
     "store.transaction.published"],
)  # fmt: skip
def test_killed_while_applied(tmp_path: Path, served: tuple[Path, str, str], point: str) -> None:
    repo, first, second = served
    delta, dest = tmp_path / "update.delta", tmp_path / "dest"
    args = ("static-delta", "generate", f"--repo={repo}", f"--from={first}", f"--to={second}", "--inline")
    wherry(*args, f"--filename={delta}")
    wherry("init", f"--repo={dest}", "--mode=bare-user")
    wherry("pull-local", f"--repo={dest}", repo, first)
    wherry("static-delta", "apply-offline", f"--repo={dest}", delta, kill=point)
    wherry("fsck", f"--repo={dest}")
    wherry("static-delta", "apply-offline", f"--repo={dest}", delta)
    wherry("fsck", f"--repo={dest}")
    assert wherry("cat", f"--repo={dest}", second, "/more")
    assert not (dest / "state" / f"{second}.commitpartial").exists()
