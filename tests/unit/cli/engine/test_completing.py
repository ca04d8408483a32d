"""What the shell completes: names that are there; nothing, and no noise, where nothing is."""

from __future__ import annotations

from pathlib import Path

import click

from wherry.cli import completing
from wherry.cli.root import cli


def complete(root: Path, what: completing.Complete, incomplete: str = "") -> list[str]:
    context = click.Context(cli)
    context.params["root"] = str(root)
    return what(context, click.Argument(["names"], nargs=-1), incomplete)


def test_names_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "names").mkdir()
    for name in ("web", "worker", "db"):
        (tmp_path / "names" / name).symlink_to("a" * 64)
    for folder in ("volumes/data", "volumes/.half", "secrets/key"):
        (tmp_path / folder).mkdir(parents=True)
    assert complete(tmp_path, completing.containers, "w") == ["web", "worker"]
    assert complete(tmp_path, completing.container_paths, "d") == ["db:"]
    assert complete(tmp_path, completing.volumes) == ["data"]
    assert complete(tmp_path, completing.secrets) == ["key"]


def test_nothing_where_nothing_is(tmp_path: Path) -> None:
    for what in (completing.containers, completing.volumes, completing.secrets, completing.images):
        assert complete(tmp_path / "none", what) == []
