"""Trees of other architectures, run here by qemu's user emulation, however it is registered."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.fixtures import foreign
from tests.fixtures.busybox import put_busybox
from tests.integration.engine.support import TIMEOUT_S, Cli

from wherry.image.catalog import Images
from wherry.image.indexes import record_index
from wherry.image.reference import Reference
from wherry.store.repository import Repository

QUICK = ("run", "--rm", "--network", "none")


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("foreign")
    return {architecture: foreign.busybox(architecture, folder) for architecture in foreign.QEMU}


def run(cli: Cli, line: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = foreign.registered([*cli.prefix, *args], line)
    return subprocess.run(command, env=cli.env, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)


@pytest.mark.parametrize("architecture", list(foreign.QEMU))
@pytest.mark.parametrize("flags", ["F", "PF", "", "OC"])
def test_a_tree_of_another_architecture(
    cli: Cli, trees: dict[str, Path], tmp_path: Path, architecture: str, flags: str
) -> None:
    link = tmp_path / "interpreter"
    link.symlink_to(foreign.QEMU[architecture])
    tree = str(trees[architecture])
    line = foreign.entry(architecture, interpreter=link, flags=flags)
    done = run(cli, line, *QUICK, "--rootfs", tree, "sh", "-c", "uname -m; exit 3")
    assert (done.stdout, done.returncode) == (f"{foreign.MACHINES[architecture]}\n", 3), done.stderr
    script = f"[ -s {link} ] && echo mounted || :"  # words of the shell itself: without P, argv[0] is lost
    seen = run(cli, line, *QUICK, "--read-only", "--rootfs", tree, "sh", "-c", script)
    assert seen.stdout == ("" if "F" in flags else "mounted\n"), seen.stderr
    assert not (trees[architecture] / "tmp/pytest-of-root").exists()  # the tree itself is as it was


def test_images_and_platforms(cli: Cli, trees: dict[str, Path], tmp_path: Path) -> None:
    own = cli.root / "store"
    own.unlink()  # one of our own: the session's is shared
    cli.run("image", "import", str(trees["arm64"]), "--name", "arm:1")
    link = tmp_path / "interpreter"
    link.symlink_to(foreign.QEMU["arm64"])
    line = foreign.entry("arm64", interpreter=link, flags="F")
    for words in ((), ("--platform", "linux/arm64"), ("--platform", "aarch64")):
        done = run(cli, line, *QUICK, *words, "arm:1", "uname", "-m")
        assert done.stdout == "aarch64\n", done.stderr
    refused = run(cli, line, *QUICK, "--platform", "linux/arm/v7", "arm:1", "uname")
    assert refused.returncode == 125
    assert "the image is for linux/arm64, not linux/arm/v7" in refused.stderr


def test_one_name_for_several_platforms(cli: Cli, trees: dict[str, Path], tmp_path: Path) -> None:
    (cli.root / "store").unlink()  # one of our own: the session's is shared
    put_busybox(tmp_path / "native", ("sh", "uname"))
    for name, tree in (("native", tmp_path / "native"), ("arm", trees["arm64"])):
        cli.run("image", "import", str(tree), "--name", f"{name}:1")
    repo = Repository.open(cli.root / "store")
    members = [Images(repo).get(name) for name in ("arm:1", "native:1")]
    record_index(repo, Reference.parse("both:1"), members)
    link = tmp_path / "interpreter"
    link.symlink_to(foreign.QEMU["arm64"])
    line = foreign.entry("arm64", interpreter=link, flags="F")
    own = os.uname().machine
    expected = {(): own, ("--platform", "linux/arm64"): "aarch64", ("--platform", members[1].config.platform): own}
    for words, machine in [*expected.items(), *expected.items()]:  # a second time from what is remembered
        done = run(cli, line, *QUICK, *words, "both:1", "uname", "-m")
        assert done.stdout == f"{machine}\n", done.stderr
    refused = run(cli, line, *QUICK, "--platform", "linux/s390x", "both:1", "uname")
    assert refused.returncode == 125
    made = run(cli, line, "create", "--network", "none", "--platform", "linux/arm64", "both:1", "uname", "-m")
    assert made.returncode == 0, made.stderr
    cli.run("image", "rm", "arm:1", "native:1")
    cli.run("image", "prune", "-af")
    started = run(cli, line, "start", "-a", made.stdout.strip())
    assert started.stdout == "aarch64\n", started.stderr
    kept = cli.run("image", "ls", "--all-platforms").stdout
    assert kept.count("both") == 2, "a container stands on one of them"


def test_without_an_interpreter(cli: Cli, trees: dict[str, Path]) -> None:
    done = run(cli, "", *QUICK, "--rootfs", str(trees["armhf"]), "true")
    assert done.returncode == 125
    assert "does not run programs for arm" in done.stderr
    assert "qemu-user-static" in done.stderr
    assert done.stderr.count("\n") == 1
