"""What /init finds: a root by names, labels and UUIDs, or as an image file; where it writes; how it fails."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.fixtures.debian_hosts import CLOUD, CONSOLES, cached, host, image_of, log_in, take

from wherry.build.executing import Execution, Result
from wherry.build.hosttree import TREE
from wherry.build.locks import make_lock
from wherry.machine import launching
from wherry.machine.console import Console
from wherry.machine.guest import MIB, Drive, Guest
from wherry.spec.architecture import architecture

ARCH = "arm64"
SECTOR = 512
UUID = "01234567-89ab-cdef-0123-456789abcdef"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    top = tmp_path_factory.mktemp("roots")
    found = host(top, ARCH, "host/minimal", kernel=CLOUD[ARCH])
    make_lock(found, Execution(cache=cached(top / "cache"), work=found.workspace.work))
    return take(found, top / "cache")


@pytest.fixture(scope="module")
def disk(built: dict[str, Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with an ESP (with the root as a file), the root as a partition, and one to write to."""
    top = tmp_path_factory.mktemp("disk")
    root = image_of(built[TREE].path / "root", top / "root.erofs")
    esp, data, whole = top / "esp", top / "data", top / "disk"
    run("mkfs.vfat", "-C", "-n", "FIRMWARE", str(esp), "32768")
    run("mmd", "-i", str(esp), "::hosts")
    run("mcopy", "-i", str(esp), str(root), "::hosts/root.erofs")
    data.touch()
    subprocess.run(["truncate", "-s", "32M", str(data)], check=True)
    run("mkfs.ext4", "-q", "-L", "data", str(data))
    with open(whole, "wb") as file:
        for at, part in ((1, esp), (40, root), (80, data)):
            file.seek(at * MIB)
            file.write(part.read_bytes())
        file.truncate(120 * MIB)
    table = f"""label: gpt
start={MIB // SECTOR}, size={32 * MIB // SECTOR}, name=ESP
start={40 * MIB // SECTOR}, size={32 * MIB // SECTOR}, name=root-a, uuid={UUID}
start={80 * MIB // SECTOR}, size={32 * MIB // SECTOR}, name=persist
"""
    subprocess.run(["sfdisk", "-q", str(whole)], input=table.encode(), check=True, capture_output=True)
    return whole


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@contextmanager
def booted(built: dict[str, Result], disk: Path, folder: Path, *words: str) -> Iterator[Console]:
    boot = built["boot"].path / "boot"
    guest = Guest(
        architecture=architecture(ARCH),
        kernel=boot / "kernel",
        initramfs=boot / "initramfs",
        command_line=(f"console={CONSOLES[ARCH]}", "quiet", "panic=1", *words),
        drives=(Drive(path=disk),),
        network=False,
    )
    folder.mkdir()
    with launching.start(launching.make_ready(guest, folder), folder) as started:
        yield Console(started.machine.console)


@pytest.mark.deep
def test_a_root_by_uuid_and_what_is_written_stays(built: dict[str, Result], disk: Path, tmp_path: Path) -> None:
    words = (f"root=PARTUUID={UUID.upper()}", "wherry.upper=persist/up")
    with booted(built, disk, tmp_path / "1", *words) as console:
        log_in(console)
        console.wait_for("root on / type overlay")
        console.send("echo kept > /home/core/file; sync; echo synced-$((1 + 1))\n")
        console.wait_for("synced-2")
    with booted(built, disk, tmp_path / "2", "root=PARTLABEL=root-a", "wherry.upper=LABEL=data/up") as console:
        log_in(console)
        console.send("cat /home/core/file\n")
        console.wait_for("\nkept")


@pytest.mark.deep
@pytest.mark.parametrize("name", ["ESP", "FIRMWARE", "LABEL=FIRMWARE", "PARTLABEL=ESP"])
@pytest.mark.deep
def test_a_root_as_a_file(built: dict[str, Result], disk: Path, tmp_path: Path, name: str) -> None:
    with booted(built, disk, tmp_path / "1", f"wherry.root=image:{name}/hosts/root.erofs") as console:
        log_in(console)
        console.wait_for("root on / type overlay")


@pytest.mark.deep
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("root=PARTLABEL=nothing", "wherry.wait=2"), "PARTLABEL=nothing did not appear within 2 s"),
        (("wherry.root=image:ESP/none",), "no file none on /dev/vda1"),
        (("wherry.root=nonsense",), "neither image:NAME/PATH nor 9p:TAG"),
        ((), "neither root= nor wherry.root= is on the kernel's command line"),
        (("root=/dev/vda3", "init=/no/init"), "the root has no /no/init"),
        (("root=/dev/vda2", "wherry.upper=what"), "none, tmpfs or NAME/FOLDER"),
    ],
)
@pytest.mark.deep
def test_failures_are_told_and_end_in_a_panic(
    built: dict[str, Result], disk: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    with booted(built, disk, tmp_path / "1", *words) as console:
        console.wait_for(said)
        console.wait_for("Kernel panic")


@pytest.mark.deep
def test_a_shell_where_it_fails(built: dict[str, Result], disk: Path, tmp_path: Path) -> None:
    with booted(built, disk, tmp_path / "1", "wherry.shell") as console:
        console.wait_for("a shell; leave it to go on")
        console.send("echo here-$((1 + 1))\n")
        console.wait_for("here-2")
        console.send("exit\n")
        console.wait_for("Kernel panic")
