"""Parts of volumes: what is mounted of them, and that no link in them leads out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.integration.engine.support import IMAGE, Cli

QUICK = ("run", "--rm", "--network", "none")


def part(path: str, *more: str) -> tuple[str, str]:
    return "--mount", ",".join((f"type=volume,source=data,target=/part,volume-subpath={path}", *more))


@pytest.fixture
def data(cli: Cli) -> Path:
    """The folder of a volume with a few things in it."""
    cli.run("volume", "create", "data")
    folder = cli.root / "volumes/data/data"
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/b/file").write_text("in the part\n")
    (folder / "near").symlink_to("a/b")
    (folder / "far").symlink_to("/etc")
    (folder / "up").symlink_to("../../../..")
    return folder


def test_a_part_of_a_volume(cli: Cli, data: Path) -> None:
    look = "cat /part/file && touch /part/new && ls /part"
    assert cli.run(*QUICK, *part("a/b"), IMAGE, "sh", "-c", look).stdout == "in the part\nfile\nnew\n"
    assert (data / "a/b/new").exists()
    assert cli.run(*QUICK, *part("near"), IMAGE, "cat", "/part/file").stdout == "in the part\n"
    assert cli.run(*QUICK, *part("a/b/file"), IMAGE, "cat", "/part").stdout == "in the part\n"
    assert "Read-only" in cli.run(*QUICK, *part("a/b", "readonly"), IMAGE, "touch", "/part/x", status=1).stderr
    mapped = cli.run(*QUICK, "--userns", "auto", *part("a/b"), IMAGE, "stat", "-c", "%u", "/part/file")
    assert mapped.stdout == "0\n"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("far", "a link leads out of the volume"),
        ("up", "a link leads out of the volume"),
        ("none", "there is no 'none' in volume 'data'"),
        ("a/../..", "without '..'"),
        ("/a", "not a path in a volume"),
    ],
)
def test_what_is_no_part(cli: Cli, data: Path, path: str, says: str) -> None:
    assert data.is_dir()
    assert says in cli.run(*QUICK, *part(path), IMAGE, "ls", "/part", status=125).stderr


def test_a_part_of_a_volume_that_is_not_there_yet_or_mounted_apart(cli: Cli) -> None:
    assert "there is no 'x' in volume 'data'" in cli.run(*QUICK, *part("x"), IMAGE, "true", status=125).stderr
    assert list((cli.root / "volumes/data/data").iterdir()) == [], "what the image has there is not the part"
    cli.run("volume", "create", "--opt", "type=tmpfs", "apart")
    spec = "type=volume,source=apart,target=/part,volume-subpath=x"
    assert "mounted whole" in cli.run(*QUICK, "--mount", spec, IMAGE, "true", status=125).stderr


def test_a_directory_that_is_written_over(cli: Cli, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o750)
    os.chown(folder, 1000, 44)
    (folder / "file").write_text("of the host\n")
    mounts = ("-v", f"{folder}:/over:O", "-v", "data:/volume:O")
    script = (
        "stat -c %u:%g:%a /over; ls /over /volume; cat /over/file; echo x > /over/file; rm -r /volume/a; touch /over/n"
    )
    cli.run("create", "--name", "c", "--network", "none", *mounts, IMAGE, "sh", "-c", script)
    for _ in range(2):  # what was written is gone at the next start
        lines = cli.run("start", "-a", "c").stdout.splitlines()
        assert lines == ["1000:44:750", "/over:", "file", "", "/volume:", "a", "far", "near", "up", "of the host"]
    assert (folder / "file").read_text() == "of the host\n"
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert (data / "a/b/file").exists()
    folders = list((cli.root / "containers").glob("*/over"))
    assert len(folders) == 1
    cli.run("rm", "c")
    assert not folders[0].exists()


def test_what_cannot_be_written_over(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    (tmp_path / "file").write_text("")
    for flags, says in (
        (("-v", f"{tmp_path / 'a,b'}:/over:O"), "comma in its path"),
        (("-v", f"{tmp_path / 'file'}:/over:O"), "is of a directory"),
        (("-v", "data:/over:ro,O"), "goes with no other option"),
        (("--userns", "auto", "-v", "data:/over:O"), "cannot be had with --userns"),
        (("-v", "data:/over:U"), "nothing of the host is given away"),
    ):
        assert says in cli.run(*QUICK, *flags, IMAGE, "true", status=125).stderr


def test_a_link_that_is_put_in_its_place_meanwhile_leads_nowhere(cli: Cli, data: Path) -> None:
    """Whoever has the volume changes the part for a link to the host's root, and back, while others start."""
    swap = "while :; do mv /d/a /d/kept; ln -s / /d/a; rm /d/a; mv /d/kept /d/a; done"
    cli.run("run", "-d", "--name", "swap", "--network", "none", "-v", "data:/d", IMAGE, "sh", "-c", swap)
    seen = set()
    for _ in range(20):
        done = cli.run(*QUICK, *part("a"), IMAGE, "ls", "/part", status=None)
        seen.add(done.stdout)
        assert done.status == 0 or done.stdout == "", done
    assert seen <= {"", "b\n"}, seen
    cli.run("rm", "-f", "swap")
    assert os.listdir(data)
